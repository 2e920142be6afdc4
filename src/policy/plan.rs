//! The draft of a decision. Every edit records its author and a reason.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    GroupDecision, Hold, Infeasible, KeptIdle, PodName, RemovalCause, ReplicaName, ReplicaRemoval,
    ResourceDemand, ScaleDecision, Timestamp, Unserved, WorkerGroupName,
};
use crate::placement::{GroupCensus, Ledger, Origin, Placement, Pool, live_replicas, victims};

use super::{GroupPlan, PolicyContext};

/// Says what nodes are used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Readable: `{CPU: 4}`, `placement group 1234...`.
    pub what: String,
    /// `tasks`, `placement_group` or `request_resources`.
    pub class: String,
    /// Whether it counts as one however many requests it has.
    pub is_whole: bool,
}

/// Holds the draft of a decision.
#[derive(Debug)]
pub struct Plan {
    author: String,
    groups: Vec<GroupPlan>,
    names: Vec<WorkerGroupName>,
    index: BTreeMap<WorkerGroupName, usize>,
    pool: Pool,
    claims: Vec<Claim>,
    may_remove: bool,
    decision: ScaleDecision,
}

impl Plan {
    /// Returns a draft that changes nothing but what repairs `replicas`.
    #[must_use]
    pub fn new(ctx: PolicyContext<'_>) -> Self {
        let mut live = live_replicas(ctx.snapshot, ctx.history);
        let census: Vec<GroupCensus> = ctx
            .snapshot
            .groups
            .iter()
            .map(|group| GroupCensus::of(group, live.remove(&group.name).unwrap_or_default()))
            .collect();
        let others: Vec<_> = live.into_values().flatten().collect();
        let pool = Pool::new(ctx.snapshot, ctx.history, &census, &others);
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
                .map(|(group, census)| GroupPlan::new(group, census))
                .collect(),
            index: names.iter().cloned().zip(0..).collect(),
            names,
            pool,
            claims: Vec::new(),
            may_remove: true,
            decision: ScaleDecision::default(),
        };
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
        self.launch_at(at, replicas.min(room), code);
    }

    fn launch_at(&mut self, at: usize, replicas: u32, code: &str) -> u32 {
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

    fn update_room(&mut self, at: usize) {
        if let Some(group) = self.groups.get(at) {
            self.pool
                .set_room(at, group.bounds.max.saturating_sub(group.target));
        }
    }

    /// Gives a replica up and names its pods; returns whether it was there and may go.
    pub fn release(
        &mut self,
        ctx: PolicyContext<'_>,
        name: &WorkerGroupName,
        removal: Release<'_>,
    ) -> bool {
        let Some(at) = self.index.get(name).copied().filter(|_| self.may_remove) else {
            return false;
        };
        let Some(group) = self.groups.get_mut(at) else {
            return false;
        };
        let Some(replica) = group
            .staying()
            .find(|replica| replica.name == *removal.replica)
        else {
            return false;
        };
        let hosts = replica.hosts.clone();
        let pods = replica
            .nodes(ctx.snapshot)
            .map(|node| node.name.clone())
            .collect();
        group.removed.insert(removal.replica.clone());
        group.removals.push(ReplicaRemoval {
            replica: removal.replica.clone(),
            pods,
            cause: removal.cause,
            idle_ms: removal.idle_ms,
        });
        let to = group.target.saturating_sub(1);
        group.change(&self.author, removal.code, to, removal.replica.as_str());
        self.pool.remove_nodes(&hosts);
        self.update_room(at);
        true
    }

    /// Names victims until a group is at its maximum.
    pub(crate) fn shrink_to_maximum(&mut self, ctx: PolicyContext<'_>, name: &WorkerGroupName) {
        let Some(group) = self.group(name) else {
            return;
        };
        let excess = group.target.saturating_sub(group.bounds.max);
        let staying: Vec<_> = group.staying().cloned().collect();
        let count = usize::try_from(excess).unwrap_or(usize::MAX);
        for at in victims(ctx.snapshot, &staying, count, ctx.now) {
            if let Some(replica) = staying.get(at) {
                let (cause, code) = (RemovalCause::AboveMax, "above_maximum");
                let release = Release {
                    replica: &replica.name,
                    cause,
                    code,
                    idle_ms: 0,
                };
                self.release(ctx, name, release);
            }
        }
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
            let taken = group.take_back(replicas.saturating_sub(group.target));
            let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
            let to = group.target.saturating_add(count);
            group.change(&self.author, code, to, "removals taken back");
            for removal in taken {
                let (idle_ms, code) = (removal.idle_ms, code.to_owned());
                self.decision
                    .kept_idle
                    .extend(removal.pods.into_iter().map(|pod| KeptIdle {
                        pod,
                        group: name.clone(),
                        code: code.clone(),
                        idle_ms,
                    }));
            }
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
                let (what, class, code) = (claim.what, claim.class, code.to_owned());
                let detail = format!("{name}: held back by {}", self.author);
                self.unserved(Unserved {
                    what,
                    class,
                    count,
                    code,
                    detail,
                });
            }
        }
        self.update_room(at);
    }

    /// Finds places for requests; nothing happens until [`Plan::accept`].
    #[must_use]
    pub fn place(&self, asks: &[ResourceDemand], ledger: Ledger) -> Placement {
        self.pool.place(asks, ledger)
    }

    /// Takes a placement over; `claims` holds what each ask is, and the code of launches is its class.
    pub fn accept(&mut self, placement: &Placement, claims: Vec<Claim>, ledger: Ledger) {
        let code = claims
            .first()
            .map_or_else(String::new, |claim| claim.class.clone());
        let first = self.claims.len();
        let ids: Vec<usize> = (first..first.saturating_add(claims.len())).collect();
        self.claims.extend(claims);
        self.pool.commit(placement, &ids, ledger);
        for (at, replicas) in &placement.launched {
            let replicas = u32::try_from(*replicas).unwrap_or(u32::MAX);
            let detail = self.purpose(*at, first);
            self.grow(*at, replicas, &code, &detail);
        }
    }

    /// Returns what new nodes of a group are for, counting claims from `first` on.
    fn purpose(&self, at: usize, first: usize) -> String {
        let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
        let own = |slot: &&crate::placement::Slot| {
            slot.group == Some(at) && slot.origin == Origin::Launch
        };
        for slot in self.pool.slots().iter().rev().filter(own) {
            for (claim, each) in slot.uses.iter().filter(|(claim, _)| *claim >= first) {
                let sum = counts.entry(*claim).or_default();
                *sum = sum.saturating_add(each.saturating_mul(slot.count));
            }
        }
        let parts: Vec<String> = counts
            .iter()
            .take(3)
            .filter_map(|(claim, count)| {
                let claim = self.claims.get(*claim)?;
                let is_one = claim.is_whole;
                Some(if is_one {
                    claim.what.clone()
                } else {
                    format!("{count} x {}", claim.what)
                })
            })
            .collect();
        let more = if counts.len() > 3 { ", ..." } else { "" };
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
        self,
        mut forget: BTreeMap<WorkerGroupName, Vec<PodName>>,
    ) -> ScaleDecision {
        let mut decision = self.decision;
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
        decision
    }
}

/// Says which replica goes and why.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    /// The replica.
    pub replica: &'a ReplicaName,
    /// How it is ended.
    pub cause: RemovalCause,
    /// A stable word for the reason.
    pub code: &'a str,
    /// How long it has been idle, in milliseconds.
    pub idle_ms: u64,
}
