//! Ray's view and Kubernetes' view of a cluster, joined into one snapshot. Pure and total.
//!
//! The key is the pod's name: KubeRay gives it to the raylet as its instance id. A pod is
//! something that costs money and a raylet is something that works; each can be there without the
//! other, and [`NodeStatus`](crate::model::NodeStatus) has a word for each case. Nothing in here
//! fails: what cannot be used becomes a [`Problem`] or a skipped group.

mod nodes;
mod orders;
mod outdated;
mod replicas;
mod taken_down;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::groups::{seconds_as_ms, worker_groups};
use super::ray_state::RayState;
use crate::model::{
    ClusterSnapshot, Completeness, Problem, Resizing, ResourceDemand, UpscalingMode,
    WorkerGroupName, Writing,
};
use crate::wire::pod::PodFacts;
use crate::wire::raycluster::RayCluster;

/// Annotation of the RayCluster that pauses all writing: `true`, or the reason in words.
pub const ANNOTATION_PAUSED: &str = "rayscaler.io/paused";

/// Holds one observation of each source.
#[derive(Debug, Clone, Copy)]
pub struct JoinInput<'a> {
    /// What Ray says; empty before the first reply.
    pub ray: &'a RayState,
    /// The RayCluster.
    pub raycluster: &'a RayCluster,
    /// The pods, in any order; pods of other clusters and helper pods are passed over.
    pub pods: &'a [&'a PodFacts],
    /// Age of each source.
    pub completeness: Completeness,
}

/// Returns the snapshot that these observations make.
#[must_use]
pub fn join(input: &JoinInput<'_>) -> ClusterSnapshot {
    let JoinInput {
        ray, raycluster, ..
    } = *input;
    let (groups, skipped, mut problems) = worker_groups(raycluster);
    problems.extend(ray.problems.iter().cloned());
    let nodes = nodes::join_nodes(input, &mut problems);
    report_orphans(raycluster, &nodes, &mut problems);
    let own_pods = nodes::own_pods(input);
    let orders = orders::orders(&own_pods, &mut problems);
    let mut outdated = outdated::outdated(raycluster, &own_pods);
    outdated.extend(outdated::registered_otherwise(raycluster, &groups, &nodes));
    let taken_down = taken_down::taken_down(raycluster, &own_pods, &nodes);
    let mut gangs = ray.gangs.clone();
    for gang in &mut gangs {
        gang.bundles.retain(|bundle| bundle.count > 0);
    }
    // Ray sends a group without bundles when nothing of it is left to place.
    gangs.retain(|gang| !gang.bundles.is_empty());
    let options = &raycluster.spec.autoscaler_options;
    let mut snapshot = ClusterSnapshot {
        uid: raycluster.metadata.uid.clone(),
        state_version: ray.state_version,
        groups,
        skipped,
        nodes,
        demands: demands(&ray.demands),
        gangs,
        constraint: ray.constraint.clone(),
        idle_timeout_ms: options.idle_timeout_seconds.and_then(seconds_as_ms),
        upscaling_mode: match options.upscaling_mode.as_deref() {
            Some("Conservative") => UpscalingMode::Conservative,
            _ => UpscalingMode::Unlimited,
        },
        is_suspended: raycluster.spec.suspend,
        is_deleting: raycluster.metadata.deletion_timestamp.is_some(),
        paused: paused(raycluster),
        replica_failure: replica_failure(raycluster),
        unreadable: None,
        distrusted: None,
        set_aside: BTreeSet::new(),
        resizing: Resizing::default(),
        termination: None,
        departures: Vec::new(),
        outdated,
        taken_down,
        failed_starts: Vec::new(),
        writing: Writing::default(),
        orders,
        completeness: input.completeness,
        problems,
    };
    snapshot.sort();
    snapshot
}

/// Returns the demand that new nodes could serve, equal shapes added up.
fn demands(found: &[ResourceDemand]) -> Vec<ResourceDemand> {
    let is_demand =
        |demand: &&ResourceDemand| demand.count > 0 && !demand.request.is_inside_placement_group();
    let mut demands: Vec<ResourceDemand> = found.iter().filter(is_demand).cloned().collect();
    demands.sort();
    demands.dedup_by(|next, kept| {
        let is_same = next.request == kept.request;
        if is_same {
            kept.count = kept.count.saturating_add(next.count);
        }
        is_same
    });
    demands
}

/// Returns why writing is paused, as the annotation says it.
fn paused(raycluster: &RayCluster) -> Option<String> {
    let text = raycluster
        .metadata
        .annotations
        .get(ANNOTATION_PAUSED)?
        .trim();
    match text.to_lowercase().as_str() {
        "" | "false" => None,
        "true" => Some(format!("annotation {ANNOTATION_PAUSED}")),
        _ => Some(text.to_owned()),
    }
}

/// Returns why the operator cannot make pods: the last line, the first being its code.
fn replica_failure(raycluster: &RayCluster) -> Option<String> {
    let mut conditions = raycluster.status.conditions.iter();
    let failure = conditions.find(|condition| {
        let is_create = condition.reason.starts_with("FailedCreate");
        condition.kind == "ReplicaFailure" && condition.status == "True" && is_create
    })?;
    let text = failure.message.lines().last().unwrap_or_default().trim();
    Some(
        if text.is_empty() {
            &failure.reason
        } else {
            text
        }
        .to_owned(),
    )
}

/// Says which pods belong to no group any more: the operator neither counts nor deletes them.
fn report_orphans(
    raycluster: &RayCluster,
    nodes: &[crate::model::Node],
    problems: &mut Vec<Problem>,
) {
    let specs = &raycluster.spec.worker_groups;
    let is_known = |name: &WorkerGroupName| {
        name.as_str() == WorkerGroupName::HEAD
            || specs.iter().any(|spec| match spec {
                Ok(group) => group.group_name == name.as_str(),
                Err(error) => error.name == name.as_str(),
            })
    };
    let mut orphans: Vec<&WorkerGroupName> = nodes
        .iter()
        .filter(|node| node.created_at.is_some())
        .map(|node| &node.group)
        .collect();
    orphans.sort();
    orphans.dedup();
    // What belongs to no group for another reason is told where it is found.
    orphans.retain(|name| !is_known(name) && !replicas::is_uncounted(name));
    problems.extend(orphans.into_iter().map(|name| Problem {
        code: "orphaned_pods".to_owned(),
        detail: format!("pods of worker group `{name}`, which is not in the RayCluster; accepted: a group of that name"),
    }));
}
