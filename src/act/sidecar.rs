//! The order of one act: drain, then patch with whoever may go.

use std::collections::BTreeSet;

use tokio::sync::watch;

use super::drain::Drainer;
use super::kube::KubeAct;
use super::{Applied, DryRun, PatchOutcome, patch};
use crate::model::{ClusterSnapshot, PodName, ScaleDecision};

/// Says whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// To Kubernetes and Ray.
    Write,
    /// Nothing at all: patches are recorded, raylets are not drained.
    DryRun,
}

/// Drains and patches.
#[derive(Debug)]
pub struct SidecarAct {
    drainer: Drainer,
    kube: KubeAct,
    dry_run: DryRun,
    mode: watch::Receiver<WriteMode>,
}

impl SidecarAct {
    /// Returns hands that have done nothing.
    #[must_use]
    pub fn new(drainer: Drainer, kube: KubeAct, mode: watch::Receiver<WriteMode>) -> Self {
        Self {
            drainer,
            kube,
            dry_run: DryRun::default(),
            mode,
        }
    }

    /// Does what `decision` says.
    pub async fn act(&mut self, snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Applied {
        if *self.mode.borrow() == WriteMode::DryRun {
            return self.pretend(snapshot, decision);
        }
        let drained = self.drainer.drain(snapshot, decision).await;
        let patch = match patch::plan(snapshot, decision, &drained.may_go) {
            None => PatchOutcome::Nothing,
            Some(plan) => match self.kube.patch(&plan).await {
                Ok(raycluster) => PatchOutcome::Done {
                    raycluster,
                    changes: plan.groups,
                },
                Err(error) => PatchOutcome::Failed(error),
            },
        };
        Applied {
            drained: drained.accepted,
            refused: drained.refused,
            patch,
        }
    }

    /// Records the patch that would be sent if every raylet agreed.
    fn pretend(&mut self, snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Applied {
        let removals = decision.groups.iter().flat_map(|group| &group.remove);
        let may_go: BTreeSet<PodName> = removals
            .flat_map(|removal| &removal.pods)
            .cloned()
            .collect();
        let patch = match patch::plan(snapshot, decision, &may_go) {
            None => PatchOutcome::Nothing,
            Some(plan) => {
                self.dry_run.record(&plan);
                PatchOutcome::Recorded(plan.groups)
            }
        };
        Applied {
            patch,
            ..Applied::default()
        }
    }
}
