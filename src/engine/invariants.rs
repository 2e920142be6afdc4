//! What every decision has to keep, checked apart from the engine that makes them.
//!
//! | id | rule |
//! |---|---|
//! | I1 | a group that changes is within its bounds |
//! | I2 | the head is never removed |
//! | I3 | removals are observed live replicas of their group, and no group gets a number below what is left |
//! | I4 | deciding again after the decision is applied changes nothing ([`check_again`]) |
//! | I5 | same input, same bytes ([`check_again`]) |
//! | I6 | nothing shrinks on incomplete or stale knowledge |
//! | I7 | work is taken only for a lowered maximum or a user's order, a protected replica never, nothing that was served becomes unserved, and what counts as served has room |
//! | I8 | reasons chain from `replicas_from` to `replicas_to` |
//! | I9 | the order of the input does not matter, but for that of the groups ([`check_again`]) |
//! | I10 | a placement group is planned whole or not at all: one that counts as served has room for every bundle |
//! | I11 | a replica leaves whole |
//! | I12 | the groups together stay within the sum of their maxima, and within the caps |

mod again;
mod caps;
mod room;
mod served;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{
    ClusterSnapshot, GroupDecision, History, Node, NodeKind, NodeStatus, PodName, RemovalCause,
    ReplicaName, ReplicaRemoval, ScaleDecision, ScalingMode, Timestamp, WorkerGroup,
    WorkerGroupName,
};
use crate::placement::Corrections;
use crate::policy::PolicyContext;

use super::Engine;
use room::{Answered, check_room};
use served::lost;

pub use again::{Again, check_again, check_again_within};
pub use caps::check_caps;

/// Nothing is removed on older knowledge, whatever is configured. Units: milliseconds.
const STALE_AFTER_MAX_MS: u64 = 3_600_000;

/// Names a broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The rule.
    pub id: &'static str,
    /// What breaks it.
    pub detail: String,
    /// The group that breaks it, where it is one.
    pub group: Option<WorkerGroupName>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.detail)
    }
}

struct Check<'a> {
    snapshot: &'a ClusterSnapshot,
    pods: BTreeMap<&'a PodName, &'a Node>,
    replicas: BTreeMap<&'a WorkerGroupName, BTreeMap<&'a ReplicaName, Vec<&'a Node>>>,
    violations: Vec<Violation>,
}

/// Returns every rule that `decision` of an engine with the default chain breaks.
#[must_use]
pub fn check(
    snapshot: &ClusterSnapshot,
    history: &History,
    decision: &ScaleDecision,
) -> Vec<Violation> {
    let ctx = PolicyContext {
        snapshot,
        history,
        now: Timestamp::default(),
    };
    check_one(&Engine::default(), ctx, decision)
}

/// Returns every rule that a decision breaks, but for caps and room.
fn check_one(engine: &Engine, ctx: PolicyContext<'_>, decision: &ScaleDecision) -> Vec<Violation> {
    let snapshot = ctx.snapshot;
    let present = || {
        snapshot
            .nodes
            .iter()
            .filter(|node| node.status != NodeStatus::Lost)
    };
    let mut replicas: BTreeMap<_, BTreeMap<_, Vec<&Node>>> = BTreeMap::new();
    for node in present().filter(|node| node.kind == NodeKind::Worker) {
        let own = replicas.entry(&node.group).or_default();
        own.entry(&node.replica).or_default().push(node);
    }
    let pods = present().map(|node| (&node.name, node)).collect();
    let mut check = Check {
        snapshot,
        pods,
        replicas,
        violations: Vec::new(),
    };
    let names = |group: &GroupDecision| group.name.clone();
    let decided: Vec<_> = decision.groups.iter().map(names).collect();
    let known: Vec<_> = snapshot
        .groups
        .iter()
        .map(|group| group.name.clone())
        .collect();
    check.expect("I3", decided == known, || {
        format!("groups {decided:?} instead of {known:?}")
    });
    for (group, spec) in decision.groups.iter().zip(&snapshot.groups) {
        let before = check.violations.len();
        check.bounds(group, spec);
        check.removals(group);
        check.above_max(group, spec);
        check.forgotten(group, spec);
        check.reasons(group);
        for violation in check.violations.iter_mut().skip(before) {
            violation.group = Some(group.name.clone());
        }
    }
    check.knowledge(decision);
    for loss in lost(engine, ctx, decision) {
        check.expect("I7", false, || loss);
    }
    check.total(decision);
    check.violations
}

/// Returns every rule that a decision of `engine` breaks, as far as one decision shows it.
#[must_use]
pub fn check_of(
    engine: &Engine,
    ctx: PolicyContext<'_>,
    decision: &ScaleDecision,
) -> Vec<Violation> {
    let (snapshot, history) = (ctx.snapshot, ctx.history);
    let mut violations = check_one(engine, ctx, decision);
    if let Some(caps) = engine.chain.iter().find_map(|link| link.policy.caps()) {
        violations.extend(check_caps(snapshot, history, decision, &caps));
    }
    // Ray places demand on nodes that it removes.
    if engine.corrections == Corrections::default() {
        let has = |name: &str| engine.chain().any(|link| link == name);
        let answered = Answered {
            tasks: has("demand"),
            gangs: has("gangs"),
            constraint: has("constraint"),
        };
        violations.extend(check_room((snapshot, history), decision, answered));
    }
    violations
}

impl Check<'_> {
    fn expect(&mut self, id: &'static str, is_kept: bool, detail: impl FnOnce() -> String) {
        if !is_kept {
            self.violations.push(Violation {
                id,
                detail: detail(),
                group: None,
            });
        }
    }

    fn bounds(&mut self, group: &GroupDecision, spec: &WorkerGroup) {
        let (from, to) = (group.replicas_from, group.replicas_to);
        self.expect("I3", from == spec.replicas, || {
            format!("{}: from {from}", group.name)
        });
        let is_unchanged = from == to && group.remove.is_empty();
        let is_inside = to >= spec.bounds.min && to <= self.max_of(spec);
        self.expect("I1", is_unchanged || is_inside, || {
            format!("{}: {to} is outside of {:?}", group.name, spec.bounds)
        });
    }

    fn removals(&mut self, group: &GroupDecision) {
        let mut named = BTreeSet::new();
        for removal in &group.remove {
            let is_new = named.insert(&removal.replica);
            self.expect("I3", is_new, || {
                format!("{}: {} twice", group.name, removal.replica)
            });
            for pod in &removal.pods {
                self.removed_pod(group, removal, pod);
            }
            let own = self.replicas.get(&group.name);
            let own = own.and_then(|own| own.get(&removal.replica));
            let own: BTreeSet<&PodName> =
                own.into_iter().flatten().map(|node| &node.name).collect();
            let pods: BTreeSet<&PodName> = removal.pods.iter().collect();
            self.expect("I11", own == pods && !pods.is_empty(), || {
                format!("{}: {pods:?} is not the replica {own:?}", removal.replica)
            });
        }
        let own = self.replicas.get(&group.name).into_iter().flatten();
        let left = own.filter(|(name, hosts)| {
            !named.contains(*name) && hosts.iter().all(|host| host.status.is_live())
        });
        let left = u32::try_from(left.count()).unwrap_or(u32::MAX);
        let is_write = group.replicas_from != group.replicas_to || !group.remove.is_empty();
        self.expect("I3", !is_write || group.replicas_to >= left, || {
            format!(
                "{}: {left} replicas are left, {} asked for",
                group.name, group.replicas_to
            )
        });
    }

    fn removed_pod(&mut self, group: &GroupDecision, removal: &ReplicaRemoval, pod: &PodName) {
        let Some(node) = self.pods.get(pod).copied() else {
            self.expect("I3", false, || format!("{pod} is not there"));
            return;
        };
        self.expect("I2", node.kind == NodeKind::Worker, || {
            format!("{pod} is the head")
        });
        let is_own = node.group == group.name && node.status.is_live();
        self.expect("I3", is_own, || {
            format!("{pod} is {:?} in {}", node.status, node.group)
        });
        let is_busy = node.status == NodeStatus::Running && node.idle_since.is_none();
        self.expect("I7", !is_busy || removal.cause.takes_work(), || {
            format!("{pod} is busy")
        });
        let orders = &self.snapshot.orders;
        let is_ordered = removal
            .pods
            .iter()
            .any(|pod| orders.drain.contains_key(pod));
        let is_protected = self.is_protected(pod);
        self.expect("I7", is_ordered || !is_protected, || {
            format!("{pod} is protected")
        });
        let is_order = removal.cause == RemovalCause::Ordered;
        self.expect("I7", is_ordered || !is_order, || {
            format!("nobody has ordered {pod} away")
        });
        let is_unregistered =
            matches!(removal.cause, RemovalCause::Withdrawn | RemovalCause::Stuck);
        let has_registered = node.status == NodeStatus::Running;
        self.expect("I7", !(is_unregistered && has_registered), || {
            format!("{pod} has registered")
        });
        let is_half = removal.cause == RemovalCause::HalfStarted;
        let is_known = matches!(
            node.status,
            NodeStatus::Running | NodeStatus::Starting | NodeStatus::Draining | NodeStatus::Stopped
        );
        self.expect("I7", !is_half || is_known, || {
            format!(
                "{pod} of a replica that has started by half is {:?}",
                node.status
            )
        });
    }

    /// Returns whether a pod is protected for longer than anybody may decide on this snapshot.
    fn is_protected(&self, pod: &PodName) -> bool {
        let known = self.snapshot.completeness;
        let read_at = known.gcs_at.max(known.pods_at).max(known.raycluster_at);
        let orders = &self.snapshot.orders;
        read_at.is_some_and(|at| {
            let latest = at.plus_ms(STALE_AFTER_MAX_MS);
            orders.protection(pod, latest).is_some()
        })
    }

    /// Returns the most replicas that a group may have: protected ones stay above a lowered maximum.
    fn max_of(&self, spec: &WorkerGroup) -> u32 {
        let orders = &self.snapshot.orders;
        if orders.protect.is_empty() {
            return spec.bounds.max;
        }
        let own = self.replicas.get(&spec.name).into_iter().flatten();
        let protected = own.filter(|(_, hosts)| {
            let mut hosts = hosts.iter();
            hosts.any(|host| orders.protect.contains_key(&host.name))
        });
        let protected = u32::try_from(protected.count()).unwrap_or(u32::MAX);
        spec.bounds.max.max(protected)
    }

    /// Checks that a lowered maximum takes no more replicas than it has to.
    fn above_max(&mut self, group: &GroupDecision, spec: &WorkerGroup) {
        let mut taken = group.remove.iter();
        if !taken.any(|removal| removal.cause == RemovalCause::AboveMax) {
            return;
        }
        let own = self.replicas.get(&group.name).into_iter().flatten();
        let live = own.filter(|(_, hosts)| hosts.iter().all(|host| host.status.is_live()));
        let live = u32::try_from(live.count()).unwrap_or(u32::MAX);
        let gone = u32::try_from(group.remove.len()).unwrap_or(u32::MAX);
        let others = group.remove.iter();
        let others = others.filter(|it| it.cause != RemovalCause::AboveMax);
        let others = u32::try_from(others.count()).unwrap_or(u32::MAX);
        let needed = live.saturating_sub(spec.bounds.max);
        let taken = gone.saturating_sub(others);
        self.expect("I7", taken <= needed, || {
            format!("{}: {taken} above maxReplicas, of {needed}", group.name)
        });
    }

    fn forgotten(&mut self, group: &GroupDecision, spec: &WorkerGroup) {
        for pod in &group.forget {
            let is_listed = spec.workers_to_delete.contains(pod);
            let is_there = self.pods.contains_key(pod);
            self.expect("I3", is_listed && !is_there, || {
                format!("{pod} must not be forgotten")
            });
        }
    }

    fn reasons(&mut self, group: &GroupDecision) {
        let mut at = group.replicas_from;
        for reason in &group.reasons {
            let is_next = reason.from == at && !reason.code.is_empty() && !reason.policy.is_empty();
            self.expect("I8", is_next, || {
                format!("{}: {reason:?} after {at}", group.name)
            });
            at = reason.to;
        }
        let is_explained =
            at == group.replicas_to && (group.reasons.is_empty() != group.is_resized());
        let is_forget_only = group.reasons.is_empty() && group.remove.is_empty();
        self.expect(
            "I8",
            at == group.replicas_to && (is_explained || is_forget_only),
            || {
                format!(
                    "{}: reasons end at {at}, not at {}",
                    group.name, group.replicas_to
                )
            },
        );
    }

    fn knowledge(&mut self, decision: &ScaleDecision) {
        let snapshot = self.snapshot;
        let is_blind = !snapshot.completeness.is_complete()
            || snapshot.is_suspended
            || snapshot.is_deleting
            || snapshot.unreadable.is_some()
            || !snapshot.is_head_running();
        self.expect("I6", !(is_blind && decision.is_change()), || {
            "a change without knowledge".to_owned()
        });
        let is_stale = decision.mode != ScalingMode::Normal
            || decision.holds.iter().any(|hold| hold.code == "stale");
        for group in decision.groups.iter().filter(|_| is_stale) {
            let shrinks = group.replicas_to < group.replicas_from || !group.remove.is_empty();
            self.expect("I6", !shrinks, || {
                format!("{} shrinks on stale knowledge", group.name)
            });
        }
    }

    fn total(&mut self, decision: &ScaleDecision) {
        let total: u128 = decision
            .groups
            .iter()
            .map(|group| u128::from(group.replicas_to))
            .sum();
        let changed = decision.groups.iter().zip(&self.snapshot.groups);
        let allowed: u128 = changed
            .map(|(group, spec)| {
                let is_kept = group.replicas_to == group.replicas_from;
                let max = self.max_of(spec);
                u128::from(if is_kept {
                    max.max(group.replicas_to)
                } else {
                    max
                })
            })
            .sum();
        self.expect("I12", total <= allowed, || {
            format!("{total} replicas, at most {allowed}")
        });
    }
}

impl GroupDecision {
    /// Returns whether the number or the replicas change, which takes a reason.
    fn is_resized(&self) -> bool {
        self.replicas_from != self.replicas_to || !self.remove.is_empty()
    }
}
