//! How often a source is asked: often while asking is cheap, seldom when it is not.
//!
//! Why not a fixed period: five seconds is what makes the stock sidecar slow, and a tenth of a
//! second would load the GCS of a large cluster, whose reply takes hundreds of milliseconds.

/// Bounds the interval between two questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceLimits {
    /// Never more often. Units: milliseconds.
    pub interval_min_ms: u64,
    /// Never more seldom. Units: milliseconds.
    pub interval_max_ms: u64,
    /// Share of the time that asking may take. Units: percent, at least 1.
    pub budget_percent: u64,
}

/// Replies faster than this are free: at the shortest interval they still leave the GCS alone.
const CHEAP_REPLY_US: u64 = 5_000;

/// How many replies are looked at: the cheapest of them counts, so that one reply delayed by a
/// busy machine does not slow us down and a slow GCS does.
const MEMORY: usize = 3;

/// Turns the cost of the last replies into the next interval.
#[derive(Debug, Clone)]
pub struct Pace {
    limits: PaceLimits,
    costs_us: [u64; MEMORY],
    next: usize,
}

impl Pace {
    /// Returns a pace that starts at the shortest interval.
    #[must_use]
    pub fn new(limits: PaceLimits) -> Self {
        Self {
            limits,
            costs_us: [0; MEMORY],
            next: 0,
        }
    }

    /// Changes the bounds, keeping what was measured.
    pub fn set_limits(&mut self, limits: PaceLimits) {
        self.limits = limits;
    }

    /// Takes in how long a reply took, failed ones included.
    ///
    /// Units: microseconds.
    pub fn replied(&mut self, cost_us: u64) {
        self.costs_us[self.next] = cost_us;
        self.next = (self.next + 1) % MEMORY;
    }

    /// Returns what the last reply took.
    ///
    /// Units: microseconds.
    #[must_use]
    pub fn last_us(&self) -> u64 {
        self.costs_us[(self.next + MEMORY - 1) % MEMORY]
    }

    /// Returns how long to wait between the start of one question and the next.
    ///
    /// Units: milliseconds.
    #[must_use]
    pub fn interval_ms(&self) -> u64 {
        let cost_us = self.costs_us.iter().copied().min().unwrap_or(0);
        if cost_us < CHEAP_REPLY_US {
            return self.limits.interval_min_ms;
        }
        let within_budget_us = cost_us.saturating_mul(100) / self.limits.budget_percent.max(1);
        let longest = self.limits.interval_max_ms.max(self.limits.interval_min_ms);
        (within_budget_us / 1000).clamp(self.limits.interval_min_ms, longest)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, PaceLimits};

    const LIMITS: PaceLimits = PaceLimits {
        interval_min_ms: 100,
        interval_max_ms: 5_000,
        budget_percent: 1,
    };

    #[test]
    fn the_interval_follows_the_cost_of_a_reply() {
        for (cost_us, interval_ms) in [
            (200, 100),
            (4_999, 100),
            (5_000, 500),
            (20_000, 2_000),
            (900_000, 5_000),
        ] {
            let mut pace = Pace::new(LIMITS);
            (0..3).for_each(|_| pace.replied(cost_us));
            assert_eq!(pace.interval_ms(), interval_ms, "{cost_us} us");
        }
    }

    #[test]
    fn one_slow_reply_changes_nothing() {
        let mut pace = Pace::new(LIMITS);
        [300, 80_000, 300, 300]
            .iter()
            .for_each(|cost| pace.replied(*cost));
        assert_eq!(pace.interval_ms(), 100);
    }

    #[test]
    fn contradictory_bounds_do_not_panic() {
        let limits = PaceLimits {
            interval_min_ms: 100,
            interval_max_ms: 10,
            budget_percent: 0,
        };
        let mut pace = Pace::new(limits);
        (0..3).for_each(|_| pace.replied(u64::MAX));
        assert_eq!(pace.interval_ms(), 100);
    }
}
