//! Checks every decision before it is applied, and makes some of them again.
//!
//! What one decision shows is checked each time. Deciding again costs as much as deciding, so that
//! it is done for changes of clusters that take little, all three ways; for larger ones one way in
//! turn; and where a decision takes long, not at all. Passes that change nothing are made again now
//! and then, as most passes do.

use std::collections::BTreeSet;

use crate::engine::Engine;
use crate::engine::invariants::{Again, Violation, check_again_within, check_of};
use crate::model::{ClusterSnapshot, ReplicaBounds, ScaleDecision, WorkerGroupName};
use crate::policy::PolicyContext;

/// Work up to which a decision is made again in every way: some milliseconds.
const SMALL: u64 = 2_000;
/// Work up to which it is made again in one way: some tens of milliseconds.
const LARGE: u64 = 20_000;
/// One in so many passes that change nothing is made again.
const QUIET_PERIOD: u64 = 64;
/// How often a decision is made once more with other groups left as they are.
const SET_ASIDE_ROUNDS: usize = 3;

/// Holds a decision that was checked.
#[derive(Debug)]
pub(super) struct Checked {
    /// The decision, or one without removals in its place.
    pub(super) decision: ScaleDecision,
    /// What the one without removals was made of.
    pub(super) snapshot: Option<Box<ClusterSnapshot>>,
    /// Every rule that the decision broke that was made first.
    pub(super) violations: Vec<Violation>,
    /// Whether `decision` breaks none.
    pub(super) is_sound: bool,
}

/// Knows whose turn it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Audit {
    passes: u64,
    turn: usize,
}

impl Audit {
    /// Returns a decision that may be applied, where there is one.
    ///
    /// A mistake of ours must not keep work waiting: in place of a decision that breaks a rule one is made, and
    /// checked, that removes nothing; and where that breaks one, another that leaves the groups as they are which
    /// it got wrong, so that the others go on.
    pub(super) fn checked(
        &mut self,
        engine: &Engine,
        ctx: PolicyContext<'_>,
        decision: ScaleDecision,
        steps: u64,
    ) -> Checked {
        let violations = self.check(engine, ctx, (&decision, steps));
        let mut checked = Checked {
            is_sound: violations.is_empty(),
            snapshot: None,
            decision,
            violations,
        };
        if checked.is_sound {
            return checked;
        }
        let mut snapshot = ctx.snapshot.clone();
        let broken = checked.violations.iter();
        let broken: Vec<String> = broken.map(ToString::to_string).collect();
        snapshot.distrusted = Some(broken.join("; "));
        for _ in 0..=SET_ASIDE_ROUNDS {
            let pinned = pinned(&snapshot);
            let decision = engine.decide_within(&pinned, ctx.history, ctx.now, steps);
            let ctx = PolicyContext {
                snapshot: &pinned,
                ..ctx
            };
            let violations = self.check(engine, ctx, (&decision, steps));
            if !violations.is_empty() {
                let suspects = suspects(&snapshot, &decision, &violations);
                if suspects.is_empty() {
                    break;
                }
                snapshot.set_aside.extend(suspects);
                continue;
            }
            // Where nothing is left to be done, it is told that nothing could be.
            if snapshot.set_aside.is_empty() || decision.is_change() {
                checked.decision = decision;
                checked.snapshot = Some(Box::new(snapshot));
                checked.is_sound = true;
            }
            break;
        }
        checked
    }

    /// Returns every rule that a decision breaks.
    fn check(
        &mut self,
        engine: &Engine,
        ctx: PolicyContext<'_>,
        (decision, steps): (&ScaleDecision, u64),
    ) -> Vec<Violation> {
        let mut violations = check_of(engine, ctx, decision);
        if violations.is_empty() {
            let again = self.due(ctx, decision).into_iter();
            let made = (decision, steps);
            violations
                .extend(again.filter_map(|again| check_again_within(engine, ctx, made, again)));
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

/// Returns the snapshot with the groups that are set aside bound to what they have.
fn pinned(snapshot: &ClusterSnapshot) -> ClusterSnapshot {
    let mut pinned = snapshot.clone();
    let groups = pinned.groups.iter_mut();
    for group in groups.filter(|group| snapshot.set_aside.contains(&group.name)) {
        group.bounds = ReplicaBounds {
            min: group.replicas,
            max: group.replicas,
        };
    }
    pinned
}

/// Returns the groups that a decision got wrong; where no rule names one, those that it changes.
fn suspects(
    snapshot: &ClusterSnapshot,
    decision: &ScaleDecision,
    violations: &[Violation],
) -> BTreeSet<WorkerGroupName> {
    let is_new = |name: &WorkerGroupName| !snapshot.set_aside.contains(name);
    let named = violations.iter().filter_map(|it| it.group.clone());
    let named: BTreeSet<_> = named.filter(is_new).collect();
    if !named.is_empty() {
        return named;
    }
    let changed = decision.groups.iter().filter(|group| group.is_change());
    let changed = changed.map(|group| group.name.clone());
    changed.filter(is_new).collect()
}
