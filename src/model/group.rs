//! Worker groups: the unit that is scaled. Replicas become pods here and nowhere else.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Labels, PodName, ResourceMap};

/// Names a worker group: `groupName`, the pod label `ray.io/group`, Ray's node type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerGroupName(Arc<str>);

impl WorkerGroupName {
    /// The name KubeRay and Ray give to the head's node type.
    pub const HEAD: &str = "headgroup";

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for WorkerGroupName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl fmt::Display for WorkerGroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bounds a group.
///
/// Units: replicas. `min <= max` always; a contradiction makes the group a [`SkippedGroup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaBounds {
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
}

impl ReplicaBounds {
    /// Returns `replicas` moved into the bounds.
    #[must_use]
    pub fn clamp(self, replicas: u32) -> u32 {
        replicas.clamp(self.min, self.max)
    }
}

/// Describes a node of a group before it exists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeTemplate {
    /// What its raylet will register.
    pub resources: ResourceMap,
    /// What host 0 of a replica has on top (`TPU-v4-16-head`).
    pub host_zero_resources: ResourceMap,
    /// Labels it will carry, `ray.io/node-group` included.
    pub labels: Labels,
}

/// Holds one entry of `spec.workerGroupSpecs`.
///
/// Units: `replicas` and `bounds` in replicas, each `num_of_hosts` pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerGroup {
    /// Its name, unique in a snapshot.
    pub name: WorkerGroupName,
    /// Its position in `spec.workerGroupSpecs`, for the patch.
    pub index: usize,
    /// `replicas` as the RayCluster has it, a negative number read as 0.
    pub replicas: u32,
    /// Whether the RayCluster has it word for word, so that a patch can test that nobody has changed it since.
    #[serde(default)]
    pub has_replicas: bool,
    /// How many of `replicas` only make up for pods on their way out; set in what a decision leads to, and
    /// else remembered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub surge: u32,
    /// `minReplicas` and `maxReplicas`.
    pub bounds: ReplicaBounds,
    /// Pods per replica, at least 1.
    pub num_of_hosts: u32,
    /// Higher is preferred among groups that fit equally well.
    pub priority: i64,
    /// `idleTimeoutSeconds` of the group; `None` takes the cluster's.
    ///
    /// Units: milliseconds.
    pub idle_timeout_ms: Option<u64>,
    /// What a new node will offer.
    pub template: NodeTemplate,
    /// `scaleStrategy.workersToDelete` as the RayCluster has it.
    pub workers_to_delete: Vec<PodName>,
    /// Whether `scaleStrategy` is present, be it empty; then only the list inside may be written.
    pub has_scale_strategy: bool,
    /// Whether `scaleStrategy.workersToDelete` is present, be it empty.
    pub has_workers_to_delete: bool,
}

impl WorkerGroup {
    /// Returns the number of pods of `replicas` replicas.
    #[must_use]
    pub fn pods_of(&self, replicas: u32) -> u64 {
        u64::from(replicas) * u64::from(self.num_of_hosts)
    }

    /// Returns how many replicas provide `pods` pods, rounded up.
    #[must_use]
    pub fn replicas_for(&self, pods: u64) -> u32 {
        u32::try_from(pods.div_ceil(u64::from(self.num_of_hosts.max(1)))).unwrap_or(u32::MAX)
    }

    /// Returns what the host at `host_index` of a new replica will offer.
    #[must_use]
    pub fn host_resources(&self, host_index: u32) -> ResourceMap {
        let mut resources = self.template.resources.clone();
        if host_index == 0 {
            resources.add(&self.template.host_zero_resources);
        }
        resources
    }
}

/// Holds a group that cannot be scaled, and why; the others go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedGroup {
    /// Its name; may be empty or stand twice.
    pub name: WorkerGroupName,
    /// Its position in `spec.workerGroupSpecs`.
    pub index: usize,
    /// A stable word: `duplicate_name`, `min_above_max`, `no_hosts`, `bad_resources`, ...
    pub code: String,
    /// Path, value, and what would be accepted.
    pub detail: String,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}
