//! What the operator was asked for and has not done yet, and since when.
//!
//! The operator acknowledges nothing. What it does shows in pods only, so what it does not do is
//! told by how long pods stay away or stay.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    ClusterSnapshot, NodeKind, NodeStatus, PodName, Timestamp, WorkerGroup, WorkerGroupName,
};

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
    /// Pods that are going and that a list names, or that the operator deletes of its own accord: the group of that
    /// list, or of that pod, is locked meanwhile.
    pub going_since: BTreeMap<PodName, Timestamp>,
}

impl OperatorWaits {
    /// Returns since when a group has been locked, and the pod that has been going for longest.
    ///
    /// That may be a pod of another group: the operator locks the group whose list names a pod, not the one that owns it.
    /// Of the list of a multi-host group it heeds only pods of that group.
    #[must_use]
    pub fn lock_of<'a>(
        &'a self,
        snapshot: &ClusterSnapshot,
        group: &WorkerGroup,
    ) -> Option<(Timestamp, &'a PodName)> {
        if self.going_since.is_empty() {
            return None;
        }
        let taken_down = &snapshot.taken_down;
        let listed = group.workers_to_delete.iter();
        // What the operator deletes of its own accord locks the group that owns it, whoever else names it.
        let listed = listed.filter(|pod| !taken_down.contains_key(*pod));
        let own = taken_down.iter().filter(|(_, owner)| **owner == group.name);
        let locking = listed.chain(own.map(|(pod, _)| pod));
        let going = locking.filter_map(|pod| self.going_since.get_key_value(pod));
        let mut going: Vec<_> = going.map(|(pod, since)| (*since, pod)).collect();
        going.sort_unstable();
        let is_own = |pod: &PodName| {
            let mut nodes = snapshot.nodes.iter();
            nodes.any(|node| node.name == *pod && node.group == group.name)
        };
        let mut going = going.into_iter();
        going.find(|(_, pod)| group.num_of_hosts <= 1 || is_own(pod))
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
        let mut going: BTreeSet<&PodName> = BTreeSet::new();
        for group in &snapshot.groups {
            let is_heeded = |pod: &&PodName| {
                let owner = terminating.get(pod);
                owner.is_some_and(|owner| group.num_of_hosts <= 1 || **owner == group.name)
            };
            going.extend(group.workers_to_delete.iter().filter(is_heeded));
        }
        let is_known = |group: &WorkerGroupName| snapshot.group(group).is_some();
        let taken_down = snapshot.taken_down.iter();
        going.extend(taken_down.filter(|it| is_known(it.1)).map(|it| it.0));
        self.going_since.retain(|pod, _| going.contains(pod));
        for pod in going {
            self.going_since.entry(pod.clone()).or_insert(at);
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
            let lock = self.lock_of(snapshot, group);
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
