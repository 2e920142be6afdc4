//! Places requests: on nodes that are there first, on new ones then.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::ResourceDemand;

use super::bucket::{Offer, Pick, STRIDES, fill_existing, largest_fills};
use super::caps::Usage;
use super::pool::{Ledger, Pool, Slot};
use super::queue::Queue;
use super::state::Trial;

/// Holds new nodes of one group that take the same.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    pub(super) group: usize,
    pub(super) class: usize,
    pub(super) nodes: u64,
    pub(super) trial: Option<Arc<Trial>>,
}

/// Holds the answer of [`Pool::place`]; nothing happens until it is committed.
#[derive(Debug, Clone)]
pub struct Placement {
    pub(super) picks: Vec<Pick>,
    pub(super) fresh: Vec<Fresh>,
    /// Replicas to launch, by position of the group.
    pub launched: BTreeMap<usize, u64>,
    /// What found no place: position of the ask and number of requests.
    pub unplaced: Vec<(usize, u64)>,
    asks: Vec<usize>,
}

impl Placement {
    /// Returns whether every request found a place.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unplaced.is_empty()
    }

    /// Returns what a fill is used for, in the words of the caller.
    pub(super) fn uses(&self, fill: &[(usize, u64)], claims: &[usize]) -> Vec<(usize, u64)> {
        let mut uses = BTreeMap::new();
        for (at, count) in fill {
            let claim = self.asks.get(*at).and_then(|ask| claims.get(*ask));
            if let Some(claim) = claim {
                let sum: &mut u64 = uses.entry(*claim).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
        uses.into_iter().collect()
    }
}

impl Pool {
    /// Finds places for as many of `asks` as possible.
    #[must_use]
    pub fn place(&self, asks: &[ResourceDemand], ledger: Ledger) -> Placement {
        let mut queue = Queue::new(asks);
        let is_first = |slot: &Slot| slot.is_running || !self.choice.is_running_first;
        let offer = |(position, slot): (usize, &Slot)| {
            let priority = self.priority(slot.group);
            let (class, count) = (slot.class(ledger), slot.count);
            Offer {
                position,
                class,
                priority,
                count,
            }
        };
        let slots = || self.slots.iter().enumerate();
        let first = slots().filter(|(_, slot)| is_first(slot)).map(offer);
        let mut picks = fill_existing(self, first, &mut queue);
        let then = slots().filter(|(_, slot)| !is_first(slot)).map(offer);
        picks.extend(fill_existing(self, then, &mut queue));
        let mut growth = Growth::new(self);
        while !queue.is_empty() && growth.step(&mut queue) {}
        Placement {
            picks,
            fresh: growth.fresh,
            launched: growth.launched,
            unplaced: queue.unplaced(),
            asks: (0..queue.len()).map(|at| queue.ask(at)).collect(),
        }
    }

    fn priority(&self, group: Option<usize>) -> i64 {
        group
            .and_then(|index| self.templates.get(index))
            .map_or(0, |template| template.priority)
    }
}

/// One kind of host of one group that may be launched.
struct Candidate {
    group: usize,
    class: usize,
    trial: Option<Arc<Trial>>,
}

/// The launches of one call.
struct Growth<'a> {
    pool: &'a Pool,
    /// In the order in which ties are resolved: a group that was launched goes to the end.
    candidates: Vec<Candidate>,
    usage: Usage,
    fresh: Vec<Fresh>,
    launched: BTreeMap<usize, u64>,
}

impl<'a> Growth<'a> {
    fn new(pool: &'a Pool) -> Self {
        let mut candidates = Vec::new();
        for (group, template) in pool.templates.iter().enumerate() {
            for (class, _) in &template.kinds {
                candidates.push(Candidate {
                    group,
                    class: *class,
                    trial: None,
                });
            }
        }
        Self {
            pool,
            candidates,
            usage: pool.usage.clone(),
            fresh: Vec::new(),
            launched: BTreeMap::new(),
        }
    }

    /// Launches the best group, as often as that changes no later choice; returns whether any could.
    fn step(&mut self, queue: &mut Queue<'_>) -> bool {
        self.refresh(queue);
        let tied = self.tied();
        let Some(first) = tied.first().copied() else {
            return false;
        };
        let trials = self
            .candidates
            .iter()
            .filter_map(|candidate| candidate.trial.as_deref());
        let kept = largest_fills(trials, queue.len());
        let (room, used) = (self.shared_room(&tied), self.used(&tied));
        let exact = room.min(queue.rounds(&used, &kept));
        let possible = room.min(queue.rounds(&used, &[]));
        match exact.max(possible / STRIDES) {
            0 => {
                self.launch(first, 1, queue);
                self.move_to_end(&[first]);
            }
            rounds => {
                for at in &tied {
                    self.launch(*at, rounds, queue);
                }
                self.move_to_end(&tied);
            }
        }
        true
    }

    fn refresh(&mut self, queue: &Queue<'_>) {
        let candidates = std::mem::take(&mut self.candidates);
        self.candidates = candidates
            .into_iter()
            .filter(|candidate| self.room(candidate.group) > 0)
            .filter_map(|mut candidate| {
                if candidate
                    .trial
                    .as_ref()
                    .is_none_or(|trial| !trial.is_valid(queue))
                {
                    let state = self.pool.states.get(candidate.class)?;
                    candidate.trial = state.offer(queue, &self.pool.choice).map(Arc::new);
                }
                candidate.trial.is_some().then_some(candidate)
            })
            .collect();
    }

    /// Returns the best candidates, one per group, in the order in which they are tried.
    fn tied(&self) -> Vec<usize> {
        let mut tied: Vec<usize> = Vec::new();
        for (at, candidate) in self.candidates.iter().enumerate() {
            let Some(best) = tied.first().and_then(|first| self.candidates.get(*first)) else {
                tied.push(at);
                continue;
            };
            let (Some(new), Some(old)) = (&candidate.trial, &best.trial) else {
                continue;
            };
            let priority = |group: usize| self.pool.priority(Some(group));
            let priorities = (priority(candidate.group), priority(best.group));
            let order = new
                .score
                .compare(&old.score, priorities, self.pool.choice.priority);
            let is_there = |other: &usize| {
                self.candidates
                    .get(*other)
                    .is_some_and(|other| other.group == candidate.group)
            };
            if order.is_gt() {
                tied = vec![at];
            } else if order.is_eq() && !tied.iter().any(is_there) {
                tied.push(at);
            }
        }
        tied
    }

    /// Returns how often the maxima let all of `tied` be launched in turn.
    fn shared_room(&self, tied: &[usize]) -> u64 {
        let groups = tied.iter().filter_map(|at| self.candidates.get(*at));
        let room = groups.map(|candidate| self.room(candidate.group)).min();
        // Caps are shared, so that each may have its part of them only.
        let sharing = if self.usage.caps.is_set() {
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
        for group in tied
            .iter()
            .filter_map(|at| self.candidates.get(*at))
            .map(|c| c.group)
        {
            for candidate in self.candidates.iter().filter(|other| other.group == group) {
                let kinds = self
                    .pool
                    .templates
                    .get(group)
                    .map(|template| &template.kinds);
                let mut kinds = kinds.into_iter().flatten();
                let hosts = kinds
                    .find(|(class, _)| *class == candidate.class)
                    .map_or(1, |(_, n)| *n);
                for (at, count) in candidate.trial.iter().flat_map(|trial| &trial.fill) {
                    let sum = used.entry(*at).or_default();
                    *sum = sum.saturating_add(count.saturating_mul(hosts));
                }
            }
        }
        used.into_iter().collect()
    }

    /// Launches `replicas` replicas of a candidate's group; their other hosts are capacity at once.
    fn launch(&mut self, at: usize, replicas: u64, queue: &mut Queue<'_>) {
        let Some(candidate) = self.candidates.get(at) else {
            return;
        };
        let Some(trial) = candidate.trial.clone() else {
            return;
        };
        let (group, class) = (candidate.group, candidate.class);
        let Some(template) = self.pool.templates.get(group) else {
            return;
        };
        queue.take(&trial.fill, replicas);
        self.fresh.push(Fresh {
            group,
            class,
            nodes: replicas,
            trial: Some(trial),
        });
        for (total, count) in self.pool.host_totals(template) {
            self.usage.add(total, count.saturating_mul(replicas));
        }
        let launched = self.launched.entry(group).or_default();
        *launched = launched.saturating_add(replicas);
        let siblings: Vec<Offer> = template
            .kinds
            .iter()
            .enumerate()
            .map(|(position, (kind, count))| {
                let others = count.saturating_sub(u64::from(*kind == class));
                let count = others.saturating_mul(replicas);
                Offer {
                    position,
                    class: *kind,
                    priority: template.priority,
                    count,
                }
            })
            .filter(|offer| offer.count > 0)
            .collect();
        self.fill_siblings(group, &siblings, queue);
    }

    fn fill_siblings(&mut self, group: usize, siblings: &[Offer], queue: &mut Queue<'_>) {
        let picks = fill_existing(self.pool, siblings.iter().copied(), queue);
        for offer in siblings {
            let mut unused = offer.count;
            for pick in picks.iter().filter(|pick| pick.slot == offer.position) {
                unused = unused.saturating_sub(pick.nodes);
                let trial = Some(Arc::clone(&pick.trial));
                self.fresh.push(Fresh {
                    group,
                    class: offer.class,
                    nodes: pick.nodes,
                    trial,
                });
            }
            self.fresh.push(Fresh {
                group,
                class: offer.class,
                nodes: unused,
                trial: None,
            });
        }
    }

    fn room(&self, group: usize) -> u64 {
        let Some(template) = self.pool.templates.get(group) else {
            return 0;
        };
        let launched = self.launched.get(&group).copied().unwrap_or(0);
        let room = template.room.saturating_sub(launched);
        if self.usage.caps.is_set() {
            room.min(self.usage.room(&self.pool.host_totals(template)))
        } else {
            room
        }
    }

    /// As in Ray a fresh node of a launched group stands behind those of the others.
    fn move_to_end(&mut self, launched: &[usize]) {
        let groups: Vec<usize> = launched
            .iter()
            .filter_map(|at| self.candidates.get(*at))
            .map(|candidate| candidate.group)
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
