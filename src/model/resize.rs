//! In-place resizing of pods: what a group allows, and where each pod stands.
//!
//! Source: the annotation `ray.io/ippr` of the RayCluster, and the status and annotation
//! `ray.io/ippr-status` of each pod.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{PodName, Quantity, WorkerGroupName};

/// Holds the two resources that can be resized in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct PodSize {
    /// Cores.
    pub cpu: Quantity,
    /// Bytes.
    pub memory: Quantity,
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
}

impl PodResize {
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
