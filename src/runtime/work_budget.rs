//! How many placement steps a decision may take, from how long they took before.

use super::controller::WriteHold;
use crate::model::{ScaleDecision, Timestamp};

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

/// Returns when to decide again by itself.
///
/// A cut decision asks for it at once, to go on from what it has written. Where nothing may be written it would come
/// no further, at the cost of a whole budget each time: news and the heartbeat are enough.
pub(super) fn next_check_at(
    decision: &ScaleDecision,
    hold: Option<WriteHold>,
) -> Option<Timestamp> {
    let leads_nowhere = decision.is_cut && hold.is_some();
    decision.next_check_at.filter(|_| !leads_nowhere)
}

#[cfg(test)]
mod tests {
    use super::{ScaleDecision, Timestamp, WorkBudget, WriteHold, next_check_at};

    #[test]
    fn a_cut_decision_that_may_not_be_written_is_not_made_again_at_once() {
        let at = Some(Timestamp::from_ms(100));
        let mut decision = ScaleDecision {
            next_check_at: at,
            ..ScaleDecision::default()
        };
        assert_eq!(next_check_at(&decision, Some(WriteHold::Paused)), at);
        decision.is_cut = true;
        assert_eq!(next_check_at(&decision, None), at);
        for hold in [
            WriteHold::Paused,
            WriteHold::Fenced,
            WriteHold::Invariant,
            WriteHold::BackingOff(Timestamp::from_ms(900)),
        ] {
            assert_eq!(next_check_at(&decision, Some(hold)), None, "{hold:?}");
        }
    }

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
