//! Which pods are on their way for how long, and which groups have pods that do not come.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ClusterSnapshot, Node, NodeKind, NodeStatus, PodName, Timestamp, WorkerGroupName};

/// Holds that pods of a group were given up in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStarts {
    /// How many times, without a node that joined in between.
    pub count: u32,
    /// The last time.
    pub at: Timestamp,
    /// Whether Kubernetes refused to make them, the last time.
    #[serde(default)]
    pub refused: bool,
}

impl FailedStarts {
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
}

impl Starts {
    /// Takes in which pods there are; a node that joins proves that its group's pods do come.
    pub(super) fn observe(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        let mut starting = BTreeMap::new();
        let workers = snapshot.nodes.iter();
        for node in workers.filter(|node| node.kind == NodeKind::Worker) {
            let since = self.since.get(&node.name).copied();
            match node.status {
                NodeStatus::Starting => {
                    starting.insert(node.name.clone(), since.unwrap_or(at));
                }
                NodeStatus::Running if since.is_some() => self.joined(node),
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
    fn joined(&mut self, node: &Node) {
        let failed = self.failed.get(&node.group);
        if failed
            .zip(node.created_at)
            .is_some_and(|(failed, created_at)| failed.is_before(created_at))
        {
            self.failed.remove(&node.group);
        }
    }

    /// Takes in that pods of a group were given up.
    pub(super) fn record_failure(&mut self, group: &WorkerGroupName, refused: bool, at: Timestamp) {
        let failed = self.failed.entry(group.clone());
        let failed = failed.or_insert(FailedStarts {
            count: 0,
            at,
            refused,
        });
        failed.count = failed.count.saturating_add(1);
        (failed.at, failed.refused) = (at, refused);
    }
}

#[cfg(test)]
mod tests;
