//! I7: what is served without a removal is served with it.
//!
//! All that is asked for is placed twice: on the nodes as they are when the decision has been applied, and on those
//! and what it removes because nobody needs it. The engine's own policies place it, in their order: what comes first, and
//! in which order nodes are filled, decides what fits. Nothing is launched or removed meanwhile.
//!
//! Where a maximum or a cap does not allow both what goes and what is launched, one is there in place of the other: then
//! all that is asked for is served no worse than before the decision, what is placed first before the rest.
//!
//! # Cost
//!
//! That of one decision where all is served, and of two or three elsewhere; none may take more than twice the steps that
//! the decision took.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{Engine, apply};
use crate::model::{
    ClusterSnapshot, GroupDecision, History, Input, PODS_REFUSED, PodName, RemovalCause,
    ScaleDecision, WorkerGroupName,
};
use crate::placement::{Corrections, ToCome};
use crate::policy::{Plan, PolicyContext, Stage};

use super::caps::check_caps;

/// Placement steps that looking for what is served may always take; about a tenth of a second.
const STEPS_MIN: u64 = 100_000;

/// Returns what a decision leaves unserved that would be served if nothing went for want of need.
pub(super) fn lost(
    engine: &Engine,
    ctx: PolicyContext<'_>,
    decision: &ScaleDecision,
) -> Vec<String> {
    let unneeded = unneeded(decision);
    if unneeded.is_empty() || !is_asked(ctx.snapshot) {
        return Vec::new();
    }
    let steps = decision.steps.saturating_mul(2).max(STEPS_MIN);
    let now = ctx.now;
    let (mut snapshot, mut history) = applied(ctx, decision);
    let gone = PolicyContext {
        snapshot: &snapshot,
        history: &history,
        now,
    };
    let Some(gone) = unserved(engine, gone, steps).filter(|gone| !gone.counts.is_empty()) else {
        return Vec::new();
    };
    let staying = staying(engine, ctx, decision, &unneeded);
    let mut lost = Vec::new();
    if staying.len() < unneeded.len() && !has_to_go(decision) {
        // What went has made room for what is launched. Then things are no worse than if nothing were done.
        let before = unserved(engine, ctx, steps);
        lost.extend(before.and_then(|before| worse(ctx.snapshot, &gone, &before)));
    }
    if staying.is_empty() {
        return lost;
    }
    keep(
        &mut snapshot,
        &mut history,
        (ctx.snapshot, decision, &staying),
    );
    for (group, replicas) in &staying {
        count_again((&mut snapshot, &mut history), group, *replicas);
    }
    let kept = PolicyContext {
        snapshot: &snapshot,
        history: &history,
        now,
    };
    if let Some(kept) = unserved(engine, kept, steps) {
        let classes = gone.counts.keys();
        let fewer = classes.filter(|class| gone.count(class) > kept.count(class));
        lost.extend(fewer.map(|class| told(class, &gone, (&kept, "without it"))));
    }
    lost
}

/// Replicas that go because nobody needs them, by group.
type Unneeded<'a> = BTreeMap<&'a WorkerGroupName, u32>;

/// Says what finds no place.
#[derive(Debug, Default)]
struct Unserved {
    /// How much of it, by class.
    counts: BTreeMap<String, u64>,
    /// Positions of placement groups.
    gangs: BTreeSet<usize>,
}

impl Unserved {
    fn of(plan: &Plan) -> Self {
        let mut all = Self::default();
        for unserved in plan.not_served() {
            let sum = all.counts.entry(unserved.class.clone()).or_default();
            *sum = sum.saturating_add(unserved.count);
            if unserved.class == "placement_group" {
                all.gangs.insert(unserved.position);
            }
        }
        all
    }

    fn count(&self, class: &str) -> u64 {
        self.counts.get(class).copied().unwrap_or(0)
    }
}

fn told(class: &str, after: &Unserved, (other, when): (&Unserved, &str)) -> String {
    let (after, other) = (after.count(class), other.count(class));
    format!("{after} unserved after the removal, {other} {when} ({class})")
}

/// Returns what is served worse: where the first thing that differs, in the order in which all is placed, is unserved.
fn worse(snapshot: &ClusterSnapshot, after: &Unserved, before: &Unserved) -> Option<String> {
    let is_more = |class: &str| match after.count(class).cmp(&before.count(class)) {
        Ordering::Equal => None,
        other => Some((other.is_gt(), class.to_owned())),
    };
    let gangs = || {
        let mut differing: Vec<usize> = after
            .gangs
            .symmetric_difference(&before.gangs)
            .copied()
            .collect();
        // The largest first.
        differing.sort_by_key(|at| {
            snapshot.gangs.get(*at).map(|gang| {
                let size = Reverse((gang.constraint_count, gang.bundle_count));
                (size, &gang.details, &gang.bundles)
            })
        });
        let first = differing.first()?;
        Some((after.gangs.contains(first), "placement_group".to_owned()))
    };
    let (is_worse, class) = is_more("request_resources")
        .or_else(gangs)
        .or_else(|| is_more("tasks"))?;
    is_worse.then(|| told(&class, after, (before, "before the decision")))
}

/// Returns the groups whose replicas could stay beside what is launched, within their maxima and the caps.
fn staying<'a>(
    engine: &Engine,
    ctx: PolicyContext<'_>,
    decision: &ScaleDecision,
    unneeded: &Unneeded<'a>,
) -> Unneeded<'a> {
    let mut staying = unneeded.clone();
    let mut kept = decision.clone();
    for (group, spec) in kept.groups.iter_mut().zip(&ctx.snapshot.groups) {
        let Some(more) = staying.get(&group.name).copied() else {
            continue;
        };
        let replicas = group.replicas_to.saturating_add(more);
        if replicas > spec.bounds.max {
            staying.remove(&group.name);
            continue;
        }
        group.replicas_to = replicas;
        group.remove.retain(|removal| !is_unneeded(removal.cause));
    }
    let caps = engine.chain.iter().find_map(|link| link.policy.caps());
    let is_above =
        caps.is_some_and(|caps| !check_caps(ctx.snapshot, ctx.history, &kept, &caps).is_empty());
    if is_above { Unneeded::new() } else { staying }
}

const fn is_unneeded(cause: RemovalCause) -> bool {
    matches!(cause, RemovalCause::Idle | RemovalCause::Withdrawn)
}

/// Returns whether something goes whoever needs it, or does not come that was counted on.
fn has_to_go(decision: &ScaleDecision) -> bool {
    let mut removals = decision.groups.iter().flat_map(|group| &group.remove);
    let mut reasons = decision.groups.iter().flat_map(|group| &group.reasons);
    // What has stopped served nothing.
    removals.any(|removal| !is_unneeded(removal.cause) && removal.cause != RemovalCause::Stopped)
        || reasons.any(|reason| ["maximum", PODS_REFUSED].contains(&reason.code.as_str()))
}

/// Returns how many replicas go because nobody needs them, those without a pod among them.
fn unneeded(decision: &ScaleDecision) -> Unneeded<'_> {
    let count = |group: &GroupDecision| {
        let removals = |is: fn(RemovalCause) -> bool| {
            let removals = group.remove.iter().filter(|removal| is(removal.cause));
            u32::try_from(removals.count()).unwrap_or(u32::MAX)
        };
        let withdrawn = removals(|cause| cause == RemovalCause::Withdrawn);
        let reasons = group.reasons.iter();
        let called_off = reasons
            .filter(|reason| reason.code == "pending_idle")
            .map(|reason| reason.from.saturating_sub(reason.to))
            .fold(0, u32::saturating_add);
        removals(is_unneeded).saturating_add(called_off.saturating_sub(withdrawn))
    };
    let groups = decision.groups.iter();
    groups
        .map(|group| (&group.name, count(group)))
        .filter(|(_, replicas)| *replicas > 0)
        .collect()
}

fn is_asked(snapshot: &ClusterSnapshot) -> bool {
    !snapshot.demands.is_empty() || !snapshot.gangs.is_empty() || snapshot.constraint.is_some()
}

/// Returns what is seen and remembered once a decision has been written.
pub(super) fn applied(
    ctx: PolicyContext<'_>,
    decision: &ScaleDecision,
) -> (ClusterSnapshot, History) {
    let mut history = ctx.history.clone();
    history.absorb(&Input::Decided(decision), ctx.now);
    for change in &decision.groups {
        let (from, to) = (change.replicas_from, change.replicas_to);
        let group = &change.name;
        history.absorb(&Input::Scaled { group, from, to }, ctx.now);
        if change.is_change() {
            let (replicas, surge) = (to, change.surge());
            let surged = Input::Surged {
                group,
                replicas,
                surge,
            };
            history.absorb(&surged, ctx.now);
        }
    }
    (apply(ctx.snapshot, decision), history)
}

/// Has the nodes of some groups stay that go because nobody needs them.
fn keep(
    snapshot: &mut ClusterSnapshot,
    history: &mut History,
    (observed, decision, staying): (&ClusterSnapshot, &ScaleDecision, &Unneeded<'_>),
) {
    let groups = decision.groups.iter();
    let groups = groups.filter(|group| staying.contains_key(&group.name));
    let removals = groups.flat_map(|group| &group.remove);
    let unneeded = removals.filter(|removal| is_unneeded(removal.cause));
    let pods: BTreeSet<&PodName> = unneeded.flat_map(|removal| &removal.pods).collect();
    for (node, observed) in snapshot.nodes.iter_mut().zip(&observed.nodes) {
        if pods.contains(&node.name) {
            node.clone_from(observed);
        }
    }
    for (group, observed) in snapshot.groups.iter_mut().zip(&observed.groups) {
        let listed: BTreeSet<&PodName> = observed.workers_to_delete.iter().collect();
        group
            .workers_to_delete
            .retain(|pod| !pods.contains(pod) || listed.contains(pod));
    }
    history.named_seen.retain(|pod| !pods.contains(pod));
}

/// Counts so many replicas more as asked for.
fn count_again(
    (snapshot, history): (&mut ClusterSnapshot, &mut History),
    name: &WorkerGroupName,
    more: u32,
) {
    let Some(group) = snapshot.groups.iter_mut().find(|group| group.name == *name) else {
        return;
    };
    let replicas = group.replicas;
    group.replicas = replicas.saturating_add(more);
    // It is of the number that it was written with.
    if let Some((at, _)) = history.surges.get_mut(name)
        && *at == replicas
    {
        *at = group.replicas;
    }
}

/// Returns by class how much finds no place on the nodes that are there or on their way; `None` when that takes too
/// long to say.
fn unserved(engine: &Engine, ctx: PolicyContext<'_>, steps: u64) -> Option<Unserved> {
    // Each request once, the hardest first: what a better plan makes possible is no yardstick.
    let corrections = Corrections {
        rearranged: false,
        ..Corrections::default()
    };
    let mut plan = Plan::starting_from(ctx, (corrections, ToCome::Lined), None);
    plan.close();
    plan.pool_mut().set_budget(steps);
    let links = engine.chain.iter();
    let links = links.filter(|it| matches!(it.stage, Stage::Settle | Stage::Propose));
    links.for_each(|link| link.policy.apply(ctx, &mut plan));
    (!plan.is_cut()).then(|| Unserved::of(&plan))
}
