//! Ray's view of the cluster, in the words of the model.
//!
//! `observe::convert` makes it from a GCS reply; `observe::join` puts it beside the pods.

use crate::model::{
    ClusterConstraint, Drivers, GangRequest, Labels, NodeId, Problem, ResourceDemand, ResourceMap,
    Timestamp,
};

/// Says how the GCS sees a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RayNodeStatus {
    /// Alive, with work or idle for zero milliseconds.
    Running,
    /// Alive and idle.
    Idle,
    /// Alive and told to stop.
    Draining,
    /// Gone.
    Dead,
    /// A status this version does not know: neither capacity nor removable.
    Unknown,
}

impl RayNodeStatus {
    /// Returns whether a raylet is there.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Idle | Self::Draining)
    }
}

/// Holds one node as the GCS reports it.
///
/// Shape: dead nodes carry no resources and no labels.
/// Source: `NodeState`.
#[derive(Debug, Clone, PartialEq)]
pub struct RayNode {
    /// The raylet's id.
    pub node_id: NodeId,
    /// `RAY_CLOUD_INSTANCE_ID`, the pod's name; empty for nodes not started by KubeRay.
    pub instance_id: String,
    /// `RAY_NODE_TYPE_NAME`, the worker group.
    pub group: String,
    /// The raylet's address.
    pub ip_address: String,
    /// `address:port` of its raylet's own service; `None` when unknown.
    pub raylet_address: Option<String>,
    /// How the GCS sees it.
    pub status: RayNodeStatus,
    /// Whether its totals have `node:__internal_head__`.
    pub is_head: bool,
    /// Registered totals.
    pub total: ResourceMap,
    /// Available amounts; keys that are used up are absent.
    pub available: ResourceMap,
    /// Static labels, overlaid by the dynamic ones (`_PG_<id>`).
    pub labels: Labels,
    /// How long it has been idle when the reply was made; 0 unless `Idle`.
    pub idle_ms: u64,
}

/// Holds what Ray says, as of one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RayState {
    /// When the reply arrived, by our clock.
    pub received_at: Timestamp,
    /// `cluster_resource_state_version`; counts calls, not changes.
    pub state_version: i64,
    /// `cluster_session_name`.
    pub session_name: String,
    /// Alive and dead nodes.
    pub nodes: Vec<RayNode>,
    /// Pending tasks and actors, what the raylets say joined in.
    pub demands: Vec<ResourceDemand>,
    /// Pending placement groups.
    pub gangs: Vec<GangRequest>,
    /// `request_resources`.
    pub constraint: Option<ClusterConstraint>,
    /// Its drivers; `None` when nobody asked, or no answer came.
    pub drivers: Option<Drivers>,
    /// What could not be used.
    pub problems: Vec<Problem>,
}
