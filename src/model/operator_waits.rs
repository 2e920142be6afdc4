//! What the operator was asked for and has not done yet, and since when.
//!
//! The operator acknowledges nothing. What it does shows in pods only, so what it does not do is
//! told by how long pods stay away or stay.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ClusterSnapshot, NodeKind, NodeStatus, PodName, Timestamp, WorkerGroupName};

/// The word for what is taken back because Kubernetes refuses to make the pods.
pub const PODS_REFUSED: &str = "pods_refused";

/// Says since when pods of a group have been missing, without a new one coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Since when; starts again with every pod that comes and with every change of `replicas`.
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
    /// Pods that are going although somebody's list named them: their group is locked meanwhile.
    pub going_since: BTreeMap<PodName, Timestamp>,
}

impl OperatorWaits {
    /// Takes in what is there; `named` are the pods that a list was seen to name.
    pub(super) fn observe(
        &mut self,
        snapshot: &ClusterSnapshot,
        named: &BTreeSet<PodName>,
        at: Timestamp,
    ) {
        let workers = snapshot
            .nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Worker && node.status != NodeStatus::Lost);
        let mut pods: BTreeMap<&WorkerGroupName, u32> = BTreeMap::new();
        let mut going: BTreeSet<&PodName> = BTreeSet::new();
        for node in workers {
            let count = pods.entry(&node.group).or_default();
            *count = count.saturating_add(1);
            if node.status == NodeStatus::Terminating && named.contains(&node.name) {
                going.insert(&node.name);
            }
        }
        self.going_since.retain(|pod, _| going.contains(pod));
        for pod in going {
            self.going_since.entry(pod.clone()).or_insert(at);
        }
        self.missing
            .retain(|name, _| snapshot.group(name).is_some());
        for group in &snapshot.groups {
            let pods = pods.get(&group.name).copied().unwrap_or(0);
            let replicas = group.bounds.clamp(group.replicas);
            if pods >= replicas.saturating_mul(group.num_of_hosts) {
                self.missing.remove(&group.name);
                continue;
            }
            let is_same = |missing: &&Missing| pods <= missing.pods && replicas == missing.replicas;
            let since = self.missing.get(&group.name).filter(is_same);
            let since = since.map_or(at, |missing| missing.since);
            let missing = Missing {
                since,
                pods,
                replicas,
            };
            self.missing.insert(group.name.clone(), missing);
        }
    }
}
