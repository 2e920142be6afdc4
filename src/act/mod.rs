//! Doing what was decided: drains, then one JSON Patch per pass, and what follows from each answer.
//!
//! Nothing here retries. The next pass starts from a fresh observation; [`outcome`] says how soon.

pub mod drain;
pub mod dry_run;
pub mod kube;
pub mod outcome;
pub mod patch;
pub mod sidecar;

pub use drain::{DrainSettings, Drainer, Refusal};
pub use dry_run::DryRun;
pub use outcome::{ActError, NextStep};
pub use patch::{GroupChange, PatchPlan};
pub use sidecar::{SidecarAct, WriteMode};

use crate::model::PodName;

/// Holds what one pass did.
#[derive(Debug, Default)]
pub struct Applied {
    /// Pods whose raylets have accepted their drain.
    pub drained: Vec<PodName>,
    /// Pods that keep their replica, and why.
    pub refused: Vec<Refusal>,
    /// What became of the patch.
    pub patch: PatchOutcome,
}

/// Says what became of the patch.
#[derive(Debug, Default)]
pub enum PatchOutcome {
    /// There was nothing to write.
    #[default]
    Nothing,
    /// It was recorded, not sent.
    Recorded(Vec<GroupChange>),
    /// It was written.
    Done {
        /// The RayCluster as the API server has it now.
        raycluster: serde_json::Value,
        /// What changed.
        changes: Vec<GroupChange>,
    },
    /// It was not written, or nobody knows.
    Failed(ActError),
}
