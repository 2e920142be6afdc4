//! Moments, as milliseconds since 1970; arithmetic that cannot overflow.

use serde::{Deserialize, Serialize};

/// Holds a moment.
///
/// Units: milliseconds since 1970-01-01 UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Returns the moment `ms` milliseconds after 1970.
    #[must_use]
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Returns the milliseconds since 1970.
    #[must_use]
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since 1970.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Returns how long ago `earlier` was, zero when it lies ahead.
    ///
    /// Units: milliseconds.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }

    /// Returns the moment `ms` milliseconds later.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
    }

    /// Returns the moment `ms` milliseconds earlier.
    #[must_use]
    pub fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn a_later_moment_is_zero_ago() {
        let now = Timestamp::from_ms(5);
        assert_eq!(now.millis_since(Timestamp::from_ms(9)), 0);
        assert_eq!(
            now.millis_since(Timestamp::from_ms(i64::MIN)),
            i64::MAX.unsigned_abs()
        );
        assert_eq!(now.plus_ms(u64::MAX).as_ms(), i64::MAX);
        assert_eq!(now.minus_ms(6).as_ms(), -1);
    }
}
