//! Places requests: on nodes that are there first, on nodes resized in place then, on new ones last.

use std::collections::BTreeMap;

use crate::model::ResourceDemand;

use super::budget::Budget;
use super::growth::Fresh;
use super::lineup::{Entry, Lineup, Pick};
use super::pool::{Ledger, Pool};
use super::queue::Queue;
use super::resize::Resized;
use super::shape::{ShapeId, aparts, index};
use super::state::Scratch;

/// Holds the answer of [`Pool::place`]; nothing happens until it is committed.
#[derive(Debug, Clone)]
pub struct Placement {
    pub(super) picks: Vec<Pick>,
    pub(super) resized: Vec<Resized>,
    pub(super) fresh: Vec<Fresh>,
    /// Shape of every position of the queue.
    pub(super) shapes: Vec<ShapeId>,
    /// Replicas to launch, by position of the group.
    pub launched: BTreeMap<usize, u64>,
    /// What found no place: position of the ask and number of requests.
    pub unplaced: Vec<(usize, u64)>,
    /// Whether the work budget ended before the requests did.
    pub is_cut: bool,
    /// Whether no choice of a new node was a tie: the same nodes are chosen when they are there.
    pub(crate) is_plain: bool,
    /// Number of the call in its round.
    pub(super) call: usize,
    asks: Vec<usize>,
}

impl Placement {
    /// Returns whether every request found a place.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unplaced.is_empty()
    }

    /// Returns how many asks it is for.
    pub(crate) fn asked(&self) -> usize {
        self.asks.len()
    }

    /// Returns how many requests found a place on a node that runs.
    pub(crate) fn ready(&self, pool: &Pool) -> u64 {
        let is_running = |pick: &&Pick| pool.states[index(pick.class)].is_running;
        let picks = self.picks.iter().filter(is_running);
        picks.fold(0, |sum: u64, pick| {
            let each: u64 = pick.fill.iter().map(|(_, count)| *count).sum();
            sum.saturating_add(each.saturating_mul(pick.nodes))
        })
    }

    /// Returns what a fill is used for, in the words of the caller.
    pub(super) fn uses(&self, fill: &[(usize, u64)], claims: &[usize]) -> Vec<(usize, u64)> {
        let mut uses: Vec<(usize, u64)> = Vec::with_capacity(fill.len());
        for (at, count) in fill {
            let Some(claim) = self.asks.get(*at).and_then(|ask| claims.get(*ask)) else {
                continue;
            };
            match uses.iter_mut().find(|(other, _)| other == claim) {
                Some((_, sum)) => *sum = sum.saturating_add(*count),
                None => uses.push((*claim, *count)),
            }
        }
        uses.sort_unstable();
        uses
    }

    /// Returns what the new nodes of a group are for, by position of the ask.
    #[must_use]
    pub fn served_by(&self, group: usize) -> BTreeMap<usize, u64> {
        let mut served = BTreeMap::new();
        let launched = self.fresh.iter().filter(|fresh| !fresh.is_spare);
        for fresh in launched.filter(|fresh| fresh.group == group) {
            for (at, count) in fresh.fill.iter().flat_map(|fill| fill.iter()) {
                let sum: &mut u64 = served.entry(self.asks[*at]).or_default();
                *sum = sum.saturating_add(count.saturating_mul(fresh.nodes));
            }
        }
        served
    }
}

impl Pool {
    /// Finds places for as many of `asks` as possible.
    pub fn place(&mut self, asks: &[ResourceDemand], ledger: Ledger) -> Placement {
        self.settle_choice();
        let counted = self.number(asks);
        let mut queue = Queue::new(&counted, &self.shapes, self.corrections.order);
        let is_long = queue.is_long();
        let (mut budget, mut scratch) = (self.budget, std::mem::take(&mut self.scratch));
        let mut picks = Vec::new();
        if self.is_split() {
            let queue = (&mut queue, is_long);
            picks = self.fill_running((ledger, &counted), queue, (&mut budget, &mut scratch));
        }
        let call = self.record(ledger, &counted, &picks);
        // Those that start, where they stand apart; new nodes ask this one too what an equal queue was offered.
        let half = usize::from(self.is_split());
        let mut lineup = self.take_lineup(ledger, half);
        let rest = self.attempt(
            (ledger, &mut lineup),
            (&queue, is_long),
            (&mut budget, &mut scratch),
        );
        let better = self.rearranged(
            (ledger, &mut lineup),
            (&queue, is_long),
            (&rest, &mut budget, &mut scratch),
        );
        let rest = better.unwrap_or(rest);
        picks.extend(rest.picks);
        // What is resized takes more from the beginning when it is placed again.
        let is_plain = rest.resized.is_empty();
        let placement = Placement {
            picks,
            resized: rest.resized,
            fresh: rest.fresh,
            shapes: queue.shapes(),
            launched: rest.launched,
            unplaced: rest.queue.unplaced(),
            is_cut: budget.is_cut() && !rest.queue.is_empty(),
            is_plain: rest.is_plain && is_plain,
            call,
            asks: queue.asks(),
        };
        (self.budget, self.scratch) = (budget, scratch);
        self.put_lineup((ledger, half), lineup);
        placement
    }

    /// Places what fits on nodes that run, where those come first.
    fn fill_running(
        &mut self,
        (ledger, counted): (Ledger, &[(ShapeId, u64)]),
        (queue, is_long): (&mut Queue, bool),
        (budget, scratch): (&mut Budget, &mut Scratch),
    ) -> Vec<Pick> {
        if let Some(picks) = self.follow(ledger, counted)
            && budget.step(1)
        {
            #[cfg(debug_assertions)]
            self.assert_same((ledger, queue), &picks);
            for pick in &picks {
                budget.spend(1);
                queue.take(&pick.fill, pick.nodes);
            }
            return picks;
        }
        let mut lineup = self.take_lineup(ledger, 0);
        let picks = lineup.fill((queue, is_long), self.terrain(), (budget, scratch));
        self.put_lineup((ledger, 0), lineup);
        picks
    }

    /// Works out what was taken from the round before: every test and fuzz run that repeats a round holds that it is the same.
    #[cfg(debug_assertions)]
    fn assert_same(&mut self, (ledger, queue): (Ledger, &Queue), taken: &[Pick]) {
        // Lining up anew for every call is quadratic.
        if self.slots.len() > 300 {
            return;
        }
        let kept = self.lineups[ledger.index()][0].take();
        let mut lineup = self.take_lineup(ledger, 0);
        let (mut budget, mut scratch) = (Budget::default(), Scratch::default());
        let mut queue = queue.clone();
        let is_long = queue.is_long();
        let terrain = self.terrain();
        let anew = lineup.fill((&mut queue, is_long), terrain, (&mut budget, &mut scratch));
        self.lineups[ledger.index()][0] = kept;
        let told = |picks: &[Pick]| {
            let told = picks
                .iter()
                .map(|pick| (pick.slot, pick.class, pick.nodes, pick.fill.clone()));
            told.collect::<Vec<_>>()
        };
        assert_eq!(told(taken), told(&anew), "picks of the round before");
    }

    /// Returns in which lineup of a ledger the nodes of a class stand.
    pub(super) fn half_of(&self, class: u32) -> usize {
        usize::from(self.is_split() && !self.states[index(class)].is_running)
    }

    /// Returns the shapes and counts of requests.
    fn number(&mut self, asks: &[ResourceDemand]) -> Vec<(ShapeId, u64)> {
        let known = self.shapes.len();
        let aparts = aparts(asks, &self.asked);
        let asks = asks.iter().zip(aparts);
        let counted = asks.map(|(ask, apart)| (self.shapes.intern(&ask.request, apart), ask.count));
        let counted: Vec<(ShapeId, u64)> = counted.collect();
        if self.shapes.len() > known {
            self.outfits.learn(&self.shapes);
        }
        counted
    }

    pub(super) fn take_lineup(&mut self, ledger: Ledger, half: usize) -> Lineup {
        if let Some(lineup) = self.lineups[ledger.index()][half].take() {
            return lineup;
        }
        let mut order: Vec<usize> = (0..self.slots.len())
            .filter(|at| self.slots[*at].count > 0 && !self.slots[*at].is_spare)
            .filter(|at| self.half_of(self.slots[*at].class(ledger)) == half)
            .collect();
        order.sort_by_key(|at| self.slots[*at].key);
        let mut lineup = Lineup::default();
        for at in order {
            let slot = &self.slots[at];
            let entry = Entry {
                key: slot.key,
                slot: at,
                count: slot.count,
            };
            lineup.push_back(slot.class(ledger), entry);
        }
        lineup
    }

    pub(super) fn put_lineup(&mut self, (ledger, half): (Ledger, usize), lineup: Lineup) {
        self.lineups[ledger.index()][half] = Some(lineup);
    }
}
