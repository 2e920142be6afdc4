//! Replaces pods that do not come up, and stops asking a group for more when that does not help.
//!
//! Nobody else does: the operator waits for a pending pod for ever and leaves a crashing one to the
//! kubelet, while the demand that the pod is to serve counts as served. A pod that is named while
//! `replicas` stays is made anew, perhaps on another node. When several attempts in a row bring no
//! node, the group is opened like a circuit breaker: its stuck pods go without a replacement, nothing
//! is launched there, and demand goes to other groups that fit. After a pause one replica may try, or a
//! placement group whole; a node that joins closes the breaker.
//!
//! Pods that end before a raylet of theirs has registered are made anew by the operator, under other
//! names and for ever. Each attempt counts as if we had given it up, and when the group is opened what
//! has been made anew since is taken back.
//!
//! A group whose pods Kubernetes refuses is opened, too, and what it was asked for is taken back: the
//! operator ends its pass where a pod is refused, so that no group behind gets any. Where a minimum keeps it from
//! being taken back, demand goes around the groups behind as well. A group that is locked by a pod that does not go
//! is gone around in the same way, see `locked.rs`.
//!
//! A replica of several hosts of which some have registered is of no use to what needs it whole. Those
//! are drained first, if they have no work, and may refuse; then it goes as the others do. What still needs
//! a replica launches one; none is asked for beforehand, since one that refuses stays.
//!
//! # Why these times
//!
//! A cluster autoscaler takes minutes to bring a machine, and large images take minutes to be
//! pulled, so that patience is cheap and haste is not: a pod that is replaced loses its place. Time
//! counts from when the pod was first seen to have no raylet, by our own watch. A pod that is held
//! by a scheduling gate is in a queue on purpose, and is left alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{
    BEHIND_REFUSED, FailedStarts, Hold, Missing, Node, NodeKind, NodeStatus, PODS_END,
    PODS_REFUSED, RECYCLED, RemovalCause, ReplicaName, Timestamp, WorkerGroup, WorkerGroupName,
};
use crate::placement::{ReplicaHealth, ReplicaState};

use super::lately::named_now;
use super::locked::{go_around, lock_of, pass_by};
use super::{
    HumanDuration, Plan, Policy, PolicyContext, PolicyEntry, Release, Stage, parse, schema_of,
    value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "recycle",
    stage: Stage::Settle,
    summary: "replace pods that do not come up, and turn to other groups when that does not help",
    build: |settings| Ok(Box::new(parse::<Recycle>(settings)?)),
    default_settings: value_of::<Recycle>,
    schema: schema_of::<Recycle>,
};

/// How long a group is left alone at most while Kubernetes refuses its pods: asking is cheap, and a
/// quota may be raised at any time. Units: milliseconds.
const REFUSED_PAUSE_MAX_MS: u64 = 300_000;

/// The pause after a pod that ended by itself, doubled after each, and the longest: as the kubelet has it, since
/// to try costs little and shows within seconds. Units: milliseconds.
const ENDED_PAUSE_MS: (u64, u64) = (5_000, 300_000);

/// How long a replica is left alone of which a host has refused its drain, or has registered unseen: it may have
/// work. Units: milliseconds.
const DRAIN_PAUSE_MS: u64 = 5_000;

/// How far the clock of the API server may be ahead of ours. Units: milliseconds.
const CLOCKS_MS: u64 = 5_000;

/// The word for a group that is not asked for more.
const OPEN: &str = "group_open";

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Recycle {
    /// How long a pod may find no Kubernetes node.
    unschedulable_after: HumanDuration,
    /// How long its image may not be there, or its container not be made.
    image_after: HumanDuration,
    /// How long its Ray container may crash again and again.
    crash_after: HumanDuration,
    /// How long its raylet may not register although nothing seems wrong.
    unregistered_after: HumanDuration,
    /// How long Kubernetes may refuse to make pods of a group, because of a quota or a webhook; the
    /// group is opened at the first time.
    refused_after: HumanDuration,
    /// After how many attempts in a row a group is opened.
    attempts: u32,
    /// Pause after the first attempt; doubled after each.
    pause: HumanDuration,
    /// Longest pause.
    pause_max: HumanDuration,
}

impl Default for Recycle {
    fn default() -> Self {
        let minutes = |count: u64| HumanDuration::from_ms(count * 60_000);
        Self {
            unschedulable_after: minutes(15),
            image_after: minutes(10),
            crash_after: minutes(5),
            unregistered_after: minutes(30),
            refused_after: minutes(1),
            attempts: 3,
            pause: minutes(1),
            pause_max: minutes(60),
        }
    }
}

/// A replica that does not come up, how it is ended, and the word for why.
struct Stuck {
    replica: ReplicaState,
    cause: RemovalCause,
    code: &'static str,
}

impl Policy for Recycle {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        go_around(ctx, plan);
        let starts = &ctx.history.starts;
        let refused = self.refused(ctx, plan);
        if starts.since.is_empty() && starts.failed.is_empty() && refused.is_none() {
            return;
        }
        let named = named_now(ctx);
        let mut stuck = self.stuck(ctx, plan);
        for group in &ctx.snapshot.groups {
            let failed = starts.failed.get(&group.name).copied();
            let quiet_until = failed.map(|failed| self.quiet_until(failed));
            let quiet_until = quiet_until.filter(|until| *until > ctx.now);
            let own = stuck.remove(&group.name).unwrap_or_default();
            match quiet_until {
                Some(until) if !own.is_empty() => plan.recheck_at(until),
                Some(_) => {}
                // One attempt in a decision: what was named by an earlier round is one.
                None => match named.get(&group.name) {
                    Some(replicas) => self.stay_open(ctx, plan, group, (failed, replicas)),
                    None => self.give_up(ctx, plan, group, (failed, own)),
                },
            }
            let is_open = |failed: &FailedStarts| failed.refused || failed.count >= self.attempts;
            if let Some(failed) = failed.filter(is_open) {
                if failed.ended && quiet_until.is_some() {
                    call_back(ctx, plan, group, failed);
                }
                open(ctx, plan, group, (failed, quiet_until));
            }
        }
        if let Some((group, missing)) = refused {
            give_way(ctx, plan, group);
            let least = group.bounds.min.saturating_mul(group.num_of_hosts);
            if missing.pods < least {
                go_around_behind(ctx, plan, (group, missing.since));
            }
        }
    }
}

impl Recycle {
    fn quiet_until(&self, failed: FailedStarts) -> Timestamp {
        let doubled = 1_u64.checked_shl(failed.count.saturating_sub(1));
        let (pause, most) = (self.pause.as_ms(), self.pause_max.as_ms());
        let (pause, most) = if failed.ended {
            (pause.min(ENDED_PAUSE_MS.0), most.min(ENDED_PAUSE_MS.1))
        } else if failed.refused {
            (pause, most.min(REFUSED_PAUSE_MAX_MS))
        } else {
            (pause, most)
        };
        let pause = pause.saturating_mul(doubled.unwrap_or(u64::MAX));
        failed.at.plus_ms(pause.min(most))
    }

    /// Returns the group whose pods Kubernetes refuses to make, once that has lasted for long; not those in which the
    /// operator waits for a pod to go.
    ///
    /// The operator makes pods group by group, and ends its pass with the first one that it cannot make. A pod that has
    /// just been asked for in a group before is about to come.
    fn refused<'a>(
        &self,
        ctx: PolicyContext<'a>,
        plan: &mut Plan,
    ) -> Option<(&'a WorkerGroup, &'a Missing)> {
        ctx.snapshot.replica_failure.as_ref()?;
        for group in &ctx.snapshot.groups {
            let missing = ctx.history.operator.missing.get(&group.name);
            let Some(missing) = missing.filter(|_| lock_of(ctx, group).is_none()) else {
                continue;
            };
            let until = missing.since.plus_ms(self.refused_after.as_ms());
            if until <= ctx.now {
                return Some((group, missing));
            }
            plan.recheck_at(until);
        }
        None
    }

    /// Returns the replicas that do not come up, by group.
    fn stuck(
        &self,
        ctx: PolicyContext<'_>,
        plan: &mut Plan,
    ) -> BTreeMap<WorkerGroupName, Vec<Stuck>> {
        let mut stuck: BTreeMap<WorkerGroupName, Vec<Stuck>> = BTreeMap::new();
        let mut next: Option<Timestamp> = None;
        for name in plan.groups() {
            let staying = plan
                .group(&name)
                .into_iter()
                .flat_map(super::GroupPlan::staying);
            for replica in staying.filter(|it| it.health == ReplicaHealth::Capacity) {
                let hosts = replica.nodes(ctx.snapshot);
                let Some((at, code)) = hosts.filter_map(|node| self.due(ctx, node)).min() else {
                    continue;
                };
                let Some((cause, from)) = ending(ctx, replica) else {
                    continue;
                };
                let at = at.max(from);
                if at <= ctx.now {
                    let replica = replica.clone();
                    let own = stuck.entry(name.clone()).or_default();
                    own.push(Stuck {
                        replica,
                        cause,
                        code,
                    });
                } else {
                    next = Some(next.map_or(at, |other| other.min(at)));
                }
            }
        }
        if let Some(at) = next {
            plan.recheck_at(at);
        }
        stuck
    }

    /// Returns when a pod counts as stuck, and as what.
    fn due(&self, ctx: PolicyContext<'_>, node: &Node) -> Option<(Timestamp, &'static str)> {
        let (after, code) = match node.waiting_reason.as_str() {
            "SchedulingGated" => return None,
            "Unschedulable" => (self.unschedulable_after, "unschedulable"),
            "CrashLoopBackOff" => (self.crash_after, "crash_loop"),
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError" => (self.image_after, "no_container"),
            _ => (self.unregistered_after, "unregistered"),
        };
        let since = ctx.history.starts.since.get(&node.name)?;
        Some((since.plus_ms(after.as_ms()), code))
    }

    /// Lets nothing come in place of what an earlier round of this decision gave up for good.
    fn stay_open(
        &self,
        ctx: PolicyContext<'_>,
        plan: &mut Plan,
        group: &WorkerGroup,
        (failed, replicas): (Option<FailedStarts>, &BTreeSet<&ReplicaName>),
    ) {
        let attempts = failed.map_or(0, |failed| failed.count).saturating_add(1);
        let mut nodes = ctx.snapshot.nodes.iter();
        let is_given_up = |node: &Node| {
            node.group == group.name
                && replicas.contains(&node.replica)
                && self.due(ctx, node).is_some_and(|(at, _)| at <= ctx.now)
        };
        if attempts >= self.attempts && nodes.any(is_given_up) {
            close_down(plan, group, attempts);
        }
    }

    /// Names what is stuck: to be made anew, or, at the last attempt, to be done without.
    fn give_up(
        &self,
        ctx: PolicyContext<'_>,
        plan: &mut Plan,
        group: &WorkerGroup,
        (failed, stuck): (Option<FailedStarts>, Vec<Stuck>),
    ) {
        let attempts = failed.map_or(0, |failed| failed.count).saturating_add(1);
        let (mut released, mut replaced) = (0_u32, 0_u32);
        for Stuck {
            replica,
            cause,
            code,
        } in &stuck
        {
            let release = Release {
                replica: &replica.name,
                cause: *cause,
                code,
                idle_ms: idle_ms(ctx, replica),
            };
            if plan.release(ctx, &group.name, release) {
                released = released.saturating_add(1);
                // One that refuses its drain stays, and would get one more beside it each time.
                replaced = replaced.saturating_add(u32::from(*cause == RemovalCause::Stuck));
            }
        }
        if released > 0 && attempts >= self.attempts {
            close_down(plan, group, attempts);
        } else if replaced > 0 {
            plan.launch_required(&group.name, replaced, RECYCLED);
        }
    }
}

/// Takes back what would only end as the pods before it: replicas that have no pod, and pods that the
/// operator has made since the last one ended. What was made before may be of another sort.
fn call_back(ctx: PolicyContext<'_>, plan: &mut Plan, group: &WorkerGroup, failed: FailedStarts) {
    let times = failed.count;
    let detail = format!("its pods ended before they had joined, {times} times in a row");
    plan.call_off(&group.name, u32::MAX, PODS_END, &detail);
    plan.bar_to_come(&group.name);
    let is_new = |node: &Node| {
        node.status == NodeStatus::Starting
            && node.waiting_reason != "SchedulingGated"
            && node.created_at.is_some_and(|at| failed.is_before(at))
    };
    let Some(draft) = plan.group(&group.name) else {
        return;
    };
    let min = draft.bounds().min;
    let new = draft.staying().filter(|replica| {
        replica.health == ReplicaHealth::Capacity && replica.nodes(ctx.snapshot).all(is_new)
    });
    let new: Vec<ReplicaName> = new.map(|replica| replica.name.clone()).collect();
    for replica in &new {
        // The minimum is asked for whatever becomes of it.
        if plan.replicas_to(&group.name) > min {
            let release = Release {
                replica,
                cause: RemovalCause::Stuck,
                code: PODS_END,
                idle_ms: 0,
            };
            plan.release(ctx, &group.name, release);
        }
    }
}

/// Returns how a replica is ended that does not come up, and from when on that may be tried; `None` where it may
/// have work.
///
/// Where some hosts have registered and are idle, they are asked as other idle ones are. Where none has, as far as
/// anybody knew, one may be found to have registered all the same: it is left alone for a while, too.
fn ending(ctx: PolicyContext<'_>, replica: &ReplicaState) -> Option<(RemovalCause, Timestamp)> {
    let mut cause = RemovalCause::Stuck;
    let mut from = Timestamp::default();
    for node in replica.nodes(ctx.snapshot) {
        match node.status {
            NodeStatus::Starting => {}
            NodeStatus::Running if node.idle_since.is_some() => cause = RemovalCause::HalfStarted,
            _ => return None,
        }
        if let Some(at) = ctx.history.drain_refused_at.get(&node.name) {
            from = from.max(at.plus_ms(DRAIN_PAUSE_MS));
        }
    }
    Some((cause, from))
}

/// Returns for how long all hosts of a replica that have registered have been idle; 0 where none has.
fn idle_ms(ctx: PolicyContext<'_>, replica: &ReplicaState) -> u64 {
    let idle = replica.nodes(ctx.snapshot);
    let idle = idle.filter_map(|node| Some(ctx.now.millis_since(node.idle_since?)));
    idle.min().unwrap_or(0)
}

fn close_down(plan: &mut Plan, group: &WorkerGroup, attempts: u32) {
    let most = plan.replicas_to(&group.name);
    let detail = format!("not asked for more: its pods did not come up {attempts} times in a row");
    plan.limit(&group.name, most, OPEN, &detail);
}

/// Returns how many replicas may try: one, or as many as the largest placement group could need, which
/// is launched whole or not at all.
fn trial(ctx: PolicyContext<'_>) -> u32 {
    let gangs = ctx.snapshot.gangs.iter();
    let bundles = gangs.map(|gang| gang.bundle_count).max().unwrap_or(0);
    u32::try_from(bundles).unwrap_or(u32::MAX).max(1)
}

/// Takes back what Kubernetes refuses to make: the operator ends each pass there, so that the groups behind wait as
/// well, and demand may fit another group.
fn give_way(ctx: PolicyContext<'_>, plan: &mut Plan, group: &WorkerGroup) {
    let message = ctx.snapshot.replica_failure.as_deref().unwrap_or_default();
    let detail = format!("its pods are refused: {message}");
    plan.call_off(&group.name, u32::MAX, PODS_REFUSED, &detail);
    let most = plan.replicas_to(&group.name);
    let detail = format!("not asked for more: {detail}");
    plan.limit(&group.name, most, OPEN, &detail);
    // The minimum stays asked for, and serves nobody meanwhile.
    plan.bar_to_come(&group.name);
}

/// Lets demand go around the groups behind one whose minimum has been refused `since` then: the minimum stays asked
/// for, so that the operator never gets to them.
///
/// Where no group before it can grow they stay asked: nothing can serve sooner than they do once the refusal ends.
fn go_around_behind(
    ctx: PolicyContext<'_>,
    plan: &mut Plan,
    (refused, since): (&WorkerGroup, Timestamp),
) {
    let groups = &ctx.snapshot.groups;
    let at = groups.iter().position(|it| it.name == refused.name);
    let (before, behind) = groups.split_at(at.unwrap_or(groups.len()));
    let behind = behind.get(1..).unwrap_or_default();
    let can_grow = |it: &WorkerGroup| plan.replicas_to(&it.name) < it.bounds.max;
    if !before.iter().any(can_grow) {
        return;
    }
    // A pod that was made there meanwhile shows that the operator does get to them.
    let from = since.plus_ms(CLOCKS_MS);
    let is_made = |node: &Node| {
        node.kind == NodeKind::Worker
            && node.created_at.is_some_and(|at| at > from)
            && behind.iter().any(|it| it.name == node.group)
    };
    if ctx.snapshot.nodes.iter().any(is_made) {
        return;
    }
    let name = &refused.name;
    let detail = format!("the operator ends its pass at group {name}, whose minimum is refused");
    for group in behind {
        pass_by(ctx, plan, group, (BEHIND_REFUSED, &detail));
    }
}

/// Lets nothing be launched in a group whose pods do not come, or a trial after the pause.
fn open(
    ctx: PolicyContext<'_>,
    plan: &mut Plan,
    group: &WorkerGroup,
    (failed, quiet_until): (FailedStarts, Option<Timestamp>),
) {
    let times = failed.count;
    let mut most = plan.replicas_to(&group.name);
    let detail = if let Some(until) = quiet_until {
        plan.recheck_at(until);
        format!("its pods did not come up {times} times in a row; asked again after a pause")
    } else {
        let is_trying = plan.group(&group.name).is_some_and(|draft| {
            let mut staying = draft.staying();
            draft.to_come() > 0 || staying.any(|replica| !replica.is_running(ctx.snapshot))
        });
        if !is_trying {
            most = most.saturating_add(trial(ctx));
        }
        format!("its pods did not come up {times} times in a row; one replica may try")
    };
    plan.limit(
        &group.name,
        most,
        OPEN,
        &format!("not asked for more: {detail}"),
    );
    plan.hold(Hold {
        group: Some(group.name.clone()),
        code: OPEN.to_owned(),
        detail,
    });
}
