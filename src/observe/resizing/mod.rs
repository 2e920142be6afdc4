//! Which pods may grow in place, and how far the resize of each has come.
//!
//! Everything comes from what the RayCluster and the pods say now: a sidecar that starts in the middle
//! of a resize goes on with it, whoever began it. A mistake in the annotation costs the group that it
//! is about its growth in place, and nothing else.

mod limits;
mod progress;
mod suggestion;

use std::collections::BTreeMap;

use crate::model::{Node, NodeId, NodeStatus, PodName, Problem, ResizeState, Resizing, Timestamp};
use crate::wire::pod::PodFacts;
use crate::wire::raycluster::RayCluster;
use limits::{GroupLimits, group_limits};

/// Annotation of the RayCluster that says how far the pods of which groups may grow.
pub const ANNOTATION_LIMITS: &str = "ray.io/ippr";

/// Says that no pod can be resized for a while, because somebody does not allow or know it at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizeOff {
    /// When it is tried again.
    pub until: Timestamp,
    /// Who said no, in words.
    pub why: String,
    /// Whether raylets cannot be told either, so that what Kubernetes has done is of no use.
    pub is_deaf: bool,
}

/// Returns what may be resized; empty unless the RayCluster asks for it.
pub(crate) fn resizing(
    raycluster: &RayCluster,
    (pods, nodes): (&[&PodFacts], &[Node]),
    (now, off): (Timestamp, Option<&ResizeOff>),
    problems: &mut Vec<Problem>,
) -> Resizing {
    let limits = group_limits(raycluster, problems);
    if limits.is_empty() {
        return Resizing::default();
    }
    let ids: BTreeMap<&PodName, NodeId> = nodes
        .iter()
        .filter(|node| node.status != NodeStatus::Lost)
        .filter_map(|node| Some((&node.name, node.node_id?)))
        .collect();
    let mut resizing = Resizing::default();
    for pod in pods.iter().filter(|pod| is_ours(pod, raycluster)) {
        let Some(limits) = limits.get(group_of(pod)) else {
            continue;
        };
        let name = PodName::from(pod.name.as_str());
        let id = ids.get(&name).copied();
        if let Some(found) = progress::progress(pod, limits, (id, now), problems) {
            resizing.pods.insert(name, found);
        }
    }
    match off.filter(|off| now < off.until) {
        None => {
            let sizes = limits.iter().map(|(name, it)| ((*name).into(), it.max));
            resizing.groups = sizes.collect();
        }
        // What is under way is seen to its end; nothing counts on more.
        Some(off) => {
            let is_under_way = |state| matches!(state, ResizeState::Asked | ResizeState::Resized);
            resizing.pods.retain(|_, pod| is_under_way(pod.state));
            for pod in resizing.pods.values_mut() {
                pod.max = pod.desired;
                if off.is_deaf {
                    pod.state = ResizeState::Unsettled;
                }
            }
            problems.push(Problem {
                code: "resize_refused".to_owned(),
                detail: format!("{}; pods are not resized, nodes are added instead", off.why),
            });
        }
    }
    resizing
}

fn is_ours(pod: &PodFacts, raycluster: &RayCluster) -> bool {
    let is_node = matches!(pod.node_type.as_str(), "head" | "worker");
    let cluster = raycluster.metadata.name.as_str();
    is_node && !pod.is_terminating() && (pod.cluster.is_empty() || pod.cluster == cluster)
}

fn group_of(pod: &PodFacts) -> &str {
    if pod.node_type == "head" {
        crate::model::WorkerGroupName::HEAD
    } else {
        &pod.group
    }
}

#[cfg(test)]
mod tests;
