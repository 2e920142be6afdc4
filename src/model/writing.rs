//! Who may write to the RayCluster: of two sidecars, the one in the newer head pod.

use serde::{Deserialize, Serialize};

use super::HeadPod;

/// Says what stands in the RayCluster's annotations for the intent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentSeen {
    /// The RayCluster has no annotations at all.
    #[default]
    NoAnnotations,
    /// It has others.
    Absent,
    /// This text.
    Text(String),
}

/// Holds who we are and whether somebody else writes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Writing {
    /// The head pod that we run in; `None` where that is not known.
    pub own: Option<HeadPod>,
    /// What the last writer left.
    pub seen: IntentSeen,
    /// Whether that was the sidecar of another head pod, which is gone or older than ours.
    pub is_inherited: bool,
    /// Why we may not write; `None` when we may.
    pub fenced: Option<String>,
}

impl Writing {
    /// Returns whether the annotation is to say that we write now, though nothing else is to be written.
    #[must_use]
    pub const fn must_claim(&self) -> bool {
        self.is_inherited && self.fenced.is_none()
    }
}
