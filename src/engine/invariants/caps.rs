//! I12, the part that is configured: what all groups together may have.

use std::collections::BTreeSet;

use crate::model::{
    ClusterSnapshot, GroupDecision, History, LEAVING, NodeKind, NodeStatus, PodName, RECYCLED,
    ResizeRequest, ResizeState, ScaleDecision, WorkerGroup,
};
use crate::placement::Caps;

use super::Violation;

/// Returns whether growth beyond the minima keeps within `caps`; the engine's caller knows them.
#[must_use]
pub fn check_caps(
    snapshot: &ClusterSnapshot,
    history: &History,
    decision: &ScaleDecision,
    caps: &Caps,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let growth = Growth::of(snapshot, decision);
    if !growth.is_chosen && decision.resizes.is_empty() {
        return violations;
    }
    if let Some(nodes_max) = caps.nodes_max.filter(|_| growth.is_chosen) {
        let pairs = || decision.groups.iter().zip(&snapshot.groups);
        // Beyond the maximum the operator creates nothing.
        let total: u128 = pairs()
            .map(|(group, spec)| u128::from(spec.pods_of(wanted(group, spec))))
            .sum();
        let required = snapshot.groups.iter().zip(&growth.required);
        let required: u128 = required
            .map(|(spec, replicas)| u128::from(spec.pods_of(*replicas)))
            .sum();
        if total > u128::from(nodes_max).max(required) {
            let detail = format!("{total} worker nodes, at most {nodes_max} are allowed");
            violations.push(Violation {
                id: "I12",
                detail,
                group: None,
            });
        }
    }
    for (name, max) in caps.resources_max.iter() {
        let there = units_there(snapshot, history, decision, name.as_str());
        let chosen = growth.chosen.iter().zip(&snapshot.groups);
        let chosen = chosen
            .map(|(replicas, spec)| {
                i128::from(*replicas).saturating_mul(replica_units(spec, history, name.as_str()))
            })
            .fold(0, i128::saturating_add);
        let grown = units_grown(snapshot, decision, name.as_str());
        let chosen = chosen.saturating_add(grown);
        if chosen > 0 && there.saturating_add(chosen) > i128::from(max.units()) {
            let detail =
                format!("{name}: {chosen} units on top of {there}, at most {max} are allowed");
            violations.push(Violation {
                id: "I12",
                detail,
                group: None,
            });
        }
    }
    violations
}

/// Returns what a group is to have, without what only makes up for pods on their way out.
fn wanted(group: &GroupDecision, spec: &WorkerGroup) -> u32 {
    let replicas = group.replicas_to.saturating_sub(group.surge());
    spec.bounds.clamp(replicas)
}

/// How many replicas groups gain, by choice and because they must.
struct Growth {
    /// By group: what it has or must have.
    required: Vec<u32>,
    /// By group: what it gets beyond.
    chosen: Vec<u32>,
    is_chosen: bool,
}

impl Growth {
    fn of(snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Self {
        let (mut required, mut chosen, mut is_chosen) = (Vec::new(), Vec::new(), false);
        for (group, spec) in decision.groups.iter().zip(&snapshot.groups) {
            let mut replicas = group.replicas_from;
            for reason in &group.reasons {
                // A minimum, and what is there already, come before the caps.
                let is_required = ["minimum", "replicas_repaired"].contains(&reason.code.as_str());
                if reason.code == LEAVING {
                    continue;
                }
                // It takes the place of one that goes.
                let is_chosen_here = !is_required && reason.code != RECYCLED;
                let more = reason.to.saturating_sub(reason.from);
                replicas = replicas.saturating_add(if is_required { more } else { 0 });
                is_chosen |= more > 0 && is_chosen_here;
            }
            let to = wanted(group, spec);
            required.push(replicas);
            chosen.push(to.saturating_sub(replicas));
        }
        Self {
            required,
            chosen,
            is_chosen,
        }
    }
}

/// Returns what a new replica brings of a resource, without what only its first host has.
fn replica_units(spec: &WorkerGroup, history: &History, name: &str) -> i128 {
    let template = history.template(&spec.name, &spec.template);
    let host = i128::from(template.resources.get(name).units());
    host.saturating_mul(i128::from(spec.num_of_hosts)).max(0)
}

/// Returns what the running nodes have of a resource, but for replicas that are on their way out.
fn units_there(
    snapshot: &ClusterSnapshot,
    history: &History,
    decision: &ScaleDecision,
    name: &str,
) -> i128 {
    let removals = decision.groups.iter().flat_map(|group| &group.remove);
    let removed: BTreeSet<&PodName> = removals.flat_map(|removal| &removal.pods).collect();
    let workers = || {
        let nodes = snapshot.nodes.iter();
        nodes.filter(|node| node.kind == NodeKind::Worker && node.status != NodeStatus::Lost)
    };
    let going = workers().filter(|node| {
        !node.status.is_live()
            || removed.contains(&node.name)
            || history.drained_at.contains_key(&node.name)
    });
    let going: BTreeSet<_> = going.map(|node| (&node.group, &node.replica)).collect();
    workers()
        .filter(|node| node.status == NodeStatus::Running)
        .filter(|node| !going.contains(&(&node.group, &node.replica)))
        .map(|node| i128::from(node.total.get(name).units()).max(0))
        .fold(0, i128::saturating_add)
}

/// Returns what nodes of groups gain of a resource because they are chosen to grow in place.
///
/// What has been decided on before, or is taken back, is no choice.
fn units_grown(snapshot: &ClusterSnapshot, decision: &ScaleDecision, name: &str) -> i128 {
    let gain = |request: &ResizeRequest| {
        let pod = snapshot.resizing.pods.get(&request.pod)?;
        let node = snapshot
            .nodes
            .iter()
            .find(|node| node.name == request.pod)?;
        let size = match name {
            "CPU" => request.desired.cpu,
            "memory" => request.desired.memory,
            _ => return None,
        };
        let is_chosen = pod.state == ResizeState::Settled && node.kind == NodeKind::Worker;
        let gain = i128::from(size.units()).saturating_sub(node.total.get(name).units().into());
        is_chosen.then_some(gain.max(0))
    };
    let gains = decision.resizes.iter().filter_map(gain);
    gains.fold(0, i128::saturating_add)
}
