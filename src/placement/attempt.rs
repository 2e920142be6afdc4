//! One way to place what nodes that run have no room for, and a second one where the first launches too much.
//!
//! # Why
//!
//! A request that only nodes of one group can take may come behind others that take them away from it, although
//! these could go elsewhere. A node is launched for it, and once that one starts the others take it too: round by
//! round, and in Ray pass by pass, one more is launched. So where something is launched for, and others have the
//! room that it could have on nodes that start, it is tried what comes of it when it chooses first.
//!
//! # Cost
//!
//! At most that of the first way once more, and only in this case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::budget::Budget;
use super::growth::{Fresh, Growth};
use super::lineup::{Lineup, Pick};
use super::pool::{Ledger, Pool};
use super::queue::Queue;
use super::resize::Resized;
use super::shape::index;
use super::state::{Scratch, times};

/// Holds where requests go, and what is left of them.
pub(super) struct Attempt {
    pub(super) picks: Vec<Pick>,
    pub(super) resized: Vec<Resized>,
    pub(super) fresh: Vec<Fresh>,
    /// Replicas to launch, by position of the group.
    pub(super) launched: BTreeMap<usize, u64>,
    pub(super) queue: Queue,
    /// Whether no choice of a new node was a tie.
    pub(super) is_plain: bool,
    /// Whether the work budget ended before it was known if there is a better one.
    pub(super) is_unsure: bool,
}

type Means<'a> = (&'a mut Budget, &'a mut Scratch);

impl Pool {
    /// Places a queue on the nodes of a lineup, on resized ones then, and on new ones last.
    pub(super) fn attempt(
        &mut self,
        (ledger, lineup): (Ledger, &mut Lineup),
        (queue, is_long): (&Queue, bool),
        (budget, scratch): Means<'_>,
    ) -> Attempt {
        let mut queue = queue.clone();
        let terrain = self.terrain();
        let mut picks = lineup.fill((&mut queue, is_long), terrain, (budget, scratch));
        let mut resized = Vec::new();
        if self.has_resizing && !queue.is_empty() {
            let order = queue.shapes();
            resized = self.fill_resized((&mut queue, &order), &picks, ledger, scratch);
            let absorbed: BTreeSet<usize> = resized.iter().filter_map(|it| it.pick).collect();
            // A node that was picked and then resized is committed once.
            let kept = picks.into_iter().enumerate();
            let kept = kept.filter(|(at, _)| !absorbed.contains(at));
            picks = kept.map(|(_, pick)| pick).collect();
        }
        let mut growth = Growth::new(self, &queue, lineup);
        while !queue.is_empty()
            && budget.step(1)
            && growth.step(&mut queue, &mut (&mut *budget, &mut *scratch))
        {}
        let (fresh, launched, is_plain) = growth.finish();
        Attempt {
            picks,
            resized,
            fresh,
            launched,
            queue,
            is_plain,
            is_unsure: false,
        }
    }

    /// Returns another way to place the queue of `first` that launches less, if there is one.
    pub(super) fn rearranged(
        &mut self,
        (ledger, lineup): (Ledger, &mut Lineup),
        (queue, is_long): (&Queue, bool),
        (first, budget, scratch): (&mut Attempt, &mut Budget, &mut Scratch),
    ) -> Option<Attempt> {
        if !self.corrections.rearranged || self.has_resizing || budget.is_cut() {
            return None;
        }
        let launched_for = self.launched_for(first)?;
        let (other, places) = queue.with_first(&launched_for);
        let mut other = self.attempt((ledger, lineup), (&other, is_long), (budget, scratch));
        first.is_unsure = budget.is_cut();
        if budget.is_cut() || !other.is_better(first) {
            return None;
        }
        let renumber = |fill: &mut Arc<[(usize, u64)]>| {
            *fill = fill
                .iter()
                .map(|(at, count)| (places[*at], *count))
                .collect();
        };
        other
            .picks
            .iter_mut()
            .for_each(|pick| renumber(&mut pick.fill));
        let fills = other
            .fresh
            .iter_mut()
            .filter_map(|fresh| fresh.fill.as_mut());
        fills.for_each(renumber);
        other.is_plain = false;
        Some(other)
    }

    /// Returns which positions new nodes are for, where others are on nodes that start and would have room for them.
    fn launched_for(&self, attempt: &Attempt) -> Option<BTreeSet<usize>> {
        let fills = attempt.fresh.iter().filter_map(|fresh| fresh.fill.as_ref());
        let positions = fills.flat_map(|fill| fill.iter().map(|(at, _)| *at));
        let positions: BTreeSet<usize> = positions.collect();
        let has_room = |pick: &Pick, at: usize| {
            let state = &self.states[index(pick.class)];
            let fit = self
                .outfits
                .get(state.outfit)
                .fit(attempt.queue.shape_at(at));
            let needs = fit.needs.as_ref().filter(|_| fit.selector.is_some());
            needs.is_some_and(|needs| times(needs, &state.left) > 0)
        };
        let is_in_the_way = |pick: &Pick| {
            !self.states[index(pick.class)].is_running
                && pick.fill.iter().any(|(at, _)| !positions.contains(at))
                && positions.iter().any(|at| has_room(pick, *at))
        };
        let is_possible = attempt.picks.iter().any(is_in_the_way);
        is_possible.then_some(positions)
    }
}

impl Attempt {
    /// Returns whether less is launched, no group has more, and no request is left that the other places.
    fn is_better(&self, other: &Self) -> bool {
        let is_at_most = |(key, count): (usize, u64), others: &BTreeMap<usize, u64>| {
            count <= others.get(&key).copied().unwrap_or(0)
        };
        let left: BTreeMap<usize, u64> = other.queue.unplaced().into_iter().collect();
        let mut launched = self.launched.iter().map(|(group, count)| (*group, *count));
        self.launched != other.launched
            && launched.all(|it| is_at_most(it, &other.launched))
            && self
                .queue
                .unplaced()
                .into_iter()
                .all(|it| is_at_most(it, &left))
    }
}
