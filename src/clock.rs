//! The only place that reads a clock; everybody else is given `now`.
//!
//! # Why a plain struct
//!
//! [`Clock`] is the wall time at its creation plus tokio's monotonic time since. So it follows
//! tokio's paused clock without a trait, and never runs backwards. The price: steps of the wall
//! clock after the start are not seen, which is right for time-outs and cool-downs.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::model::Timestamp;

/// Tells the time, and waits for it.
#[derive(Debug, Clone)]
pub struct Clock {
    began: Timestamp,
    began_at: Instant,
}

impl Clock {
    /// Returns the clock of this machine.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    pub fn system() -> Self {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self::starting_at(Timestamp::from_ms(
            i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX),
        ))
    }

    /// Returns a clock that shows `began` now, whatever the wall says.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    pub fn starting_at(began: Timestamp) -> Self {
        Self {
            began,
            began_at: Instant::now(),
        }
    }

    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.began
            .plus_ms(u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Returns the time since the clock was made, for measuring.
    ///
    /// Units: milliseconds, with fractions.
    #[must_use]
    pub fn precise_ms(&self) -> f64 {
        self.elapsed().as_secs_f64() * 1000.0
    }

    /// Waits until `at`; returns at once when that has passed.
    pub async fn sleep_until(&self, at: Timestamp) {
        let wait = Duration::from_millis(at.millis_since(self.began));
        // A moment that no timer can reach is "never".
        match self.began_at.checked_add(wait) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place")]
    fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.began_at)
    }
}

/// Measures real time, whatever tokio's clock shows: for a screen that lets virtual time pass.
#[cfg(feature = "sandbox")]
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(std::time::Instant);

#[cfg(feature = "sandbox")]
impl Stopwatch {
    /// Returns one that starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Returns the time since its start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

impl GovernorClock for Clock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.elapsed())
    }
}

type OnOurClock = RateLimiter<NotKeyed, InMemoryState, Clock, NoOpMiddleware<Nanos>>;

/// Lets something happen at most once in an interval, with a burst of two.
#[derive(Debug)]
pub struct Limiter {
    clock: Clock,
    interval_ms: u64,
    limiter: OnOurClock,
}

impl Limiter {
    /// Returns a limiter on this clock.
    #[must_use]
    pub fn new(clock: &Clock, interval_ms: u64) -> Self {
        Self {
            clock: clock.clone(),
            interval_ms,
            limiter: limiter(clock, interval_ms),
        }
    }

    /// Waits until it may happen again; a changed interval holds from now on.
    pub async fn wait(&mut self, interval_ms: u64) {
        if interval_ms != self.interval_ms {
            self.interval_ms = interval_ms;
            self.limiter = limiter(&self.clock, interval_ms);
        }
        while let Err(not_until) = self.limiter.check() {
            let wait = not_until.wait_time_from(GovernorClock::now(&self.clock));
            tokio::time::sleep(wait).await;
        }
    }
}

fn limiter(clock: &Clock, interval_ms: u64) -> OnOurClock {
    let period = Duration::from_millis(interval_ms.max(1));
    let burst = NonZeroU32::MIN.saturating_add(1);
    let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN));
    RateLimiter::direct_with_clock(quota.allow_burst(burst), clock.clone())
}

#[cfg(test)]
mod tests {
    use super::{Clock, Limiter};
    use crate::model::Timestamp;

    #[tokio::test(start_paused = true)]
    async fn the_clock_follows_virtual_time() {
        let clock = Clock::starting_at(Timestamp::from_ms(1_000));
        clock.sleep_until(Timestamp::from_ms(91_000)).await;
        assert_eq!(clock.now(), Timestamp::from_ms(91_000));
        clock.sleep_until(Timestamp::from_ms(5)).await;
        assert_eq!(clock.now(), Timestamp::from_ms(91_000));
    }

    #[tokio::test(start_paused = true)]
    async fn the_limiter_counts_in_the_same_time() {
        let clock = Clock::starting_at(Timestamp::from_ms(0));
        let mut limiter = Limiter::new(&clock, 100);
        for _ in 0..12 {
            limiter.wait(100).await;
        }
        let elapsed = clock.now().as_ms();
        assert!((1_000..=1_010).contains(&elapsed), "{elapsed}");
    }
}
