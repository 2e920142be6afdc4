//! Requests on nodes that would be resized in place for them.
//!
//! As in Ray a node grows to the most it may have, never by need, and only for what found no place
//! on the nodes as they are.
//!
//! # Cost
//!
//! A step for each node that is resized, and one for each class of nodes whenever less is left than one of it would
//! take. Nodes are mostly equal: looked at one by one, so many that each is resized would cost the square of their number.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Quantity, ResourceMap};

use super::budget::Budget;
use super::caps::Usage;
use super::lineup::Pick;
use super::outfit::{ABSENT, Outfits};
use super::pool::{Ledger, Pool};
use super::queue::Queue;
use super::shape::{Apart, ShapeId, index};
use super::state::{NodeState, Scratch, Terrain, Trial, terms};

/// Holds one node that is to be resized, with what it takes then.
#[derive(Debug, Clone)]
pub(super) struct Resized {
    pub(super) slot: usize,
    /// Position among the picks of the same call, when it had been picked before.
    pub(super) pick: Option<usize>,
    /// The node as it will be.
    pub(super) after: NodeState,
    /// All that it takes in this call.
    pub(super) fill: Vec<(usize, u64)>,
}

/// Holds nodes that can grow and are equal, with what one of them takes.
struct Candidates {
    state: NodeState,
    /// What one of them has now; `None` where that does not count against the caps.
    counted: Option<u32>,
    has_own: bool,
    fill: Vec<(usize, u64)>,
    /// Those that are left, the first of the list last: its place there, its slot, and its place among the picks.
    left: Vec<(usize, usize, Option<usize>)>,
    /// What one of them takes of the queue as it is.
    trial: Option<Trial>,
}

impl Candidates {
    /// Returns the place in the list of the first that is left.
    fn first(&self) -> Option<usize> {
        self.left.last().map(|(place, ..)| *place)
    }

    /// Returns whether the caps let one of them grow.
    fn may_grow(&self, usage: Option<&Usage>, outfits: &Outfits) -> bool {
        let (Some(usage), Some(from)) = (usage, self.counted) else {
            return true;
        };
        usage.allows(outfits.get(from), outfits.get(self.state.outfit))
    }

    /// Offers the queue anew where less is left than one of them would take; returns whether one takes any.
    fn refresh(
        &mut self,
        (queue, terrain): (&Queue, Terrain<'_>),
        (budget, scratch): (&mut Budget, &mut Scratch),
    ) -> bool {
        let is_known = |trial: &Trial| queue.still_has(&trial.fill);
        if !self.left.is_empty() && !self.trial.as_ref().is_some_and(is_known) {
            budget.spend(1);
            self.trial = self.state.offer((queue, self.has_own), terrain, scratch);
        }
        !self.left.is_empty() && self.trial.is_some()
    }
}

impl Pool {
    /// Places what is left on nodes that can grow; each is visited at most once. What they gain is added to `usage`.
    pub(super) fn fill_resized(
        &mut self,
        (queue, order): (&mut Queue, &[ShapeId]),
        picks: &[Pick],
        (ledger, usage): (Ledger, &mut Option<Usage>),
        (budget, scratch): (&mut Budget, &mut Scratch),
    ) -> Vec<Resized> {
        let mut candidates = self.candidates_to_resize(order, picks, ledger);
        let terrain = self.terrain();
        let mut resized = Vec::new();
        // What the steps did not reach is not known to need more room.
        while !queue.is_empty() && !candidates.is_empty() && budget.step(1) {
            // What takes nothing of a queue takes nothing of less, and the caps leave less and less.
            candidates.retain_mut(|it| {
                it.may_grow(usage.as_ref(), terrain.outfits)
                    && it.refresh((&*queue, terrain), (&mut *budget, &mut *scratch))
            });
            let best = candidates.iter_mut().max_by(|one, other| {
                let rank = |it: &Candidates| it.trial.as_ref().map(|trial| trial.rank);
                let order = rank(one).cmp(&rank(other));
                order.then(other.first().cmp(&one.first()))
            });
            let Some(best) = best else { break };
            let (Some(trial), Some((_, slot, pick))) = (&best.trial, best.left.pop()) else {
                break;
            };
            queue.take(&trial.fill, 1);
            if let (Some(usage), Some(from)) = (usage.as_mut(), best.counted) {
                usage.remove(terrain.outfits.get(from).registered(), 1);
                usage.add(terrain.outfits.get(best.state.outfit).registered(), 1);
            }
            let mut fill = best.fill.clone();
            fill.extend_from_slice(&trial.fill);
            resized.push(Resized {
                slot,
                pick,
                after: best.state.after(&trial.fill, order, terrain),
                fill,
            });
        }
        resized
    }

    /// Returns the nodes that can grow, grown, in the order of the list: picked ones first.
    fn candidates_to_resize(
        &mut self,
        order: &[ShapeId],
        picks: &[Pick],
        ledger: Ledger,
    ) -> Vec<Candidates> {
        let picked: BTreeSet<usize> = picks.iter().map(|pick| pick.slot).collect();
        let mut others: Vec<usize> = (0..self.slots.len())
            .filter(|at| self.slots[*at].count > 0 && !picked.contains(at))
            .collect();
        others.sort_by_key(|at| self.slots[*at].key);
        let of_picks = picks.iter().enumerate();
        let of_picks = of_picks.map(|(at, pick)| (pick.slot, Some(at)));
        let found = of_picks.chain(others.into_iter().map(|at| (at, None)));
        // Equal nodes are looked at once.
        let mut known: BTreeMap<_, usize> = BTreeMap::new();
        let mut candidates: Vec<Candidates> = Vec::new();
        for (place, (slot, pick)) in found.enumerate() {
            let class = self.slots[slot].class(ledger);
            let Some(size) = self.states[index(class)].grows_to else {
                continue;
            };
            let fill = pick.map_or(&[][..], |at| &*picks[at].fill);
            let at = *known.entry((class, fill)).or_insert(candidates.len());
            if at == candidates.len() {
                let mut equal = self.candidates_of(class, size, (fill, order));
                let group = self.slots[slot].group;
                equal.counted = group.map(|_| self.states[index(class)].outfit);
                candidates.push(equal);
            }
            candidates[at].left.push((place, slot, pick));
        }
        for equal in &mut candidates {
            equal.left.reverse();
        }
        candidates
    }

    /// Returns the nodes of a class that take `fill` already, grown; none of them yet.
    fn candidates_of(
        &mut self,
        class: u32,
        size: (i64, i64),
        (fill, order): (&[(usize, u64)], &[ShapeId]),
    ) -> Candidates {
        let is_own = |at: &usize| self.shapes.get(order[*at]).apart == Apart::Own;
        let has_own = fill.iter().any(|(at, _)| is_own(at));
        let state = self.states[index(class)].after(fill, order, self.terrain());
        Candidates {
            state: self.grown(&state, size),
            counted: None,
            has_own,
            fill: fill.to_vec(),
            left: Vec::new(),
            trial: None,
        }
    }

    /// Returns a node with other totals of CPU and memory; what is in use stays in use.
    pub(super) fn grown(&mut self, state: &NodeState, (cpu, memory): (i64, i64)) -> NodeState {
        let (total, available) = amounts(state, &self.outfits);
        let (mut new_total, mut new_available) = (total.clone(), available.clone());
        for (name, units) in [("CPU", cpu), ("memory", memory)] {
            // A reply may tell of less than nothing.
            let delta = units.saturating_sub(total.get(name).units().max(0));
            let left = available.get(name).units().saturating_add(delta).max(0);
            new_total.set(name.into(), Quantity::from_units(units.max(0)));
            new_available.set(name.into(), Quantity::from_units(left));
        }
        let labels = self.outfits.get(state.outfit).labels.clone();
        let outfit = self.outfits.intern(
            (&new_total, &new_available, &labels),
            &self.asked,
            &self.shapes,
        );
        let (old, new) = (self.outfits.get(state.outfit), self.outfits.get(outfit));
        let mut held = vec![0; new.items.len()];
        for (item, flags) in old.items.iter().zip(&state.held) {
            if let Some(at) = new.position(item.name.as_str()) {
                held[at] = *flags;
            }
        }
        let left = new.left(&new_available, &self.asked).into_boxed_slice();
        NodeState {
            outfit,
            terms: terms(new, &left),
            left,
            held: held.into_boxed_slice(),
            grows_to: None,
            ..state.clone()
        }
    }
}

/// Returns totals and what is left of a node, by name.
fn amounts(state: &NodeState, outfits: &Outfits) -> (ResourceMap, ResourceMap) {
    let items = &outfits.get(state.outfit).items;
    let total = items
        .iter()
        .filter_map(|item| Some((item.name.clone(), item.total?)));
    let left = items
        .iter()
        .zip(&state.left)
        .filter(|(_, left)| **left != ABSENT);
    let left = left.map(|(item, left)| (item.name.clone(), Quantity::from_units(*left)));
    (total.collect(), left.collect())
}
