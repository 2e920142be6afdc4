//! The pods that the operator makes from a group's template.
//!
//! Left out, since nothing here would act on them: probes, and the init container that waits for the GCS.

use super::autoscaler::{self, field, shell, variable};
use super::cluster::{RayCluster, V2_SWITCH, WorkerGroup, env_of};
use super::names;
use super::ray_start::RayStart;
use super::redis;
use super::worker_groups::NewHost;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvVar, Pod, PodSpec, PodTemplateSpec, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// The annotation with a hash of the spec, by which a changed one is noticed.
pub(super) const SPEC_HASH: &str = "ray.io/upgrade-strategy-recreate-hash";

/// Returns the head pod.
pub(super) fn head(cluster: &RayCluster, ending: &str, spec_hash: &str) -> Pod {
    let group = &cluster.spec.head_group_spec;
    let own = own_labels(&group.template, &group.labels);
    let labels = names::pod_labels(cluster.name(), "head", names::HEAD_GROUP, own);
    let name = names::pod_name(cluster.name(), "head", ending);
    let mut pod = pod(cluster, name, labels, &group.template);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(SPEC_HASH.to_owned(), spec_hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    let has_autoscaler = cluster.spec.enable_in_tree_autoscaling;
    let container = spec.containers.first();
    let resources = container.and_then(|container| container.resources.clone());
    let image = container.and_then(|container| container.image.clone());
    let command = RayStart {
        params: &redis::with_credentials(cluster, &group.ray_start_params),
        resources: &group.resources,
        labels: &group.labels,
        container: resources.as_ref(),
    }
    .head(has_autoscaler);
    if let Some(container) = spec.containers.first_mut() {
        if has_autoscaler {
            container
                .env
                .get_or_insert_default()
                .extend(v2_env(cluster));
        }
        redis::add_variables(cluster, container);
        finish_ray_container(cluster, container, &command, None);
    }
    if has_autoscaler {
        let account = super::access::account_name(cluster);
        spec.service_account_name = Some(names::clipped(&account));
        spec.containers.push(autoscaler::container(cluster, image));
        let is_ray = is_ray(spec);
        share(spec, &LOGS, |container| {
            is_ray(container) || container.name == autoscaler::NAME
        });
    }
    share_memory(spec, &group.ray_start_params);
    if cluster.spec.is_v2() {
        spec.restart_policy = Some("Never".to_owned());
    }
    pod
}

/// Returns a worker pod.
pub(super) fn worker(
    cluster: &RayCluster,
    group: &WorkerGroup,
    host: &NewHost,
    ending: &str,
) -> Pod {
    let own = own_labels(&group.template, &group.labels);
    let mut labels = names::pod_labels(cluster.name(), "worker", &group.group_name, own);
    labels.insert(
        names::REPLICA_INDEX_LABEL.to_owned(),
        host.replica_index.to_string(),
    );
    if let Some((replica, index)) = &host.of_replica {
        labels.insert(names::REPLICA_NAME_LABEL.to_owned(), replica.clone());
        labels.insert(names::HOST_INDEX_LABEL.to_owned(), index.to_string());
    }
    let prefix = format!("{}-{}", cluster.name(), group.group_name);
    let name = names::pod_name(&prefix, "worker", ending);
    let mut pod = pod(cluster, name, labels, &group.template);
    let spec = pod.spec.get_or_insert_default();
    let service = names::head_service(cluster.name());
    let head = format!("{service}.{}.svc.cluster.local", cluster.namespace());
    let resources = spec
        .containers
        .first()
        .and_then(|container| container.resources.clone());
    let command = RayStart {
        params: &group.ray_start_params,
        resources: &group.resources,
        labels: &group.labels,
        container: resources.as_ref(),
    }
    .worker(&format!("{head}:{}", cluster.gcs_port()));
    if let Some(container) = spec.containers.first_mut() {
        if cluster.spec.gcs_fault_tolerance_options.is_some() {
            let timeout = variable("RAY_gcs_rpc_server_reconnect_timeout_s", "600");
            add_missing(container, timeout);
        }
        finish_ray_container(cluster, container, &command, Some(&head));
    }
    share_memory(spec, &group.ray_start_params);
    if cluster.spec.is_v2() {
        spec.restart_policy = Some("Never".to_owned());
    }
    pod
}

fn own_labels(
    template: &PodTemplateSpec,
    group: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let metadata = template.metadata.as_ref();
    let mut labels = metadata
        .and_then(|metadata| metadata.labels.clone())
        .unwrap_or_default();
    labels.extend(group.clone());
    labels
}

fn pod(
    cluster: &RayCluster,
    name: String,
    labels: BTreeMap<String, String>,
    template: &PodTemplateSpec,
) -> Pod {
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: cluster.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![cluster.owner_reference()]),
        ..template.metadata.clone().unwrap_or_default()
    };
    Pod {
        metadata,
        spec: template.spec.clone(),
        status: None,
    }
}

fn v2_env(cluster: &RayCluster) -> Option<EnvVar> {
    match cluster.spec.autoscaler_version() {
        Some("v2") => Some(variable(V2_SWITCH, "true")),
        Some("v1") => Some(variable(V2_SWITCH, "false")),
        _ => None,
    }
}

/// Sets command and environment; `head` is the address of the head for a worker.
fn finish_ray_container(
    cluster: &RayCluster,
    container: &mut Container,
    command: &str,
    head: Option<&str>,
) {
    let own: Vec<&str> = container
        .command
        .iter()
        .chain(&container.args)
        .flatten()
        .map(String::as_str)
        .collect();
    let own = own.join(" ");
    if !own.contains("ray start") {
        let line = format!("ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; {command}");
        container.command = Some(shell());
        container.args = Some(vec![if own.is_empty() {
            line
        } else {
            format!("{own} && {line}")
        }]);
    }
    let ports = container.ports.get_or_insert_default();
    if !ports
        .iter()
        .any(|port| port.name.as_deref() == Some("metrics"))
    {
        let name = Some("metrics".to_owned());
        ports.push(ContainerPort {
            name,
            container_port: 8080,
            ..Default::default()
        });
    }
    let env = container.env.get_or_insert_default();
    if let Some(head) = head {
        let service = head.split('.').next().unwrap_or(head);
        env.extend([variable("FQ_RAY_IP", head), variable("RAY_IP", service)]);
    }
    env.extend([
        field("RAY_CLUSTER_NAME", "metadata.labels['ray.io/cluster']"),
        field("RAY_CLUSTER_NAMESPACE", "metadata.namespace"),
        field("RAY_CLOUD_INSTANCE_ID", "metadata.name"),
        field("RAY_NODE_TYPE_NAME", "metadata.labels['ray.io/group']"),
        variable("KUBERAY_GEN_RAY_START_CMD", command),
    ]);
    env.extend(autoscaler::token_env(cluster));
    let port = cluster.gcs_port();
    add_missing(container, variable("RAY_PORT", port));
    let address = format!("{}:{port}", head.unwrap_or("127.0.0.1"));
    add_missing(container, variable("RAY_ADDRESS", address));
    add_missing(container, variable("RAY_USAGE_STATS_KUBERAY_IN_USE", "1"));
    add_missing(
        container,
        variable("RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE", "1"),
    );
}

fn add_missing(container: &mut Container, variable: EnvVar) {
    if env_of(container, &variable.name).is_none() {
        container.env.get_or_insert_default().push(variable);
    }
}

/// An empty folder that containers of a pod share.
struct Folder {
    name: &'static str,
    path: &'static str,
    medium: Option<&'static str>,
}

const LOGS: Folder = Folder {
    name: "ray-logs",
    path: "/tmp/ray",
    medium: None,
};
const MEMORY: Folder = Folder {
    name: "shared-mem",
    path: "/dev/shm",
    medium: Some("Memory"),
};

/// Gives the Ray container shared memory, unless Ray is told to keep its objects elsewhere.
fn share_memory(spec: &mut PodSpec, params: &BTreeMap<String, String>) {
    if !params.contains_key("plasma-directory") {
        let is_ray = is_ray(spec);
        share(spec, &MEMORY, is_ray);
    }
}

/// Returns what tells the Ray container, the first one, from others.
fn is_ray(spec: &PodSpec) -> impl Fn(&Container) -> bool + use<> {
    let name = spec
        .containers
        .first()
        .map(|container| container.name.clone());
    move |container| Some(&container.name) == name.as_ref()
}

/// Mounts a folder into some containers, where nothing is mounted at its path yet.
fn share(spec: &mut PodSpec, folder: &Folder, is_sharer: impl Fn(&Container) -> bool) {
    let mut is_used = false;
    for container in spec
        .containers
        .iter_mut()
        .filter(|container| is_sharer(container))
    {
        let mounts = container.volume_mounts.get_or_insert_default();
        if !mounts.iter().any(|mount| mount.mount_path == folder.path) {
            let (name, mount_path) = (folder.name.to_owned(), folder.path.to_owned());
            mounts.push(VolumeMount {
                name,
                mount_path,
                ..Default::default()
            });
            is_used = true;
        }
    }
    let volumes = spec.volumes.get_or_insert_default();
    if is_used && !volumes.iter().any(|volume| volume.name == folder.name) {
        let medium = folder.medium.map(str::to_owned);
        let empty_dir = Some(EmptyDirVolumeSource {
            medium,
            size_limit: None,
        });
        volumes.push(Volume {
            name: folder.name.to_owned(),
            empty_dir,
            ..Default::default()
        });
    }
}
