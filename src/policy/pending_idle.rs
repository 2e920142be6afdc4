//! Gives up replicas that are still starting when nothing needs them any more.
//!
//! Ray reports how long a node has been idle only once its raylet is there. Until then it is
//! counted here how many starting replicas of a group had nothing to serve, and since when: with
//! n of them, the k-th longest time is how long at least k+1 have been superfluous. It is counted
//! by number since starting replicas of a group are equal and requests may move between them.
//! Off without a timeout, as in Ray.
//!
//! Replicas without a pod count as well: taking them back names nobody, and what the operator cannot
//! make today does not come tomorrow for demand of yesterday.
//!
//! # Why only what we have asked for ourselves
//!
//! Replicas that a RayCluster begins with, or that somebody adds by hand, are there for work that
//! comes later; their pods may come up and are idle then. What demand has made us ask for and no
//! demand needs any more is a mistake by now. Demand that goes for less than the timeout costs
//! nothing: the replica that it comes back to is still on its way.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{NodeStatus, RemovalCause, Timestamp, WorkerGroup, WorkerGroupName};
use crate::placement::{ReplicaHealth, ReplicaState};

use super::{
    HumanDuration, Plan, Policy, PolicyContext, PolicyEntry, Release, Stage, parse, schema_of,
    value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "pending_idle",
    stage: Stage::Shape,
    summary: "give up starting replicas that nothing has needed for some time",
    build: |settings| Ok(Box::new(parse::<PendingIdle>(settings)?)),
    default_settings: value_of::<PendingIdle>,
    schema: schema_of::<PendingIdle>,
};

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct PendingIdle {
    /// How long a starting replica may be superfluous; absent to wait for it whatever happens.
    timeout: Option<HumanDuration>,
    /// Whether replicas stay that somebody else has asked for.
    ours_only: bool,
}

impl Default for PendingIdle {
    fn default() -> Self {
        Self {
            // Demand that moves from a retry to the next is back within seconds, and a pod that hangs
            // in its termination locks its group: too hasty is worse than a minute of a node.
            timeout: Some(HumanDuration::from_ms(30_000)),
            ours_only: true,
        }
    }
}

/// Replicas of a group without a pod that are told apart by how long nobody has needed them; more count like these.
const TO_COME_MAX: u32 = 10_000;

impl Policy for PendingIdle {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let Some(timeout) = self.timeout else {
            return;
        };
        let needed: BTreeSet<usize> = plan.needs().into_keys().collect();
        for group in &ctx.snapshot.groups {
            self.apply_to(ctx, plan, (group, &needed), timeout.as_ms());
        }
    }
}

impl PendingIdle {
    fn apply_to(
        &self,
        ctx: PolicyContext<'_>,
        plan: &mut Plan,
        (group, needed): (&WorkerGroup, &BTreeSet<usize>),
        timeout_ms: u64,
    ) {
        let mut starting = unneeded(ctx, plan, group, needed);
        let mut to_come = plan.unused_to_come(&group.name);
        if self.ours_only {
            starting.retain(|replica| is_ours(ctx, group, replica));
            to_come = to_come.min(asked_by_us(ctx, group));
        }
        // Replicas may be asked for by the billion, and each that is looked at takes memory.
        let more = to_come.saturating_sub(TO_COME_MAX);
        let to_come = to_come - more;
        // The least advanced ones are given up first, since least is lost with them: those without a
        // pod, which the operator has not made yet, and may never be able to.
        starting.sort_by_key(|replica| progress(ctx, replica));
        let none = std::iter::repeat_n(None, usize::try_from(to_come).unwrap_or(usize::MAX));
        let unneeded: Vec<Option<ReplicaState>> =
            none.chain(starting.into_iter().map(Some)).collect();
        if unneeded.is_empty() {
            return;
        }
        let mut since = ctx
            .history
            .unneeded_since
            .get(&group.name)
            .cloned()
            .unwrap_or_default();
        since.resize(unneeded.len(), ctx.now);
        let mut candidates: Vec<(Timestamp, Option<ReplicaState>)> =
            since.iter().copied().zip(unneeded).collect();
        let place = |replica: &Option<ReplicaState>| {
            let first = replica.as_ref()?.hosts.first()?;
            plan.pool().place_of(*first)
        };
        candidates.sort_by_key(|(since, replica)| (*since, place(replica)));
        let (mut released, mut due, mut run) = (0_u32, 0_u32, 0_u32);
        for (since, replica) in candidates {
            let idle_ms = ctx.now.millis_since(since);
            if idle_ms <= timeout_ms {
                plan.recheck_at(since.plus_ms(timeout_ms).plus_ms(1));
                continue;
            }
            if plan.has_yet_to_grow() {
                continue;
            }
            let Some(replica) = replica else {
                run += 1;
                continue;
            };
            due += run;
            released += call_off(plan, &group.name, std::mem::take(&mut run));
            if spare(plan, &group.name) == 0 {
                continue;
            }
            let release = Release {
                replica: &replica.name,
                cause: RemovalCause::Withdrawn,
                code: "pending_idle",
                idle_ms,
            };
            released += u32::from(plan.release(ctx, &group.name, release));
        }
        due += run;
        // Where all that were looked at are due, so are the others.
        let more = if due == to_come { more } else { 0 };
        released = released.saturating_add(call_off(plan, &group.name, run.saturating_add(more)));
        let released = usize::try_from(released).unwrap_or(usize::MAX);
        plan.remember_unneeded(&group.name, since.split_off(released.min(since.len())));
    }
}

/// Returns how many replicas a group has above its minimum.
fn spare(plan: &Plan, name: &WorkerGroupName) -> u32 {
    plan.group(name).map_or(0, |draft| {
        draft.capacity().saturating_sub(draft.bounds().min)
    })
}

/// Takes back up to so many replicas without a pod, as far as the minimum allows; returns how many.
fn call_off(plan: &mut Plan, name: &WorkerGroupName, replicas: u32) -> u32 {
    let replicas = replicas.min(spare(plan, name));
    if replicas == 0 {
        return 0;
    }
    plan.call_off(name, replicas, "pending_idle", "no pod so far")
}

/// Returns how many replicas were asked for by us and nobody else, and are not there yet.
pub(super) fn asked_by_us(ctx: PolicyContext<'_>, group: &WorkerGroup) -> u32 {
    ctx.history.asked.get(&group.name).map_or(0, |asked| {
        // What an earlier round of this decision has taken back is in no history yet.
        let taken_back = asked.replicas.saturating_sub(group.replicas);
        asked.ours.saturating_sub(taken_back)
    })
}

/// Returns whether the pods of a replica came up soon after we had asked for more.
fn is_ours(ctx: PolicyContext<'_>, group: &WorkerGroup, replica: &ReplicaState) -> bool {
    let pace = &ctx.history.pace;
    replica.nodes(ctx.snapshot).all(|node| {
        let created_at = node.created_at;
        created_at.is_some_and(|created_at| pace.is_launched(&group.name, created_at))
    })
}

/// Returns the replicas of which no raylet has registered and that nothing was placed on.
fn unneeded(
    ctx: PolicyContext<'_>,
    plan: &Plan,
    group: &WorkerGroup,
    needed: &BTreeSet<usize>,
) -> Vec<ReplicaState> {
    let is_early = |status: NodeStatus| matches!(status, NodeStatus::Queued | NodeStatus::Starting);
    let Some(draft) = plan.group(&group.name) else {
        return Vec::new();
    };
    let starting = draft.staying().filter(|replica| {
        replica.health == ReplicaHealth::Capacity
            && replica
                .nodes(ctx.snapshot)
                .all(|node| is_early(node.status))
            && !replica.hosts.iter().any(|at| needed.contains(at))
    });
    starting.cloned().collect()
}

fn progress(
    ctx: PolicyContext<'_>,
    replica: &ReplicaState,
) -> (bool, std::cmp::Reverse<Option<Timestamp>>) {
    let has_pod = replica
        .nodes(ctx.snapshot)
        .all(|node| node.status == NodeStatus::Starting);
    let created_at = replica
        .nodes(ctx.snapshot)
        .filter_map(|node| node.created_at)
        .max();
    (has_pod, std::cmp::Reverse(created_at))
}
