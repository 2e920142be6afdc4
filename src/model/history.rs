//! What the engine remembers between passes; all of it can be lost without harm.
//!
//! Only [`History::absorb`] changes it, and times are recorded when something succeeded, not when
//! it was decided: a patch that failed starts no cool-down.

mod learnt;
mod orders;
mod quiet;
mod recovery;
mod resized;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    ClusterSnapshot, Departure, DepartureKind, GangWait, Intent, NodeId, NodeKind, NodeStatus,
    OperatorWaits, Pace, PodName, Resume, ScaleDecision, ScaleEvent, Starts, Timestamp,
    WorkerGroupName,
};

pub use learnt::Learnt;
pub use orders::Followed;
pub use quiet::Quiet;
pub use recovery::{HeadSeen, Recovery};

/// How long a drained raylet may still be reported as running: the GCS hears of it within a second.
const DRAINED_RUNS_ON_MS: u64 = 10_000;

/// How long a pod may take to start before its group counts as hard to get, as in Ray.
const START_MAX_MS: u64 = 3_600_000;

/// Says what happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<'a> {
    /// A snapshot was made.
    Observed(&'a ClusterSnapshot),
    /// A raylet accepted its drain.
    DrainAccepted(&'a PodName),
    /// A raylet refused, or did not answer.
    DrainRefused(&'a PodName),
    /// A raylet was found to run that nobody knew of when its pod was to go: it may have work.
    FoundRunning(&'a PodName),
    /// The RayCluster was patched: the group now has that many replicas.
    Scaled {
        /// The group.
        group: &'a WorkerGroupName,
        /// Replicas before.
        from: u32,
        /// Replicas after.
        to: u32,
    },
    /// A node that must go was told, and may finish its work until then.
    ToldToGo {
        /// Its pod.
        pod: &'a PodName,
        /// Until when.
        by: Timestamp,
    },
    /// The RayCluster was patched: the pod now stands in `workersToDelete`.
    Named(&'a PodName),
    /// The node of a pod that somebody else has named was told to finish its work.
    NamedTold(&'a PodName),
    /// The same patch in detail, or what was drained although no patch has named it; the moments in it mean nothing.
    Paced(&'a WorkerGroupName, ScaleEvent),
    /// A patch asked for more than is wanted, to make up for pods on their way out.
    Surged {
        /// The group.
        group: &'a WorkerGroupName,
        /// What `replicas` was set to.
        replicas: u32,
        /// How many of them only make up.
        surge: u32,
    },
    /// Replicas of a group were given up because they do not come up.
    GaveUp {
        /// The group.
        group: &'a WorkerGroupName,
        /// Whether Kubernetes refused to make their pods.
        refused: bool,
    },
    /// A decision was made.
    Decided(&'a ScaleDecision),
    /// An earlier sidecar left word of what it knew.
    Restored(&'a Intent),
    /// Ray is being told that a node is gone or going.
    Told(&'a Departure),
    /// The GCS has started again.
    GcsRestarted,
    /// The GCS is a different cluster now: nothing known about its nodes holds.
    GcsReplaced,
}

/// Holds replicas that were asked for and are not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What `replicas` was set to.
    pub replicas: u32,
    /// How many of them we have asked for, and nobody else.
    pub ours: u32,
    /// When.
    pub at: Timestamp,
}

/// Holds what the engine remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// When the raylet in a pod accepted its drain.
    pub drained_at: BTreeMap<PodName, Timestamp>,
    /// When the node of a pod that somebody else has named was told to finish its work. Apart from `drained_at`: the
    /// name may be taken back, and then the node has work and nobody wants it to go.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named_told_at: BTreeMap<PodName, Timestamp>,
    /// When the raylet in a pod last refused its drain.
    pub drain_refused_at: BTreeMap<PodName, Timestamp>,
    /// Those of them whose raylet was only found to run: it was not asked.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub found_running: BTreeSet<PodName>,
    /// Since when a pod has had no raylet although one had registered.
    pub stopped_since: BTreeMap<PodName, Timestamp>,
    /// Since when a name without a pod has stood in `workersToDelete`.
    pub listed_without_pod_since: BTreeMap<PodName, Timestamp>,
    /// Names that stood in `workersToDelete` while their pod was there: once it is gone, the
    /// operator has acted and the name may go at once.
    #[serde(default)]
    pub named_seen: BTreeSet<PodName>,
    /// What was asked for and is not there yet.
    #[serde(default)]
    pub asked: BTreeMap<WorkerGroupName, Asked>,
    /// When a group was last scaled up.
    pub scaled_up_at: BTreeMap<WorkerGroupName, Timestamp>,
    /// When a group was last scaled down.
    pub scaled_down_at: BTreeMap<WorkerGroupName, Timestamp>,
    /// What groups promise, and what their nodes really had.
    pub learnt: BTreeMap<WorkerGroupName, Learnt>,
    /// When a pod of a group was last found to have started for too long.
    #[serde(default)]
    pub start_failed_at: BTreeMap<WorkerGroupName, Timestamp>,
    /// Since when at least one, two, ... starting replicas of a group have had nothing to serve.
    #[serde(default)]
    pub unneeded_since: BTreeMap<WorkerGroupName, Vec<Timestamp>>,
    /// How long placement groups have waited for nodes that were planned for them, by id.
    #[serde(default)]
    pub gang_waits: BTreeMap<String, GangWait>,
    /// Where the last decision stopped, if it was cut short.
    #[serde(default)]
    pub resume: Option<Resume>,
    /// What the operator has been waited for.
    #[serde(default)]
    pub operator: OperatorWaits,
    /// When Ray was last told that a node is gone.
    #[serde(default)]
    pub gone_told_at: BTreeMap<NodeId, Timestamp>,
    /// When Ray was last told that a node is about to go.
    #[serde(default)]
    pub leaving_told_at: BTreeMap<NodeId, Timestamp>,
    /// How fast groups have been changed lately.
    #[serde(default)]
    pub pace: Pace,
    /// Nodes on their way, and groups whose nodes do not come.
    #[serde(default)]
    pub starts: Starts,
    /// When the GCS was last found to be another cluster.
    pub gcs_replaced_at: Option<Timestamp>,
    /// Pods whose replica the last decision found idle for long enough, and the GCS's reply that
    /// first said so: a second one has to agree before they go.
    #[serde(default)]
    pub removable: BTreeMap<PodName, Timestamp>,
    /// Until when a pod that was told to go may finish its work.
    #[serde(default)]
    pub finish_by: BTreeMap<PodName, Timestamp>,
    /// Names that we wrote into `workersToDelete`; all others are somebody's order.
    #[serde(default)]
    pub named_by_us: BTreeSet<PodName>,
    /// Groups in which somebody named pods without lowering `replicas`.
    #[serde(default)]
    pub followed: BTreeMap<WorkerGroupName, Followed>,
    /// What `replicas` was set to, and how many of them only make up for pods on their way out.
    #[serde(default)]
    pub surges: BTreeMap<WorkerGroupName, (u32, u32)>,
    /// `replicas` of each group as it was last seen or written.
    #[serde(default)]
    pub replicas_seen: BTreeMap<WorkerGroupName, u32>,
    /// What is remembered of outages.
    #[serde(default)]
    pub recovery: Recovery,
    /// When a pod was last seen that had been resized and whose raylet had not heard of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resized_at: BTreeMap<PodName, Timestamp>,
    /// Since when nobody has used the cluster.
    #[serde(default, skip_serializing_if = "Quiet::is_empty")]
    pub quiet: Quiet,
}

impl History {
    /// Takes in what happened at `at`.
    pub fn absorb(&mut self, input: &Input<'_>, at: Timestamp) {
        match input {
            Input::Observed(snapshot) => {
                self.observe_drivers(snapshot, at);
                self.observe(snapshot, at);
            }
            Input::DrainAccepted(pod) => {
                self.drained_at.insert((*pod).clone(), at);
                self.drain_refused_at.remove(*pod);
                self.found_running.remove(*pod);
            }
            Input::NamedTold(pod) => {
                self.named_told_at.insert((*pod).clone(), at);
                self.drain_refused_at.remove(*pod);
            }
            Input::DrainRefused(pod) => {
                self.drain_refused_at.insert((*pod).clone(), at);
                self.found_running.remove(*pod);
            }
            Input::FoundRunning(pod) => {
                self.drain_refused_at.insert((*pod).clone(), at);
                self.found_running.insert((*pod).clone());
            }
            Input::Scaled { group, from, to } => self.scaled(group, (*from, *to), at),
            Input::Surged {
                group,
                replicas,
                surge,
            } => self.surged(group, *replicas, *surge),
            Input::ToldToGo { pod, by } => {
                self.finish_by.entry((*pod).clone()).or_insert(*by);
            }
            Input::Paced(group, change) => self.pace.record(group, *change, at),
            Input::GaveUp { group, refused } => self.starts.record_failure(group, *refused, at),
            Input::Restored(intent) => intent.restore_to(self, at),
            Input::Told(departure) => {
                let told_at = match departure.kind {
                    DepartureKind::Gone => &mut self.gone_told_at,
                    DepartureKind::Leaving { .. } => &mut self.leaving_told_at,
                };
                told_at.insert(departure.node_id, at);
            }
            Input::Named(pod) => {
                self.named_by_us.insert((*pod).clone());
            }
            Input::Decided(decision) => self.decided(decision, at),
            Input::GcsRestarted => self.recover(at),
            Input::GcsReplaced => {
                *self = Self {
                    gcs_replaced_at: Some(at),
                    learnt: std::mem::take(&mut self.learnt),
                    // Pods are made and counted whatever becomes of the GCS.
                    asked: std::mem::take(&mut self.asked),
                    // What was asked of Kubernetes stands, whatever became of Ray.
                    named_by_us: std::mem::take(&mut self.named_by_us),
                    replicas_seen: std::mem::take(&mut self.replicas_seen),
                    surges: std::mem::take(&mut self.surges),
                    finish_by: std::mem::take(&mut self.finish_by),
                    recovery: std::mem::take(&mut self.recovery),
                    // These are about pods and our own patches.
                    pace: std::mem::take(&mut self.pace),
                    starts: std::mem::take(&mut self.starts),
                    ..Self::default()
                };
                self.recover(at);
            }
        }
    }

    /// Returns whether the raylet in a pod has accepted to end as idle; who was told to finish its work has not.
    #[must_use]
    pub fn ends_idle(&self, pod: &PodName) -> bool {
        self.drained_at.contains_key(pod) && !self.finish_by.contains_key(pod)
    }

    /// Returns when Ray was last told of this.
    #[must_use]
    pub fn told_at(&self, departure: &Departure) -> Option<Timestamp> {
        let told_at = match departure.kind {
            DepartureKind::Gone => &self.gone_told_at,
            DepartureKind::Leaving { .. } => &self.leaving_told_at,
        };
        told_at.get(&departure.node_id).copied()
    }

    /// Takes for known what `decision` found idle for long enough, as if an earlier reply of the GCS
    /// had said so already: for looks at a single moment.
    pub fn assume_seen_before(&mut self, decision: &ScaleDecision) {
        let seen = decision.removable.iter();
        self.removable = seen
            .map(|(pod, at)| (pod.clone(), at.minus_ms(1)))
            .collect();
    }

    fn scaled(&mut self, group: &WorkerGroupName, (from, to): (u32, u32), at: Timestamp) {
        if to > from {
            let before = self.asked.get(group).map_or(0, |asked| asked.ours);
            let asked = Asked {
                replicas: to,
                ours: before.saturating_add(to.saturating_sub(from)),
                at,
            };
            self.asked.insert(group.clone(), asked);
            self.scaled_up_at.insert(group.clone(), at);
        } else {
            self.asked.remove(group);
            if to < from {
                self.scaled_down_at.insert(group.clone(), at);
            }
        }
        self.forget_followed(group, to);
    }

    fn decided(&mut self, decision: &ScaleDecision, at: Timestamp) {
        self.unneeded_since.clone_from(&decision.unneeded_since);
        self.gang_waits.clone_from(&decision.gang_waits);
        self.pace.recommended.clone_from(&decision.recommended);
        self.removable.clone_from(&decision.removable);
        self.resume.clone_from(&decision.resume);
        if self.recovery.mode.map(|(mode, _)| mode) != Some(decision.mode) {
            self.recovery.mode = Some((decision.mode, at));
        }
    }

    fn observe(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        let pods: BTreeMap<&PodName, NodeStatus> = snapshot
            .nodes
            .iter()
            .filter(|node| node.status != NodeStatus::Lost)
            .map(|node| (&node.name, node.status))
            .collect();
        for memory in [
            &mut self.drained_at,
            &mut self.named_told_at,
            &mut self.drain_refused_at,
            &mut self.finish_by,
        ] {
            memory.retain(|pod, _| pods.contains_key(pod));
        }
        self.found_running.retain(|pod| pods.contains_key(pod));
        self.observe_outage(snapshot, at);
        self.observe_names(snapshot);
        // A raylet that accepted its drain is gone or draining within a second or two; one that still
        // runs long after is another one, in a container that was restarted in place.
        for drained_at in [&mut self.drained_at, &mut self.named_told_at] {
            drained_at.retain(|pod, drained_at| {
                let is_running = pods.get(pod) == Some(&NodeStatus::Running);
                !(is_running && at.millis_since(*drained_at) > DRAINED_RUNS_ON_MS)
            });
        }
        self.stopped_since
            .retain(|pod, _| pods.get(pod) == Some(&NodeStatus::Stopped));
        for (pod, _) in pods
            .iter()
            .filter(|(_, status)| **status == NodeStatus::Stopped)
        {
            self.stopped_since.entry((*pod).clone()).or_insert(at);
        }
        self.observe_lists(snapshot, &pods, at);
        self.operator.observe(snapshot, at);
        let departing: BTreeSet<NodeId> = snapshot.departures.iter().map(|it| it.node_id).collect();
        self.gone_told_at.retain(|id, _| departing.contains(id));
        self.leaving_told_at.retain(|id, _| departing.contains(id));
        self.asked.retain(|name, asked| {
            let still = snapshot.group(name).map(|group| group.replicas);
            let live = || {
                let replicas = snapshot.replicas_of(name);
                replicas.iter().filter(|replica| replica.is_live()).count()
            };
            // Somebody has lowered it since, or it is there.
            still.is_some_and(|replicas| replicas >= asked.replicas)
                && u32::try_from(live()).unwrap_or(u32::MAX) < asked.replicas
        });
        self.learn(snapshot, at);
        self.observe_resized(snapshot, at);
        self.observe_starts(snapshot, at);
        self.pace.observe(snapshot, at);
        self.starts.observe(snapshot, (at, self.recovery.since));
        let is_known = |name: &WorkerGroupName| snapshot.group(name).is_some();
        self.scaled_up_at.retain(|name, _| is_known(name));
        self.scaled_down_at.retain(|name, _| is_known(name));
        // A group that cannot be read for a while has not lost its nodes.
        let is_skipped =
            |name: &WorkerGroupName| snapshot.skipped.iter().any(|it| it.name == *name);
        self.learnt
            .retain(|name, _| is_known(name) || is_skipped(name));
        self.start_failed_at.retain(|name, _| is_known(name));
    }

    /// Follows the names in `workersToDelete`, and since when their pods are gone.
    fn observe_lists(
        &mut self,
        snapshot: &ClusterSnapshot,
        pods: &BTreeMap<&PodName, NodeStatus>,
        at: Timestamp,
    ) {
        let listed = snapshot
            .groups
            .iter()
            .flat_map(|group| &group.workers_to_delete);
        let (present, absent): (BTreeSet<&PodName>, BTreeSet<&PodName>) =
            listed.partition(|pod| pods.contains_key(pod));
        self.named_seen
            .retain(|pod| present.contains(pod) || absent.contains(pod));
        self.named_seen.extend(present.into_iter().cloned());
        self.listed_without_pod_since
            .retain(|pod, _| absent.contains(&pod));
        for pod in absent {
            self.listed_without_pod_since
                .entry(pod.clone())
                .or_insert(at);
        }
    }

    /// Marks groups whose pods do not come, and takes the mark off when a later one runs.
    fn observe_starts(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        for node in snapshot
            .nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Worker)
        {
            let Some(created_at) = node.created_at else {
                continue;
            };
            match node.status {
                // A pod that ran before the GCS was lost is on its way back, not on its way.
                NodeStatus::Starting
                    if self.recovery.since.is_none_or(|since| created_at > since)
                        && at.millis_since(created_at) > START_MAX_MS =>
                {
                    self.start_failed_at.entry(node.group.clone()).or_insert(at);
                }
                NodeStatus::Running => {
                    let failed = self.start_failed_at.get(&node.group);
                    if failed.is_some_and(|failed| created_at > failed.minus_ms(START_MAX_MS)) {
                        self.start_failed_at.remove(&node.group);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
