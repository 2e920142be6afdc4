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
//! How long to wait before asking again; pure.

use std::time::Duration;

/// Asking may take this part of the time: one in a hundred.
const IDLE_PER_BUSY: u64 = 100;

/// The first pause after a failure: a server that restarts is back within a second or two.
const PAUSE_FIRST_MS: u64 = 250;

/// The longest pause: short enough that we are in step again soon after the API server is.
const PAUSE_MAX_MS: u64 = 10_000;

/// Bounds the time between two GETs of the RayCluster.
///
/// Units: milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollBounds {
    /// After a change.
    pub interval_min_ms: u64,
    /// While nothing changes.
    pub interval_max_ms: u64,
}

impl Default for PollBounds {
    /// A user's edit is seen within five seconds; an idle cluster costs twelve GETs a minute.
    fn default() -> Self {
        Self {
            interval_min_ms: 1_000,
            interval_max_ms: 5_000,
        }
    }
}

/// Says what an answer was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Something had changed: more may follow soon.
    Changed,
    /// Nothing had changed.
    Same,
    /// There was none; the pause asked for, if any.
    Failed(Option<Duration>),
}

/// Chooses the time between two questions.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    bounds: PollBounds,
    interval_ms: u64,
    failures: u32,
    seed: u64,
}

impl Pace {
    pub(super) const fn new(bounds: PollBounds, seed: u64) -> Self {
        Self {
            bounds,
            interval_ms: bounds.interval_min_ms,
            failures: 0,
            seed,
        }
    }

    /// Returns how long to wait after an answer that took `took_ms`.
    pub(super) fn after(&mut self, answer: Answer, took_ms: u64) -> Duration {
        let PollBounds {
            interval_min_ms: min,
            interval_max_ms: max,
        } = self.bounds;
        if let Answer::Failed(asked_for) = answer {
            self.failures = self.failures.saturating_add(1);
            let pause = pause_after(self.failures, self.seed).max(Duration::from_millis(min));
            return pause.max(asked_for.unwrap_or_default());
        }
        self.failures = 0;
        self.interval_ms = match answer {
            Answer::Changed => min,
            _ => self
                .interval_ms
                .saturating_add(self.interval_ms / 2)
                .min(max),
        }
        .max(min);
        let busy = took_ms.saturating_mul(IDLE_PER_BUSY);
        Duration::from_millis(self.interval_ms.max(busy))
    }
}

/// Returns the pause after the n-th failure in a row: doubling, capped, and spread over its upper half
/// so that the sidecars of a whole cluster do not come back together.
pub(super) fn pause_after(failures: u32, seed: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = (PAUSE_FIRST_MS << doublings).min(PAUSE_MAX_MS);
    let half = full / 2;
    let spread = mix(seed.wrapping_add(u64::from(failures))) % (half + 1);
    Duration::from_millis(half + spread)
}

/// Scrambles a number: the finaliser of SplitMix64.
const fn mix(number: u64) -> u64 {
    let a = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ (b >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ (c >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Answer, Pace, PollBounds, pause_after};

    fn pace() -> Pace {
        Pace::new(PollBounds::default(), 7)
    }

    fn after(pace: &mut Pace, answer: Answer, took_ms: u64) -> u64 {
        u64::try_from(pace.after(answer, took_ms).as_millis()).unwrap()
    }

    #[test]
    fn a_quiet_cluster_is_asked_less_and_less_often() {
        let mut pace = pace();
        let waits: Vec<u64> = (0..6).map(|_| after(&mut pace, Answer::Same, 3)).collect();
        assert_eq!(waits, [1500, 2250, 3375, 5000, 5000, 5000]);
        assert_eq!(after(&mut pace, Answer::Changed, 3), 1000);
    }

    #[test]
    fn asking_takes_at_most_a_hundredth_of_the_time() {
        assert_eq!(after(&mut pace(), Answer::Changed, 200), 20_000);
    }

    #[test]
    fn failures_wait_longer_each_time_and_as_long_as_asked() {
        let mut pace = pace();
        let waits: Vec<u64> = (0..9)
            .map(|_| after(&mut pace, Answer::Failed(None), 0))
            .collect();
        assert!(
            waits.windows(2).take(5).all(|pair| pair[0] <= pair[1]),
            "{waits:?}"
        );
        assert!(waits.iter().all(|wait| (1000..=10_000).contains(wait)));
        let asked_for = Answer::Failed(Some(Duration::from_secs(30)));
        assert_eq!(after(&mut pace, asked_for, 0), 30_000);
        assert_eq!(after(&mut pace, Answer::Changed, 0), 1000);
    }

    #[test]
    fn pauses_follow_the_seed_and_nothing_else() {
        assert_eq!(pause_after(3, 1), pause_after(3, 1));
        let spread: std::collections::BTreeSet<Duration> =
            (0..50).map(|seed| pause_after(6, seed)).collect();
        assert!(spread.len() > 40, "{}", spread.len());
        assert!(
            spread
                .iter()
                .all(|pause| (4000..=8000).contains(&pause.as_millis()))
        );
        assert!(pause_after(u32::MAX, u64::MAX) <= Duration::from_secs(10));
    }
}
