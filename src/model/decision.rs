//! What the engine answers: complete enough that acting on it needs no further choice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Departure, GangWait, PodName, Recommendation, ReplicaName, ResizeRequest, ResourceRequest,
    Resume, ScalingMode, TerminationPolicy, Timestamp, WorkerGroupName,
};

/// The word for what makes up for pods on their way out, which count for the operator until they are gone.
pub const LEAVING: &str = "leaving";

/// The word for what is launched in place of replicas that are given up since their pods do not come up.
pub const RECYCLED: &str = "recycled";

/// The word for what is launched since a group is below its minimum.
const MINIMUM: &str = "minimum";

/// Says why a number changed; reasons of a group chain from `replicas_from` to `replicas_to`.
///
/// Units: replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The policy that did it.
    pub policy: String,
    /// A stable word, used as a metric label.
    pub code: String,
    /// The target before.
    pub from: u32,
    /// The target after.
    pub to: u32,
    /// What a person wants to know besides, in one line; may be empty.
    pub detail: String,
}

/// Says why a replica goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalCause {
    /// Idle longer than its timeout and not needed: drained first, and kept if a raylet refuses.
    Idle,
    /// More replicas than a lowered maximum allows: told to drain, not asked.
    AboveMax,
    /// More nodes than the cap over all groups allows, where that cap is an order.
    AboveTotal,
    /// Its raylets are gone and its pods are not: nothing left to drain.
    Stopped,
    /// A user's order, by annotation of a pod: told to drain, not asked.
    Ordered,
    /// No raylet of it has registered and nothing needs it any more: nothing to drain yet.
    Withdrawn,
    /// Its pods do not come up: nothing to drain, and another one may do better.
    Stuck,
    /// Some of its hosts have registered and have no work, the others do not come up, or come too late since some
    /// are gone: those that have registered are drained first, and it is kept if one refuses.
    HalfStarted,
}

impl RemovalCause {
    /// Returns whether a replica goes though it has work: told to finish, and named when it has
    /// finished or its time is up.
    #[must_use]
    pub const fn takes_work(self) -> bool {
        matches!(self, Self::AboveMax | Self::AboveTotal | Self::Ordered)
    }

    /// Returns whether the raylets of a replica are asked whether it may go, and may refuse.
    #[must_use]
    pub const fn is_asked(self) -> bool {
        matches!(self, Self::Idle | Self::HalfStarted)
    }
}

/// Says how long a replica that must go may finish its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Finish {
    /// Until when, if it has been told already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Timestamp>,
    /// For how long; `None` for the configured time.
    ///
    /// Units: milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
}

impl Finish {
    /// Returns whether nothing particular is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Names one replica that goes, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRemoval {
    /// The replica.
    pub replica: ReplicaName,
    /// All of its pods, by host.
    pub pods: Vec<PodName>,
    /// Why.
    pub cause: RemovalCause,
    /// How long it has been idle.
    ///
    /// Units: milliseconds; 0 unless the cause is [`RemovalCause::Idle`] or [`RemovalCause::HalfStarted`].
    pub idle_ms: u64,
    /// How long it may finish its work, where its cause takes work.
    #[serde(default, skip_serializing_if = "Finish::is_default")]
    pub finish: Finish,
}

/// Holds the answer for one group.
///
/// Units: replicas. `replicas_from` is what the RayCluster says now; `replicas_to` is what it should
/// say when every removal goes through. A removal that is refused adds its replica back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDecision {
    /// The group.
    pub name: WorkerGroupName,
    /// `replicas` in the RayCluster.
    pub replicas_from: u32,
    /// `replicas` to ask for.
    pub replicas_to: u32,
    /// Replicas to drain and name.
    pub remove: Vec<ReplicaRemoval>,
    /// Names to take out of `workersToDelete`, because their pods are gone.
    pub forget: Vec<PodName>,
    /// Why; empty when nothing changes.
    pub reasons: Vec<Reason>,
}

impl GroupDecision {
    /// Returns how many of `replicas_to` only make up for pods on their way out, if anything is to be written.
    #[must_use]
    pub fn surge(&self) -> u32 {
        let mut reasons = self.reasons.iter().rev();
        let reason = reasons.find(|reason| reason.code == LEAVING && reason.to > reason.from);
        reason.map_or(0, |reason| reason.to.saturating_sub(reason.from))
    }

    /// Returns how many replicas are launched only because others were given up: one that stays after all needs none
    /// in its place.
    ///
    /// What was held back again counts as if it had been one of these: it must not be taken off twice.
    #[must_use]
    pub fn in_place_of_removed(&self) -> u32 {
        let is_in_place = |code: &str| code == RECYCLED || code == MINIMUM;
        let replaced = self.reasons.iter().filter(|it| is_in_place(&it.code));
        let replaced = replaced.fold(0_u32, |sum, it| {
            sum.saturating_add(it.to.saturating_sub(it.from))
        });
        let fallen = self.reasons.iter().fold(0_u32, |sum, it| {
            sum.saturating_add(it.from.saturating_sub(it.to))
        });
        let removed = u32::try_from(self.remove.len()).unwrap_or(u32::MAX);
        replaced.saturating_sub(fallen.saturating_sub(removed))
    }

    /// Returns how many replicas are launched, those in place of removed ones among them.
    pub(crate) fn launched(&self) -> u64 {
        let removed = u64::try_from(self.remove.len()).unwrap_or(u64::MAX);
        let to = u64::from(self.replicas_to).saturating_add(removed);
        to.saturating_sub(u64::from(self.replicas_from))
    }

    /// Returns whether anything is to be written for this group.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.replicas_from != self.replicas_to || !self.remove.is_empty() || !self.forget.is_empty()
    }
}

/// Holds demand that no group could ever serve, whatever its maximum.
///
/// Only such shapes are told to Ray: it may cancel the tasks that wait for them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Infeasible {
    /// Tasks or actors.
    Tasks(ResourceRequest),
    /// A placement group, by its `details`.
    Gang(String),
    /// The whole `request_resources`.
    Constraint,
}

/// Holds demand that is not served now, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unserved {
    /// The demand, readable: `{CPU: 4}`, `placement group 1234...`, `request_resources {GPU: 1}`.
    pub what: String,
    /// A class with few values, used as a metric label: `tasks`, `placement_group`, `request_resources`.
    pub class: String,
    /// Position of the first of them in the snapshot's `demands` or `gangs`; 0 for `request_resources`.
    #[serde(default)]
    pub position: usize,
    /// How many of them.
    pub count: u64,
    /// A stable word: `infeasible`, `at_maximum`, `upscaling_mode`, ...
    pub code: String,
    /// Group by group, in one line.
    pub detail: String,
}

/// Holds an idle node that stays, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptIdle {
    /// The pod.
    pub pod: PodName,
    /// Its group.
    pub group: WorkerGroupName,
    /// A stable word: `idle_timeout`, `needed_by_demand`, `needed_by_constraint`, `minimum`, `replica_busy`, ...
    pub code: String,
    /// How long it has been idle.
    ///
    /// Units: milliseconds.
    pub idle_ms: u64,
}

/// Says that something is left alone on purpose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hold {
    /// The group, or everything.
    pub group: Option<WorkerGroupName>,
    /// A stable word: `incomplete`, `stale`, `suspended`, `paused`, `group_skipped`, ...
    pub code: String,
    /// What a person wants to know besides, in one line.
    pub detail: String,
}

/// Holds the answer to one snapshot.
///
/// Shape: `groups` has every group of the snapshot, in its order, changed or not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScaleDecision {
    /// The groups.
    pub groups: Vec<GroupDecision>,
    /// Demand that no group could ever serve.
    pub infeasible: Vec<Infeasible>,
    /// Demand that is not served now.
    pub unserved: Vec<Unserved>,
    /// Idle nodes that stay.
    pub kept_idle: Vec<KeptIdle>,
    /// Pods to resize in place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resizes: Vec<ResizeRequest>,
    /// Pods that were resized, whose raylets have to hear of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resized: Vec<PodName>,
    /// What becomes of the cluster, since nobody uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination: Option<TerminationPolicy>,
    /// Since when at least one, two, ... starting replicas of a group have had nothing to serve.
    ///
    /// Shape: per group, the longest first; empty unless the policy `pending_idle` has a timeout.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unneeded_since: BTreeMap<WorkerGroupName, Vec<Timestamp>>,
    /// How long placement groups have waited for nodes that were planned for them.
    ///
    /// Shape: by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gang_waits: BTreeMap<String, GangWait>,
    /// Nodes of which Ray is to be told that they are gone or going.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Departure>,
    /// How far scaling goes.
    #[serde(default, skip_serializing_if = "ScalingMode::is_normal")]
    pub mode: ScalingMode,
    /// Pods of idle replicas that may go, and the GCS's reply that first said so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removable: BTreeMap<PodName, Timestamp>,
    /// Pods that go by somebody else's hand, whose nodes are to be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drains: Vec<PodName>,
    /// What groups were to become lately.
    ///
    /// Shape: per group, the oldest first; empty unless the policy `stabilization` has a window.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recommended: BTreeMap<WorkerGroupName, Vec<Recommendation>>,
    /// What is left alone on purpose.
    pub holds: Vec<Hold>,
    /// Placement steps that were made.
    #[serde(default, skip_serializing_if = "is_none")]
    pub steps: u64,
    /// Whether the work budget ended before all demand was looked at; the next pass goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
    /// Where the next decision goes on after one that was cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    /// Whether the operator, which waits out a back-off, is to look again: the intent is written anew for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nudge: bool,
    /// When to ask again even if nothing happens.
    pub next_check_at: Option<Timestamp>,
}

impl ScaleDecision {
    /// Marks that the work budget ended before the decision was made to its end.
    pub(crate) fn mark_cut(&mut self) {
        self.is_cut = true;
        self.holds.push(Hold {
            group: None,
            code: "work_budget".to_owned(),
            detail: "demand was left for the next pass".to_owned(),
        });
        self.holds.sort();
        self.holds.dedup();
    }

    /// Returns the answer for a group.
    #[must_use]
    pub fn group(&self, name: &WorkerGroupName) -> Option<&GroupDecision> {
        self.groups.iter().find(|group| group.name == *name)
    }

    /// Returns whether anything is to be written.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.groups.iter().any(GroupDecision::is_change)
    }

    /// Returns whether anything is launched.
    pub(crate) fn is_growth(&self) -> bool {
        self.groups.iter().any(|group| group.launched() > 0)
    }

    /// Returns whether it launches less than `other`, in no group more, and leaves no more unserved of any class.
    ///
    /// Of tasks it may leave more where it launches nothing: it serves as many as could be launched for, and the rest
    /// is held back. What is launched whole or not at all may be left for want of room alone.
    pub(crate) fn launches_less(&self, other: &Self) -> bool {
        let unserved = |it: &Self| {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            for one in &it.unserved {
                let count = counts.entry(one.class.clone()).or_default();
                *count = count.saturating_add(one.count);
            }
            counts
        };
        let (left, others) = (unserved(self), unserved(other));
        let leaves_no_more = left.iter().all(|(class, count)| {
            let is_held_back = class == "tasks" && !self.is_growth();
            is_held_back || others.get(class).is_some_and(|other| count <= other)
        });
        let pairs = self.groups.iter().zip(&other.groups);
        let mut pairs = pairs.map(|(own, other)| (own.launched(), other.launched()));
        let is_less = pairs.clone().any(|(own, other)| own < other);
        is_less && pairs.all(|(own, other)| own <= other) && leaves_no_more
    }

    /// Returns whether anything is to be done: written, or told to Ray.
    #[must_use]
    pub fn is_work(&self) -> bool {
        self.is_change() || !self.drains.is_empty() || self.nudge
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_none(steps: &u64) -> bool {
    *steps == 0
}
