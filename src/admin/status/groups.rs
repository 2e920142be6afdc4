//! Worker groups in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::admin::LastPass;
use crate::model::{Node, NodeKind, NodeStatus, WorkerGroup, WorkerGroupName};

/// Shows one worker group.
///
/// Units: `replicas…` in replicas, each `num_of_hosts` nodes; `nodes` in nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// Why it cannot be scaled; `None` when it can. The numbers of such a group are 0.
    pub skipped: Option<String>,
    /// `minReplicas`.
    pub replicas_min: u32,
    /// `replicas` as the RayCluster had it.
    pub replicas: u32,
    /// `replicas` as it was decided.
    pub replicas_to: u32,
    /// `maxReplicas`.
    pub replicas_max: u32,
    /// Nodes per replica.
    pub num_of_hosts: u32,
    /// Its nodes.
    pub nodes: NodeCounts,
}

/// Counts nodes by what can be expected of them; each node stands under one name, `idle` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeCounts {
    /// Asked for, and no pod yet.
    pub missing: u64,
    /// The pod is there, its raylet has not registered.
    pub starting: u64,
    /// The raylet is alive.
    pub running: u64,
    /// Running ones that do nothing.
    pub idle: u64,
    /// Told to stop, or stopped; the pod is still to be named.
    pub draining: u64,
    /// The pod is named or being deleted.
    pub leaving: u64,
    /// The pod ended by itself.
    pub failed: u64,
}

impl NodeCounts {
    fn count(&mut self, node: &Node) {
        let place = match node.status {
            NodeStatus::Queued | NodeStatus::Requested | NodeStatus::Starting => &mut self.starting,
            NodeStatus::Running => &mut self.running,
            NodeStatus::Draining | NodeStatus::Stopped => &mut self.draining,
            NodeStatus::Deleting | NodeStatus::Terminating => &mut self.leaving,
            NodeStatus::Failed => &mut self.failed,
            NodeStatus::Lost => return,
        };
        *place += 1;
        if node.status == NodeStatus::Running && node.idle_since.is_some() {
            self.idle += 1;
        }
    }
}

/// Returns every group, those that are skipped at their place.
pub(super) fn groups(pass: &LastPass) -> Vec<GroupStatus> {
    let snapshot = &pass.snapshot;
    let mut counts: BTreeMap<&WorkerGroupName, NodeCounts> = BTreeMap::new();
    let workers = snapshot.nodes.iter();
    for node in workers.filter(|node| node.kind == NodeKind::Worker) {
        counts.entry(&node.group).or_default().count(node);
    }
    let counts_of = |name| counts.get(name).copied().unwrap_or_default();
    let good = snapshot.groups.iter().map(|group| {
        let decided = pass.decision.group(&group.name);
        let status = GroupStatus {
            name: group.name.to_string(),
            skipped: None,
            replicas_min: group.bounds.min,
            replicas: group.replicas,
            replicas_to: decided.map_or(group.replicas, |it| it.replicas_to),
            replicas_max: group.bounds.max,
            num_of_hosts: group.num_of_hosts,
            nodes: with_missing(group, counts_of(&group.name)),
        };
        (group.index, status)
    });
    let skipped = snapshot.skipped.iter().map(|group| {
        let status = GroupStatus {
            name: group.name.to_string(),
            skipped: Some(group.code.clone()),
            replicas_min: 0,
            replicas: 0,
            replicas_to: 0,
            replicas_max: 0,
            num_of_hosts: 0,
            nodes: counts_of(&group.name),
        };
        (group.index, status)
    });
    let mut all: Vec<(usize, GroupStatus)> = good.chain(skipped).collect();
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, status)| status).collect()
}

/// Adds the pods that the operator has still to make; it never makes more than `maxReplicas` says.
fn with_missing(group: &WorkerGroup, counts: NodeCounts) -> NodeCounts {
    let asked = group.pods_of(group.bounds.clamp(group.replicas));
    let live = counts.starting + counts.running + counts.draining;
    NodeCounts {
        missing: asked.saturating_sub(live),
        ..counts
    }
}
