//! Which replicas there are, in what state, and how many are on their way.

use std::collections::BTreeMap;

use crate::model::{
    ClusterSnapshot, History, Node, NodeKind, NodeStatus, ReplicaName, WorkerGroup, WorkerGroupName,
};

use super::corrections::Corrections;

/// Says what can be expected of a replica that the operator counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplicaHealth {
    /// Every raylet is gone or told to stop.
    Gone,
    /// Some are, others are not: no capacity any more, although work may still run on it.
    Broken,
    /// Every host runs or is about to.
    Capacity,
}

/// Holds one replica that the operator counts and nobody has asked to delete.
///
/// Shape: `hosts` are positions in `ClusterSnapshot::nodes`, by host.
#[derive(Debug, Clone)]
pub struct ReplicaState {
    /// Its name.
    pub name: ReplicaName,
    /// Its hosts.
    pub hosts: Vec<usize>,
    /// What can be expected of it.
    pub health: ReplicaHealth,
}

impl ReplicaState {
    /// Returns the hosts.
    pub fn nodes<'a>(&'a self, snapshot: &'a ClusterSnapshot) -> impl Iterator<Item = &'a Node> {
        self.hosts.iter().filter_map(|at| snapshot.nodes.get(*at))
    }

    /// Returns whether the raylet of every host has registered.
    #[must_use]
    pub fn is_running(&self, snapshot: &ClusterSnapshot) -> bool {
        self.nodes(snapshot)
            .all(|node| node.status == NodeStatus::Running)
    }
}

/// Returns whether a host's raylet is gone or was told to stop.
#[must_use]
pub fn is_gone(node: &Node, history: &History, corrections: &Corrections) -> bool {
    matches!(node.status, NodeStatus::Draining | NodeStatus::Stopped)
        || (corrections.draining && history.drained_at.contains_key(&node.name))
}

/// Returns the live replicas of every group with pods, in the order of their names.
#[must_use]
pub fn live_replicas(
    snapshot: &ClusterSnapshot,
    history: &History,
    corrections: &Corrections,
) -> BTreeMap<WorkerGroupName, Vec<ReplicaState>> {
    let is_pod = |node: &Node| node.kind == NodeKind::Worker && node.status != NodeStatus::Lost;
    let pods = snapshot
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| is_pod(node));
    let mut pods: Vec<(usize, &Node)> = pods.collect();
    // A snapshot is sorted like this already, so that this takes one pass.
    pods.sort_by(|(_, a), (_, b)| {
        let place = |node: &Node| (node.host_index, node.node_id);
        let by_replica = (&a.group, &a.replica).cmp(&(&b.group, &b.replica));
        by_replica
            .then_with(|| (place(a).0, &a.name, place(a).1).cmp(&(place(b).0, &b.name, place(b).1)))
    });
    let mut replicas: BTreeMap<WorkerGroupName, Vec<ReplicaState>> = BTreeMap::new();
    for hosts in pods.chunk_by(|(_, a), (_, b)| a.group == b.group && a.replica == b.replica) {
        // One host that is going takes the whole replica with it.
        let Some((_, first)) = hosts
            .first()
            .filter(|_| hosts.iter().all(|(_, node)| node.status.is_live()))
        else {
            continue;
        };
        let gone = hosts
            .iter()
            .filter(|(_, node)| is_gone(node, history, corrections))
            .count();
        let health = match gone {
            0 => ReplicaHealth::Capacity,
            all if all == hosts.len() => ReplicaHealth::Gone,
            _ => ReplicaHealth::Broken,
        };
        let state = ReplicaState {
            name: first.replica.clone(),
            hosts: hosts.iter().map(|(at, _)| *at).collect(),
            health,
        };
        match replicas.get_mut(&first.group) {
            Some(replicas) => replicas.push(state),
            None => drop(replicas.insert(first.group.clone(), vec![state])),
        }
    }
    if !corrections.order {
        for replicas in replicas.values_mut() {
            replicas.sort_by_key(|replica| replica.hosts.first().copied());
        }
    }
    replicas
}

/// Counts the replicas of one group.
///
/// Units: replicas. `base` is what the group amounts to if nothing is decided: what the
/// RayCluster asks for within the bounds, but never fewer than there are, since lowering
/// `replicas` deletes nothing.
#[derive(Debug, Clone)]
pub(crate) struct GroupCensus {
    /// The live replicas.
    pub(crate) live: Vec<ReplicaState>,
    /// What the RayCluster asks for, without what somebody has named.
    pub(crate) followed: u32,
    /// The same, within the bounds.
    pub(crate) wanted: u32,
    /// The larger of `wanted` and the number of live replicas.
    pub(crate) base: u32,
    /// Replicas of `base` without a pod so far: the operator is about to create them.
    pub(crate) to_come: u32,
}

impl GroupCensus {
    /// Counts as if the RayCluster asked for so many `replicas`.
    pub(crate) fn of(group: &WorkerGroup, replicas: u32, live: Vec<ReplicaState>) -> Self {
        let count = u32::try_from(live.len()).unwrap_or(u32::MAX);
        let wanted = group.bounds.clamp(replicas);
        let base = wanted.max(count);
        Self {
            live,
            followed: replicas,
            wanted,
            base,
            to_come: base.saturating_sub(count),
        }
    }
}
