//! Notices what became of workers between two passes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{
    ClusterSnapshot, Node, NodeKind, NodeStatus, PodName, Timestamp, WorkerGroupName,
};

/// Says what became of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeChange {
    /// Its pod is there.
    Appeared {
        pod: PodName,
        group: WorkerGroupName,
    },
    /// Its raylet registered.
    Started {
        pod: PodName,
        group: WorkerGroupName,
        after: Option<Duration>,
    },
    /// Its pod ended by itself.
    Failed {
        pod: PodName,
        group: WorkerGroupName,
        had_started: bool,
        reason: String,
    },
    /// Its pod is gone.
    Gone {
        pod: PodName,
        group: WorkerGroupName,
    },
}

#[derive(Debug)]
struct Known {
    group: WorkerGroupName,
    has_started: bool,
    has_failed: bool,
}

/// Remembers the workers of the last pass.
///
/// What is there at the first complete look is not news: counters count from the start of the process.
#[derive(Debug, Default)]
pub(super) struct NodeWatch {
    known: Option<BTreeMap<PodName, Known>>,
}

impl NodeWatch {
    /// Returns what happened since the last call; nothing while a source has never been read.
    pub(super) fn update(&mut self, snapshot: &ClusterSnapshot, now: Timestamp) -> Vec<NodeChange> {
        if !snapshot.completeness.is_complete() {
            return Vec::new();
        }
        let is_first = self.known.is_none();
        let known = self.known.get_or_insert_default();
        let mut changes = Vec::new();
        let mut seen = BTreeMap::new();
        for node in workers(snapshot) {
            let last = known.remove(&node.name);
            seen.insert(node.name.clone(), look(node, last, now, &mut changes));
        }
        changes.extend(known.iter().map(|(pod, known)| NodeChange::Gone {
            pod: pod.clone(),
            group: known.group.clone(),
        }));
        *known = seen;
        if is_first {
            changes.clear();
        }
        changes
    }
}

fn workers(snapshot: &ClusterSnapshot) -> impl Iterator<Item = &Node> {
    snapshot
        .nodes
        .iter()
        .filter(|node| node.kind == NodeKind::Worker && node.status != NodeStatus::Lost)
}

fn look(node: &Node, last: Option<Known>, now: Timestamp, changes: &mut Vec<NodeChange>) -> Known {
    let (pod, group) = (node.name.clone(), node.group.clone());
    let mut known = last.unwrap_or_else(|| {
        changes.push(NodeChange::Appeared {
            pod: pod.clone(),
            group: group.clone(),
        });
        Known {
            group: group.clone(),
            has_started: false,
            has_failed: false,
        }
    });
    if node.node_id.is_some() && !known.has_started {
        known.has_started = true;
        let after = node
            .created_at
            .map(|at| Duration::from_millis(now.millis_since(at)));
        changes.push(NodeChange::Started {
            pod: pod.clone(),
            group: group.clone(),
            after,
        });
    }
    if node.status == NodeStatus::Failed && !known.has_failed {
        known.has_failed = true;
        changes.push(NodeChange::Failed {
            pod,
            group,
            had_started: known.has_started,
            reason: node.waiting_reason.clone(),
        });
    }
    known
}

#[cfg(test)]
mod tests {
    use super::{NodeChange, NodeWatch};
    use crate::model::NodeStatus::{Failed, Running, Starting};
    use crate::report::fixtures::{at, group, node, snapshot};

    fn words(changes: &[NodeChange]) -> Vec<&'static str> {
        let word = |change: &NodeChange| match change {
            NodeChange::Appeared { .. } => "appeared",
            NodeChange::Started { .. } => "started",
            NodeChange::Failed {
                had_started: false, ..
            } => "failed",
            NodeChange::Failed { .. } => "failed later",
            NodeChange::Gone { .. } => "gone",
        };
        changes.iter().map(word).collect()
    }

    #[test]
    fn what_is_there_at_first_is_no_news() {
        let mut watch = NodeWatch::default();
        let mut update = |nodes| {
            let snapshot = snapshot(vec![group("g", 2)], nodes);
            words(&watch.update(&snapshot, at(5)))
        };
        assert!(update(vec![node("a", "g", Running), node("b", "g", Starting)]).is_empty());
        assert_eq!(
            update(vec![node("a", "g", Running), node("b", "g", Running)]),
            ["started"]
        );
        assert!(update(vec![node("a", "g", Running), node("b", "g", Running)]).is_empty());
        assert_eq!(
            update(vec![node("a", "g", Failed), node("c", "g", Failed)]),
            ["failed later", "appeared", "failed", "gone"]
        );
        assert_eq!(update(vec![node("a", "g", Failed)]), ["gone"]);
    }

    #[test]
    fn an_incomplete_look_changes_nothing() {
        let mut watch = NodeWatch::default();
        let full = snapshot(vec![group("g", 1)], vec![node("a", "g", Running)]);
        watch.update(&full, at(0));
        let mut blind = snapshot(vec![], vec![]);
        blind.completeness.pods_at = None;
        assert!(watch.update(&blind, at(1)).is_empty());
        assert!(watch.update(&full, at(2)).is_empty());
    }
}
