//! What a snapshot will look like when a decision has gone through.

use crate::model::{
    ClusterSnapshot, GroupDecision, NodeStatus, PodName, ResizeState, ScaleDecision,
};
use std::collections::BTreeSet;

/// Returns the snapshot with `decision` written and nothing else changed: `replicas` and
/// `workersToDelete` as decided, the named pods going, new pods not there yet, Kubernetes asked for each resize.
#[must_use]
pub fn apply(snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> ClusterSnapshot {
    let mut after = snapshot.clone();
    let mut named: BTreeSet<&PodName> = BTreeSet::new();
    for group in &decision.groups {
        named.extend(group.remove.iter().flat_map(|removal| &removal.pods));
        if let Some(spec) = after.groups.iter_mut().find(|spec| spec.name == group.name) {
            // As the history has it: whatever is written says anew what only makes up for others. One may go and
            // another be made up for, so that the number is what it was.
            if group.is_change() {
                spec.surge = group.surge();
            }
            spec.replicas = group.replicas_to;
            spec.workers_to_delete
                .retain(|pod| !group.forget.contains(pod));
            for pod in pods(group) {
                if !spec.workers_to_delete.contains(pod) {
                    spec.workers_to_delete.push(pod.clone());
                }
            }
        }
    }
    for node in &mut after.nodes {
        if node.status.is_live() && named.contains(&node.name) {
            node.status = NodeStatus::Deleting;
            node.idle_since = None;
        }
    }
    for resize in &decision.resizes {
        if let Some(pod) = after.resizing.pods.get_mut(&resize.pod) {
            (pod.desired, pod.state) = (resize.desired, ResizeState::Asked);
        }
    }
    after
}

fn pods(group: &GroupDecision) -> impl Iterator<Item = &PodName> {
    group.remove.iter().flat_map(|removal| &removal.pods)
}
