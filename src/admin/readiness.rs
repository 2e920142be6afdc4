//! Says whether we are alive (the loop turns) and ready (it has decided once on a complete snapshot).
//!
//! Readiness is never taken back: an outage of the GCS or the API server is in the metrics, and a head
//! pod that turns unready for it would lose its service just then.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::model::Timestamp;

/// Holds the state of the loop as far as probes want to know it.
#[derive(Debug)]
pub(super) struct Readiness {
    beat_at: AtomicI64,
    is_ready: AtomicBool,
    beat_age_max_ms: u64,
}

impl Readiness {
    /// Returns a loop that turned at `now` and is given `beat_age_max_ms` for each turn.
    #[must_use]
    pub(super) const fn new(now: Timestamp, beat_age_max_ms: u64) -> Self {
        Self {
            beat_at: AtomicI64::new(now.as_ms()),
            is_ready: AtomicBool::new(false),
            beat_age_max_ms,
        }
    }

    /// Says that the loop turns, whatever came of it.
    pub(super) fn beat(&self, now: Timestamp) {
        self.beat_at.store(now.as_ms(), Ordering::Relaxed);
    }

    /// Says that a complete snapshot was decided.
    pub(super) fn decided(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
    }

    /// Returns how long the loop has stood still, if that is too long.
    ///
    /// Units: milliseconds.
    pub(super) fn stalled_ms(&self, now: Timestamp) -> Option<u64> {
        let beat_at = Timestamp::from_ms(self.beat_at.load(Ordering::Relaxed));
        let age_ms = now.millis_since(beat_at);
        (age_ms > self.beat_age_max_ms).then_some(age_ms)
    }

    /// Returns whether a complete snapshot was decided.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;
    use crate::model::Timestamp;

    #[test]
    fn a_loop_that_stands_still_is_not_alive_until_it_turns_again() {
        let at = Timestamp::from_ms;
        let readiness = Readiness::new(at(0), 100);
        assert_eq!(readiness.stalled_ms(at(100)), None);
        assert_eq!(readiness.stalled_ms(at(101)), Some(101));
        readiness.beat(at(90));
        assert_eq!(readiness.stalled_ms(at(101)), None);
        assert!(!readiness.is_ready());
        readiness.decided();
        assert!(readiness.is_ready());
    }
}
