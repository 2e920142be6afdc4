//! Doing what was decided: drains, then one JSON Patch per pass, and what follows from each answer.
//!
//! Nothing here retries, but for a patch that is refused with its intent and may be accepted without. The next pass
//! starts from a fresh observation; [`outcome`] says how soon.

mod caution;
pub mod drain;
mod drained;
pub mod dry_run;
mod intent_keeper;
pub mod kube;
mod members;
mod memory;
pub mod outcome;
mod paced;
pub mod patch;
pub mod resize;
pub mod sidecar;
pub mod tell;
pub mod terminate;

pub use drain::{DrainSettings, Drainer};
pub use drained::{Drained, Refusal};
pub use dry_run::DryRun;
pub use outcome::{ActError, NextStep};
pub use patch::{GroupChange, PatchPlan};
pub use resize::{ResizeOrder, ResizeStep, Resized, Resizer};
pub use sidecar::{SidecarAct, WriteMode};
pub use tell::{Teller, Telling};
pub use terminate::{Terminated, Terminator};

pub(crate) use memory::{remember, remember_act, uncounted};

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ClusterSnapshot, History, Intent, PodName, ScaleDecision, Timestamp};

/// Holds what is to be done, and what was known when it was decided.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The facts.
    pub snapshot: &'a ClusterSnapshot,
    /// The decision.
    pub decision: &'a ScaleDecision,
    /// What is remembered.
    pub history: &'a History,
}

impl Order<'_> {
    /// Returns what is to survive once `plan` is written: what is remembered, and this act.
    #[must_use]
    pub fn intent(&self, drained: &Drained, (plan, now): (&PatchPlan, Timestamp)) -> Intent {
        let mut history = self.history.clone();
        remember(&mut history, &plan.groups, self.decision, now);
        let answers = (&drained.accepted[..], &drained.leaving);
        let act = (self.decision, &plan.groups[..]);
        memory::remember_drains(&mut history, answers, act, now);
        // The list says of these that they go; whoever reads it needs no other word, and there may be hundreds.
        let listed = self.snapshot.groups.iter();
        let listed = listed.flat_map(|group| &group.workers_to_delete);
        let mut named: BTreeSet<&PodName> = listed.collect();
        for change in &plan.groups {
            named.extend(&change.named);
        }
        history.drained_at.retain(|pod, _| !named.contains(pod));
        Intent::of(&history, self.snapshot.writing.own.as_ref(), now)
    }
}

/// Holds what one pass did.
#[derive(Debug, Default)]
pub struct Applied {
    /// Pods whose raylets have accepted their drain.
    pub drained: Vec<PodName>,
    /// Pods that keep their replica, and why.
    pub refused: Vec<Refusal>,
    /// Pods that must go and have work, and until when they may finish it: their replicas are off
    /// the number already, and are named then.
    pub leaving: BTreeMap<PodName, Timestamp>,
    /// Replicas that nobody was asked about, for lack of time or before a patch went through again: the next pass comes
    /// at once.
    pub not_asked: usize,
    /// What became of the patch.
    pub patch: PatchOutcome,
    /// The patch itself where its answer was lost: it may have been carried out.
    pub unsure: Option<Unsure>,
}

/// Holds a patch of which nobody knows whether it was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsure {
    /// The intent that it carried: once the RayCluster shows this text, it was.
    pub intent: String,
    /// What it was to change.
    pub changes: Vec<GroupChange>,
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

#[cfg(test)]
mod tests;
