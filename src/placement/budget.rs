//! How much work one decision may do, counted in placement steps.
//!
//! Why steps and not time: a decision is a function of its input. Whoever asks measures how long a
//! step takes and gives as many as there is time for.

/// Holds the steps that are left; a step offers requests to one class of nodes, or takes a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    left: u64,
    spent: u64,
    is_cut: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(u64::MAX)
    }
}

impl Budget {
    pub(super) const fn of(steps: u64) -> Self {
        Self {
            left: steps,
            spent: 0,
            is_cut: false,
        }
    }

    /// Spends steps that are part of a larger one.
    pub(super) fn spend(&mut self, steps: u64) {
        self.left = self.left.saturating_sub(steps);
        self.spent = self.spent.saturating_add(steps);
    }

    /// Spends steps if any are left; returns whether there were.
    pub(super) fn step(&mut self, steps: u64) -> bool {
        self.is_cut |= self.left == 0;
        if self.left > 0 {
            self.spend(steps);
        }
        !self.is_cut
    }

    pub(super) const fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(super) const fn spent(&self) -> u64 {
        self.spent
    }
}
