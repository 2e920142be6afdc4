//! Which pods are on their way for how long, and which groups have pods that do not come.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ClusterSnapshot, Node, NodeKind, NodeStatus, PodName, Timestamp, WorkerGroupName};

/// The word for replicas that are taken back because their pods end before they have joined, again and again.
pub const PODS_END: &str = "pods_end";

/// How long after the first one pods that were made together end, where that cannot be told from when they were made:
/// the API server's clock is ahead of ours. Units: milliseconds.
const ATTEMPT_TAKES_MS: u64 = 10_000;

/// Holds a pod that ended by itself before a raylet of it had registered.
///
/// Shape: not for pods that were deleted, evicted, or lost with their machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FailedStart {
    /// When it was seen to have ended, by our own clock.
    pub ended_at: Timestamp,
    /// The pod, which may be gone.
    pub pod: PodName,
    /// Its group.
    pub group: WorkerGroupName,
    /// When it was created.
    pub created_at: Timestamp,
}

impl FailedStart {
    /// Returns whether it belongs to an attempt after the last one that failed.
    fn is_after(&self, failed: FailedStarts) -> bool {
        let is_clock_ahead = self.created_at > self.ended_at;
        let is_much_later = self.ended_at >= failed.at.plus_ms(ATTEMPT_TAKES_MS);
        failed.is_before(self.created_at) && (!is_clock_ahead || is_much_later)
    }
}

/// Holds that pods of a group did not come up in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStarts {
    /// How many times, without a node that joined in between.
    pub count: u32,
    /// The last time.
    pub at: Timestamp,
    /// Whether Kubernetes refused to make them, the last time.
    #[serde(default)]
    pub refused: bool,
    /// Whether they ended by themselves, the last time: the operator makes them anew for ever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

impl FailedStarts {
    /// Returns that pods were given up `count` times, the last time at `at`.
    pub(super) const fn given_up(count: u32, refused: bool, at: Timestamp) -> Self {
        Self {
            count,
            at,
            refused,
            ended: false,
        }
    }

    /// Returns whether a pod belongs to an attempt after the last one that failed.
    #[must_use]
    pub fn is_before(&self, created_at: Timestamp) -> bool {
        // Kubernetes writes whole seconds.
        created_at.plus_ms(1_000) > self.at
    }
}

/// Holds what is known of nodes that are on their way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Starts {
    /// Since when a pod has been without a raylet that has registered.
    pub since: BTreeMap<PodName, Timestamp>,
    /// Groups whose pods do not come.
    pub failed: BTreeMap<WorkerGroupName, FailedStarts>,
    /// Pods that ended by themselves and have been counted.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub counted: BTreeSet<PodName>,
}

impl Starts {
    /// Takes in which pods there are; a node that joins proves that its group's pods do come, once its
    /// replica is whole.
    ///
    /// `recovered_at` is when the GCS was last found to be back.
    pub(super) fn observe(
        &mut self,
        snapshot: &ClusterSnapshot,
        (at, recovered_at): (Timestamp, Option<Timestamp>),
    ) {
        self.count_ended(snapshot, recovered_at);
        let mut starting = BTreeMap::new();
        let workers = snapshot.nodes.iter();
        for node in workers.filter(|node| node.kind == NodeKind::Worker) {
            let since = self.since.get(&node.name).copied();
            match node.status {
                NodeStatus::Starting => {
                    starting.insert(node.name.clone(), since.unwrap_or(at));
                }
                NodeStatus::Running if since.is_some() => self.joined(snapshot, node),
                _ => {}
            }
        }
        self.since = starting;
        let groups = snapshot.groups.iter();
        let names: BTreeSet<&WorkerGroupName> = groups.map(|group| &group.name).collect();
        self.failed.retain(|group, _| names.contains(group));
    }

    /// Takes in that a raylet has registered; one that was there before the last failure has only been
    /// missing in a reply of the GCS, and proves nothing.
    fn joined(&mut self, snapshot: &ClusterSnapshot, node: &Node) {
        let failed = self.failed.get(&node.group);
        let is_later = failed
            .zip(node.created_at)
            .is_some_and(|(failed, created_at)| failed.is_before(created_at));
        if is_later && is_whole(snapshot, node) {
            self.failed.remove(&node.group);
        }
    }

    /// Counts pods that ended by themselves; those that were made before the last failure belong to
    /// the same attempt.
    fn count_ended(&mut self, snapshot: &ClusterSnapshot, recovered_at: Option<Timestamp>) {
        let ended = &snapshot.failed_starts;
        self.counted
            .retain(|pod| ended.iter().any(|start| start.pod == *pod));
        for start in ended {
            if !self.counted.insert(start.pod.clone())
                // No raylet can register with a GCS that is out, and another GCS does not know who had.
                || recovered_at.is_some_and(|at| start.created_at <= at)
                || snapshot.group(&start.group).is_none()
            {
                continue;
            }
            let failed = self.failed.get(&start.group);
            if failed.is_none_or(|failed| start.is_after(*failed)) {
                let failed = self.fail(&start.group, start.ended_at);
                (failed.refused, failed.ended) = (false, true);
            }
        }
    }

    /// Takes in that pods of a group were given up.
    pub(super) fn record_failure(&mut self, group: &WorkerGroupName, refused: bool, at: Timestamp) {
        let failed = self.fail(group, at);
        (failed.refused, failed.ended) = (refused, false);
    }

    fn fail(&mut self, group: &WorkerGroupName, at: Timestamp) -> &mut FailedStarts {
        let failed = self.failed.entry(group.clone());
        let failed = failed.or_insert(FailedStarts::given_up(0, false, at));
        failed.count = failed.count.saturating_add(1);
        failed.at = at;
        failed
    }
}

/// Returns whether all hosts of a node's replica are running.
fn is_whole(snapshot: &ClusterSnapshot, node: &Node) -> bool {
    let group = snapshot.group(&node.group);
    let hosts = group.map_or(1, |group| group.num_of_hosts);
    let nodes = snapshot.nodes.iter();
    let running = nodes.filter(|other| {
        other.status == NodeStatus::Running
            && (&other.group, &other.replica) == (&node.group, &node.replica)
    });
    hosts <= 1 || running.count() >= usize::try_from(hosts).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
