//! The last pass whole, so that whoever asks can decide over again what was decided.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{ClusterSnapshot, History, ScaleDecision, Timestamp};

/// Holds one pass: what was seen and remembered, and what was decided of it.
///
/// Source: `GET /v1/pass`. With the engine of the same configuration,
/// `decide(snapshot, memory, at)` is `decision` again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastPass {
    /// The moment of the decision.
    ///
    /// Units: milliseconds since 1970.
    pub at: Timestamp,
    /// What came of it, in a word: `nothing`, `patched`, `dry_run`, `paused`, `violated`, `backing_off`,
    /// or why writing failed.
    pub outcome: String,
    /// What a person wants to know besides: why writing failed or is paused; may be empty.
    pub outcome_detail: String,
    /// Whether nothing is written on purpose.
    pub is_dry_run: bool,
    /// What was seen.
    pub snapshot: Arc<ClusterSnapshot>,
    /// What was decided.
    pub decision: Arc<ScaleDecision>,
    /// What the engine remembered.
    pub memory: Arc<History>,
}
