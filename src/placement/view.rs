//! The classes of nodes in the order of what they offer for one list of requests.
//!
//! Why a heap: only the best class is ever asked for. Thousands of classes are put into a heap in linear
//! time, one more in constant time mostly, and those that rank equally hang together at its top.

use std::collections::BinaryHeap;

use super::score::Ranked;
use super::shape::index;

/// Entries without nodes among equals from which on they are cleared away.
const CLEARED_FROM: usize = 16;

/// Says where the first node of a class stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// At this place of the list.
    At(i64),
    /// All are taken by the current call, which may give them back.
    Taken,
    /// There is none, or the class has another rank by now.
    Gone,
}

/// Holds classes by rank.
#[derive(Debug, Default)]
pub(super) struct View {
    heap: BinaryHeap<Ranked>,
    /// Whether a class is settled: ranked, or known to take nothing.
    known: Vec<bool>,
    /// How much of the log has been read.
    pub(super) read: usize,
    /// Kept to save allocations: places in the heap, and entries that are out of it for a moment.
    equals: Vec<usize>,
    out: Vec<Ranked>,
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

    /// Adds classes; all at once where they are many.
    pub(super) fn add(&mut self, new: &mut Vec<Ranked>) {
        if new.len() > self.heap.len() {
            new.extend(self.heap.drain());
            self.heap = BinaryHeap::from(std::mem::take(new));
        } else {
            self.heap.extend(new.drain(..));
        }
    }

    /// Returns how many entries there are, those that are gone included.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Starts anew with these classes.
    pub(super) fn replace(&mut self, entries: Vec<Ranked>) {
        self.heap = BinaryHeap::from(entries);
    }

    /// Returns the best class that has nodes, among equals the one whose first node comes first.
    pub(super) fn best(&mut self, standing: impl Fn(&Ranked) -> Standing) -> Option<u32> {
        let mut best = None;
        while let Some(top) = self.heap.peek().copied() {
            let gone;
            (best, gone) = self.first_of_equals(&top, &standing);
            if best.is_some() && gone < CLEARED_FROM {
                break;
            }
            let mut kept = Vec::new();
            while let Some(entry) = self.heap.peek().copied().filter(|it| it.equals(&top)) {
                self.heap.pop();
                match standing(&entry) {
                    Standing::Gone => {
                        if let Some(known) = self.known.get_mut(index(entry.class)) {
                            *known = false;
                        }
                    }
                    Standing::At(_) => kept.push(entry),
                    Standing::Taken => self.out.push(entry),
                }
                if best.is_none() {
                    break;
                }
            }
            self.heap.extend(kept);
            if best.is_some() {
                break;
            }
        }
        self.heap.extend(self.out.drain(..));
        best
    }

    /// Returns the class whose first node comes first among those that rank like `top`, and how many are gone.
    fn first_of_equals(
        &mut self,
        top: &Ranked,
        standing: impl Fn(&Ranked) -> Standing,
    ) -> (Option<u32>, usize) {
        let entries = self.heap.as_slice();
        let (mut best, mut gone): (Option<(i64, u32)>, usize) = (None, 0);
        self.equals.clear();
        self.equals.push(0);
        while let Some(at) = self.equals.pop() {
            let Some(entry) = entries.get(at).filter(|entry| entry.equals(top)) else {
                continue;
            };
            match standing(entry) {
                Standing::At(key) if best.is_none_or(|(held, _)| key < held) => {
                    best = Some((key, entry.class));
                }
                Standing::Gone => gone += 1,
                Standing::At(_) | Standing::Taken => {}
            }
            self.equals.extend([2 * at + 1, 2 * at + 2]);
        }
        (best.map(|(_, class)| class), gone)
    }
}
