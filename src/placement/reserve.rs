//! Nodes on their way that are kept for what they were launched for.

use super::pool::Pool;
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
}
