//! Of which nodes Ray is to be told that they are gone or about to go.
//!
//! The GCS notices a node that ended without a word only by missed health checks, 15 to 58 s later.
//! Until then its actors and placement groups wait, and the replacement looks idle. A live raylet
//! that is called dead ends itself, so nothing is told while anything about the cluster is unsure.

use super::EngineSettings;
use super::gate::gate;
use crate::model::Departure;
use crate::policy::PolicyContext;

/// A GCS that did not take it is told again after this. Units: milliseconds.
const AGAIN_MS: u64 = 5_000;

/// A GCS that is another cluster now gets this long to learn of its nodes. Units: milliseconds.
const SETTLE_MS: u64 = 10_000;

/// Returns what Ray is to be told now.
pub(super) fn due(ctx: PolicyContext<'_>, settings: &EngineSettings) -> Vec<Departure> {
    if ctx.snapshot.departures.is_empty() || !settings.tell_departures {
        return Vec::new();
    }
    let gate = gate(ctx, settings);
    let replaced_at = ctx.history.gcs_replaced_at;
    let is_settling = replaced_at.is_some_and(|at| ctx.now.millis_since(at) < SETTLE_MS);
    if gate.is_closed || !gate.may_remove || is_settling {
        return Vec::new();
    }
    let is_due = |departure: &&Departure| {
        let told_at = ctx.history.told_at(departure);
        told_at.is_none_or(|at| ctx.now.millis_since(at) >= AGAIN_MS)
    };
    let due = ctx.snapshot.departures.iter().filter(is_due);
    due.cloned().collect()
}
