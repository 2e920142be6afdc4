//! One way to place what nodes that run have no room for, and a second one where the first leaves too much.
//!
//! # Why
//!
//! A request that only nodes of one group can take may come behind others that take them away from it, although
//! these could go elsewhere. A node is launched for it, and once that one starts the others take it too: round by
//! round, and in Ray pass by pass, one more is launched; or the maximum is met, and it waits for ever. So where
//! something has no place on nodes that start, and others have the room that it could have there, it is tried what
//! comes of it when it chooses first.
//!
//! # Cost
//!
//! At most that of the first way once more, and only in this case. Whether there is a second way does not depend on
//! what is left of the work budget, which pays for it afterwards.

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
        let mut usage = self.usage.clone();
        let mut resized = Vec::new();
        if self.has_resizing && !queue.is_empty() {
            let order = queue.shapes();
            let means = (&mut *budget, &mut *scratch);
            resized = self.fill_resized((&mut queue, &order), &picks, (ledger, &mut usage), means);
            let absorbed: BTreeSet<usize> = resized.iter().filter_map(|it| it.pick).collect();
            // A node that was picked and then resized is committed once.
            let kept = picks.into_iter().enumerate();
            let kept = kept.filter(|(at, _)| !absorbed.contains(at));
            picks = kept.map(|(_, pick)| pick).collect();
        }
        let mut growth = Growth::new(self, (&queue, ledger), lineup, usage);
        while !queue.is_empty()
            && budget.step(1)
            && growth.step(&mut queue, &mut (&mut *budget, &mut *scratch))
        {}
        growth.save(&queue, &mut (&mut *budget, &mut *scratch));
        let (fresh, launched, is_plain) = growth.finish();
        Attempt {
            picks,
            resized,
            fresh,
            launched,
            queue,
            is_plain,
        }
    }

    /// Returns another way to place the queue of `first` that leaves less or launches nothing, if there is one.
    pub(super) fn rearranged(
        &mut self,
        (ledger, lineup): (Ledger, &mut Lineup),
        (queue, is_long): (&Queue, bool),
        (first, budget, scratch): (&Attempt, &mut Budget, &mut Scratch),
    ) -> Option<Attempt> {
        if !self.corrections.rearranged || self.has_resizing || budget.is_cut() {
            return None;
        }
        let homeless = self.homeless(first)?;
        let (other, places) = queue.with_first(&homeless);
        let mut own = Budget::default();
        let mut other = self.attempt((ledger, lineup), (&other, is_long), (&mut own, scratch));
        budget.spend(own.spent());
        if !other.is_better(first) {
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
        let (picks, spare) = other.unused_of(first);
        other.picks.extend(picks);
        other.fresh.extend(spare);
        Some(other)
    }

    /// Returns which positions have no place on nodes that are there, where others are on nodes that start and would
    /// have room for them.
    fn homeless(&self, attempt: &Attempt) -> Option<BTreeSet<usize>> {
        let (spare, launched): (Vec<&Fresh>, Vec<&Fresh>) =
            attempt.fresh.iter().partition(|fresh| fresh.is_spare);
        let fills = launched.into_iter().filter_map(|fresh| fresh.fill.as_ref());
        let launched = fills.flat_map(|fill| fill.iter().map(|(at, _)| *at));
        let homeless: BTreeSet<usize> = launched.chain(attempt.queue.positions()).collect();
        let could_take = |class: u32| {
            let state = &self.states[index(class)];
            let outfit = self.outfits.get(state.outfit);
            let has_room = |at: &usize| {
                let fit = outfit.fit(attempt.queue.shape_at(*at));
                let needs = fit.needs.as_ref().filter(|_| fit.selector.is_some());
                needs.is_some_and(|needs| times(needs, &state.left) > 0)
            };
            !state.is_running && homeless.iter().any(has_room)
        };
        // Equal nodes are asked once.
        let mut asked: BTreeMap<u32, bool> = BTreeMap::new();
        let is_in_the_way = |(class, fill): (u32, &[(usize, u64)])| {
            fill.iter().any(|(at, _)| !homeless.contains(at))
                && *asked.entry(class).or_insert_with(|| could_take(class))
        };
        let picks = attempt.picks.iter().map(|pick| (pick.class, &*pick.fill));
        let spare = spare.into_iter();
        let spare = spare.filter_map(|fresh| Some((fresh.class, fresh.fill.as_deref()?)));
        let is_possible = !homeless.is_empty() && picks.chain(spare).any(is_in_the_way);
        is_possible.then_some(homeless)
    }
}

impl Attempt {
    /// Returns whether it leaves less, or leaves no more and launches nothing where the other does; in no case does a
    /// group launch more, or is a request left that the other places.
    ///
    /// Where both launch and leave the same, the other is what the next round repeats.
    fn is_better(&self, other: &Self) -> bool {
        let is_at_most = |own: &BTreeMap<usize, u64>, others: &BTreeMap<usize, u64>| {
            let mut own = own.iter();
            own.all(|(key, count)| others.get(key).is_some_and(|other| count <= other))
        };
        let left = |it: &Self| it.queue.unplaced().into_iter().collect::<BTreeMap<_, _>>();
        let (own_left, other_left) = (left(self), left(other));
        let saves_all = self.launched.is_empty() && !other.launched.is_empty();
        is_at_most(&self.launched, &other.launched)
            && is_at_most(&own_left, &other_left)
            && (saves_all || own_left != other_left)
    }

    /// Returns the nodes that only `other` uses: they are used for nothing, and still needed.
    ///
    /// Which way is the better one depends on both, so that no node may go that either of them uses: without it the
    /// other one would be made of other nodes, and so would this one.
    fn unused_of(&self, other: &Self) -> (Vec<Pick>, Vec<Fresh>) {
        let nothing = |fill: &[(usize, u64)]| fill.iter().take(1).map(|(at, _)| (*at, 0)).collect();
        let mut used: BTreeMap<u32, u64> = BTreeMap::new();
        for pick in &self.picks {
            *used.entry(pick.class).or_default() += pick.nodes;
        }
        let mut picks = Vec::new();
        // Both take the nodes of a class from its front.
        for pick in &other.picks {
            let nodes = only_there(pick.nodes, used.entry(pick.class).or_default());
            picks.extend((nodes > 0).then(|| Pick {
                nodes,
                fill: nothing(&pick.fill),
                after: Some(pick.class),
                ..*pick
            }));
        }
        let mut used: BTreeMap<(usize, u32), u64> = BTreeMap::new();
        for fresh in self.fresh.iter().filter(|fresh| fresh.is_spare) {
            *used.entry((fresh.group, fresh.class)).or_default() += fresh.nodes;
        }
        let mut spare = Vec::new();
        for fresh in other.fresh.iter().filter(|fresh| fresh.is_spare) {
            let used = used.entry((fresh.group, fresh.class)).or_default();
            let nodes = only_there(fresh.nodes, used);
            spare.extend((nodes > 0).then(|| {
                Fresh {
                    nodes,
                    // Of a replica that is kept each host is, whatever stood on it.
                    fill: Some(
                        fresh
                            .fill
                            .as_deref()
                            .map_or_else(|| [(0, 0)].into(), nothing),
                    ),
                    ..*fresh
                }
            }));
        }
        (picks, spare)
    }
}

/// Returns how many of `nodes` are more than what is `used` here, which becomes less by the others.
fn only_there(nodes: u64, used: &mut u64) -> u64 {
    let both = nodes.min(*used);
    *used -= both;
    nodes - both
}
