//! How long to wait after a failure: a pure function of how many there were.

/// Bounds a delay that doubles with every failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub first_ms: u64,
    /// The longest delay.
    pub max_ms: u64,
}

impl Backoff {
    /// Returns the delay after `failures` failures in a row; none after none.
    ///
    /// Units: milliseconds.
    #[must_use]
    pub fn delay_ms(self, failures: u32) -> u64 {
        let Some(doublings) = failures.checked_sub(1) else {
            return 0;
        };
        let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        self.first_ms.saturating_mul(factor).min(self.max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn the_delay_doubles_up_to_its_bound() {
        let backoff = Backoff {
            first_ms: 100,
            max_ms: 10_000,
        };
        let delays: Vec<u64> = (0..10).map(|failures| backoff.delay_ms(failures)).collect();
        let expected = [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        assert_eq!(delays, expected);
        assert_eq!(backoff.delay_ms(u32::MAX), 10_000);
    }
}
