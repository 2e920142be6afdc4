//! How many placement steps a decision may take, from how long they took before.

/// Time that a decision should take at most. Units: milliseconds.
///
/// Why 200: demand is seen within a tenth of a second, and a decision that takes longer than two of
/// those is late for the next one.
const AIM_MS: f64 = 200.0;

/// Steps below which a decision says nothing about their speed.
const TELLING_STEPS: u64 = 10_000;

/// Fewest steps that are given, however slow they were: even then a decision gets on.
const STEPS_MIN: f64 = 50_000.0;

/// Knows how long a step takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkBudget {
    steps_per_ms: f64,
}

impl Default for WorkBudget {
    fn default() -> Self {
        // A processor that was busy otherwise made 1,400.
        Self {
            steps_per_ms: 1_000.0,
        }
    }
}

impl WorkBudget {
    /// Returns the steps for the next decision.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float to int casts saturate"
    )]
    pub(super) fn steps(&self) -> u64 {
        (self.steps_per_ms * AIM_MS).max(STEPS_MIN) as u64
    }

    /// Takes in how long a decision took.
    #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
    pub(super) fn learn(&mut self, steps: u64, took_ms: f64) {
        if steps < TELLING_STEPS || took_ms <= 0.0 {
            return;
        }
        // Slower at once, faster with some hesitation.
        let seen = steps as f64 / took_ms;
        let weight = if seen < self.steps_per_ms { 0.8 } else { 0.2 };
        self.steps_per_ms += weight * (seen - self.steps_per_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::WorkBudget;

    #[test]
    fn slow_decisions_get_fewer_steps_and_always_some() {
        let mut budget = WorkBudget::default();
        let first = budget.steps();
        budget.learn(1_000_000, 500.0);
        assert!(budget.steps() > first);
        for _ in 0..50 {
            budget.learn(100_000, 100_000.0);
        }
        assert_eq!(budget.steps(), 50_000);
        budget.learn(10, 1_000.0);
        assert_eq!(budget.steps(), 50_000);
    }
}
