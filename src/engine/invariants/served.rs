//! I7: what was served before a removal is served after it.
//!
//! All that is asked for is placed twice, on the nodes before the decision and on those after it, by the policies that
//! ask for nodes, in their order: what comes first, and in which order nodes are filled, decides what fits. Nothing is
//! launched, and no better plan is looked for.
//!
//! # Cost
//!
//! That of two decisions at most.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{Engine, apply};
use crate::model::{ClusterSnapshot, Input, PODS_REFUSED, RemovalCause, ScaleDecision};
use crate::placement::{Choice, Corrections};
use crate::policy::{Plan, PolicyContext, Stage};

/// Placement steps that looking for what is served may always take; about a tenth of a second.
const STEPS_MIN: u64 = 100_000;

/// Returns what a decision leaves unserved that was served before it.
pub(super) fn lost(
    engine: &Engine,
    ctx: PolicyContext<'_>,
    decision: &ScaleDecision,
) -> Vec<String> {
    if !is_for_want(decision) || !is_asked(ctx.snapshot) {
        return Vec::new();
    }
    let snapshot = apply(ctx.snapshot, decision);
    let mut history = ctx.history.clone();
    history.absorb(&Input::Decided(decision), ctx.now);
    for group in &decision.groups {
        let (from, to) = (group.replicas_from, group.replicas_to);
        let group = &group.name;
        history.absorb(&Input::Scaled { group, from, to }, ctx.now);
    }
    let applied = PolicyContext {
        snapshot: &snapshot,
        history: &history,
        now: ctx.now,
    };
    let choice = choice(engine, ctx);
    let steps = decision.steps.saturating_mul(2).max(STEPS_MIN);
    let both = [ctx, applied].map(|ctx| unserved((engine, &choice), ctx, steps));
    let [Some(before), Some(after)] = both else {
        return Vec::new();
    };
    let mut lost = Vec::new();
    for (class, after) in after {
        let before = before.get(&class).copied().unwrap_or(0);
        if after > before {
            lost.push(format!(
                "{after} unserved after the removal, {before} before ({class})"
            ));
        }
    }
    lost
}

/// Returns whether something goes because nobody needs it, and nothing because it has to.
fn is_for_want(decision: &ScaleDecision) -> bool {
    let removals = || decision.groups.iter().flat_map(|group| &group.remove);
    let groups = decision.groups.iter();
    let reasons: BTreeSet<&str> = groups
        .flat_map(|group| &group.reasons)
        .map(|reason| reason.code.as_str())
        .collect();
    let is_unneeded = |cause| matches!(cause, RemovalCause::Idle | RemovalCause::Withdrawn);
    let has_unneeded = removals().any(|removal| is_unneeded(removal.cause));
    // What does not come up was counted as serving, and serves nothing.
    let is_order = removals().any(|removal| {
        matches!(
            removal.cause,
            RemovalCause::AboveMax | RemovalCause::Ordered | RemovalCause::Stuck
        )
    });
    let is_lowered = reasons.contains("maximum") || reasons.contains(PODS_REFUSED);
    (has_unneeded || reasons.contains("pending_idle")) && !is_order && !is_lowered
}

fn is_asked(snapshot: &ClusterSnapshot) -> bool {
    !snapshot.demands.is_empty() || !snapshot.gangs.is_empty() || snapshot.constraint.is_some()
}

/// Returns how the policies of an engine have nodes compared, which does not depend on the nodes.
fn choice(engine: &Engine, ctx: PolicyContext<'_>) -> Choice {
    let snapshot = ClusterSnapshot {
        groups: ctx.snapshot.groups.clone(),
        ..ClusterSnapshot::default()
    };
    let ctx = PolicyContext {
        snapshot: &snapshot,
        ..ctx
    };
    let mut plan = Plan::new(ctx, Corrections::default());
    let links = engine.chain.iter().filter(|it| it.stage == Stage::Settle);
    links.for_each(|link| link.policy.apply(ctx, &mut plan));
    plan.pool_mut().choice_mut().clone()
}

/// Returns by class how much finds no place on the nodes that are there or on their way; `None` when that takes too
/// long to say.
fn unserved(
    (engine, choice): (&Engine, &Choice),
    ctx: PolicyContext<'_>,
    steps: u64,
) -> Option<BTreeMap<String, u64>> {
    // Each request once, the hardest first: what a better plan makes possible is no yardstick.
    let corrections = Corrections {
        rearranged: false,
        ..Corrections::default()
    };
    let mut plan = Plan::starting_from(ctx, (corrections, false), None);
    plan.close();
    plan.pool_mut().set_budget(steps);
    plan.pool_mut().choice_mut().clone_from(choice);
    let links = engine.chain.iter().filter(|it| it.stage == Stage::Propose);
    links.for_each(|link| link.policy.apply(ctx, &mut plan));
    (!plan.is_cut()).then(|| plan.unserved_by_class())
}
