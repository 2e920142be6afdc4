//! The rules that only a second decision can show: I4, I5 and I9.
//!
//! A second decision gets a few more steps than the first took. One that needs more still says
//! nothing, so that checking costs a multiple of deciding at most.

use crate::engine::{Engine, apply};
use crate::model::{ClusterSnapshot, Input, ScaleDecision};
use crate::policy::PolicyContext;

use super::Violation;

/// Says which second decision is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// I4: on the snapshot as it is when the decision has been applied.
    Applied,
    /// I5: on the same input.
    Same,
    /// I9: on the same facts in another order.
    Reordered,
}

impl Again {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Same, Self::Reordered];
}

/// Steps that any second decision may take.
const STEPS_MIN: u64 = 1_000;

/// Returns the rule that `decision` breaks when it is made again.
///
/// A decision that was cut short promises none of this, and neither does an engine without
/// the corrections, or one that does not decide until nothing changes.
#[must_use]
pub fn check_again(
    engine: &Engine,
    ctx: PolicyContext<'_>,
    decision: &ScaleDecision,
    again: Again,
) -> Option<Violation> {
    if decision.is_cut {
        return None;
    }
    let steps = decision.steps.saturating_mul(2).max(STEPS_MIN);
    let has_order = engine.corrections.order;
    let violation = match again {
        Again::Applied if has_order && engine.settings.settle => {
            is_changed_again(engine, ctx, decision, steps).map(|detail| ("I4", detail))
        }
        Again::Same => {
            let second = engine.decide_within(ctx.snapshot, ctx.history, ctx.now, steps);
            (!second.is_cut && second != *decision)
                .then(|| ("I5", "the same input led to another decision".to_owned()))
        }
        Again::Reordered if has_order => {
            let other = reordered(ctx.snapshot);
            let second = engine.decide_within(&other, ctx.history, ctx.now, steps);
            let is_same =
                second.is_cut || without_positions(&second) == without_positions(decision);
            (!is_same).then(|| ("I9", "another order led to another decision".to_owned()))
        }
        Again::Applied | Again::Reordered => None,
    };
    violation.map(|(id, detail)| Violation { id, detail })
}

fn is_changed_again(
    engine: &Engine,
    ctx: PolicyContext<'_>,
    decision: &ScaleDecision,
    steps: u64,
) -> Option<String> {
    let snapshot = apply(ctx.snapshot, decision);
    let mut history = ctx.history.clone();
    history.absorb(&Input::Decided(decision), ctx.now);
    for group in &decision.groups {
        let (from, to) = (group.replicas_from, group.replicas_to);
        let group = &group.name;
        history.absorb(&Input::Scaled { group, from, to }, ctx.now);
    }
    let second = engine.decide_within(&snapshot, &history, ctx.now, steps);
    let changed = second.groups.iter().find(|group| group.is_change())?;
    (!second.is_cut).then(|| {
        format!(
            "{}: once at {} it would go on to {} and remove {}",
            changed.name,
            changed.replicas_from,
            changed.replicas_to,
            changed.remove.len()
        )
    })
}

/// Returns the snapshot with its lists the other way round, but for the groups.
fn reordered(snapshot: &ClusterSnapshot) -> ClusterSnapshot {
    let mut other = snapshot.clone();
    other.nodes.reverse();
    other.demands.reverse();
    other.gangs.reverse();
    other
}

/// Returns a decision without what says where demand stands: that is the order itself.
fn without_positions(decision: &ScaleDecision) -> ScaleDecision {
    let mut decision = decision.clone();
    for unserved in &mut decision.unserved {
        unserved.position = 0;
    }
    decision
}
