//! Checks every decision before it is applied, and makes some of them again.
//!
//! What one decision shows is checked each time. Deciding again costs as much as deciding, so that
//! it is done for changes of clusters that take little, all three ways; for larger ones one way in
//! turn; and where a decision takes long, not at all. Passes that change nothing are made again now
//! and then, as most passes do.

use crate::engine::Engine;
use crate::engine::invariants::{Again, Violation, check_again, check_of};
use crate::model::ScaleDecision;
use crate::policy::PolicyContext;

/// Work up to which a decision is made again in every way: some milliseconds.
const SMALL: u64 = 2_000;
/// Work up to which it is made again in one way: some tens of milliseconds.
const LARGE: u64 = 20_000;
/// One in so many passes that change nothing is made again.
const QUIET_PERIOD: u64 = 64;

/// Knows whose turn it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Audit {
    passes: u64,
    turn: usize,
}

impl Audit {
    /// Returns every rule that a decision breaks.
    pub(super) fn check(
        &mut self,
        engine: &Engine,
        ctx: PolicyContext<'_>,
        decision: &ScaleDecision,
    ) -> Vec<Violation> {
        let mut violations = check_of(engine, ctx, decision);
        if violations.is_empty() {
            let again = self.due(ctx, decision).into_iter();
            violations.extend(again.filter_map(|again| check_again(engine, ctx, decision, again)));
        }
        violations
    }

    fn due(&mut self, ctx: PolicyContext<'_>, decision: &ScaleDecision) -> Vec<Again> {
        self.passes = self.passes.wrapping_add(1);
        if !decision.is_change() && !self.passes.is_multiple_of(QUIET_PERIOD) {
            return Vec::new();
        }
        let snapshot = ctx.snapshot;
        let entries = snapshot.nodes.len() + snapshot.demands.len() + snapshot.gangs.len();
        let work = decision
            .steps
            .saturating_add(u64::try_from(entries).unwrap_or(u64::MAX));
        if work <= SMALL {
            return Again::ALL.to_vec();
        }
        if work > LARGE {
            return Vec::new();
        }
        self.turn = (self.turn + 1) % Again::ALL.len();
        vec![Again::ALL[self.turn]]
    }
}
