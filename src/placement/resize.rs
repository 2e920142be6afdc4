//! Requests on nodes that would be resized in place for them.
//!
//! As in Ray a node grows to the most it may have, never by need, and only for what found no place
//! on the nodes as they are.

use crate::model::{Quantity, ResourceMap};

use super::budget::Budget;
use super::lineup::Pick;
use super::outfit::{ABSENT, Outfits};
use super::pool::{Ledger, Pool};
use super::queue::Queue;
use super::shape::ShapeId;
use super::state::{NodeState, Scratch, Trial, terms};

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

struct Candidate {
    slot: usize,
    pick: Option<usize>,
    has_own: bool,
    state: NodeState,
    fill: Vec<(usize, u64)>,
}

impl Pool {
    /// Places what is left on nodes that can grow; each is visited at most once.
    pub(super) fn fill_resized(
        &mut self,
        (queue, order): (&mut Queue, &[ShapeId]),
        picks: &[Pick],
        ledger: Ledger,
        (budget, scratch): (&mut Budget, &mut Scratch),
    ) -> Vec<Resized> {
        let mut candidates = self.candidates_to_resize(order, picks, ledger);
        let terrain = self.terrain();
        let mut resized = Vec::new();
        // What the steps did not reach is not known to need more room.
        while !queue.is_empty() && !candidates.is_empty() && budget.step(1) {
            budget.spend(u64::try_from(candidates.len()).unwrap_or(u64::MAX));
            let mut best: Option<(usize, Trial)> = None;
            for (at, candidate) in candidates.iter().enumerate() {
                let trial = candidate
                    .state
                    .offer((queue, candidate.has_own), terrain, scratch);
                let Some(trial) = trial else { continue };
                if best.as_ref().is_none_or(|(_, held)| trial.rank > held.rank) {
                    best = Some((at, trial));
                }
            }
            let Some((at, trial)) = best else { break };
            let candidate = candidates.remove(at);
            queue.take(&trial.fill, 1);
            let mut fill = candidate.fill;
            fill.extend_from_slice(&trial.fill);
            resized.push(Resized {
                slot: candidate.slot,
                pick: candidate.pick,
                after: candidate.state.after(&trial.fill, order, terrain),
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
    ) -> Vec<Candidate> {
        let mut found: Vec<(usize, Option<usize>)> = Vec::new();
        let of_picks = picks
            .iter()
            .enumerate()
            .map(|(at, pick)| (pick.slot, Some(at)));
        found.extend(of_picks);
        let mut others: Vec<usize> = (0..self.slots.len())
            .filter(|at| self.slots[*at].count > 0)
            .collect();
        others.retain(|at| picks.iter().all(|pick| pick.slot != *at));
        others.sort_by_key(|at| self.slots[*at].key);
        found.extend(others.into_iter().map(|at| (at, None)));
        let mut candidates = Vec::new();
        for (slot, pick) in found {
            let before = self.states[super::shape::index(self.slots[slot].class(ledger))].clone();
            let Some(size) = before.grows_to else {
                continue;
            };
            let fill: Vec<(usize, u64)> = pick.map_or_else(Vec::new, |at| picks[at].fill.to_vec());
            let is_own = |at: &usize| self.shapes.get(order[*at]).apart == super::shape::Apart::Own;
            let has_own = fill.iter().any(|(at, _)| is_own(at));
            let state = before.after(&fill, order, self.terrain());
            let state = self.grown(&state, size);
            candidates.push(Candidate {
                slot,
                pick,
                has_own,
                state,
                fill,
            });
        }
        candidates
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
