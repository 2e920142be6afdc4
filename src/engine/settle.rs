//! Repeats a decision until it is stable.
//!
//! # Why
//!
//! Greedy packing has anomalies: with the launched nodes in the pool the same requests may be
//! packed differently, and once in a while that asks for one node more; a removal at the maximum
//! makes room for a launch. The next pass would find out 0.1 s later and patch again. Deciding
//! here until nothing changes gives one patch instead of two, growth and victims of a group
//! together, which matters since a group with an unfinished deletion is locked.

use crate::model::{GroupDecision, Reason, ScaleDecision};
use crate::policy::PolicyContext;

use super::finish::CUT_PAUSE_MS;
use super::{Engine, Round, apply};

/// Rounds after the first one; no generated cluster has needed more than three, made-up replies with requests in the
/// billions up to sixteen. What more there is the next pass does.
const ROUNDS_MAX: usize = 32;

pub(super) fn settle(
    engine: &Engine,
    ctx: PolicyContext<'_>,
    first: Round,
    steps: u64,
) -> ScaleDecision {
    let Round {
        mut decision,
        mut carry,
        ..
    } = first;
    for _ in 0..ROUNDS_MAX {
        if !is_more(&decision) || decision.is_cut || !engine.settings.settle {
            break;
        }
        let snapshot = apply(ctx.snapshot, &decision);
        let again = PolicyContext {
            snapshot: &snapshot,
            ..ctx
        };
        let left = steps.saturating_sub(decision.steps);
        let round = engine.decide_round(again, left, carry);
        let next = round.decision;
        carry = round.carry;
        if next.is_cut {
            decision.steps = decision.steps.saturating_add(next.steps);
            decision.mark_cut();
            let soon = ctx.now.plus_ms(CUT_PAUSE_MS);
            let next_check_at = decision.next_check_at.unwrap_or(soon);
            decision.next_check_at = Some(next_check_at.min(soon));
            break;
        }
        if !is_more(&next) {
            break;
        }
        decision = merge(decision, next);
    }
    decision
}

/// Returns whether deciding again would change nothing for certain, if the launches are plain.
///
/// Idle replicas serve nothing, so that all else is placed as before once they are gone; but where
/// demand is not served, the room that they leave may be what it waits for. Launches for tasks are
/// chosen again, in the same order, when the new nodes are all that is on its way.
pub(super) fn is_stable(decision: &ScaleDecision) -> bool {
    let reasons = decision.groups.iter().flat_map(|group| &group.reasons);
    let is_kept = |reason: &Reason| {
        ["idle_timeout", "pending_idle", "tasks", "blast_radius"].contains(&reason.code.as_str())
    };
    // What is resized for one request may be taken by another.
    let is_settled = decision.resizes.is_empty() && decision.unserved.is_empty();
    !is_more(decision) || (is_settled && reasons.into_iter().all(is_kept))
}

/// Returns whether anything will be otherwise: what is resized takes requests as any other node does.
fn is_more(decision: &ScaleDecision) -> bool {
    decision.is_change() || !decision.resizes.is_empty()
}

/// Returns both decisions as one.
fn merge(first: ScaleDecision, second: ScaleDecision) -> ScaleDecision {
    let pairs = first.groups.into_iter().zip(second.groups);
    let groups = pairs
        .map(|(first, second)| merge_group(first, second))
        .collect();
    let steps = first.steps.saturating_add(second.steps);
    // What goes in the first round is not looked at in the second.
    let mut resizes = first.resizes;
    resizes.extend(second.resizes);
    resizes.sort_by(|one, other| one.pod.cmp(&other.pod));
    let mut removable = second.removable;
    removable.extend(first.removable);
    ScaleDecision {
        groups,
        steps,
        removable,
        // What is asked for in the first round is under way in the second.
        resizes,
        // To the second round what the first one names looks named by somebody else. It is asked whether it
        // may go, and must not be told that it has to.
        drains: first.drains,
        ..second
    }
}

fn merge_group(mut first: GroupDecision, second: GroupDecision) -> GroupDecision {
    first.replicas_to = second.replicas_to;
    first.remove.extend(second.remove);
    for pod in second.forget {
        if !first.forget.contains(&pod) {
            first.forget.push(pod);
        }
    }
    for reason in second.reasons {
        match first
            .reasons
            .last_mut()
            .filter(|last| continues(last, &reason))
        {
            Some(last) => last.to = reason.to,
            None => first.reasons.push(reason),
        }
    }
    first
}

fn continues(last: &Reason, next: &Reason) -> bool {
    last.policy == next.policy
        && last.code == next.code
        && (last.to > last.from) == (next.to > next.from)
}
