//! Launches for requests that found no place on the nodes that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::budget::Budget;
use super::caps::Usage;
use super::lineup::{Lineup, STRIDES};
use super::packing::Worth;
use super::pool::{Ledger, Pool};
use super::queue::Queue;
use super::spare::ToCome;
use super::state::{Scratch, Terrain, Trial};

/// Holds new nodes of one group that take the same.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    pub(super) group: usize,
    pub(super) class: u32,
    pub(super) nodes: u64,
    pub(super) fill: Option<Arc<[(usize, u64)]>>,
    /// Whether they were asked for before, so that nothing is launched for them.
    pub(super) is_spare: bool,
}

/// One kind of host of one group that may be launched.
#[derive(Debug, Clone)]
struct Candidate {
    group: usize,
    class: u32,
    trial: Option<Arc<Trial>>,
}

/// The launches of one call.
pub(super) struct Growth<'a> {
    pub(super) pool: &'a Pool,
    pub(super) terrain: Terrain<'a>,
    /// In the order in which ties are resolved: a group that was launched goes to the end.
    candidates: Vec<Candidate>,
    /// Counted only where there are caps.
    usage: Option<Usage>,
    /// The same before anything is launched.
    pub(super) before: Option<Usage>,
    /// Groups that are launched as their templates say: the caps would not let their pods grow.
    small: BTreeSet<usize>,
    pub(super) fresh: Vec<Fresh>,
    /// Replicas that were asked for before and are nothing but a number so far, by position of the group.
    pub(super) spare: BTreeMap<usize, u64>,
    pub(super) launched: BTreeMap<usize, u64>,
    /// Whether every choice was the only one, made for one node at a time or for exactly as many.
    pub(super) is_plain: bool,
}

pub(super) type Means<'a> = (&'a mut Budget, &'a mut Scratch);

impl<'a> Growth<'a> {
    /// Returns what could be launched for a queue; a short one finds what an equal one found before.
    pub(super) fn new(
        pool: &'a Pool,
        (queue, ledger): (&Queue, Ledger),
        lineup: &mut Lineup,
        before: Option<Usage>,
    ) -> Self {
        let terrain = pool.terrain();
        let spare = if queue.is_empty() {
            BTreeMap::new()
        } else {
            pool.spare_replicas(ledger)
        };
        let mut candidates = Vec::new();
        if !queue.is_empty() {
            let offers = lineup.offers_of_new((queue, &pool.shapes), || {
                let mut scratch = Scratch::default();
                let kinds = pool.templates.iter().flat_map(|template| &template.launch);
                let offer = |class: &u32| {
                    terrain
                        .state(*class)
                        .offer((queue, false), terrain, &mut scratch)
                };
                kinds
                    .map(|(class, _)| class)
                    .map(offer)
                    .map(|trial| trial.map(Arc::new))
                    .collect()
            });
            let mut offers = offers.iter();
            for (group, template) in pool.templates.iter().enumerate() {
                for (class, _) in &template.launch {
                    let trial = offers.next().cloned().flatten();
                    let has_room = template.room > 0 || spare.contains_key(&group);
                    if trial.is_some() && has_room {
                        candidates.push(Candidate {
                            group,
                            class: *class,
                            trial,
                        });
                    }
                }
            }
        }
        Self {
            pool,
            terrain,
            usage: before.clone().filter(|_| !candidates.is_empty()),
            before,
            candidates,
            small: BTreeSet::new(),
            fresh: Vec::new(),
            spare,
            launched: BTreeMap::new(),
            is_plain: true,
        }
    }

    /// Returns the new nodes, the replicas that they are, and whether every choice was plain.
    pub(super) fn finish(self) -> (Vec<Fresh>, BTreeMap<usize, u64>, bool) {
        let is_plain = self.is_plain && self.usage.is_none();
        (self.fresh, self.launched, is_plain)
    }

    /// Launches the best group, as often as that changes no later choice; returns whether any could.
    pub(super) fn step(&mut self, queue: &mut Queue, means: &mut Means<'_>) -> bool {
        self.refresh(queue, means);
        let tied = self.tied(queue);
        let Some(first) = tied.first().copied() else {
            return false;
        };
        let (room, used) = (self.shared_room(&tied), self.used(&tied));
        // So much would be launched if nothing were spare: the steps are the same, asked for before or not.
        let all_room = tied
            .iter()
            .map(|at| self.all_room(self.candidates[*at].group));
        let all_room = if self.has_spare() {
            all_room.min().unwrap_or(0)
        } else {
            room
        };
        let most = |at: usize| {
            let trials = self
                .candidates
                .iter()
                .filter_map(|candidate| candidate.trial.as_deref());
            let taken = trials
                .flat_map(|trial| trial.fill.iter())
                .filter(|(other, _)| *other == at);
            taken.map(|(_, count)| *count).max().unwrap_or(0)
        };
        let possible = all_room.min(queue.rounds(&used, |_| 0));
        let exact = if possible > 1 {
            possible.min(queue.rounds(&used, most))
        } else {
            0
        };
        let hosts = |at: &usize| self.pool.templates[self.candidates[*at].group].hosts;
        self.is_plain &= tied.iter().map(hosts).eq([1]) && exact.max(1) >= possible / STRIDES;
        // Once they are there nodes are compared by how full they become, and no more by price.
        self.is_plain &= self.terrain.choice.packing.is_none() || self.candidates.len() == 1;
        match exact.max(possible / STRIDES).min(room) {
            0 => {
                self.launch(first, 1, queue, means);
                self.move_to_end(&[first]);
            }
            rounds => {
                for at in &tied {
                    self.launch(*at, rounds, queue, means);
                }
                self.move_to_end(&tied);
            }
        }
        true
    }

    /// Has groups launched as their templates say where the caps do not allow more.
    fn keep_small(&mut self) {
        let Some(usage) = &self.usage else { return };
        for candidate in &mut self.candidates {
            let template = &self.pool.templates[candidate.group];
            let is_spare = self.spare.get(&candidate.group).is_some_and(|it| *it > 0);
            let is_small = template.launch == template.kinds;
            if is_spare || is_small || usage.room_grown(candidate.group) > 0 {
                continue;
            }
            self.small.insert(candidate.group);
            let mut kinds = template.launch.iter().zip(&template.kinds);
            let small = kinds.find(|((class, _), _)| *class == candidate.class);
            if let Some((_, (class, _))) = small {
                (candidate.class, candidate.trial) = (*class, None);
            }
        }
    }

    /// Returns the kinds of hosts that a replica of a group has, and how many of each.
    fn kinds(&self, group: usize) -> &'a [(u32, u64)] {
        let template = &self.pool.templates[group];
        if self.small.contains(&group) {
            &template.kinds
        } else {
            &template.launch
        }
    }

    fn refresh(&mut self, queue: &Queue, (budget, scratch): &mut Means<'_>) {
        self.keep_small();
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.retain_mut(|candidate| {
            if self.all_room(candidate.group) == 0 {
                return false;
            }
            let is_valid = candidate
                .trial
                .as_ref()
                .is_some_and(|trial| queue.still_has(&trial.fill));
            if !is_valid {
                budget.spend(1);
                let state = self.terrain.state(candidate.class);
                candidate.trial = state
                    .offer((queue, false), self.terrain, scratch)
                    .map(Arc::new);
            }
            candidate.trial.is_some()
        });
        self.candidates = candidates;
    }

    /// Returns the best candidates, one per group, in the order in which they are tried.
    fn tied(&self, queue: &Queue) -> Vec<usize> {
        let mut tied: Vec<usize> = Vec::new();
        let mut best = None;
        let has_spare = self.has_spare();
        let takes_all = !has_spare || self.pool.to_come == ToCome::InTurn;
        let is_meant = |candidate: &Candidate| takes_all || self.spare_of(candidate.group) > 0;
        let candidates = self.candidates.iter().enumerate();
        for (at, candidate) in candidates.filter(|(_, candidate)| is_meant(candidate)) {
            let worth = self.worth(candidate, queue);
            if worth > best {
                (best, tied) = (worth, vec![at]);
            } else if worth == best
                && tied
                    .iter()
                    .all(|other| self.candidates[*other].group != candidate.group)
            {
                tied.push(at);
            }
        }
        tied
    }

    /// Returns how good one more replica is; a replica of many hosts is no better than what they all serve.
    fn worth(&self, candidate: &Candidate, queue: &Queue) -> Option<Worth> {
        let trial = candidate.trial.as_deref()?;
        let Some(price) = self.terrain.choice.host_prices.get(candidate.group) else {
            return Some(Worth::of(trial.rank));
        };
        let hosts = self.pool.templates[candidate.group].hosts;
        let filled = self
            .hosts_of(candidate)
            .min(queue.rounds(&trial.fill, |_| 0));
        Some(Worth::priced(trial.rank, *price, (filled.max(1), hosts)))
    }

    /// Returns how many hosts of a candidate's kind a replica has.
    fn hosts_of(&self, candidate: &Candidate) -> u64 {
        let mut kinds = self.kinds(candidate.group).iter();
        let own = kinds.find(|(class, _)| *class == candidate.class);
        own.map_or(1, |(_, hosts)| *hosts)
    }

    /// Returns how often the maxima let all of `tied` be launched in turn.
    fn shared_room(&self, tied: &[usize]) -> u64 {
        let groups = tied.iter().map(|at| self.candidates[*at].group);
        let is_launch = groups.clone().any(|group| self.spare_of(group) == 0);
        let room = groups.map(|group| match self.spare_of(group) {
            0 => self.room(group),
            spare => spare,
        });
        let room = room.min();
        // Caps are shared, so that each may have its part of them only.
        let sharing = if self.usage.is_some() && is_launch {
            tied.len().max(1)
        } else {
            1
        };
        room.unwrap_or(0) / u64::try_from(sharing).unwrap_or(u64::MAX)
    }

    /// Returns what one replica of each of `tied` takes while no shape runs short.
    ///
    /// The other hosts of a replica are of the kinds that are candidates too, so that they take the same.
    fn used(&self, tied: &[usize]) -> Vec<(usize, u64)> {
        let mut used: BTreeMap<usize, u64> = BTreeMap::new();
        for group in tied.iter().map(|at| self.candidates[*at].group) {
            for candidate in self.candidates.iter().filter(|other| other.group == group) {
                let hosts = self.hosts_of(candidate);
                for (at, count) in candidate.trial.iter().flat_map(|trial| trial.fill.iter()) {
                    let sum = used.entry(*at).or_default();
                    *sum = sum.saturating_add(count.saturating_mul(hosts));
                }
            }
        }
        used.into_iter().collect()
    }

    /// Launches `replicas` replicas of a candidate's group; their other hosts are capacity at once.
    fn launch(&mut self, at: usize, replicas: u64, queue: &mut Queue, means: &mut Means<'_>) {
        let Candidate {
            group,
            class,
            trial,
        } = self.candidates[at].clone();
        let Some(trial) = trial else { return };
        let template = &self.pool.templates[group];
        queue.take(&trial.fill, replicas);
        let is_spare = self.spare_of(group) > 0;
        self.fresh.push(Fresh {
            group,
            class,
            nodes: replicas,
            fill: Some(trial.fill.clone()),
            is_spare,
        });
        if let Some(spare) = self.spare.get_mut(&group).filter(|_| is_spare) {
            *spare = spare.saturating_sub(replicas);
        } else {
            if let Some(usage) = &mut self.usage {
                if self.small.contains(&group) {
                    usage.add_hosts(&template.totals, replicas);
                } else {
                    usage.add_grown(group, replicas);
                }
            }
            let launched = self.launched.entry(group).or_default();
            *launched = launched.saturating_add(replicas);
        }
        if template.hosts > 1 {
            let first = (class, replicas, is_spare);
            self.fill_siblings(group, first, queue, means);
        }
    }

    /// Places what fits on the other hosts of new replicas.
    fn fill_siblings(
        &mut self,
        group: usize,
        (first, replicas, is_spare): (u32, u64, bool),
        queue: &mut Queue,
        (budget, scratch): &mut Means<'_>,
    ) {
        let others = |(class, count): &(u32, u64)| {
            let count = count.saturating_sub(u64::from(*class == first));
            (*class, count.saturating_mul(replicas))
        };
        let mut siblings: Vec<(u32, u64)> = self.kinds(group).iter().map(others).collect();
        while !queue.is_empty() && budget.step(1) {
            let mut best: Option<(usize, Trial)> = None;
            for (at, (class, _)) in siblings
                .iter()
                .enumerate()
                .filter(|(_, (_, count))| *count > 0)
            {
                let trial = self
                    .terrain
                    .state(*class)
                    .offer((queue, false), self.terrain, scratch);
                let Some(trial) = trial else { continue };
                if best.as_ref().is_none_or(|(_, held)| trial.rank > held.rank) {
                    best = Some((at, trial));
                }
            }
            let Some((at, trial)) = best else { break };
            let (class, count) = siblings[at];
            // Up to the last round nothing runs short, so that the best stays the best.
            let rounds = queue.rounds(&trial.fill, |_| 0);
            let nodes = if siblings.len() > 1 {
                1.max(count.min(rounds) / STRIDES)
            } else {
                count.min(rounds).max(1)
            };
            queue.take(&trial.fill, nodes);
            siblings[at].1 -= nodes;
            self.fresh.push(Fresh {
                group,
                class,
                nodes,
                fill: Some(trial.fill),
                is_spare,
            });
        }
        for (class, nodes) in siblings {
            self.fresh.push(Fresh {
                group,
                class,
                nodes,
                fill: None,
                is_spare,
            });
        }
    }

    /// Returns whether something spare takes any of what is left; it comes before anything is launched.
    fn has_spare(&self) -> bool {
        let mut candidates = self.candidates.iter();
        candidates.any(|it| it.trial.is_some() && self.spare_of(it.group) > 0)
    }

    pub(super) fn spare_of(&self, group: usize) -> u64 {
        self.spare.get(&group).copied().unwrap_or(0)
    }

    fn all_room(&self, group: usize) -> u64 {
        self.room(group).saturating_add(self.spare_of(group))
    }

    fn room(&self, group: usize) -> u64 {
        let template = &self.pool.templates[group];
        let launched = self.launched.get(&group).copied().unwrap_or(0);
        let room = template.room.saturating_sub(launched);
        match &self.usage {
            Some(usage) if room > 0 && self.small.contains(&group) => {
                room.min(usage.room(&template.totals))
            }
            Some(usage) if room > 0 => room.min(usage.room_grown(group)),
            _ => room,
        }
    }

    /// As in Ray a fresh node of a launched group stands behind those of the others.
    fn move_to_end(&mut self, launched: &[usize]) {
        let groups: Vec<usize> = launched
            .iter()
            .map(|at| self.candidates[*at].group)
            .collect();
        let candidates = std::mem::take(&mut self.candidates);
        let (mut moved, mut kept): (Vec<Candidate>, Vec<Candidate>) = candidates
            .into_iter()
            .partition(|candidate| groups.contains(&candidate.group));
        moved.sort_by_key(|candidate| groups.iter().position(|group| *group == candidate.group));
        kept.append(&mut moved);
        self.candidates = kept;
    }
}
