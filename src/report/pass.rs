//! What the loop tells about one pass.

use std::time::Duration;

use crate::model::{
    ClusterSnapshot, History, PodName, ReplicaRemoval, ScaleDecision, Timestamp, WorkerGroupName,
};

/// Names a part of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Asking Ray and Kubernetes, and joining what they say.
    Observe,
    /// The engine.
    Decide,
    /// Drains and the patch.
    Act,
    /// Metrics, logs, and what Ray is told.
    Report,
}

impl Phase {
    /// Returns the phase as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Decide => "decide",
            Self::Act => "act",
            Self::Report => "report",
        }
    }
}

/// Says what came of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Outcome {
    /// There was nothing to write.
    #[default]
    Nothing,
    /// It was written.
    Patched,
    /// It was not written because of the dry run.
    DryRun,
    /// It was not written because writing is paused; why.
    Paused(String),
    /// It was not written because it breaks these invariants.
    Violated(Vec<String>),
    /// Writing failed.
    Failed {
        /// A stable word, used as a metric label.
        cause: &'static str,
        /// The chain of errors.
        detail: String,
    },
}

impl Outcome {
    /// Returns the outcome as a word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Patched => "patched",
            Self::DryRun => "dry_run",
            Self::Paused(_) => "paused",
            Self::Violated(_) => "violated",
            Self::Failed { cause, .. } => cause,
        }
    }
}

/// Holds what was written for one group.
///
/// Units: replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaled {
    /// The group.
    pub group: WorkerGroupName,
    /// `replicas` before.
    pub from: u32,
    /// `replicas` after.
    pub to: u32,
    /// Replicas that were named.
    pub removed: Vec<ReplicaRemoval>,
}

/// Holds the answer of one raylet that was told to drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainAnswer {
    /// The group.
    pub group: WorkerGroupName,
    /// The pod.
    pub pod: PodName,
    /// What the raylet said.
    pub outcome: DrainOutcome,
}

/// Says how a raylet answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainOutcome {
    /// It will stop.
    Accepted,
    /// It goes on; why, as `code: words`.
    Refused(String),
    /// The call failed; the chain of errors, as `code: words`.
    Failed(String),
}

impl DrainOutcome {
    /// Returns the name in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }
}

/// Holds what was done in one pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acted {
    /// What came of the decision.
    pub outcome: Outcome,
    /// What was written, empty unless the outcome is [`Outcome::Patched`].
    pub scaled: Vec<Scaled>,
    /// What raylets answered.
    pub drains: Vec<DrainAnswer>,
    /// Invariants that another decision would have broken, in whose place this one was made.
    pub replaced: Vec<String>,
    /// How long the patch took.
    pub patch_duration: Duration,
}

/// Holds all that the loop tells about one pass.
#[derive(Debug, Clone, Copy)]
pub struct PassReport<'a> {
    /// When it was seen: the moment the last source of the snapshot answered, before deciding.
    pub observed_at: Timestamp,
    /// What was seen.
    pub snapshot: &'a ClusterSnapshot,
    /// What was decided.
    pub decision: &'a ScaleDecision,
    /// What the engine remembers.
    pub history: &'a History,
    /// What was done.
    pub acted: &'a Acted,
    /// How long each part took.
    pub phases: &'a [(Phase, Duration)],
    /// Ray's session, the label of the stock metrics.
    pub session_name: &'a str,
    /// Whether nothing is written on purpose.
    pub is_dry_run: bool,
}
