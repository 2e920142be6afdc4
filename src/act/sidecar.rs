//! The order of one act: drain, then patch with whoever may go.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;

use super::drain::{Drained, Drainer};
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

/// Healthy raylets answer in 5 ms; demand does not wait for the others.
const GROWTH_WAITS: Duration = Duration::from_millis(200);

/// Drains and patches.
#[derive(Debug)]
pub struct SidecarAct {
    drainer: Drainer,
    kube: KubeAct,
    dry_run: DryRun,
    mode: watch::Receiver<WriteMode>,
    stopping: watch::Receiver<bool>,
}

impl SidecarAct {
    /// Returns hands that have done nothing.
    #[must_use]
    pub fn new(
        drainer: Drainer,
        kube: KubeAct,
        (mode, stopping): (watch::Receiver<WriteMode>, watch::Receiver<bool>),
    ) -> Self {
        Self {
            drainer,
            kube,
            dry_run: DryRun::default(),
            mode,
            stopping,
        }
    }

    /// Does what `decision` says.
    pub async fn act(&mut self, snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Applied {
        if *self.mode.borrow() == WriteMode::DryRun {
            return self.pretend(snapshot, decision);
        }
        if self.is_stopping() {
            return Applied::default();
        }
        let drained = self.drain(snapshot, decision).await;
        // An accepted drain cannot be taken back, so its pod is still named; nothing else is written.
        if self.is_stopping() && drained.accepted.is_empty() {
            return Applied::default();
        }
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

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Drains, and does not let growth wait for raylets that do not answer.
    ///
    /// A drain that was accepted meanwhile and whose answer was not awaited is seen in the next
    /// observation: a pod that runs without its raylet is released.
    async fn drain(&self, snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Drained {
        let drain = self.drainer.drain(snapshot, decision);
        let mut groups = decision.groups.iter();
        if !groups.any(|group| group.replicas_to > group.replicas_from) {
            return drain.await;
        }
        let drained = tokio::time::timeout(GROWTH_WAITS, drain).await;
        drained.unwrap_or_default()
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
