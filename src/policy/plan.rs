//! The draft of a decision. Every edit records its author and a reason.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    GangWait, GroupDecision, Hold, Infeasible, KeptIdle, PodName, Recommendation, ResizeRequest,
    ResourceDemand, ScaleDecision, Timestamp, Unserved, WorkerGroupName,
};
use crate::placement::{
    Carry, Corrections, Facts, GroupCensus, Ledger, Origin, Placement, Pool, ToCome, live_replicas,
};

use super::course::Course;
use super::{GroupPlan, PolicyContext};

/// Says what nodes are used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Readable: `{CPU: 4}`, `placement group 1234...`.
    pub what: String,
    /// `tasks`, `placement_group` or `request_resources`.
    pub class: String,
    /// Where it stands in the snapshot.
    pub position: usize,
    /// Whether it counts as one however many requests it has.
    pub is_whole: bool,
}

/// Holds the draft of a decision.
#[derive(Debug)]
pub struct Plan {
    pub(super) author: String,
    pub(super) groups: Vec<GroupPlan>,
    pub(super) names: Vec<WorkerGroupName>,
    pub(super) index: BTreeMap<WorkerGroupName, usize>,
    pub(super) pool: Pool,
    claims: Vec<Claim>,
    pub(super) may_remove: bool,
    /// Whether nothing comes or goes.
    pub(super) is_closed: bool,
    /// Whether the launches of this draft are those of one placement without a tie.
    is_plain: bool,
    /// Whether two replies of the GCS have to agree before an idle replica goes.
    pub(super) confirms: bool,
    pub(super) course: Course,
    pub(super) decision: ScaleDecision,
}

impl Plan {
    /// Returns a draft that changes nothing but what repairs `replicas`.
    #[must_use]
    pub fn new(ctx: PolicyContext<'_>, corrections: Corrections) -> Self {
        Self::starting_from(ctx, (corrections, ToCome::Lined), None)
    }

    /// Returns such a draft; `carry` is that of an earlier draft for the same snapshot, but for what was decided,
    /// and `to_come` says when replicas without a pod are used.
    pub(crate) fn starting_from(
        ctx: PolicyContext<'_>,
        (corrections, to_come): (Corrections, ToCome),
        carry: Option<Carry>,
    ) -> Self {
        let mut live = live_replicas(ctx.snapshot, ctx.history, &corrections);
        let census: Vec<GroupCensus> = ctx
            .snapshot
            .groups
            .iter()
            .map(|group| {
                let live = live.remove(&group.name).unwrap_or_default();
                let followed = ctx.history.followed(group);
                let replicas = followed.min(ctx.history.without_surge(group));
                GroupCensus::of(group, replicas, live)
            })
            .collect();
        let others: Vec<_> = live.into_values().flatten().collect();
        let facts = Facts {
            snapshot: ctx.snapshot,
            history: ctx.history,
            corrections,
            to_come,
        };
        let pool = Pool::new(facts, &census, &others, carry);
        let names: Vec<_> = ctx
            .snapshot
            .groups
            .iter()
            .map(|group| group.name.clone())
            .collect();
        let groups = ctx.snapshot.groups.iter().zip(census);
        let mut plan = Self {
            author: "engine".to_owned(),
            groups: groups
                .map(|(group, census)| {
                    let surge = group
                        .replicas
                        .saturating_sub(ctx.history.without_surge(group));
                    GroupPlan::new(group, census, surge)
                })
                .collect(),
            index: names.iter().cloned().zip(0..).collect(),
            names,
            pool,
            claims: Vec::new(),
            may_remove: true,
            is_closed: false,
            is_plain: true,
            confirms: false,
            course: Course::default(),
            decision: ScaleDecision::default(),
        };
        plan.resume(ctx);
        plan.keep_protected(ctx);
        (0..plan.groups.len()).for_each(|at| plan.update_room(at));
        plan
    }

    pub(crate) fn set_author(&mut self, author: &str) {
        author.clone_into(&mut self.author);
    }

    pub(crate) fn forbid_removals(&mut self) {
        self.may_remove = false;
    }

    /// Returns whether anything may be removed in this decision.
    #[must_use]
    pub fn may_remove(&self) -> bool {
        self.may_remove
    }

    /// Returns the names of the groups, in the order of the RayCluster.
    #[must_use]
    pub fn groups(&self) -> Vec<WorkerGroupName> {
        self.names.clone()
    }

    /// Returns the draft of a group.
    #[must_use]
    pub fn group(&self, name: &WorkerGroupName) -> Option<&GroupPlan> {
        self.groups.get(*self.index.get(name)?)
    }

    /// Returns `replicas` of a group as the RayCluster has it; 0 for an unknown group.
    #[must_use]
    pub fn replicas_from(&self, name: &WorkerGroupName) -> u32 {
        self.group(name).map_or(0, GroupPlan::replicas_from)
    }

    /// Returns `replicas` of a group as the draft has it; 0 for an unknown group.
    #[must_use]
    pub fn replicas_to(&self, name: &WorkerGroupName) -> u32 {
        self.group(name).map_or(0, GroupPlan::replicas_to)
    }

    /// Returns the nodes, for choosing.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Returns the nodes, to set how groups are chosen and capped.
    pub fn pool_mut(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Launches up to `replicas` replicas, as far as maximum and caps allow; returns how many.
    pub fn launch(&mut self, name: &WorkerGroupName, replicas: u32, code: &str) -> u32 {
        let Some(at) = self.index.get(name).copied() else {
            return 0;
        };
        let room = u32::try_from(self.pool.room(at)).unwrap_or(u32::MAX);
        self.launch_at(at, replicas.min(room), code)
    }

    /// Launches replicas that the RayCluster demands: up to the maximum, whatever the caps say.
    pub(super) fn launch_required(&mut self, name: &WorkerGroupName, replicas: u32, code: &str) {
        let Some(at) = self.index.get(name).copied() else {
            return;
        };
        let Some(group) = self.groups.get(at) else {
            return;
        };
        let room = group.bounds.max.saturating_sub(group.target);
        let room = if self.is_closed { 0 } else { room };
        self.launch_at(at, replicas.min(room), code);
    }

    fn launch_at(&mut self, at: usize, replicas: u32, code: &str) -> u32 {
        self.is_plain = false;
        self.pool.add(at, u64::from(replicas), Origin::Launch);
        self.grow(at, replicas, code, "");
        replicas
    }

    fn grow(&mut self, at: usize, replicas: u32, code: &str, detail: &str) {
        if let Some(group) = self.groups.get_mut(at) {
            group.launched = group.launched.saturating_add(replicas);
            let to = group.target.saturating_add(replicas);
            group.change(&self.author, code, to, detail);
        }
        self.update_room(at);
    }

    pub(super) fn update_room(&mut self, at: usize) {
        if let Some(group) = self.groups.get(at) {
            let mut taken = group.target;
            if !self.pool.corrections().leaving {
                // In Ray a node that is to be removed still counts.
                taken =
                    taken.saturating_add(u32::try_from(group.removals.len()).unwrap_or(u32::MAX));
            }
            let most = group.bounds.max.min(group.ceiling.unwrap_or(u32::MAX));
            self.pool.set_room(at, most.saturating_sub(taken));
        }
    }

    /// Lets up to `most` replicas stay that were to go as idle, the last first.
    pub(super) fn take_back(&mut self, name: &WorkerGroupName, most: u32, code: &str) -> u32 {
        let at = self.index.get(name).copied();
        at.map_or(0, |at| self.take_back_at(at, most, code))
    }

    fn take_back_at(&mut self, at: usize, most: u32, code: &str) -> u32 {
        let (Some(group), Some(name)) = (self.groups.get_mut(at), self.names.get(at)) else {
            return 0;
        };
        let taken = group.take_back(most);
        let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        let to = group.target.saturating_add(count);
        group.change(&self.author, code, to, "removals taken back");
        for removal in taken {
            let (idle_ms, code) = (removal.idle_ms, code.to_owned());
            let kept = removal.pods.into_iter().map(|pod| KeptIdle {
                pod,
                group: name.clone(),
                code: code.clone(),
                idle_ms,
            });
            self.decision.kept_idle.extend(kept);
        }
        self.update_room(at);
        count
    }

    /// Moves a group's target: up by taking idle removals back and then launching, down by
    /// withdrawing launches of this draft; nothing else can be taken back without naming pods.
    pub fn retarget(&mut self, name: &WorkerGroupName, replicas: u32, code: &str) {
        let Some(at) = self.index.get(name).copied() else {
            return;
        };
        let Some(group) = self.groups.get_mut(at) else {
            return;
        };
        if replicas >= group.target {
            let more = replicas.saturating_sub(group.target);
            let taken = self.take_back_at(at, more, code);
            let to = replicas.saturating_sub(more.saturating_sub(taken));
            let missing = replicas.saturating_sub(to);
            self.update_room(at);
            self.launch(name, missing, code);
        } else {
            let less = group.target.saturating_sub(replicas);
            self.withdraw(name, less, code);
        }
    }

    /// Withdraws up to `replicas` launches of this draft and reports what they were for.
    pub fn withdraw(&mut self, name: &WorkerGroupName, replicas: u32, code: &str) {
        self.is_plain = false;
        let Some(at) = self.index.get(name).copied() else {
            return;
        };
        let Some(group) = self.groups.get_mut(at) else {
            return;
        };
        let less = replicas.min(group.launched);
        group.launched = group.launched.saturating_sub(less);
        let to = group.target.saturating_sub(less);
        group.change(&self.author, code, to, "");
        let hosts = self.pool.hosts(at);
        let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
        for (claim, count) in
            self.pool
                .withdraw(at, Origin::Launch, u64::from(less).saturating_mul(hosts))
        {
            let sum = counts.entry(claim).or_default();
            *sum = sum.saturating_add(count);
        }
        for (claim, count) in counts {
            if let Some(claim) = self.claims.get(claim).cloned() {
                let count = if claim.is_whole { 1 } else { count };
                let (what, class, position) = (claim.what, claim.class, claim.position);
                let code = code.to_owned();
                let detail = format!("{name}: held back by {}", self.author);
                self.unserved(Unserved {
                    what,
                    class,
                    position,
                    count,
                    code,
                    detail,
                });
            }
        }
        self.update_room(at);
    }

    /// Finds places for requests; nothing happens until [`Plan::accept`].
    pub fn place(&mut self, asks: &[ResourceDemand], ledger: Ledger) -> Placement {
        let placement = self.pool.place(asks, ledger);
        self.decision.is_cut |= placement.is_cut;
        // What is idle now may be needed by what was not looked at.
        self.may_remove &= !placement.is_cut;
        placement
    }

    /// Takes a placement over; `claims` holds what each ask is, and the code of launches is its class.
    pub fn accept(&mut self, placement: &Placement, claims: Vec<Claim>, ledger: Ledger) {
        let code = claims
            .first()
            .map_or_else(String::new, |claim| claim.class.clone());
        let first = self.claims.len();
        let ids: Vec<usize> = (first..first.saturating_add(claims.len())).collect();
        self.claims.extend(claims);
        if !placement.launched.is_empty() {
            // With no node on its way before, the new ones are all that comes after those that run.
            self.is_plain &=
                placement.is_plain && self.pool.is_running_first() && !self.pool.has_starting();
        }
        self.pool.commit(placement, &ids, ledger);
        for (at, replicas) in &placement.launched {
            let replicas = u32::try_from(*replicas).unwrap_or(u32::MAX);
            let detail = self.purpose(&placement.served_by(*at), first);
            self.grow(*at, replicas, &code, &detail);
            if ledger == Ledger::Free {
                self.note_launch(*at, replicas);
            }
        }
    }

    /// Returns what new nodes of a group are for.
    fn purpose(&self, served: &BTreeMap<usize, u64>, first: usize) -> String {
        let part = |(ask, count): (&usize, &u64)| {
            let claim = self.claims.get(first.saturating_add(*ask))?;
            Some(if claim.is_whole {
                claim.what.clone()
            } else {
                format!("{count} x {}", claim.what)
            })
        };
        let mut parts: Vec<String> = served.iter().take(3).filter_map(part).collect();
        parts.dedup();
        let more = if served.len() > 3 { ", ..." } else { "" };
        format!("{}{more}", parts.join(", "))
    }

    /// Returns the class of what each used node of the snapshot is needed for.
    #[must_use]
    pub fn needs(&self) -> BTreeMap<usize, &str> {
        let mut needs = BTreeMap::new();
        for slot in self.pool.slots() {
            if let (Origin::Node(at), Some((claim, _))) = (slot.origin, slot.uses.first())
                && let Some(claim) = self.claims.get(*claim)
            {
                needs.insert(at, claim.class.as_str());
            }
        }
        needs
    }

    /// Returns the class of a claim by its number.
    pub(super) fn class_of(&self, claim: usize) -> Option<&str> {
        self.claims.get(claim).map(|claim| claim.class.as_str())
    }

    /// Reports demand that no group could ever serve.
    pub fn infeasible(&mut self, infeasible: Infeasible) {
        self.decision.infeasible.push(infeasible);
    }

    /// Reports demand that is not served now.
    pub fn unserved(&mut self, unserved: Unserved) {
        self.decision.unserved.push(unserved);
    }

    /// Reports an idle node that stays.
    pub fn keep_idle(&mut self, kept: KeptIdle) {
        self.decision.kept_idle.push(kept);
    }

    /// Remembers since when how many starting replicas of a group have been superfluous.
    pub fn remember_unneeded(&mut self, name: &WorkerGroupName, since: Vec<Timestamp>) {
        if !since.is_empty() {
            self.decision.unneeded_since.insert(name.clone(), since);
        }
    }

    /// Remembers how long placement groups have waited.
    pub(super) fn remember_gangs(&mut self, waits: BTreeMap<String, GangWait>) {
        self.decision.gang_waits = waits;
    }

    /// Remembers what a group was to become lately.
    pub fn remember_recommended(&mut self, name: &WorkerGroupName, list: Vec<Recommendation>) {
        self.decision.recommended.insert(name.clone(), list);
    }

    /// Asks for pods to be resized in place.
    pub fn resize(&mut self, resizes: Vec<ResizeRequest>) {
        self.decision.resizes = resizes;
    }

    /// Returns whether the launches of this draft are chosen again when they are there.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Returns whether demand was not looked at, for the work budget.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.decision.is_cut || self.course.leaves_out
    }

    /// Returns whether the work budget has ended.
    pub(super) fn has_run_out(&self) -> bool {
        self.decision.is_cut
    }

    /// Reports something that is left alone on purpose.
    pub fn hold(&mut self, hold: Hold) {
        self.decision.holds.push(hold);
    }

    /// Asks for another decision at `at`, even if nothing happens until then.
    pub fn recheck_at(&mut self, at: Timestamp) {
        let next = self.decision.next_check_at.map_or(at, |next| next.min(at));
        self.decision.next_check_at = Some(next);
    }

    /// Gives the draft of a group up: it stays as it is.
    pub(crate) fn revert(&mut self, name: &WorkerGroupName) {
        if let Some(group) = self.index.get(name).and_then(|at| self.groups.get_mut(*at)) {
            group.revert();
        }
    }

    pub(crate) fn into_decision(
        mut self,
        mut forget: BTreeMap<WorkerGroupName, Vec<PodName>>,
    ) -> (ScaleDecision, Carry) {
        self.decision.is_cut = self.is_cut();
        self.decision.resume = self.next_resume();
        let mut decision = self.decision;
        decision.steps = self.pool.steps();
        if decision.is_cut {
            decision.mark_cut();
        }
        for (name, mut group) in self.names.into_iter().zip(self.groups) {
            if group.target == group.from && group.removals.is_empty() {
                // Raised and taken back: nothing changes, so that there is nothing to explain.
                group.reasons.clear();
            }
            decision.groups.push(GroupDecision {
                forget: forget.remove(&name).unwrap_or_default(),
                name,
                replicas_from: group.from,
                replicas_to: group.target,
                remove: group.removals,
                reasons: group.reasons,
            });
        }
        let removals = decision.groups.iter().flat_map(|group| &group.remove);
        let removed: BTreeSet<&PodName> = removals.flat_map(|removal| &removal.pods).collect();
        decision
            .kept_idle
            .retain(|kept| !removed.contains(&kept.pod));
        decision
            .kept_idle
            .sort_by(|a, b| (&a.pod, &a.group).cmp(&(&b.pod, &b.group)));
        decision.kept_idle.dedup_by(|a, b| a.pod == b.pod);
        decision.holds.sort();
        decision.holds.dedup();
        (decision, self.pool.into_carry())
    }
}
