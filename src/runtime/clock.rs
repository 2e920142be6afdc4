//! The only place that reads a clock.
//!
//! Wall time once, at the start, and tokio's monotonic time since: it never goes back, and under
//! paused tokio time it is virtual. A step of the wall clock after the start is not seen.

use std::time::{SystemTime, UNIX_EPOCH};

use governor::nanos::Nanos;
use tokio::time::Instant;

use crate::model::Timestamp;

/// Tells the time.
#[derive(Clone, Debug)]
pub struct Clock {
    started_at: Timestamp,
    started: Instant,
}

impl Clock {
    /// Returns a clock that shows the machine's time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn system() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Self {
            started_at: Timestamp::from_ms(ms),
            started: Instant::now(),
        }
    }

    /// Returns a clock that shows `at` now and goes on with tokio's time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn starting_at(at: Timestamp) -> Self {
        Self {
            started_at: at,
            started: Instant::now(),
        }
    }

    /// Returns this moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.started_at.plus_ms(ms)
    }

    /// Returns the monotonic time for a timer that ends at `at`.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        let since = std::time::Duration::from_millis(at.millis_since(self.started_at));
        // A century ahead is as good as never, and cannot overflow.
        let century = std::time::Duration::from_secs(3_155_760_000);
        self.started + since.min(century)
    }
}

impl governor::clock::Clock for Clock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let nanos = self.started.elapsed().as_nanos();
        Nanos::new(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use governor::{Quota, RateLimiter};

    use super::Clock;
    use crate::model::Timestamp;

    #[tokio::test(start_paused = true)]
    async fn the_clock_and_a_limiter_on_it_follow_virtual_time() {
        let clock = Clock::starting_at(Timestamp::from_ms(1000));
        let two_a_second = Quota::per_second(NonZeroU32::new(2).unwrap());
        let limiter = RateLimiter::direct_with_clock(two_a_second, clock.clone());
        assert!(limiter.check().is_ok());
        assert!(limiter.check().is_ok());
        assert!(limiter.check().is_err());
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(limiter.check().is_ok());
        assert_eq!(clock.now(), Timestamp::from_ms(1500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_ends_at_the_moment_it_was_set_to() {
        let clock = Clock::system();
        let at = clock.now().plus_ms(250);
        tokio::time::sleep_until(clock.instant(at)).await;
        assert_eq!(clock.now(), at);
        assert!(clock.instant(Timestamp::from_ms(i64::MAX)) > clock.instant(at));
    }
}
