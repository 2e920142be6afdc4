//! How long nothing is written after a patch has failed.

use std::collections::BTreeSet;

use super::backoff::Backoff;
use crate::act::{ActError, NextStep};
use crate::model::{GroupDecision, ScaleDecision, Timestamp, WorkerGroupName};

/// After a failed patch: soon, because demand waits; at most half a minute.
const RETRY: Backoff = Backoff {
    first_ms: 200,
    max_ms: 30_000,
};

/// At most, where the API server was away or overloaded, or told of a RayCluster that is no more: it may be back any
/// time, and ten seconds after that capacity is to be right. Units: milliseconds.
const AWAY_MAX_MS: u64 = 5_000;

/// How long a patch that cannot succeed as things are is not tried again. Units: milliseconds.
const HOLD_MS: u64 = 5_000;

/// How soon another group is tried than those that may not become what they were to be. Units: milliseconds.
const OTHERS_WAIT_MS: u64 = 1_000;

/// Remembers what has failed, and until when nothing is written.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    failures: u32,
    until: Option<Timestamp>,
    /// Groups of which something has said that they may not become what they were to be, and when it said so last.
    refused: Option<(BTreeSet<WorkerGroupName>, Timestamp)>,
}

impl Quiet {
    /// Forgets all: a patch was carried out, or nothing is left to write.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Has the next decision written at once: what has failed may succeed now.
    pub(super) const fn lift(&mut self) {
        self.until = None;
    }

    /// Takes in that a decision could not be written.
    pub(super) fn begin(&mut self, error: &ActError, decision: &ScaleDecision, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let backoff_ms = RETRY.delay_ms(self.failures);
        let wait_ms = match error.next_step() {
            // The first time the object is simply read again; a second failure in a row means
            // that reading alone does not help.
            NextStep::ObserveAgain if self.failures == 1 => 0,
            // Something looks at what the patch makes of the object.
            NextStep::ObserveAgain if error.is_about_content() => backoff_ms,
            // The API server may have been away, or have told what was long ago.
            NextStep::ObserveAgain => backoff_ms.min(AWAY_MAX_MS),
            NextStep::Wait(pause) => {
                let asked_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                backoff_ms.min(AWAY_MAX_MS).max(asked_ms)
            }
            // Rights and limits change by hand, not by asking again soon.
            NextStep::Hold => backoff_ms.max(HOLD_MS),
        };
        self.until = Some(now.plus_ms(wait_ms));
        self.refused = error.is_about_content().then(|| {
            let mut groups = self.refused.take().unwrap_or_default().0;
            let changed = decision.groups.iter().filter(|group| group.is_change());
            groups.extend(changed.map(|group| group.name.clone()));
            (groups, now)
        });
    }

    /// Returns until when a decision is not written, if it is not written now.
    ///
    /// What a group may not become is no reason for another one to wait that long.
    pub(super) fn until(&self, decision: &ScaleDecision, now: Timestamp) -> Option<Timestamp> {
        let mut until = self.until?;
        if let Some((groups, at)) = &self.refused {
            let is_other =
                |group: &GroupDecision| group.is_change() && !groups.contains(&group.name);
            if !groups.is_empty() && decision.groups.iter().any(is_other) {
                until = until.min(at.plus_ms(OTHERS_WAIT_MS));
            }
        }
        Some(until).filter(|until| *until > now)
    }
}
