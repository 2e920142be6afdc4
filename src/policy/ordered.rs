//! Gives up replicas that a user has ordered away by an annotation of one of their pods.
//!
//! The order counts whatever runs there: the nodes are told to finish, `replicas` follows at once,
//! and the pods are named when they have finished or their time is up. What the group needs besides
//! (its minimum, demand) is launched anew in the same patch.

use serde::{Deserialize, Serialize};

use crate::model::{Finish, RemovalCause, WorkerGroupName};
use crate::placement::ReplicaState;

use super::{Plan, Policy, PolicyContext, PolicyEntry, Release, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "ordered",
    stage: Stage::Settle,
    summary: "give up replicas that a user's annotation orders away",
    build: |settings| Ok(Box::new(parse::<Ordered>(settings)?)),
    default_settings: value_of::<Ordered>,
    schema: schema_of::<Ordered>,
};

#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Ordered {}

impl Policy for Ordered {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        if ctx.snapshot.orders.drain.is_empty() {
            return;
        }
        for name in plan.groups() {
            let Some(group) = plan.group(&name) else {
                continue;
            };
            let ordered: Vec<ReplicaState> = group
                .staying()
                .filter(|replica| is_ordered(ctx, replica))
                .cloned()
                .collect();
            for replica in ordered {
                give_up(ctx, plan, &name, &replica);
            }
        }
    }
}

fn is_ordered(ctx: PolicyContext<'_>, replica: &ReplicaState) -> bool {
    let drain = &ctx.snapshot.orders.drain;
    let mut nodes = replica.nodes(ctx.snapshot);
    nodes.any(|node| drain.contains_key(&node.name))
}

fn give_up(
    ctx: PolicyContext<'_>,
    plan: &mut Plan,
    name: &WorkerGroupName,
    replica: &ReplicaState,
) {
    let release = Release {
        replica: &replica.name,
        cause: RemovalCause::Ordered,
        code: "ordered",
        idle_ms: 0,
    };
    plan.release(ctx, name, release);
}

/// Returns how long a replica that goes for `cause` may finish.
pub(super) fn finish(
    ctx: PolicyContext<'_>,
    replica: &ReplicaState,
    cause: RemovalCause,
) -> Finish {
    if !cause.takes_work() {
        return Finish::default();
    }
    let (told, drain) = (&ctx.history.finish_by, &ctx.snapshot.orders.drain);
    let nodes = || replica.nodes(ctx.snapshot);
    Finish {
        by: nodes().filter_map(|it| told.get(&it.name).copied()).max(),
        within_ms: nodes()
            .filter_map(|it| drain.get(&it.name).copied().flatten())
            .min(),
    }
}
