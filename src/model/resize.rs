//! In-place resizing of pods: what a group allows, and where each pod stands.
//!
//! Source: the annotation `ray.io/ippr` of the RayCluster, and the status and annotation
//! `ray.io/ippr-status` of each pod.

mod note;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use note::{ResizeFailure, ResizeNote};

use super::{PodName, Quantity, WorkerGroupName};

/// Holds the two resources that can be resized in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct PodSize {
    /// Cores.
    pub cpu: Quantity,
    /// Bytes.
    pub memory: Quantity,
}

impl PodSize {
    /// Returns the size of so many 1/1000 of a processor and so many bytes.
    #[must_use]
    pub const fn of((cpu_millis, memory_bytes): (i64, i64)) -> Self {
        Self {
            cpu: Quantity::from_units(cpu_millis.saturating_mul(Quantity::SCALE / 1000)),
            memory: Quantity::from_whole(memory_bytes),
        }
    }

    /// Returns the smaller of both in each resource.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.min(other.cpu),
            memory: self.memory.min(other.memory),
        }
    }
}

/// Says how far the resize of a pod has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeState {
    /// None is under way.
    #[default]
    Settled,
    /// It has been decided and not been asked for yet.
    Decided,
    /// Kubernetes has been asked for it; `desired` counts already.
    Asked,
    /// Kubernetes has done it and the raylet has to hear of it; `desired` counts already.
    Resized,
    /// Kubernetes put it off, refuses it, or the raylet has not heard of it; nothing more is asked.
    Unsettled,
    /// One has failed; Ray resizes such a pod never again.
    Failed,
}

/// Holds where a pod stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PodResize {
    /// What the pod has.
    pub current: PodSize,
    /// What was asked for last.
    pub desired: PodSize,
    /// The most it may be given.
    pub max: PodSize,
    /// How far that has come.
    pub state: ResizeState,
    /// What it takes to ask; absent in facts that nobody acts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Box<ResizeBasis>>,
}

/// Holds what it takes to ask for a resize, and what must still be so when it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResizeBasis {
    /// `metadata.uid` of the pod.
    pub uid: String,
    /// What the pod's spec asks for.
    pub asked: PodSize,
    /// By how much the limit of processors is above the request, which stays so; `None` without a limit.
    pub cpu_gap: Option<Quantity>,
    /// The same of memory.
    pub memory_gap: Option<Quantity>,
    /// The pod's annotation, as it is; `None` when it has none.
    pub noted: Option<String>,
    /// What it is to say with the next write, apart from when that was and to which raylet.
    pub note: ResizeNote,
}

impl PodResize {
    /// Returns what the pod is to have.
    ///
    /// That it is to grow is noted first and asked for then: seen in between, it looks as if it had been done.
    /// What has failed is not asked for any more: then it stays as it is.
    #[must_use]
    pub fn expected(&self) -> PodSize {
        let is_noted = self
            .basis
            .as_ref()
            .is_some_and(|basis| basis.note.resizing_at.is_some() && basis.note.failure.is_none());
        if self.state == ResizeState::Resized && is_noted {
            PodSize {
                cpu: self.desired.cpu.max(self.max.cpu),
                memory: self.desired.memory.max(self.max.memory),
            }
        } else {
            self.desired
        }
    }

    /// Returns whether the pod may be asked to grow now.
    #[must_use]
    pub fn can_grow(&self) -> bool {
        let is_below = self.current.cpu < self.max.cpu || self.current.memory < self.max.memory;
        self.state == ResizeState::Settled && is_below
    }
}

/// Holds all that is known of resizing; empty where it is not in use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resizing {
    /// What each group allows.
    pub groups: BTreeMap<WorkerGroupName, PodSize>,
    /// Where the pods stand.
    pub pods: BTreeMap<PodName, PodResize>,
}

/// Asks for one pod to be resized in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeRequest {
    /// The pod.
    pub pod: PodName,
    /// What it should have.
    pub desired: PodSize,
}
