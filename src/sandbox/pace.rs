//! Lets virtual time pass at the speed of a clock.
//!
//! The runtime's time is paused, so that a wait ends as soon as nobody has anything to do. Once in a
//! while of virtual time the screen holds the whole runtime until the wall clock has come as far.

use std::time::Duration;

use crate::clock::Stopwatch;
use crate::model::Timestamp;

/// The longest that the thread is held at one time: who asks from outside is answered as fast.
pub(super) const HOLD_MAX: Duration = Duration::from_millis(10);

/// Says how fast virtual time passes.
///
/// Units: virtual milliseconds in a real second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed(u32);

impl Speed {
    /// As fast as the clock on the wall.
    pub const REAL: Self = Self(1_000);
}

impl std::str::FromStr for Speed {
    type Err = String;

    /// Reads a factor such as `1`, `0.5` or `20`.
    fn from_str(text: &str) -> Result<Self, String> {
        let factor = text.parse::<f64>().ok();
        let factor = factor.filter(|factor| (0.01..=10_000.0).contains(factor));
        let factor = factor.ok_or("accepted: a number from 0.01 to 10000")?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most ten million"
        )]
        let ms = (factor * 1000.0).round() as u32;
        Ok(Self(ms))
    }
}

/// Holds virtual time to its speed.
#[derive(Debug)]
pub(super) struct Pace {
    speed: Speed,
    watch: Stopwatch,
    began_at: Option<Timestamp>,
}

impl Pace {
    /// Returns a pace that begins with the first moment it is asked about.
    pub(super) fn new(speed: Speed) -> Self {
        Self {
            speed,
            watch: Stopwatch::start(),
            began_at: None,
        }
    }

    /// Returns how long `now` is still to come.
    pub(super) fn ahead(&mut self, now: Timestamp) -> Duration {
        let Some(began_at) = self.began_at else {
            self.began_at = Some(now);
            self.watch = Stopwatch::start();
            return Duration::ZERO;
        };
        let virtual_time = Duration::from_millis(now.millis_since(began_at));
        let real_time = virtual_time.saturating_mul(1000) / self.speed.0.max(1);
        real_time.saturating_sub(self.watch.elapsed())
    }
}
