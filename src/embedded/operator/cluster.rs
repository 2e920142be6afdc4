//! The RayCluster as the operator reads and writes it.

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, PodTemplateSpec, ResourceRequirements, SecurityContext,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, OwnerReference, Time};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Says for Ray whether the second autoscaler is on; set by the operator or by the user.
pub(super) const V2_SWITCH: &str = "RAY_enable_autoscaler_v2";

/// Returns how RayClusters are addressed.
#[must_use]
pub fn ray_cluster_resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("ray.io", "v1", "RayCluster"))
}

/// Holds a RayCluster.
#[derive(Debug, Clone, Default)]
pub struct RayCluster {
    /// Its name, uid, labels and so on.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: Spec,
    /// The spec as it came, for what concerns it as a whole.
    pub raw_spec: Value,
    /// What the operator wrote last.
    pub status: Status,
}

/// Holds `.spec`, as far as the stand-in honours it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names are KubeRay's own")]
pub struct Spec {
    pub enable_in_tree_autoscaling: bool,
    pub autoscaler_options: Option<AutoscalerOptions>,
    pub auth_options: Option<AuthOptions>,
    pub upgrade_strategy: Option<UpgradeStrategy>,
    pub gcs_fault_tolerance_options: Option<Value>,
    pub suspend: bool,
    pub managed_by: Option<String>,
    pub ray_version: String,
    pub head_group_spec: HeadGroup,
    pub worker_group_specs: Vec<WorkerGroup>,
}

/// Holds `.spec.autoscalerOptions`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoscalerOptions {
    pub version: Option<String>,
    pub image: Option<String>,
    pub image_pull_policy: Option<String>,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<EnvVar>,
    pub env_from: Vec<EnvFromSource>,
    pub volume_mounts: Vec<VolumeMount>,
    pub resources: Option<ResourceRequirements>,
    pub security_context: Option<SecurityContext>,
    pub idle_timeout_seconds: Option<i32>,
}

/// Holds `.spec.authOptions`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthOptions {
    pub mode: Option<String>,
    pub secret_name: Option<String>,
}

/// Holds `.spec.upgradeStrategy`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct UpgradeStrategy {
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// Holds `.spec.headGroupSpec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeadGroup {
    pub ray_start_params: BTreeMap<String, String>,
    pub resources: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub template: PodTemplateSpec,
}

/// Holds one of `.spec.workerGroupSpecs`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names are KubeRay's own")]
pub struct WorkerGroup {
    pub group_name: String,
    pub replicas: Option<i32>,
    pub min_replicas: Option<i32>,
    pub max_replicas: Option<i32>,
    pub num_of_hosts: i32,
    pub idle_timeout_seconds: Option<i32>,
    pub priority: Option<i32>,
    pub suspend: bool,
    pub scale_strategy: ScaleStrategy,
    pub ray_start_params: BTreeMap<String, String>,
    pub resources: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub template: PodTemplateSpec,
}

/// Holds `.scaleStrategy` of a worker group.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleStrategy {
    pub workers_to_delete: Vec<String>,
}

/// Holds `.status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names are KubeRay's own")]
pub struct Status {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    pub desired_worker_replicas: i32,
    pub available_worker_replicas: i32,
    pub ready_worker_replicas: i32,
    pub min_worker_replicas: i32,
    pub max_worker_replicas: i32,
    #[serde(rename = "desiredCPU")]
    pub desired_cpu: String,
    pub desired_memory: String,
    #[serde(rename = "desiredGPU")]
    pub desired_gpu: String,
    #[serde(rename = "desiredTPU")]
    pub desired_tpu: String,
    pub endpoints: BTreeMap<String, String>,
    pub head: HeadInfo,
    pub conditions: Vec<Condition>,
    pub observed_generation: i64,
    pub last_update_time: Option<Time>,
    pub state_transition_times: BTreeMap<String, Time>,
}

/// Holds `.status.head`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeadInfo {
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    pub pod_name: String,
    #[serde(rename = "serviceIP")]
    pub service_ip: String,
    pub service_name: String,
}

impl RayCluster {
    /// Reads a RayCluster as the API server sent it.
    ///
    /// # Errors
    ///
    /// When a field has another type than KubeRay's resource gives it.
    pub fn read(object: DynamicObject) -> Result<Self, serde_json::Error> {
        let mut data = object.data;
        let mut take = |member: &str| data.get_mut(member).map(Value::take).unwrap_or_default();
        let (raw_spec, status) = (take("spec"), take("status"));
        Ok(Self {
            metadata: object.metadata,
            spec: serde_json::from_value(raw_spec.clone())?,
            raw_spec,
            status: serde_json::from_value::<Option<Status>>(status)?.unwrap_or_default(),
        })
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns the namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Returns the reference that marks an object as this cluster's.
    #[must_use]
    pub fn owner_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: "ray.io/v1".to_owned(),
            kind: "RayCluster".to_owned(),
            name: self.name().to_owned(),
            uid: self.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// Returns the port of the GCS.
    #[must_use]
    pub fn gcs_port(&self) -> &str {
        let params = &self.spec.head_group_spec.ray_start_params;
        params.get("port").map_or("6379", String::as_str)
    }
}

impl Spec {
    /// Returns the autoscaler version the user has chosen, if any.
    pub(super) fn autoscaler_version(&self) -> Option<&str> {
        self.autoscaler_options.as_ref()?.version.as_deref()
    }

    /// Returns true when autoscaling is on and version 2 is named for it.
    pub(super) fn is_v2(&self) -> bool {
        self.enable_in_tree_autoscaling && self.autoscaler_version() == Some("v2")
    }

    /// Returns what the user set for [`V2_SWITCH`] on the head.
    pub(super) fn v2_switch(&self) -> Option<&str> {
        let variable = env_of(ray_container(&self.head_group_spec.template)?, V2_SWITCH)?;
        Some(variable.value.as_deref().unwrap_or_default())
    }

    /// Returns true when Ray asks for a token.
    pub(super) fn has_token_auth(&self) -> bool {
        self.auth_options
            .as_ref()
            .is_some_and(|auth| auth.mode.as_deref() == Some("token"))
    }
}

impl WorkerGroup {
    /// Returns the replicas wanted, inside the group's bounds.
    pub(super) fn replicas_wanted(&self) -> i32 {
        let min = self.min_replicas.unwrap_or(0);
        let max = self.max_replicas.unwrap_or(i32::MAX);
        self.replicas.unwrap_or(min).min(max).max(min)
    }
}

/// Returns the container that runs Ray: always the first.
pub(super) fn ray_container(template: &PodTemplateSpec) -> Option<&Container> {
    template.spec.as_ref()?.containers.first()
}

/// Returns an environment variable of a container.
pub(super) fn env_of<'a>(container: &'a Container, name: &str) -> Option<&'a EnvVar> {
    container
        .env
        .iter()
        .flatten()
        .find(|variable| variable.name == name)
}
