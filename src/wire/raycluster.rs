//! The RayCluster fields we read, and nothing else.
//!
//! Read with `RayCluster::from_value` from the JSON of a GET or of a file. Worker groups are read
//! one by one: each is a [`WorkerGroupSpec`] or says why not. What the CRD defaults (`replicas: 0`,
//! `minReplicas: 0`, `maxReplicas: 2147483647`, `numOfHosts: 1`) is filled in, so that a manifest
//! means here what it will mean once the API server has stored it.

mod read;

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

use super::field::FieldError;

/// The API version we speak: v1alpha1 is served beside it and lacks fields.
pub const API_VERSION: &str = "ray.io/v1";
/// The port of the GCS unless `headGroupSpec.rayStartParams.port` says otherwise.
pub const GCS_PORT_DEFAULT: u16 = 6379;

/// Says why an object cannot be read as a RayCluster at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RayClusterError {
    /// The object is something else.
    #[error("expected a RayCluster of ray.io/v1, got kind `{kind}` of `{api_version}`")]
    WrongKind {
        /// Its `kind`.
        kind: String,
        /// Its `apiVersion`.
        api_version: String,
    },
    /// A field outside the groups cannot be read.
    #[error("cannot read the RayCluster")]
    Field(#[from] FieldError),
}

/// Names a worker group that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot read worker group {index} `{name}`")]
pub struct GroupError {
    /// Its position in `spec.workerGroupSpecs`.
    pub index: usize,
    /// Its name; empty when that cannot be read either.
    pub name: String,
    /// The field.
    #[source]
    pub field: FieldError,
}

/// Holds one RayCluster.
#[derive(Debug, Clone, PartialEq)]
pub struct RayCluster {
    /// `metadata`.
    pub metadata: Metadata,
    /// `spec`.
    pub spec: Spec,
    /// `status`.
    pub status: Status,
}

/// Holds what we read of `metadata`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// `name`.
    pub name: String,
    /// `namespace`; empty in a manifest without one.
    pub namespace: String,
    /// `uid`; empty in a manifest.
    pub uid: String,
    /// `resourceVersion`; empty in a manifest.
    pub resource_version: String,
    /// `generation`; 0 in a manifest.
    pub generation: i64,
    /// `annotations`.
    pub annotations: BTreeMap<String, String>,
    /// Whether `annotations` is there at all, be it empty: a patch of one member needs it.
    pub has_annotations: bool,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// `creationTimestamp`, as written.
    pub creation_timestamp: Option<String>,
    /// `deletionTimestamp`, as written.
    pub deletion_timestamp: Option<String>,
}

/// Holds what we read of `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// `enableInTreeAutoscaling`.
    pub enable_in_tree_autoscaling: bool,
    /// `suspend`.
    pub suspend: bool,
    /// `idleSuspend`: suspended because nobody used it.
    pub idle_suspend: bool,
    /// `idleTerminationOptions`; `None` when absent, or dropped by a CRD that does not know it.
    pub idle_termination: Option<Result<IdleTerminationOptions, FieldError>>,
    /// `managedBy`; `None` means the operator itself.
    pub managed_by: Option<String>,
    /// `rayVersion`, free text.
    pub ray_version: Option<String>,
    /// `upgradeStrategy.type`: `None` or `Recreate`.
    pub upgrade_strategy: Option<String>,
    /// `autoscalerOptions`.
    pub autoscaler_options: AutoscalerOptions,
    /// `headGroupSpec`.
    pub head_group: Result<HeadGroupSpec, FieldError>,
    /// `workerGroupSpecs`, each understood or not.
    pub worker_groups: Vec<Result<WorkerGroupSpec, GroupError>>,
}

/// Holds what we read of `idleTerminationOptions`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdleTerminationOptions {
    /// `timeoutSeconds`, in milliseconds; `None` switches it off.
    pub timeout_ms: Option<u64>,
    /// `policy`, as written; empty means `Suspend`.
    pub policy: String,
}

/// Holds what we read of `autoscalerOptions`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AutoscalerOptions {
    /// `version`: `v1`, `v2`, or left to Ray.
    pub version: Option<String>,
    /// `idleTimeoutSeconds`.
    pub idle_timeout_seconds: Option<i64>,
    /// `upscalingMode`.
    pub upscaling_mode: Option<String>,
}

/// Holds what we read of `headGroupSpec`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeadGroupSpec {
    /// `rayStartParams`.
    pub ray_start_params: BTreeMap<String, String>,
    /// `resources`: quantities as written.
    pub resources: BTreeMap<String, String>,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// `template`.
    pub template: PodTemplate,
}

/// Holds one entry of `workerGroupSpecs`.
///
/// Units: `replicas`, `replicas_min` and `replicas_max` in replicas, each `num_of_hosts` pods.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WorkerGroupSpec {
    /// Its position in the list.
    pub index: usize,
    /// `groupName`.
    pub group_name: String,
    /// `replicas`; the CRD takes negative numbers.
    pub replicas: i64,
    /// Whether `replicas` is present; the CRD adds it, and others may not.
    pub has_replicas: bool,
    /// `minReplicas`.
    pub replicas_min: i64,
    /// `maxReplicas`.
    pub replicas_max: i64,
    /// `numOfHosts`.
    pub num_of_hosts: i64,
    /// `idleTimeoutSeconds`.
    pub idle_timeout_seconds: Option<i64>,
    /// `priority`.
    pub priority: i64,
    /// `suspend`.
    pub suspend: bool,
    /// `scaleStrategy` as it stands, members unknown to us included; `None` when absent.
    pub scale_strategy: Option<Value>,
    /// `scaleStrategy.workersToDelete`; `None` when absent.
    pub workers_to_delete: Option<Vec<String>>,
    /// `resources`: quantities as written.
    pub resources: BTreeMap<String, String>,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// `rayStartParams`.
    pub ray_start_params: BTreeMap<String, String>,
    /// `template`.
    pub template: PodTemplate,
}

/// Holds what we read of a pod template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodTemplate {
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `spec.nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// `spec.restartPolicy`.
    pub restart_policy: Option<String>,
    /// `spec.schedulingGates[].name`.
    pub scheduling_gates: Vec<String>,
    /// `spec.containers`; the first is Ray's.
    pub containers: Vec<Container>,
}

/// Holds what we read of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// `name`.
    pub name: String,
    /// `resources.limits`: quantities as written.
    pub limits: BTreeMap<String, String>,
    /// `resources.requests`: quantities as written.
    pub requests: BTreeMap<String, String>,
    /// `resizePolicy`: resource and restart policy, as written.
    pub resize_policies: Vec<(String, String)>,
    /// `env` in its order: name, and value unless it comes from elsewhere (`valueFrom`).
    pub env: Vec<(String, Option<String>)>,
    /// `command`.
    pub command: Vec<String>,
    /// `args`.
    pub args: Vec<String>,
}

/// Holds what we read of `status`; empty before the operator's first pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// `state`.
    pub state: String,
    /// `observedGeneration`: may lag for ever, so never an acknowledgement.
    pub observed_generation: Option<i64>,
    /// `conditions`.
    pub conditions: Vec<Condition>,
}

/// Holds one condition of `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// `type`.
    pub kind: String,
    /// `status`: `True`, `False`, `Unknown`.
    pub status: String,
    /// `reason`.
    pub reason: String,
    /// `message`.
    pub message: String,
}

impl RayCluster {
    /// Returns the port that the head's GCS listens on.
    #[must_use]
    pub fn gcs_port(&self) -> u16 {
        let params = self
            .spec
            .head_group
            .as_ref()
            .map(|head| &head.ray_start_params);
        params
            .ok()
            .and_then(|params| params.get("port")?.trim().parse().ok())
            .unwrap_or(GCS_PORT_DEFAULT)
    }
}

impl PodTemplate {
    /// Returns the Ray container: the first one.
    #[must_use]
    pub fn ray_container(&self) -> Option<&Container> {
        self.containers.first()
    }
}

impl Container {
    /// Returns whether an environment variable is set, wherever its value comes from.
    #[must_use]
    pub fn has_env(&self, name: &str) -> bool {
        self.env.iter().any(|(key, _)| key == name)
    }

    /// Returns the plain value of an environment variable; the last of a name counts.
    #[must_use]
    pub fn env_value(&self, name: &str) -> Option<&str> {
        let last = self.env.iter().rev().find(|(key, _)| key == name);
        last.and_then(|(_, value)| value.as_deref())
    }
}
