//! What no policy can switch off: bounds, names to clear, nodes to tell, and when to ask again.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    GroupDecision, NodeKind, NodeStatus, PodName, PodSize, RemovalCause, ReplicaBounds,
    ReplicaName, ResizeRequest, ResizeState, ScaleDecision, WorkerGroupName,
};
use crate::placement::Carry;
use crate::policy::{GroupPlan, Plan, PolicyContext, lock_of};

use super::EngineSettings;
use super::gate::Gate;

/// When a decision that was cut short goes on; as often as demand is looked at. Units: milliseconds.
pub(super) const CUT_PAUSE_MS: u64 = 100;

/// How long a node that could not be told to go is left alone. Units: milliseconds.
const TELL_PAUSE_MS: u64 = 5_000;

/// Returns the decision that changes nothing, with what holds it.
pub(super) fn nothing(ctx: PolicyContext<'_>, gate: Gate) -> ScaleDecision {
    let groups = ctx.snapshot.groups.iter().map(|group| GroupDecision {
        name: group.name.clone(),
        replicas_from: group.replicas,
        replicas_to: group.replicas,
        remove: Vec::new(),
        forget: Vec::new(),
        reasons: Vec::new(),
    });
    let mut holds = gate.holds;
    holds.sort();
    holds.dedup();
    ScaleDecision {
        groups: groups.collect(),
        mode: gate.mode,
        holds,
        next_check_at: gate.wake_at,
        ..ScaleDecision::default()
    }
}

/// Enforces what holds whatever the policies did, and returns the decision and what the next round may use.
pub(super) fn conclude(
    ctx: PolicyContext<'_>,
    mut plan: Plan,
    gate: Gate,
    settings: &EngineSettings,
) -> (ScaleDecision, Carry) {
    for name in plan.groups() {
        enforce(ctx, &mut plan, &name, gate.may_remove);
    }
    // For Ray a node counts until it is gone.
    if plan.pool().corrections().draining && gate.may_remove {
        make_up(ctx, &mut plan);
    }
    let mode = gate.mode;
    let mut forget = BTreeMap::new();
    if gate.may_remove {
        forget = names_to_forget(ctx, &mut plan, settings);
    }
    gate.holds.into_iter().for_each(|hold| plan.hold(hold));
    super::traps::name_traps(ctx, &mut plan);
    plan.resize(resizes(ctx, &plan));
    if let Some(at) = gate.wake_at {
        plan.recheck_at(at);
    }
    if plan.is_cut() {
        plan.recheck_at(ctx.now.plus_ms(CUT_PAUSE_MS));
    }
    let drains = nodes_to_tell(ctx);
    let (decision, carry) = plan.into_decision(forget);
    let decision = ScaleDecision {
        mode,
        drains,
        resized: resized(ctx),
        ..decision
    };
    (decision, carry)
}

/// `may_remove` says what the gate does: where only the work budget has ended, what was drafted before stands, since
/// orders need no look at demand.
fn enforce(ctx: PolicyContext<'_>, plan: &mut Plan, name: &WorkerGroupName, may_remove: bool) {
    let Some(group) = plan.group(name) else {
        return;
    };
    let bounds = bounds(group);
    if group.replicas_to() < bounds.min {
        plan.retarget(name, bounds.min, "minimum");
    } else if group.replicas_to() > bounds.max {
        plan.retarget(name, bounds.max, "maximum");
        plan.shrink_to_maximum(ctx, name);
    }
    let Some(group) = plan.group(name) else {
        return;
    };
    let is_out = bounds.clamp(group.replicas_to()) != group.replicas_to();
    // Fewer than will be left would be a shrink of which nobody says what goes.
    let is_nameless = group.replicas_to() < staying(group);
    let is_blind = !may_remove && group.replicas_to() < group.replicas_from();
    if is_out || is_nameless || is_blind {
        plan.revert(name);
    }
}

/// Has pods replaced that go by somebody else's hand while they are still there.
///
/// An evicted pod may take its time to go. It counts for the operator until it is gone, but is no
/// capacity any more. Not in a group whose list names a pod that is still there: the operator does nothing in it then.
fn make_up(ctx: PolicyContext<'_>, plan: &mut Plan) {
    let nodes = ctx.snapshot.nodes.iter();
    let going = nodes
        .filter(|node| node.kind == NodeKind::Worker && node.status == NodeStatus::Terminating);
    let mut leaving: BTreeMap<&WorkerGroupName, Vec<&PodName>> = BTreeMap::new();
    for node in going {
        leaving.entry(&node.group).or_default().push(&node.name);
    }
    for (name, pods) in leaving {
        let Some(spec) = ctx.snapshot.group(name).filter(|it| it.num_of_hosts <= 1) else {
            continue;
        };
        let is_named = |pod: &&PodName| spec.workers_to_delete.contains(*pod);
        if lock_of(ctx, spec).is_none() && !pods.iter().any(is_named) {
            plan.make_up(name, u32::try_from(pods.len()).unwrap_or(u32::MAX));
        }
    }
}

/// Returns the pods to resize: those that are to serve demand, and those decided on before.
fn resizes(ctx: PolicyContext<'_>, plan: &Plan) -> Vec<ResizeRequest> {
    let mut resizes: BTreeMap<PodName, PodSize> = BTreeMap::new();
    let pods = &ctx.snapshot.resizing.pods;
    for node in ctx
        .snapshot
        .nodes
        .iter()
        .filter(|node| node.node_id.is_some())
    {
        let decided = pods
            .get(&node.name)
            .filter(|pod| pod.state == ResizeState::Decided);
        if let Some(pod) = decided {
            resizes.insert(node.name.clone(), pod.desired);
        }
    }
    let chosen = plan
        .pool()
        .resized()
        .iter()
        .filter_map(|at| ctx.snapshot.nodes.get(*at));
    for node in chosen.filter(|node| node.node_id.is_some()) {
        if let Some(pod) = pods.get(&node.name).filter(|pod| pod.desired != pod.max) {
            resizes.insert(node.name.clone(), pod.max);
        }
    }
    let request = |(pod, desired)| ResizeRequest { pod, desired };
    resizes.into_iter().map(request).collect()
}

/// Returns the pods that were resized and whose raylets have not heard of it.
fn resized(ctx: PolicyContext<'_>) -> Vec<PodName> {
    let pods = &ctx.snapshot.resizing.pods;
    let is_resized = |name: &PodName| {
        let pod = pods.get(name);
        pod.is_some_and(|pod| pod.state == ResizeState::Resized)
    };
    let nodes = ctx.snapshot.nodes.iter().filter(|node| {
        node.status == NodeStatus::Running && node.node_id.is_some() && is_resized(&node.name)
    });
    sorted(nodes.map(|node| node.name.clone()).collect())
}

/// Returns names in an order that says nothing about the order of the snapshot.
fn sorted(mut names: Vec<PodName>) -> Vec<PodName> {
    names.sort_unstable();
    names
}

/// Returns the bounds that hold; an order for all groups together goes before a minimum, as in Ray.
fn bounds(group: &GroupPlan) -> ReplicaBounds {
    let mut bounds = group.bounds();
    if group
        .removals()
        .iter()
        .any(|removal| removal.cause == RemovalCause::AboveTotal)
    {
        bounds.min = bounds.min.min(group.replicas_to());
    }
    bounds
}

fn staying(group: &GroupPlan) -> u32 {
    u32::try_from(group.staying().count()).unwrap_or(u32::MAX)
}

/// Returns the pods that somebody has named although their nodes know nothing of it.
///
/// The operator deletes them within milliseconds; what runs there can still use the grace period.
/// Those that we named have been told before.
fn nodes_to_tell(ctx: PolicyContext<'_>) -> Vec<PodName> {
    let groups = ctx.snapshot.groups.iter();
    let listed: BTreeSet<&PodName> = groups.flat_map(|it| &it.workers_to_delete).collect();
    if listed.is_empty() {
        return Vec::new();
    }
    let nodes = || {
        ctx.snapshot.nodes.iter().filter(|node| {
            let is_going = matches!(node.status, NodeStatus::Deleting | NodeStatus::Terminating);
            node.kind == NodeKind::Worker && is_going
        })
    };
    let named = nodes().filter(|node| listed.contains(&node.name));
    let replicas: BTreeSet<&ReplicaName> = named.map(|node| &node.replica).collect();
    let history = ctx.history;
    let is_untold = |pod: &PodName| {
        let refused = history.drain_refused_at.get(pod);
        let is_resting = refused.is_some_and(|at| ctx.now.millis_since(*at) < TELL_PAUSE_MS);
        let is_told =
            history.drained_at.contains_key(pod) || history.named_told_at.contains_key(pod);
        !is_told && !is_resting
    };
    let untold = nodes()
        .filter(|node| replicas.contains(&node.replica) && node.node_id.is_some())
        .filter(|node| is_untold(&node.name));
    sorted(untold.map(|node| node.name.clone()).collect())
}

/// Names are taken out of a list when they are this part of it.
const FORGET_PART: usize = 4;

/// Returns the names whose pods are gone and that the operator has had its time with.
///
/// A name that stands in the list for nothing costs the operator a call on each of its passes;
/// one that is taken out before the operator has acted is a deletion that never happens. While many
/// pods go, one after the other, a patch for each costs more than the names do: a few wait for others.
fn names_to_forget(
    ctx: PolicyContext<'_>,
    plan: &mut Plan,
    settings: &EngineSettings,
) -> BTreeMap<WorkerGroupName, Vec<PodName>> {
    let nodes = ctx
        .snapshot
        .nodes
        .iter()
        .filter(|node| node.status != NodeStatus::Lost);
    let pods: BTreeSet<&PodName> = nodes.map(|node| &node.name).collect();
    let mut forget: BTreeMap<WorkerGroupName, Vec<PodName>> = BTreeMap::new();
    for group in &ctx.snapshot.groups {
        let absent: BTreeSet<&PodName> = group
            .workers_to_delete
            .iter()
            .filter(|pod| !pods.contains(pod))
            .collect();
        let mut over = Vec::new();
        for pod in absent {
            let since = ctx
                .history
                .listed_without_pod_since
                .get(pod)
                .copied()
                .unwrap_or(ctx.now);
            let until = since.plus_ms(settings.forget_after.as_ms());
            if ctx.history.named_seen.contains(pod) || until <= ctx.now {
                over.push(pod.clone());
            } else {
                plan.recheck_at(until);
            }
        }
        if !over.is_empty() && over.len() * FORGET_PART >= group.workers_to_delete.len() {
            forget.insert(group.name.clone(), over);
        }
    }
    forget
}
