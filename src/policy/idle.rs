//! Gives up replicas that nobody has used for longer than their timeout.
//!
//! A replica goes whole: all of its hosts are idle, none is needed by demand placed in this
//! decision or by `request_resources`, and the group keeps its minimum without it. Starting
//! replicas count towards the minimum, draining ones do not. Every idle node that stays is
//! reported with the reason.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{
    KeptIdle, Node, NodeKind, NodeStatus, Protection, RemovalCause, ReplicaName, Timestamp,
    WorkerGroup, WorkerGroupName,
};
use crate::placement::{ReplicaHealth, ReplicaState, used_share};

use super::staying::protection;
use super::{
    GroupPlan, HumanDuration, Plan, Policy, PolicyContext, PolicyEntry, Release, Stage, parse,
    schema_of, value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "idle",
    stage: Stage::Shape,
    summary: "remove replicas that are idle for longer than their timeout",
    build: |settings| Ok(Box::new(parse::<Idle>(settings)?)),
    default_settings: value_of::<Idle>,
    schema: schema_of::<Idle>,
};

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Idle {
    /// Timeout of groups for which the RayCluster names none.
    timeout: HumanDuration,
    /// How long a replica with a host that refused its drain is left alone.
    refused_pause: HumanDuration,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            // What Ray's own autoscaler takes.
            timeout: HumanDuration::from_ms(60_000),
            // A refusal means work came; asking again at every poll would only load the GCS.
            refused_pause: HumanDuration::from_ms(5_000),
        }
    }
}

/// Says why an idle replica stays, and until when if only time changes that.
struct Stay {
    code: String,
    until: Option<Timestamp>,
}

impl Policy for Idle {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let needs: BTreeMap<usize, String> = plan
            .needs()
            .into_iter()
            .map(|(at, class)| (at, need_code(class)))
            .collect();
        let leaving = if plan.pool().corrections().draining {
            leaving_with_work(ctx)
        } else {
            BTreeMap::new()
        };
        for group in &ctx.snapshot.groups {
            let Some(draft) = plan.group(&group.name) else {
                continue;
            };
            let candidates = candidates(ctx, plan, draft);
            let count = leaving.get(&group.name).map_or(0, BTreeSet::len);
            let awaiting = self.awaiting(ctx, (group, &needs), &candidates, count);
            for replica in &candidates {
                let is_awaited = awaiting.contains(&replica.name);
                self.judge(ctx, plan, (group, &needs, is_awaited), replica);
            }
        }
        report_unknown_groups(ctx, plan);
    }
}

impl Idle {
    fn judge(
        &self,
        ctx: PolicyContext<'_>,
        plan: &mut Plan,
        (group, needs, is_awaited): (&WorkerGroup, &BTreeMap<usize, String>, bool),
        replica: &ReplicaState,
    ) {
        let may_go = plan
            .group(&group.name)
            .is_some_and(|draft| draft.capacity() > draft.bounds().min);
        let stay = match self.stay(ctx, (group, needs), replica) {
            None if is_awaited => Stay {
                code: "replaces_lost".to_owned(),
                until: None,
            },
            None if !may_go => Stay {
                code: "minimum".to_owned(),
                until: None,
            },
            None if plan.has_yet_to_grow() => Stay {
                code: "pods_grow".to_owned(),
                until: None,
            },
            None => {
                let idle_ms = idle_ms(ctx, replica).unwrap_or(0);
                let (cause, code) = (RemovalCause::Idle, "idle_timeout");
                let release = Release {
                    replica: &replica.name,
                    cause,
                    code,
                    idle_ms,
                };
                if plan.release(ctx, &group.name, release) {
                    return;
                }
                let code = match plan.frozen(&group.name) {
                    Some(code) => code,
                    None => plan.stay_code(ctx, replica),
                };
                Stay {
                    code: code.to_owned(),
                    until: None,
                }
            }
            Some(stay) => stay,
        };
        if let Some(until) = stay.until {
            plan.recheck_at(until);
        }
        for node in replica
            .nodes(ctx.snapshot)
            .filter(|node| node.idle_since.is_some())
        {
            keep(ctx, plan, node, &stay.code);
        }
    }

    /// Returns the replicas that stay for the work of so many that are lost or going: the youngest of those that
    /// would go, since what comes in place of a node is younger than what was there.
    ///
    /// One takes what one had. Where a pod that goes has an hour to finish, the others of its group do not wait for it.
    fn awaiting(
        &self,
        ctx: PolicyContext<'_>,
        facts: (&WorkerGroup, &BTreeMap<usize, String>),
        candidates: &[ReplicaState],
        count: usize,
    ) -> BTreeSet<ReplicaName> {
        if count == 0 {
            return BTreeSet::new();
        }
        let would_go = candidates.iter();
        let would_go = would_go.filter(|replica| self.stay(ctx, facts, replica).is_none());
        let mut by_age: Vec<(Option<Timestamp>, &ReplicaName)> = would_go
            .map(|replica| {
                let hosts = replica.nodes(ctx.snapshot);
                let created_at = hosts.filter_map(|node| node.created_at).max();
                (created_at, &replica.name)
            })
            .collect();
        by_age.sort_unstable();
        let youngest = by_age.into_iter().rev().take(count);
        youngest.map(|(_, name)| name.clone()).collect()
    }

    fn stay(
        &self,
        ctx: PolicyContext<'_>,
        (group, needs): (&WorkerGroup, &BTreeMap<usize, String>),
        replica: &ReplicaState,
    ) -> Option<Stay> {
        let stay = |code: &str, until| {
            Some(Stay {
                code: code.to_owned(),
                until,
            })
        };
        if let Some(code) = replica.hosts.iter().find_map(|at| needs.get(at)) {
            return stay(code, None);
        }
        let hosts = usize::try_from(group.num_of_hosts).unwrap_or(usize::MAX);
        if replica.hosts.len() < hosts {
            return stay("replica_incomplete", None);
        }
        let since = replica
            .nodes(ctx.snapshot)
            .map(|node| node.idle_since)
            .max_by_key(|since| {
                // A busy host decides, then the one that is idle for the shortest time.
                since.map_or((1, Timestamp::default()), |since| (0, since))
            });
        let Some(since) = since.flatten() else {
            return stay("replica_busy", None);
        };
        if let Some(protection) = protection(ctx, replica) {
            let until = match protection {
                Protection::ForGood => None,
                Protection::Until(until) => Some(until),
            };
            return stay("protected", until);
        }
        // After an outage idle times count from when Ray was back.
        let since = ctx.history.recovery.since.map_or(since, |at| at.max(since));
        let timeout = group.idle_timeout_ms.or(ctx.snapshot.idle_timeout_ms);
        let timeout = timeout.unwrap_or(self.timeout.as_ms());
        if ctx.now.millis_since(since) <= timeout {
            return stay("idle_timeout", Some(since.plus_ms(timeout).plus_ms(1)));
        }
        let refused = replica.nodes(ctx.snapshot);
        let refused = refused
            .filter_map(|node| ctx.history.drain_refused_at.get(&node.name))
            .max();
        let until = refused.map(|at| at.plus_ms(self.refused_pause.as_ms()));
        match until.filter(|until| *until > ctx.now) {
            Some(until) => stay("drain_refused", Some(until)),
            None => None,
        }
    }
}

/// Returns the replicas with work that are lost or being deleted, by group.
///
/// It moves once Ray knows of the loss, at the latest when it notices by itself; until then the
/// replacement that is to take it looks idle.
fn leaving_with_work(ctx: PolicyContext<'_>) -> BTreeMap<&WorkerGroupName, BTreeSet<&ReplicaName>> {
    let departures = &ctx.snapshot.departures;
    let is_leaving = |node: &&Node| match node.status {
        NodeStatus::Terminating => node.node_id.is_some(),
        NodeStatus::Lost => departures
            .iter()
            .any(|departure| Some(departure.node_id) == node.node_id),
        _ => false,
    };
    let leaving = ctx.snapshot.nodes.iter().filter(is_leaving);
    let mut replicas: BTreeMap<&WorkerGroupName, BTreeSet<&ReplicaName>> = BTreeMap::new();
    for node in leaving.filter(|node| node.available != node.total) {
        let of_group = replicas.entry(&node.group).or_default();
        of_group.insert(&node.replica);
    }
    replicas
}

/// Returns the replicas with an idle host, longest idle first.
fn candidates(ctx: PolicyContext<'_>, plan: &Plan, draft: &GroupPlan) -> Vec<ReplicaState> {
    let is_idle = |node: &Node| node.idle_since.is_some() && node.status == NodeStatus::Running;
    let mut candidates: Vec<ReplicaState> = draft
        .staying()
        .filter(|replica| replica.health == ReplicaHealth::Capacity)
        .filter(|replica| replica.nodes(ctx.snapshot).any(is_idle))
        .cloned()
        .collect();
    if plan.pool().corrections().order {
        candidates
            .sort_by_cached_key(|replica| (Reverse(idle_ms(ctx, replica)), replica.name.clone()));
        return candidates;
    }
    candidates.sort_by_key(|replica| {
        replica
            .hosts
            .first()
            .and_then(|at| plan.pool().place_of(*at))
    });
    let used = |replica: &ReplicaState| replica.nodes(ctx.snapshot).map(used_share).sum::<f64>();
    candidates.sort_by(|a, b| {
        let by_idle = idle_ms(ctx, b).cmp(&idle_ms(ctx, a));
        by_idle.then_with(|| used(a).total_cmp(&used(b)))
    });
    candidates
}

/// Returns how long all hosts have been idle; `None` while one is not.
fn idle_ms(ctx: PolicyContext<'_>, replica: &ReplicaState) -> Option<u64> {
    let idle = replica
        .nodes(ctx.snapshot)
        .map(|node| Some(ctx.now.millis_since(node.idle_since?)));
    idle.collect::<Option<Vec<u64>>>()?.into_iter().min()
}

fn need_code(class: &str) -> String {
    match class {
        "tasks" => "needed_by_demand".to_owned(),
        "request_resources" => "needed_by_constraint".to_owned(),
        other => format!("needed_by_{other}"),
    }
}

fn keep(ctx: PolicyContext<'_>, plan: &mut Plan, node: &Node, code: &str) {
    plan.keep_idle(KeptIdle {
        pod: node.name.clone(),
        group: node.group.clone(),
        code: code.to_owned(),
        idle_ms: node
            .idle_since
            .map_or(0, |since| ctx.now.millis_since(since)),
    });
}

/// Reports idle nodes of groups that cannot be scaled: nobody but a person can remove them.
fn report_unknown_groups(ctx: PolicyContext<'_>, plan: &mut Plan) {
    let groups: BTreeMap<&WorkerGroupName, ()> = ctx
        .snapshot
        .groups
        .iter()
        .map(|group| (&group.name, ()))
        .collect();
    for node in &ctx.snapshot.nodes {
        let is_known = node.kind == NodeKind::Head || groups.contains_key(&node.group);
        if !is_known && node.status == NodeStatus::Running && node.idle_since.is_some() {
            keep(ctx, plan, node, "group_unknown");
        }
    }
}
