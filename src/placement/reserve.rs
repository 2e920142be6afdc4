//! Nodes on their way that are kept for what they were launched for, or that nothing may count on.

use super::pool::{Origin, Pool};
use super::shape::index;

impl Pool {
    /// Keeps the newest nodes of a group that do not run yet, `replicas` replicas of them, from taking requests.
    pub(crate) fn reserve(&mut self, group: usize, replicas: u32) {
        let mut left = u64::from(replicas).saturating_mul(self.hosts(group));
        for at in (0..self.slots.len()).rev() {
            let (class, count) = (self.slots[at].free, self.slots[at].count);
            let is_meant = self.slots[at].group == Some(group) && count > 0;
            let state = &self.states[index(class)];
            if left == 0 || !is_meant || state.is_running {
                continue;
            }
            let full = state.full(self.outfits.get(state.outfit));
            let full = self.intern(full);
            let nodes = count.min(left);
            let at = if count > nodes {
                self.split(at, nodes)
            } else {
                at
            };
            self.slots[at].free = full;
            left -= nodes;
        }
        self.lineups = Default::default();
    }

    /// Keeps all nodes of a group that have no pod yet from taking requests; they count against the caps as before.
    pub(crate) fn bar_to_come(&mut self, group: usize) {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            if slot.group != Some(group) || slot.origin != Origin::ToCome || slot.count == 0 {
                continue;
            }
            let full = |class: u32| {
                let state = &self.states[index(class)];
                state.full(self.outfits.get(state.outfit))
            };
            let (free, whole) = (full(slot.free), full(slot.whole));
            let (free, whole) = (self.intern(free), self.intern(whole));
            (self.slots[at].free, self.slots[at].whole) = (free, whole);
        }
        self.lineups = Default::default();
        self.explained.clear();
    }
}
