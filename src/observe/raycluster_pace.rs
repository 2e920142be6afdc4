//! How long to wait before asking again; pure.

use std::time::Duration;

/// Asking may take this part of the time: one in a hundred.
const IDLE_PER_BUSY: u64 = 100;

/// The first pause after a failure: a server that restarts is back within a second or two.
const PAUSE_FIRST_MS: u64 = 250;

/// The longest pause where the server answers, and has us begin again and again.
const PAUSE_MAX_MS: u64 = 10_000;

/// The longest pause where it refuses, unless it asks for a longer one: ten seconds after it is back, capacity is to be
/// right.
const AWAY_MAX_MS: u64 = 5_000;

/// The longest pause that a server may ask for; a longer one is a broken proxy's, and nobody would be in
/// step with anything meanwhile.
const ASKED_MAX: Duration = Duration::from_secs(60);

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
            let pause = pause_asked(self.failures, self.seed, asked_for);
            return pause.max(Duration::from_millis(min));
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
        // One slow answer must not blind us for minutes: the upper bound holds whatever happens.
        Duration::from_millis(self.interval_ms.max(busy).min(max.max(min)))
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

/// Returns the pause after the n-th call in a row that failed: the same, but never long, or as long as the server has
/// asked for.
pub(super) fn pause_asked(failures: u32, seed: u64, asked_for: Option<Duration>) -> Duration {
    let asked_for = asked_for.unwrap_or_default().min(ASKED_MAX);
    pause_away(failures, seed).max(asked_for)
}

fn pause_away(failures: u32, seed: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    if PAUSE_FIRST_MS << doublings < AWAY_MAX_MS {
        return pause_after(failures, seed);
    }
    let part = AWAY_MAX_MS / 5;
    let spread = mix(seed.wrapping_add(u64::from(failures))) % (part + 1);
    Duration::from_millis(AWAY_MAX_MS - part + spread)
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

    use super::{ASKED_MAX, Answer, Pace, PollBounds, pause_after, pause_asked};

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
    fn asking_takes_a_hundredth_of_the_time_within_the_bounds() {
        assert_eq!(after(&mut pace(), Answer::Changed, 3), 1_000);
        assert_eq!(after(&mut pace(), Answer::Changed, 20), 2_000);
        assert_eq!(after(&mut pace(), Answer::Changed, 5_000), 5_000);
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
        assert!(waits.iter().all(|wait| (1000..=5_000).contains(wait)));
        let asked_for = Answer::Failed(Some(Duration::from_secs(30)));
        assert_eq!(after(&mut pace, asked_for, 0), 30_000);
        let forever = Answer::Failed(Some(Duration::from_secs(86_400)));
        assert_eq!(after(&mut pace, forever, 0), 60_000);
        assert_eq!(after(&mut pace, Answer::Changed, 0), 1000);
    }

    #[test]
    fn whoever_asks_for_a_day_is_asked_again_within_a_minute() {
        let day = Some(Duration::from_secs(86_400));
        assert_eq!(pause_asked(1, 1, day), ASKED_MAX);
        assert_eq!(pause_asked(1, 1, None), pause_after(1, 1));
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
        let away: std::collections::BTreeSet<Duration> =
            (0..50).map(|seed| pause_asked(9, seed, None)).collect();
        assert!(away.len() > 40, "{}", away.len());
        assert!(
            away.iter()
                .all(|pause| (4000..=5000).contains(&pause.as_millis()))
        );
    }
}
