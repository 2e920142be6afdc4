//! The classes of nodes in the order of what they offer for one list of requests.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::score::Rank;
use super::shape::index;

/// Classes from which on they are added to a view all at once.
const BULK: usize = 256;

/// Names a class with its rank, the best first.
pub(super) type Ranked = (Reverse<Rank>, u32);

/// Says where the first node of a class stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// At this place of the list.
    At(i64),
    /// All are taken by the current call, which may give them back.
    Taken,
    /// There is none.
    Gone,
}

/// Holds classes by rank.
#[derive(Debug, Default)]
pub(super) struct View {
    ranked: BTreeSet<Ranked>,
    /// Whether a class is settled: ranked, or known to take nothing.
    known: Vec<bool>,
    /// How much of the log has been read.
    pub(super) read: usize,
}

impl View {
    /// Takes note of a class; returns whether it was unknown.
    pub(super) fn get_to_know(&mut self, class: u32) -> bool {
        let at = index(class);
        if at >= self.known.len() {
            self.known.resize(at + 1, false);
        }
        !std::mem::replace(&mut self.known[at], true)
    }

    pub(super) fn add(&mut self, new: Vec<Ranked>) {
        if new.len() < BULK {
            self.ranked.extend(new);
        } else {
            // Sorted at once, which is much faster than one by one.
            self.ranked.append(&mut new.into_iter().collect());
        }
    }

    pub(super) fn insert(&mut self, entry: Ranked) {
        self.ranked.insert(entry);
    }

    pub(super) fn remove(&mut self, entry: Ranked) {
        self.ranked.remove(&entry);
    }

    /// Returns the best class that has nodes, among equals the one whose first node comes first.
    pub(super) fn best(&mut self, standing: impl Fn(u32) -> Standing) -> Option<u32> {
        let mut best: Option<(Reverse<Rank>, i64, u32)> = None;
        let mut gone = Vec::new();
        for (rank, class) in &self.ranked {
            if best.is_some_and(|(held, _, _)| held != *rank) {
                break;
            }
            match standing(*class) {
                Standing::At(key) if best.is_none_or(|(_, held, _)| key < held) => {
                    best = Some((*rank, key, *class));
                }
                Standing::At(_) | Standing::Taken => {}
                Standing::Gone => gone.push((*rank, *class)),
            }
        }
        for (rank, class) in gone {
            self.ranked.remove(&(rank, class));
            if let Some(known) = self.known.get_mut(index(class)) {
                *known = false;
            }
        }
        best.map(|(_, _, class)| class)
    }
}
