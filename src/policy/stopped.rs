//! Gives up replicas whose raylets are gone although their pods are not.
//!
//! `ray start --block` outlives a drained raylet, and nobody but us ends such a pod. After our
//! own drain it goes at once; after another end only when it lasts, since a raylet may come back.
//! A replica of which only some hosts are gone is no capacity any more; it goes as soon as the
//! remaining hosts are idle, or have not registered yet: one drain of several may have been accepted and the next
//! refused before all were there.

use serde::{Deserialize, Serialize};

use crate::model::{KeptIdle, Node, NodeStatus, RemovalCause, Timestamp, WorkerGroupName};
use crate::placement::{Corrections, ReplicaHealth, ReplicaState, is_gone};

use super::{
    HumanDuration, Plan, Policy, PolicyContext, PolicyEntry, Release, Stage, parse, schema_of,
    value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "stopped",
    stage: Stage::Settle,
    summary: "give up replicas whose raylets are gone",
    build: |settings| Ok(Box::new(parse::<Stopped>(settings)?)),
    default_settings: value_of::<Stopped>,
    schema: schema_of::<Stopped>,
};

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Stopped {
    /// How long a pod may be without its raylet when nobody drained it.
    grace: HumanDuration,
    /// How long a host that refused its drain is left alone.
    refused_pause: HumanDuration,
}

impl Default for Stopped {
    fn default() -> Self {
        Self {
            // A restarted Ray container registers again within some seconds.
            grace: HumanDuration::from_ms(30_000),
            refused_pause: HumanDuration::from_ms(5_000),
        }
    }
}

/// Says what becomes of a replica.
enum Verdict {
    Goes(RemovalCause),
    /// Until the moment at which only time changes that.
    Stays(Option<Timestamp>),
}

impl Policy for Stopped {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        for name in plan.groups() {
            let Some(group) = plan.group(&name) else {
                continue;
            };
            let alive = |replica: &&ReplicaState| replica.health == ReplicaHealth::Capacity;
            let gone: Vec<ReplicaState> = group.staying().filter(|r| !alive(r)).cloned().collect();
            for replica in gone {
                self.judge(ctx, plan, &name, &replica);
            }
        }
    }
}

impl Stopped {
    fn judge(
        &self,
        ctx: PolicyContext<'_>,
        plan: &mut Plan,
        name: &WorkerGroupName,
        replica: &ReplicaState,
    ) {
        match self.verdict(ctx, replica) {
            Verdict::Goes(cause) => {
                let idle = replica
                    .nodes(ctx.snapshot)
                    .map(|node| idle_ms(node, ctx.now))
                    .max();
                let idle_ms = idle.filter(|_| cause.is_asked()).unwrap_or(0);
                let release = Release {
                    replica: &replica.name,
                    cause,
                    code: "stopped",
                    idle_ms,
                };
                if !plan.release(ctx, name, release) {
                    let code = plan.stay_code(ctx, replica);
                    keep(ctx, plan, replica, code);
                }
            }
            Verdict::Stays(until) => {
                if let Some(until) = until {
                    plan.recheck_at(until);
                }
                keep(ctx, plan, replica, "replica_busy");
            }
        }
    }

    fn verdict(&self, ctx: PolicyContext<'_>, replica: &ReplicaState) -> Verdict {
        let nodes = || replica.nodes(ctx.snapshot);
        let all = Corrections::default();
        let gone = nodes().filter(|node| is_gone(node, ctx.history, &all));
        let mut until: Option<Timestamp> = None;
        for node in gone {
            if let Some(at) = self.confirmed_at(ctx, node) {
                if at > ctx.now {
                    until = Some(until.map_or(at, |other| other.max(at)));
                }
            } else {
                return Verdict::Stays(None);
            }
        }
        if until.is_some() {
            return Verdict::Stays(until);
        }
        let rest = nodes().filter(|node| !is_gone(node, ctx.history, &all));
        let rest: Vec<&Node> = rest.collect();
        let starting = rest.iter();
        let starting = starting.filter(|node| node.status == NodeStatus::Starting);
        let starting = starting.count();
        if starting == rest.len() {
            return Verdict::Goes(RemovalCause::Stopped);
        }
        let pause = self.refused_pause.as_ms();
        let refused = rest
            .iter()
            .filter_map(|node| ctx.history.drain_refused_at.get(&node.name))
            .max();
        let is_idle =
            |node: &&&Node| node.status == NodeStatus::Running && node.idle_since.is_some();
        let idle = rest.iter().filter(is_idle).count();
        match refused
            .map(|at| at.plus_ms(pause))
            .filter(|at| *at > ctx.now)
        {
            Some(at) => Verdict::Stays(Some(at)),
            None if idle + starting < rest.len() => Verdict::Stays(None),
            None if starting > 0 => Verdict::Goes(RemovalCause::HalfStarted),
            None => Verdict::Goes(RemovalCause::Idle),
        }
    }

    /// Returns from when on a gone raylet is gone for good; `None` while it may still work.
    fn confirmed_at(&self, ctx: PolicyContext<'_>, node: &Node) -> Option<Timestamp> {
        if let Some(by) = ctx.history.finish_by.get(&node.name) {
            // It was told to finish its work, and has not stopped yet.
            if node.status != NodeStatus::Stopped && *by > ctx.now {
                return Some(*by);
            }
        }
        if ctx.history.drained_at.contains_key(&node.name) {
            return Some(ctx.now);
        }
        let since = ctx
            .history
            .stopped_since
            .get(&node.name)
            .copied()
            .unwrap_or(ctx.now);
        (node.status == NodeStatus::Stopped).then(|| since.plus_ms(self.grace.as_ms()))
    }
}

fn idle_ms(node: &Node, now: Timestamp) -> u64 {
    node.idle_since.map_or(0, |since| now.millis_since(since))
}

fn keep(ctx: PolicyContext<'_>, plan: &mut Plan, replica: &ReplicaState, code: &str) {
    for node in replica
        .nodes(ctx.snapshot)
        .filter(|node| node.idle_since.is_some())
    {
        plan.keep_idle(KeptIdle {
            pod: node.name.clone(),
            group: node.group.clone(),
            code: code.to_owned(),
            idle_ms: idle_ms(node, ctx.now),
        });
    }
}
