//! What the operator was asked for and has not done yet, and since when.
//!
//! The operator acknowledges nothing. What it does shows in pods only, so what it does not do is
//! told by how long pods stay away or stay.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ClusterSnapshot, NodeKind, NodeStatus, PodName, Timestamp, WorkerGroupName};

/// The word for what is taken back because Kubernetes refuses to make the pods.
pub const PODS_REFUSED: &str = "pods_refused";

/// The word for what the operator does not get to, since it ends its pass at a group before whose pods are refused.
pub const BEHIND_REFUSED: &str = "behind_refused_pods";

/// How long the operator may be kept from a group without the wait for it starting again: deletions and the pods of
/// other groups take seconds. Units: milliseconds.
const KEPT_AWAY_MS: u64 = 10_000;

/// Says since when pods of a group have been missing, without a new one coming.
///
/// That more or fewer are asked for meanwhile brings none: a group of which a little more is asked all the time would
/// never be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Since when; starts again with every pod that comes, and while the operator does not get to the group.
    pub since: Timestamp,
    /// Pods that are there, those that are going included.
    pub pods: u32,
    /// `replicas` of the group.
    pub replicas: u32,
}

/// Holds what the operator has been waited for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OperatorWaits {
    /// Groups with fewer pods than asked for.
    pub missing: BTreeMap<WorkerGroupName, Missing>,
    /// Pods that are going since a list has named them, or since the operator deletes them of its own accord: a group is
    /// locked meanwhile.
    pub going: BTreeMap<PodName, Going>,
}

/// Says since when a pod has been going that locks a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Going {
    /// Since when.
    pub since: Timestamp,
    /// The group that is locked: the one whose list names the pod, which may be another one than the pod's own, and
    /// where the operator deletes it of its own accord the one that owns it. It stays locked when the list is emptied.
    pub group: WorkerGroupName,
}

impl OperatorWaits {
    /// Returns since when a group has been locked, and the pod that has been going for longest.
    #[must_use]
    pub fn lock_of(&self, group: &WorkerGroupName) -> Option<(Timestamp, &PodName)> {
        let going = self.going.iter().filter(|(_, it)| it.group == *group);
        going.map(|(pod, it)| (it.since, pod)).min()
    }

    /// Takes in what is there.
    pub(super) fn observe(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        let workers = snapshot
            .nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Worker && node.status != NodeStatus::Lost);
        let mut pods: BTreeMap<&WorkerGroupName, u32> = BTreeMap::new();
        let mut terminating: BTreeMap<&PodName, &WorkerGroupName> = BTreeMap::new();
        for node in workers {
            let count = pods.entry(&node.group).or_default();
            *count = count.saturating_add(1);
            if node.status == NodeStatus::Terminating {
                terminating.insert(&node.name, &node.group);
            }
        }
        let mut locking: BTreeMap<&PodName, &WorkerGroupName> = BTreeMap::new();
        for group in &snapshot.groups {
            // Of the list of a group of several hosts the operator heeds only pods of that group.
            let is_heeded = |pod: &&PodName| {
                let owner = terminating.get(pod);
                owner.is_some_and(|owner| group.num_of_hosts <= 1 || **owner == group.name)
            };
            for pod in group.workers_to_delete.iter().filter(is_heeded) {
                locking.entry(pod).or_insert(&group.name);
            }
        }
        // What the operator deletes of its own accord locks the group that owns it, whoever else names it.
        locking.extend(&snapshot.taken_down);
        let is_known = |group: &WorkerGroupName| snapshot.group(group).is_some();
        self.going.retain(|pod, it| {
            is_known(&it.group) && (terminating.contains_key(pod) || locking.contains_key(pod))
        });
        for (pod, group) in locking.into_iter().filter(|(_, group)| is_known(group)) {
            let going = self.going.entry(pod.clone()).or_insert_with(|| Going {
                since: at,
                group: group.clone(),
            });
            going.group.clone_from(group);
        }
        self.observe_missing(snapshot, &pods, at);
    }

    /// Takes in which groups have fewer pods than asked for.
    ///
    /// The operator passes over a group that is locked, and ends its pass where Kubernetes refuses a pod: where that
    /// lasts nothing is said of the groups it does not get to.
    fn observe_missing(
        &mut self,
        snapshot: &ClusterSnapshot,
        pods: &BTreeMap<&WorkerGroupName, u32>,
        at: Timestamp,
    ) {
        self.missing
            .retain(|name, _| snapshot.group(name).is_some());
        let is_kept = |since: Timestamp| at.millis_since(since) >= KEPT_AWAY_MS;
        let mut is_behind = false;
        for group in &snapshot.groups {
            let pods = pods.get(&group.name).copied().unwrap_or(0);
            let replicas = group.bounds.clamp(group.replicas);
            if pods >= replicas.saturating_mul(group.num_of_hosts) {
                self.missing.remove(&group.name);
                continue;
            }
            let lock = self.lock_of(&group.name);
            let is_locked = lock.is_some_and(|(since, _)| is_kept(since));
            let known = self.missing.get(&group.name);
            let known = known.filter(|known| pods <= known.pods && !is_locked && !is_behind);
            let since = known.map_or(at, |known| known.since);
            is_behind |= snapshot.replica_failure.is_some() && is_kept(since);
            let missing = Missing {
                since,
                pods,
                replicas,
            };
            self.missing.insert(group.name.clone(), missing);
        }
    }
}
