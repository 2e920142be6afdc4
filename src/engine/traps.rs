//! What keeps the operator from doing what it was asked for, as far as it shows.
//!
//! The operator tells of none of these in a way that the sidecar's Role can read; each is concluded
//! from pods, the RayCluster's status and the time that has passed. Naming them changes nothing in
//! the decision: what would be asked for is right, and is done the moment the trap opens. What is asked
//! for elsewhere meanwhile is the matter of policies.

use crate::model::{BEHIND_REFUSED, Hold, PODS_REFUSED, PodName, Timestamp, WorkerGroup};
use crate::policy::{LOCK_AFTER_MS, LOCKED, Plan, PolicyContext, lock_of};

/// The longest that a working operator was seen to be busy with other clusters is some seconds.
const SILENT_AFTER_MS: u64 = 30_000;

/// Returns whether a hold says that the operator does not do what it was asked for: either it does not, or
/// what is seen of its work is not true.
#[must_use]
pub fn is_doubtful(hold: &Hold) -> bool {
    matches!(hold.code.as_str(), LOCKED | "operator_silent")
}

/// Names what holds the operator up, and asks to be asked again when a wait becomes too long.
pub(super) fn name_traps(ctx: PolicyContext<'_>, plan: &mut Plan) {
    let locked = name_locks(ctx, plan);
    name_missing(ctx, plan, &locked);
    name_foreign_names(ctx, plan);
}

/// Names groups in which the operator does nothing until a pod is gone; returns them.
fn name_locks<'a>(ctx: PolicyContext<'a>, plan: &mut Plan) -> Vec<&'a WorkerGroup> {
    let mut locked = Vec::new();
    for group in &ctx.snapshot.groups {
        let Some((since, pod)) = lock_of(ctx, group) else {
            continue;
        };
        locked.push(group);
        if let Some(seconds) = overdue(ctx, plan, since, LOCK_AFTER_MS) {
            hold(
                plan,
                Some(group),
                LOCKED,
                format!(
                    "pod {pod} was to be deleted {seconds} s ago and is still there: until it is gone the operator makes and deletes nothing in this group, and demand goes to other groups that fit; if its machine is dead, kubectl delete pod {pod} --force"
                ),
            );
        }
    }
    locked
}

/// Names groups whose pods do not come, with the cause as far as it shows.
fn name_missing(ctx: PolicyContext<'_>, plan: &mut Plan, locked: &[&WorkerGroup]) {
    let mut ahead: Option<&WorkerGroup> = None;
    for group in &ctx.snapshot.groups {
        let Some(missing) = ctx.history.operator.missing.get(&group.name) else {
            continue;
        };
        let is_locked = locked.iter().any(|other| other.name == group.name);
        if is_locked {
            continue;
        }
        let refused = ctx.snapshot.replica_failure.as_deref();
        let wanted = missing.replicas.saturating_mul(group.num_of_hosts);
        let count = wanted.saturating_sub(missing.pods);
        if let Some(message) = refused {
            let (code, detail) = match ahead {
                None => (
                    PODS_REFUSED,
                    format!("{count} pods cannot be made: {message}"),
                ),
                Some(first) => (
                    BEHIND_REFUSED,
                    format!(
                        "{count} pods are not made while those of group {} before it are refused",
                        first.name
                    ),
                ),
            };
            ahead = ahead.or(Some(group));
            hold(plan, Some(group), code, detail);
        } else if let Some(seconds) = overdue(ctx, plan, missing.since, SILENT_AFTER_MS) {
            let is_refusal = |code: &str| matches!(code, "operator_refuses" | "managed_elsewhere");
            let refusal = ctx
                .snapshot
                .problems
                .iter()
                .find(|problem| is_refusal(&problem.code));
            let detail = match refusal {
                Some(problem) => format!(
                    "{count} pods asked for {seconds} s ago: the operator leaves this RayCluster alone, since {}",
                    problem.detail
                ),
                None => format!(
                    "{count} pods asked for {seconds} s ago and none has come: the operator does not run, is busy with another cluster, or refuses the spec (kubectl describe raycluster shows its events)"
                ),
            };
            hold(plan, Some(group), "operator_silent", detail);
        }
    }
}

/// Names list entries that are pods of something else: the operator deletes any pod of that name.
fn name_foreign_names(ctx: PolicyContext<'_>, plan: &mut Plan) {
    for group in &ctx.snapshot.groups {
        let is_foreign = |pod: &&PodName| {
            let mut nodes = ctx.snapshot.nodes.iter();
            nodes.any(|node| node.name == **pod && node.group != group.name)
        };
        for pod in group.workers_to_delete.iter().filter(is_foreign) {
            let detail = format!(
                "workersToDelete names {pod}, which is not of this group; the operator deletes any pod of that name"
            );
            hold(plan, Some(group), "foreign_name", detail);
        }
    }
}

/// Returns for how many seconds something has been waited for, if that is longer than `after_ms`.
fn overdue(
    ctx: PolicyContext<'_>,
    plan: &mut Plan,
    since: Timestamp,
    after_ms: u64,
) -> Option<u64> {
    let waited_ms = ctx.now.millis_since(since);
    if waited_ms >= after_ms {
        return Some(waited_ms / 1000);
    }
    plan.recheck_at(since.plus_ms(after_ms));
    None
}

fn hold(plan: &mut Plan, group: Option<&WorkerGroup>, code: &str, detail: String) {
    plan.hold(Hold {
        group: group.map(|group| group.name.clone()),
        code: code.to_owned(),
        detail,
    });
}
