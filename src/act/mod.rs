//! Doing what was decided: one JSON Patch per pass, and what follows from each answer.
//!
//! Nothing here retries. The next pass starts from a fresh observation; [`outcome`] says how soon.

pub mod dry_run;
pub mod kube;
pub mod outcome;
pub mod patch;

use std::future::Future;

pub use outcome::{ActError, NextStep};
pub use patch::PatchPlan;

/// Says what became of a patch that did not fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Acted {
    /// It was written; this is the RayCluster as the API server has it now.
    Written(serde_json::Value),
    /// It was only recorded.
    Recorded,
}

/// Writes a patch, or pretends to.
pub trait Act {
    /// Carries out `plan`.
    ///
    /// Errors: [`ActError::next_step`] says what is to be done about it.
    fn patch(&mut self, plan: &PatchPlan) -> impl Future<Output = Result<Acted, ActError>> + Send;
}
