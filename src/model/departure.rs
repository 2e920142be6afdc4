//! Nodes that the GCS takes for alive although their pods are gone or on the way out.

use serde::{Deserialize, Serialize};

use super::{NodeId, PodName, Timestamp, WorkerGroupName};

/// Says how far a node has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DepartureKind {
    /// Its pod is gone, or its Ray container has ended and will not come back.
    Gone,
    /// Somebody else deletes its pod; the raylet runs until then.
    Leaving {
        /// When its grace period ends.
        until: Timestamp,
    },
}

impl DepartureKind {
    /// Returns the stable word for logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Leaving { .. } => "leaving",
        }
    }
}

/// Holds a node that Ray does not know to be leaving.
///
/// Source: the GCS's nodes, and the pod watch while it is in step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Departure {
    /// The raylet.
    pub node_id: NodeId,
    /// The pod that it ran in.
    pub pod: PodName,
    /// `metadata.uid` of that pod: another pod of the same name is another matter.
    pub pod_uid: String,
    /// The worker group.
    pub group: WorkerGroupName,
    /// How far it has left.
    pub kind: DepartureKind,
}
