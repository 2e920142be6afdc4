//! Finds the number of something by its content.
//!
//! Why not an ordered map: nodes differ in their last amounts only, so that each of a dozen comparisons
//! reads nearly all of both. Numbers are given in the order of the first sight, and nothing goes through
//! the table in its own order, so that hashing cannot change a decision.

use std::hash::{Hash, Hasher};

use super::shape::index;

/// Says that a place of the table is free.
const FREE: u32 = u32::MAX;

/// Holds numbers by the hash of what they stand for.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// Open addressing; a power of two of places, at most half of them taken.
    table: Vec<u32>,
    hashes: Vec<u64>,
}

impl Ids {
    /// Returns the number with this hash that `is_it` confirms.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut places = self.places(hash);
        loop {
            let id = self.table[places.next()?];
            if id == FREE {
                return None;
            }
            if self.hashes[index(id)] == hash && is_it(id) {
                return Some(id);
            }
        }
    }

    /// Adds the next number.
    pub(super) fn push(&mut self, hash: u64) {
        self.hashes.push(hash);
        if self.hashes.len() * 2 > self.table.len() {
            self.table = vec![FREE; (self.table.len() * 2).max(64)];
            for at in 0..self.hashes.len() {
                self.seat(at);
            }
        } else {
            self.seat(self.hashes.len() - 1);
        }
    }

    fn seat(&mut self, at: usize) {
        let free = self
            .places(self.hashes[at])
            .find(|place| self.table[*place] == FREE);
        if let Some(place) = free {
            self.table[place] = super::pool::narrow(at);
        }
    }

    /// Returns the places to look at, one after the other; all of them in the end.
    fn places(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let places = self.table.len();
        let mask = places.saturating_sub(1);
        let first = usize::try_from(hash >> 32).unwrap_or(0);
        (0..places).map(move |step| first.wrapping_add(step) & mask)
    }
}

/// Returns a hash that is the same on every run.
pub(super) fn hash_of(value: &impl Hash) -> u64 {
    let mut mixer = Mixer(0);
    value.hash(&mut mixer);
    mixer.finish()
}

struct Mixer(u64);

impl Mixer {
    /// Odd, with ones spread over it: 2^64 divided by the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    fn mix(&mut self, word: u64) {
        let product = (self.0 ^ word).wrapping_mul(Self::FACTOR);
        // High bits alone tell high ones apart; the next word must not undo that.
        self.0 = product ^ (product >> 32);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        if !rest.is_empty() {
            self.mix(u64::from_le_bytes(last));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn finish(&self) -> u64 {
        // The high bits depend on all words, and the low ones of the table on them.
        self.0 ^ (self.0 >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ids, hash_of};

    #[test]
    fn every_content_keeps_its_number() {
        let mut ids = Ids::default();
        let words: Vec<String> = (0..5_000).map(|at| format!("word {at}")).collect();
        for (at, word) in (0..).zip(&words) {
            assert_eq!(ids.find(hash_of(word), |_| true), None, "{word}");
            ids.push(hash_of(word));
            assert_eq!(ids.find(hash_of(word), |_| true), Some(at));
        }
        for (at, word) in (0..).zip(&words) {
            assert_eq!(ids.find(hash_of(word), |_| true), Some(at));
        }
    }

    #[test]
    fn equal_hashes_are_told_apart_by_content() {
        let mut ids = Ids::default();
        (0..100).for_each(|_| ids.push(7));
        for wanted in 0..100 {
            assert_eq!(ids.find(7, |id| id == wanted), Some(wanted));
        }
        assert_eq!(ids.find(7, |_| false), None);
    }
}
