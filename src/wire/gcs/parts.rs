//! A reply of `GetClusterResourceState` whose long lists stay encoded, element by element.
//!
//! Why: the reply of a large cluster has ten megabytes and some hundred thousand strings. Read as one value all
//! of them are in memory at once, and most are there only to be turned into something else; read element by
//! element they take the same few cache lines again and again. The bundles of a placement group are equal as a rule,
//! and equal bytes need reading once.
//!
//! The numbers of the fields are those of `proto/autoscaler.proto`.

use prost::Message;
use prost::bytes::Bytes;

use super::ray::rpc::autoscaler::{
    ClusterResourceConstraint, LocalityRequirement, ResourceRequestByCount,
};

/// Holds `GetClusterResourceStateReply`.
#[derive(Clone, PartialEq, Message)]
pub struct StateReplyParts {
    /// What it says.
    #[prost(message, optional, tag = "1")]
    pub cluster_resource_state: Option<StateParts>,
}

/// Holds `ClusterResourceState`.
#[derive(Clone, PartialEq, Message)]
pub struct StateParts {
    /// Counts calls, not changes.
    #[prost(int64, tag = "1")]
    pub cluster_resource_state_version: i64,
    /// As there.
    #[prost(int64, tag = "2")]
    pub last_seen_autoscaler_state_version: i64,
    /// Each a `NodeState`.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub node_states: Vec<Bytes>,
    /// As there.
    #[prost(message, repeated, tag = "4")]
    pub pending_resource_requests: Vec<ResourceRequestByCount>,
    /// Placement groups.
    #[prost(message, repeated, tag = "5")]
    pub pending_gang_resource_requests: Vec<GangParts>,
    /// As there.
    #[prost(message, repeated, tag = "6")]
    pub cluster_resource_constraints: Vec<ClusterResourceConstraint>,
    /// As there.
    #[prost(string, tag = "7")]
    pub cluster_session_name: String,
}

/// Holds `GangResourceRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct GangParts {
    /// Each a `ResourceRequest`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub requests: Vec<Bytes>,
    /// As there.
    #[prost(string, tag = "2")]
    pub details: String,
    /// As there.
    #[prost(message, repeated, tag = "3")]
    pub bundle_selectors: Vec<BundleParts>,
}

/// Holds `BundleSelector`.
#[derive(Clone, PartialEq, Message)]
pub struct BundleParts {
    /// Each a `ResourceRequest`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub resource_requests: Vec<Bytes>,
    /// As there.
    #[prost(message, optional, tag = "2")]
    pub locality_requirement: Option<LocalityRequirement>,
}
