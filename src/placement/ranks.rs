//! How good classes of nodes are for short lists of requests, as far as it has been worked out.
//!
//! Why: a decision is made again with its launches in the pool until nothing changes. Nearly all nodes
//! are what they were, and so is what they offer; only the placing itself has to be done again.

use std::collections::BTreeMap;

use super::queue::QueueKey;
use super::score::{Choice, Rank};
use super::shape::index;

/// Entries of all lists together; each takes 40 bytes.
const HELD_MAX: usize = 500_000;

#[derive(Debug, Clone, Copy)]
enum Known {
    No,
    /// It takes nothing of the list.
    Nothing,
    Rank(Rank),
}

/// Holds ranks by list of requests and class.
#[derive(Debug, Default)]
pub(super) struct Ranks {
    by_list: BTreeMap<QueueKey, Vec<Known>>,
    held: usize,
    held_max: usize,
    choice: Choice,
}

impl Ranks {
    /// Forgets everything where nodes are chosen otherwise from now on.
    pub(super) fn turn_to(&mut self, choice: &Choice) {
        if !self.choice.ranks_like(choice) {
            self.by_list.clear();
            self.held = 0;
            self.choice = choice.clone();
        }
    }

    /// Remembers from now on; without, nothing is: that costs more than it saves where a decision is made once.
    pub(super) fn remember(&mut self) {
        self.held_max = HELD_MAX;
    }

    /// Returns the ranks for a list.
    pub(super) fn of(&mut self, list: &QueueKey) -> RanksOfList<'_> {
        if self.held_max > 0 && !self.by_list.contains_key(list) {
            self.by_list.insert(list.clone(), Vec::new());
        }
        RanksOfList {
            known: self.by_list.get_mut(list),
            held: &mut self.held,
            held_max: self.held_max,
        }
    }
}

/// Holds the ranks for one list of requests, by class.
pub(super) struct RanksOfList<'a> {
    known: Option<&'a mut Vec<Known>>,
    held: &'a mut usize,
    held_max: usize,
}

impl RanksOfList<'_> {
    /// Returns the rank of a class, `None` when it takes nothing; `make` works it out where it is not known.
    pub(super) fn get_or(
        &mut self,
        class: u32,
        make: impl FnOnce() -> Option<Rank>,
    ) -> Option<Rank> {
        let at = index(class);
        let Some(known) = self.known.as_mut() else {
            return make();
        };
        match known.get(at) {
            Some(Known::Rank(rank)) => return Some(*rank),
            Some(Known::Nothing) => return None,
            Some(Known::No) | None => {}
        }
        let rank = make();
        let more = (at + 1).saturating_sub(known.len());
        if self.held.saturating_add(more) <= self.held_max {
            *self.held += more;
            known.resize(known.len() + more, Known::No);
            known[at] = rank.map_or(Known::Nothing, Known::Rank);
        }
        rank
    }
}
