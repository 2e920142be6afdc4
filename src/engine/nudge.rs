//! Has the operator look again while it waits out a back-off.
//!
//! Where Kubernetes refuses a pod, KubeRay waits longer after each try, up to a quarter of an hour, and groups behind
//! it wait too. Every change of the RayCluster has it try at once, one of an annotation alone, too. So the intent is
//! written anew now and then while pods are refused and nothing else is to be written: a quota that was raised shows
//! within two minutes.

use crate::model::{Intent, IntentSeen, ScaleDecision, ScalingMode, Timestamp};
use crate::policy::PolicyContext;

/// How long pods are refused, and nothing is written, before the operator is to look again. Units: milliseconds.
const NUDGE_AFTER_MS: u64 = 120_000;

/// Returns when the operator is to look again; `None` where it has done all that it can.
fn due(ctx: PolicyContext<'_>) -> Option<Timestamp> {
    let snapshot = ctx.snapshot;
    snapshot.replica_failure.as_ref()?;
    let missing = ctx.history.operator.missing.values();
    let missing_since = missing.map(|missing| missing.since).min()?;
    let written_at = match &snapshot.writing.seen {
        // What cannot be read says nothing, and is written over.
        IntentSeen::Text(text) => Intent::parse(text).ok().map(|intent| intent.at),
        IntentSeen::NoAnnotations | IntentSeen::Absent => None,
    };
    let since = written_at.map_or(missing_since, |at| at.max(missing_since));
    Some(since.plus_ms(NUDGE_AFTER_MS))
}

/// Says in a decision whether that is now, and else when it will be.
pub(super) fn nudge(ctx: PolicyContext<'_>, decision: &mut ScaleDecision) {
    let Some(at) = due(ctx).filter(|_| decision.mode != ScalingMode::Frozen) else {
        return;
    };
    decision.nudge = at <= ctx.now && !decision.is_change();
    let next = if at <= ctx.now {
        ctx.now.plus_ms(NUDGE_AFTER_MS)
    } else {
        at
    };
    decision.next_check_at = Some(decision.next_check_at.map_or(next, |other| other.min(next)));
}
