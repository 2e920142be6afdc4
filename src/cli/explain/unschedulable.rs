//! Demand that has its place on pods for which Kubernetes finds no machine.
//!
//! The engine counts a pod that starts as capacity to come until it is given up, so that nothing is asked for
//! twice. Whoever waits for it wants to know that it does not come. How much of a demand depends on such pods
//! is decided as everything else here: once more, without them, and with no more replicas than before.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::verdict::shape;
use crate::admin::LastPass;
use crate::cli::age::age;
use crate::engine::Engine;
use crate::model::{
    ClusterSnapshot, Node, NodeKind, NodeStatus, PodName, ReplicaName, ResourceRequest,
    ScaleDecision, Timestamp, WorkerGroupName,
};

/// Kubernetes' word for a pod that fits on no machine.
const REASON: &str = "Unschedulable";

/// Says what of a demand waits for such pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Unschedulable {
    /// How many requests have no other place.
    pub(super) requests: u64,
    /// The groups of the pods; empty where no request waits for them.
    pub(super) groups: Vec<StuckGroup>,
    /// Whether the policy `recycle` is in the chain, which gives such pods up.
    #[serde(skip)]
    pub(super) is_recycled: bool,
}

/// Counts such pods of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct StuckGroup {
    /// The group.
    pub(super) group: WorkerGroupName,
    /// How many.
    pub(super) pods: usize,
    /// The one that has waited longest.
    pub(super) oldest: PodName,
    /// For how long; `None` when that is not known.
    ///
    /// Units: milliseconds.
    pub(super) for_ms: Option<u64>,
}

impl Unschedulable {
    /// Returns the pods of a group, if the demand waits for some of them.
    pub(super) fn of(&self, group: &WorkerGroupName) -> Option<&StuckGroup> {
        self.groups.iter().find(|it| it.group == *group)
    }

    /// Returns which pods Kubernetes finds no machine for.
    pub(super) fn text(&self) -> String {
        let groups = self.groups.iter().map(|it| {
            let StuckGroup {
                group,
                pods,
                oldest,
                for_ms,
            } = it;
            let since = for_ms.map(|ms| format!(" for {}", age(ms)));
            let since = since.unwrap_or_default();
            match pods {
                1 if since.is_empty() => format!("pod {oldest} of group {group}"),
                1 => format!("pod {oldest} of group {group},{since}"),
                _ => format!("{pods} pods of group {group}, {oldest}{since}"),
            }
        });
        let groups: Vec<String> = groups.collect();
        format!("Kubernetes finds no machine for {}", groups.join("; "))
    }
}

/// Returns what of a request has its place on such pods alone, in a decision `with` it.
///
/// Only pods of groups that could serve it count: what else may come to where it would be is another question.
pub(super) fn unschedulable(
    (pass, engine): (&LastPass, &Engine),
    (snapshot, request): (&ClusterSnapshot, &ResourceRequest),
    with: &ScaleDecision,
) -> Unschedulable {
    let stuck = stuck(pass, snapshot, request);
    if stuck.is_empty() {
        return Unschedulable::default();
    }
    let rest = without(snapshot, &stuck, with);
    let without = engine.decide(&rest, &pass.memory, pass.at);
    let name = request.to_string();
    let requests = missing(&without, &name).saturating_sub(missing(with, &name));
    let groups = if requests > 0 {
        by_group(&stuck, pass.at)
    } else {
        Vec::new()
    };
    Unschedulable {
        requests,
        groups,
        is_recycled: engine.chain().any(|name| name == "recycle"),
    }
}

/// Returns how many requests of a name find no place.
fn missing(decision: &ScaleDecision, named: &str) -> u64 {
    let unserved = decision.unserved.iter();
    let of_tasks = unserved.filter(|it| it.class == "tasks" && it.what == named);
    of_tasks.map(|it| it.count).sum()
}

/// Returns the pods without a machine in groups of which an empty node could serve the request.
fn stuck<'a>(
    pass: &LastPass,
    snapshot: &'a ClusterSnapshot,
    request: &ResourceRequest,
) -> Vec<&'a Node> {
    let could_serve = |name: &WorkerGroupName| {
        snapshot.group(name).is_some_and(|group| {
            let template = pass.memory.template(name, &group.template);
            shape(group, &template, request).is_none()
        })
    };
    let nodes = snapshot.nodes.iter().filter(|node| {
        node.kind == NodeKind::Worker
            && node.status == NodeStatus::Starting
            && node.waiting_reason == REASON
    });
    nodes.filter(|node| could_serve(&node.group)).collect()
}

fn by_group(stuck: &[&Node], now: Timestamp) -> Vec<StuckGroup> {
    let mut groups: BTreeMap<&WorkerGroupName, Vec<&Node>> = BTreeMap::new();
    for node in stuck {
        groups.entry(&node.group).or_default().push(node);
    }
    let counted = groups.into_iter().filter_map(|(group, nodes)| {
        let age_ms = |node: &Node| node.created_at.map(|at| now.millis_since(at));
        // Of equals the first counts, and those of an unknown age come last.
        let oldest = nodes.iter().rev().max_by_key(|node| age_ms(node))?;
        Some(StuckGroup {
            group: group.clone(),
            pods: nodes.len(),
            oldest: oldest.name.clone(),
            for_ms: age_ms(oldest),
        })
    });
    counted.collect()
}

/// Returns the facts without the replicas that such pods hold up, and without room for others in their place.
fn without(snapshot: &ClusterSnapshot, stuck: &[&Node], with: &ScaleDecision) -> ClusterSnapshot {
    let held_up: BTreeSet<(&WorkerGroupName, &ReplicaName)> = stuck
        .iter()
        .map(|node| (&node.group, &node.replica))
        .collect();
    let mut rest = snapshot.clone();
    // A host that runs serves what fits on it alone.
    rest.nodes.retain(|node| {
        node.status == NodeStatus::Running || !held_up.contains(&(&node.group, &node.replica))
    });
    let live = |snapshot: &ClusterSnapshot, name: &WorkerGroupName| {
        let replicas = snapshot.replicas_of(name);
        let live = replicas.iter().filter(|replica| replica.is_live()).count();
        u32::try_from(live).unwrap_or(u32::MAX)
    };
    for at in 0..rest.groups.len() {
        let name = rest.groups[at].name.clone();
        let left = live(&rest, &name);
        let gone = live(snapshot, &name).saturating_sub(left);
        let group = &mut rest.groups[at];
        let decided = with
            .group(&name)
            .map_or(group.replicas, |it| it.replicas_to);
        group.replicas = group.replicas.saturating_sub(gone);
        group.bounds.max = decided.saturating_sub(gone).max(left);
        group.bounds.min = group.bounds.min.min(group.bounds.max);
    }
    rest
}
