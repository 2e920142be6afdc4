//! Groups in which the operator does nothing, since a pod that it deletes does not go.
//!
//! It deletes what a list names, and by itself what has ended, with the other hosts of the replica.
//! While such a pod is there the operator neither makes nor deletes pods of its group; on a machine that is dead
//! that is for ever. What a group is asked for meanwhile serves nobody. So once a lock lasts, nothing more is launched
//! in its group and nothing is placed on what it has no pods for: demand goes to other groups that fit, and what fits
//! nowhere else is told as waiting for the lock. What we have asked for is taken back, so that it does not come
//! beside what is launched in its place; what others have asked for, and the minimum, stays asked for. The group
//! takes part again as soon as the pod is gone.

use crate::model::{PodName, Timestamp, WorkerGroup};

use super::pending_idle::asked_by_us;
use super::{Plan, PolicyContext};

/// The word for a group in which the operator waits for a pod to go.
pub(crate) const LOCKED: &str = "group_locked";

/// A deletion that takes longer than this is a lock that lasts: a raylet that was told to drain ends at once,
/// and the usual grace period of a pod is 30 s. Units: milliseconds.
pub(crate) const LOCK_AFTER_MS: u64 = 35_000;

/// Returns since when a group has been locked, and the pod that has been going for longest.
pub(crate) fn lock_of<'a>(
    ctx: PolicyContext<'a>,
    group: &WorkerGroup,
) -> Option<(Timestamp, &'a PodName)> {
    ctx.history.operator.lock_of(&group.name)
}

/// Lets demand go around groups that have been locked for long.
pub(super) fn go_around(ctx: PolicyContext<'_>, plan: &mut Plan) {
    for group in &ctx.snapshot.groups {
        let Some((since, pod)) = lock_of(ctx, group) else {
            continue;
        };
        let from = since.plus_ms(LOCK_AFTER_MS);
        if from > ctx.now {
            plan.recheck_at(from);
            continue;
        }
        let detail = format!("the operator waits for pod {pod} to go");
        pass_by(ctx, plan, group, (LOCKED, &detail));
    }
}

/// Lets demand go around one group: what we have asked for is taken back, what others have asked for stays asked for
/// and serves nobody.
pub(super) fn pass_by(
    ctx: PolicyContext<'_>,
    plan: &mut Plan,
    group: &WorkerGroup,
    (code, detail): (&'static str, &str),
) {
    plan.call_off(&group.name, asked_by_us(ctx, group), code, detail);
    let most = plan.replicas_to(&group.name);
    let detail = format!("not asked for more: {detail}");
    plan.limit(&group.name, most, code, &detail);
    plan.bar_to_come(&group.name);
}
