//! The rules that only a second decision can show: I4, I5 and I9.
//!
//! A second decision gets a few more steps than the first took. One that needs more still says
//! nothing, so that checking costs a multiple of deciding at most. Where the first was cut short, the second
//! gets as many as that had.

use serde_json::Value;

use crate::engine::Engine;
use crate::model::{ClusterSnapshot, ScaleDecision, WorkerGroupName};
use crate::policy::PolicyContext;

use super::Violation;
use super::served::applied;

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

/// Returns the rule that `decision`, made without a limit, breaks when it is made again.
///
/// Nothing is said of one that was cut short all the same, see [`check_again_within`].
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
    check_again_within(engine, ctx, (decision, u64::MAX), again)
}

/// Returns the rule that a decision made with at most so many steps breaks when it is made again.
///
/// One that was cut short promises all but I4. An engine without the corrections, or one that does not decide until
/// nothing changes, promises I5 alone.
#[must_use]
pub fn check_again_within(
    engine: &Engine,
    ctx: PolicyContext<'_>,
    (decision, steps): (&ScaleDecision, u64),
    again: Again,
) -> Option<Violation> {
    let is_cut = decision.is_cut;
    let steps = if is_cut {
        steps
    } else {
        decision.steps.saturating_mul(2).max(STEPS_MIN)
    };
    let has_order = engine.corrections.order;
    let violation = match again {
        Again::Applied if !is_cut && has_order && engine.settings.settle => {
            let (group, detail) = is_changed_again(engine, ctx, decision, steps)?;
            Some(("I4", detail, Some(group)))
        }
        Again::Same => {
            let second = engine.decide_within(ctx.snapshot, ctx.history, ctx.now, steps);
            ((is_cut || !second.is_cut) && second != *decision).then(|| {
                let at = first_difference(decision, &second);
                let detail = format!("the same input led to another decision: {at}");
                ("I5", detail, other_group(decision, &second))
            })
        }
        Again::Reordered if has_order => {
            let other = reordered(ctx.snapshot);
            let second = engine.decide_within(&other, ctx.history, ctx.now, steps);
            let (first, other) = (without_positions(decision), without_positions(&second));
            ((is_cut || !second.is_cut) && first != other).then(|| {
                let at = first_difference(&first, &other);
                let detail = format!("another order led to another decision: {at}");
                ("I9", detail, other_group(&first, &other))
            })
        }
        Again::Applied | Again::Reordered => None,
    };
    let (id, detail, group) = violation?;
    Some(Violation { id, detail, group })
}

fn is_changed_again(
    engine: &Engine,
    ctx: PolicyContext<'_>,
    decision: &ScaleDecision,
    steps: u64,
) -> Option<(WorkerGroupName, String)> {
    let (snapshot, history) = applied(ctx, decision);
    let second = engine.decide_within(&snapshot, &history, ctx.now, steps);
    let changed = second.groups.iter().find(|group| group.is_change())?;
    (!second.is_cut).then(|| {
        let detail = format!(
            "{}: once at {} it would go on to {} and remove {}",
            changed.name,
            changed.replicas_from,
            changed.replicas_to,
            changed.remove.len()
        );
        (changed.name.clone(), detail)
    })
}

/// Returns the first group for which two decisions differ.
fn other_group(first: &ScaleDecision, second: &ScaleDecision) -> Option<WorkerGroupName> {
    let mut pairs = first.groups.iter().zip(&second.groups);
    let (group, _) = pairs.find(|(one, other)| one != other)?;
    Some(group.name.clone())
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

/// Returns where two decisions differ first, with both values.
fn first_difference(first: &ScaleDecision, second: &ScaleDecision) -> String {
    let value = |decision: &ScaleDecision| serde_json::to_value(decision).unwrap_or_default();
    let mut at = String::new();
    let (mut first, mut second) = (value(first), value(second));
    loop {
        let inner = match (&first, &second) {
            (Value::Object(one), Value::Object(other)) => {
                let names = one.keys().chain(other.keys());
                let pairs = names.map(|name| (name.clone(), one.get(name), other.get(name)));
                differing(pairs)
            }
            (Value::Array(one), Value::Array(other)) => {
                let places = 0..one.len().max(other.len());
                differing(places.map(|at| (at.to_string(), one.get(at), other.get(at))))
            }
            _ => None,
        };
        let Some((name, one, other)) = inner else {
            return format!("{at} is {first} and {second}");
        };
        at = format!("{at}/{name}");
        (first, second) = (one, other);
    }
}

/// Returns the first pair whose values differ; what is not there is null.
fn differing<'a>(
    mut pairs: impl Iterator<Item = (String, Option<&'a Value>, Option<&'a Value>)>,
) -> Option<(String, Value, Value)> {
    let (name, one, other) = pairs.find(|(_, one, other)| one != other)?;
    let value = |value: Option<&Value>| value.cloned().unwrap_or_default();
    Some((name, value(one), value(other)))
}
