//! Which replicas there are, in what state, and how many are on their way.

use std::collections::BTreeMap;

use crate::model::{
    ClusterSnapshot, History, Node, NodeKind, NodeStatus, ReplicaName, WorkerGroup, WorkerGroupName,
};

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
pub fn is_gone(node: &Node, history: &History) -> bool {
    matches!(node.status, NodeStatus::Draining | NodeStatus::Stopped)
        || history.drained_at.contains_key(&node.name)
}

/// Returns the live replicas of every group with pods, in the order of their names.
#[must_use]
pub fn live_replicas(
    snapshot: &ClusterSnapshot,
    history: &History,
) -> BTreeMap<WorkerGroupName, Vec<ReplicaState>> {
    let mut hosts: BTreeMap<(&WorkerGroupName, &ReplicaName), Vec<usize>> = BTreeMap::new();
    for (at, node) in snapshot.nodes.iter().enumerate() {
        if node.kind == NodeKind::Worker && node.status != NodeStatus::Lost {
            hosts
                .entry((&node.group, &node.replica))
                .or_default()
                .push(at);
        }
    }
    let mut replicas: BTreeMap<WorkerGroupName, Vec<ReplicaState>> = BTreeMap::new();
    for ((group, name), mut hosts) in hosts {
        let node = |at: &usize| snapshot.nodes.get(*at);
        // One host that is going takes the whole replica with it.
        if !hosts
            .iter()
            .filter_map(node)
            .all(|node| node.status.is_live())
        {
            continue;
        }
        hosts.sort_by_key(|at| node(at).map(|node| (node.host_index, &node.name, node.node_id)));
        let gone = hosts
            .iter()
            .filter_map(node)
            .filter(|node| is_gone(node, history))
            .count();
        let health = match gone {
            0 => ReplicaHealth::Capacity,
            all if all == hosts.len() => ReplicaHealth::Gone,
            _ => ReplicaHealth::Broken,
        };
        let state = ReplicaState {
            name: name.clone(),
            hosts,
            health,
        };
        replicas.entry(group.clone()).or_default().push(state);
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
    /// What the RayCluster asks for, within the bounds.
    pub(crate) wanted: u32,
    /// The larger of `wanted` and the number of live replicas.
    pub(crate) base: u32,
    /// Replicas of `base` without a pod so far: the operator is about to create them.
    pub(crate) to_come: u32,
}

impl GroupCensus {
    pub(crate) fn of(group: &WorkerGroup, live: Vec<ReplicaState>) -> Self {
        let count = u32::try_from(live.len()).unwrap_or(u32::MAX);
        let wanted = group.bounds.clamp(group.replicas);
        let base = wanted.max(count);
        Self {
            live,
            wanted,
            base,
            to_come: base.saturating_sub(count),
        }
    }
}
