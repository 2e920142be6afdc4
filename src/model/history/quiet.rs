//! Since when nobody has used the cluster.

use serde::{Deserialize, Serialize};

use super::super::{ClusterSnapshot, Timestamp};
use super::History;

/// What Ray said of its drivers counts for this long. Units: milliseconds.
const SAID_FOR_MS: u64 = 10_000;

/// Holds since when there has been no driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quiet {
    /// Since when; `None` while there is one, or nobody knows.
    pub since: Option<Timestamp>,
    /// When the last driver that we know of ended, by Ray's clock. Units: milliseconds since 1970.
    pub ended_at_ms: u64,
}

impl Quiet {
    /// Returns whether there is nothing to remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl History {
    /// Takes in what Ray says of its drivers; what it does not say counts as a driver.
    pub(super) fn observe_drivers(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        let quiet = &mut self.quiet;
        let Some(termination) = &snapshot.termination else {
            *quiet = Quiet::default();
            return;
        };
        let drivers = termination
            .drivers
            .filter(|drivers| !drivers.is_any && at.millis_since(drivers.at) < SAID_FOR_MS);
        let Some(drivers) = drivers else {
            quiet.since = None;
            return;
        };
        // One came and went between two looks.
        if drivers.ended_at_ms > quiet.ended_at_ms {
            quiet.ended_at_ms = drivers.ended_at_ms;
            quiet.since = None;
        }
        quiet.since.get_or_insert(at);
    }
}
