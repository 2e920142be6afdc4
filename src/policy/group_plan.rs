//! The draft for one group: a target, and who changed it why.

use std::collections::BTreeSet;

use crate::model::{
    LEAVING, Reason, RemovalCause, ReplicaBounds, ReplicaName, ReplicaRemoval, WorkerGroup,
};
use crate::placement::{GroupCensus, ReplicaHealth, ReplicaState};

/// Longest detail of a merged reason, in bytes; a log line must stay readable.
const DETAIL_MAX: usize = 200;

/// Holds the draft for one group.
///
/// Units: replicas.
#[derive(Debug, Clone)]
pub struct GroupPlan {
    pub(super) from: u32,
    pub(super) target: u32,
    pub(super) bounds: ReplicaBounds,
    pub(super) live: Vec<ReplicaState>,
    /// Replicas that stay and are capacity.
    alive: u32,
    pub(super) to_come: u32,
    pub(super) launched: u32,
    pub(super) removals: Vec<ReplicaRemoval>,
    pub(super) removed: BTreeSet<ReplicaName>,
    pub(super) reasons: Vec<Reason>,
    /// Never more than this in this decision, but for a minimum.
    pub(super) ceiling: Option<u32>,
    /// Why the group is left as it is.
    pub(super) frozen: Option<&'static str>,
}

impl GroupPlan {
    pub(super) fn new(group: &WorkerGroup, census: GroupCensus, surge: u32) -> Self {
        let mut plan = Self {
            from: group.replicas,
            target: group.replicas,
            bounds: group.bounds,
            alive: alive(&census.live),
            live: census.live,
            to_come: census.to_come,
            launched: 0,
            removals: Vec::new(),
            removed: BTreeSet::new(),
            reasons: Vec::new(),
            ceiling: None,
            frozen: None,
        };
        // What made up for pods on their way out is none of what is wanted.
        let wanted = group.replicas.saturating_sub(surge);
        plan.change("engine", LEAVING, wanted, "no more to make up for");
        // What somebody named without lowering the number has been taken off already.
        let followed = census.followed.min(wanted);
        let detail = "named in workersToDelete by somebody else";
        plan.change("engine", "ordered", followed, detail);
        // The number itself is brought into the bounds first; live replicas above them are for `maximum`.
        if census.wanted > followed {
            plan.change(
                "engine",
                "minimum",
                census.wanted,
                "replicas below minReplicas",
            );
        } else {
            let to = census.base.min(followed);
            plan.change("engine", "maximum", to, "replicas above maxReplicas");
        }
        let detail = "more replicas are live than asked for";
        plan.change("engine", "replicas_repaired", census.base, detail);
        plan
    }

    /// Returns `replicas` as the RayCluster has it.
    #[must_use]
    pub fn replicas_from(&self) -> u32 {
        self.from
    }

    /// Returns `replicas` as this draft has it.
    #[must_use]
    pub fn replicas_to(&self) -> u32 {
        self.target
    }

    /// Returns the bounds.
    #[must_use]
    pub fn bounds(&self) -> ReplicaBounds {
        self.bounds
    }

    /// Returns the replicas with pods that stay.
    pub fn staying(&self) -> impl Iterator<Item = &ReplicaState> {
        self.live
            .iter()
            .filter(|replica| !self.removed.contains(&replica.name))
    }

    /// Returns what leaves.
    #[must_use]
    pub fn removals(&self) -> &[ReplicaRemoval] {
        &self.removals
    }

    /// Returns how many replicas without a pod so far were asked for earlier.
    #[must_use]
    pub fn to_come(&self) -> u32 {
        self.to_come
    }

    /// Returns how many replicas this draft launches.
    #[must_use]
    pub fn launched(&self) -> u32 {
        self.launched
    }

    /// Returns how many replicas are or will be capacity.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.alive
            .saturating_add(self.to_come)
            .saturating_add(self.launched)
    }

    /// Returns a live replica that stays, by name.
    pub(super) fn staying_replica(&self, name: &ReplicaName) -> Option<&ReplicaState> {
        if self.removed.contains(name) {
            return None;
        }
        // Sorted by name, unless Ray's own order is kept.
        let found = self.live.binary_search_by(|replica| replica.name.cmp(name));
        match found.map(|at| self.live.get(at)) {
            Ok(Some(replica)) => Some(replica),
            _ => self.live.iter().find(|replica| replica.name == *name),
        }
    }

    /// Takes a replica out of the draft.
    pub(super) fn leave(&mut self, replica: &ReplicaState, removal: ReplicaRemoval) {
        if replica.health == ReplicaHealth::Capacity {
            self.alive = self.alive.saturating_sub(1);
        }
        self.removed.insert(replica.name.clone());
        self.removals.push(removal);
    }

    pub(super) fn change(&mut self, policy: &str, code: &str, to: u32, detail: &str) {
        let from = std::mem::replace(&mut self.target, to);
        if from == to {
            return;
        }
        let same = self.reasons.last_mut().filter(|last| {
            last.policy == policy && last.code == code && (last.to > last.from) == (to > from)
        });
        if let Some(last) = same {
            last.to = to;
            if !detail.is_empty() && last.detail.len() < DETAIL_MAX {
                last.detail = format!("{}; {detail}", last.detail);
            } else if !last.detail.ends_with("...") {
                last.detail.push_str(" ...");
            }
            return;
        }
        self.reasons.push(Reason {
            policy: policy.to_owned(),
            code: code.to_owned(),
            from,
            to,
            detail: detail.to_owned(),
        });
    }

    /// Takes back removals that are only wishes, the last first; returns them.
    pub(super) fn take_back(&mut self, most: u32) -> Vec<ReplicaRemoval> {
        let mut taken = Vec::new();
        for _ in 0..most {
            let idle = |removal: &ReplicaRemoval| removal.cause == RemovalCause::Idle;
            let Some(at) = self.removals.iter().rposition(idle) else {
                break;
            };
            let removal = self.removals.remove(at);
            self.removed.remove(&removal.replica);
            let back = self.staying_replica(&removal.replica);
            if back.is_some_and(|replica| replica.health == ReplicaHealth::Capacity) {
                self.alive = self.alive.saturating_add(1);
            }
            taken.push(removal);
        }
        taken
    }

    /// Gives the draft up: the group stays as it is.
    pub(super) fn revert(&mut self) {
        self.target = self.from;
        self.reasons.clear();
        self.removals.clear();
        self.removed.clear();
        self.alive = alive(&self.live);
    }
}

fn alive(replicas: &[ReplicaState]) -> u32 {
    let alive = replicas
        .iter()
        .filter(|replica| replica.health == ReplicaHealth::Capacity);
    u32::try_from(alive.count()).unwrap_or(u32::MAX)
}
