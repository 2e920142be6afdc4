//! Says when a report is due: on change, after the GCS restarted, and every so often anyway.

use crate::model::Timestamp;
use crate::wire::gcs::ray::rpc::autoscaler::AutoscalingState;

/// A report is sent this often though nothing changed, should the GCS have lost it.
const INTERVAL_MAX_MS: u64 = 30_000;

/// Changes within this time go into one report: a thousand pods that start tell the GCS four times
/// a second and not a thousand times.
const INTERVAL_MIN_MS: u64 = 250;

/// Paces values of one kind.
#[derive(Debug)]
pub(super) struct Pacer<T> {
    interval_max_ms: u64,
    sent: Option<(T, Timestamp)>,
    tried_at: Option<Timestamp>,
    waiting_until: Option<Timestamp>,
}

impl<T: PartialEq> Pacer<T> {
    /// Returns a pacer that sends at least this often.
    pub(super) const fn new(interval_max_ms: u64) -> Self {
        Self {
            interval_max_ms,
            sent: None,
            tried_at: None,
            waiting_until: None,
        }
    }

    /// Returns whether `value` is to be sent now.
    pub(super) fn is_due(&mut self, value: &T, now: Timestamp) -> bool {
        let is_settled = self.sent.as_ref().is_some_and(|(sent, at)| {
            sent == value && now.millis_since(*at) < self.interval_max_ms
        });
        self.waiting_until = None;
        if is_settled {
            return false;
        }
        let next = self.tried_at.map(|at| at.plus_ms(INTERVAL_MIN_MS));
        if let Some(next) = next.filter(|next| *next > now) {
            self.waiting_until = Some(next);
            return false;
        }
        self.tried_at = Some(now);
        true
    }

    /// Notes that `value` was delivered.
    pub(super) fn delivered(&mut self, value: T, at: Timestamp) {
        self.sent = Some((value, at));
    }

    /// Notes that nothing is known to be delivered.
    pub(super) fn forget(&mut self) {
        self.sent = None;
    }

    /// Returns when a change that was held back is due; `None` when none is.
    pub(super) const fn waiting_until(&self) -> Option<Timestamp> {
        self.waiting_until
    }
}

/// Paces and numbers the reports to the GCS.
///
/// The GCS throws away a report with a lower number than the last one it took, so that a process
/// that starts counting anew is not heard until it has caught up.
#[derive(Debug)]
pub struct ReportPacer {
    pacer: Pacer<AutoscalingState>,
    version: i64,
    pending: Option<AutoscalingState>,
}

impl Default for ReportPacer {
    fn default() -> Self {
        Self {
            pacer: Pacer::new(INTERVAL_MAX_MS),
            version: 0,
            pending: None,
        }
    }
}

impl ReportPacer {
    /// Returns a pacer that reports at least this often, whatever happens.
    ///
    /// Units: milliseconds.
    #[must_use]
    pub fn every(interval_ms: u64) -> Self {
        Self {
            pacer: Pacer::new(interval_ms),
            ..Self::default()
        }
    }

    /// Continues above the number that the GCS has (`GetClusterStatus`), and sends again.
    pub fn continue_above(&mut self, version: i64) {
        self.version = self.version.max(version);
        self.pacer.forget();
    }

    /// Returns the numbered report if it is to be sent now.
    #[must_use]
    pub fn due(&mut self, state: AutoscalingState, now: Timestamp) -> Option<AutoscalingState> {
        let seen = state.last_seen_cluster_resource_state_version;
        let content = AutoscalingState {
            // Counts calls of the GCS, so it is no change.
            last_seen_cluster_resource_state_version: 0,
            autoscaler_state_version: 0,
            ..state
        };
        if !self.pacer.is_due(&content, now) {
            return None;
        }
        self.version = self.version.saturating_add(1);
        let numbered = AutoscalingState {
            last_seen_cluster_resource_state_version: seen,
            autoscaler_state_version: self.version,
            ..content.clone()
        };
        self.pending = Some(content);
        Some(numbered)
    }

    /// Notes that the last report was taken.
    pub fn delivered(&mut self, at: Timestamp) {
        if let Some(content) = self.pending.take() {
            self.pacer.delivered(content, at);
        }
    }

    /// Notes that the last report was not taken: it is due again.
    pub fn failed(&mut self) {
        self.pending = None;
        self.pacer.forget();
    }

    /// Returns when a change that was held back is due; `None` when none is.
    #[must_use]
    pub const fn waiting_until(&self) -> Option<Timestamp> {
        self.pacer.waiting_until()
    }
}

#[cfg(test)]
mod tests {
    use super::{INTERVAL_MAX_MS, INTERVAL_MIN_MS, ReportPacer};
    use crate::model::Timestamp;
    use crate::wire::gcs::ray::rpc::autoscaler::{AutoscalingState, PendingInstance};

    fn state(seen: i64, pod: &str) -> AutoscalingState {
        AutoscalingState {
            last_seen_cluster_resource_state_version: seen,
            pending_instances: vec![PendingInstance {
                instance_id: pod.to_owned(),
                ..PendingInstance::default()
            }],
            ..AutoscalingState::default()
        }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::default().plus_ms(ms)
    }

    fn version(state: Option<AutoscalingState>) -> Option<i64> {
        state.map(|state| state.autoscaler_state_version)
    }

    #[test]
    fn an_unchanged_report_is_sent_every_thirty_seconds() {
        let mut pacer = ReportPacer::default();
        assert_eq!(version(pacer.due(state(1, "a"), at(0))), Some(1));
        pacer.delivered(at(0));
        assert_eq!(
            version(pacer.due(state(2, "a"), at(INTERVAL_MAX_MS - 1))),
            None
        );
        assert_eq!(
            version(pacer.due(state(3, "a"), at(INTERVAL_MAX_MS))),
            Some(2)
        );
    }

    #[test]
    fn changes_in_quick_succession_go_into_one_report() {
        let mut pacer = ReportPacer::default();
        assert!(pacer.due(state(1, "a"), at(0)).is_some());
        pacer.delivered(at(0));
        assert!(pacer.due(state(1, "b"), at(10)).is_none());
        assert_eq!(pacer.waiting_until(), Some(at(INTERVAL_MIN_MS)));
        assert!(pacer.due(state(1, "c"), at(INTERVAL_MIN_MS)).is_some());
        assert_eq!(pacer.waiting_until(), None);
    }

    #[test]
    fn a_report_that_was_not_taken_is_due_again() {
        let mut pacer = ReportPacer::default();
        assert!(pacer.due(state(1, "a"), at(0)).is_some());
        pacer.failed();
        assert_eq!(
            version(pacer.due(state(1, "a"), at(INTERVAL_MIN_MS))),
            Some(2)
        );
    }

    #[test]
    fn numbers_continue_above_what_the_gcs_has() {
        let mut pacer = ReportPacer::default();
        pacer.continue_above(41);
        assert_eq!(version(pacer.due(state(1, "a"), at(0))), Some(42));
        pacer.delivered(at(0));
        // A GCS that lost its state is told at once, with a number that never falls.
        pacer.continue_above(0);
        assert_eq!(version(pacer.due(state(1, "a"), at(300))), Some(43));
    }
}
