//! The status of a RayCluster, from the cluster, its pods and what the pass came to.

use super::OperatorError;
use super::cluster::{HeadInfo, RayCluster, Status};
use super::names::NODE_TYPE_LABEL;
use super::quantity;
use crate::embedded::kube_time;
use crate::model::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use std::collections::BTreeMap;

pub(super) const SUSPENDING: &str = "RayClusterSuspending";
pub(super) const SUSPENDED: &str = "RayClusterSuspended";
pub(super) const PROVISIONED: &str = "RayClusterProvisioned";
const HEAD_READY: &str = "HeadPodReady";
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Holds what a status is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) cluster: &'a RayCluster,
    pub(super) pods: &'a [Pod],
    pub(super) service: Option<&'a Service>,
    pub(super) failure: Option<&'a OperatorError>,
}

/// Returns true when a condition holds.
pub(super) fn is_true(status: &Status, kind: &str) -> bool {
    status
        .conditions
        .iter()
        .any(|condition| condition.type_ == kind && condition.status == "True")
}

/// Returns true when a status has to be written.
///
/// A new `observedGeneration` or other sums of resources alone are not written, as with the operator.
pub(super) fn differs(old: &Status, new: &Status) -> bool {
    let mut old = old.clone();
    old.observed_generation = new.observed_generation;
    old.last_update_time.clone_from(&new.last_update_time);
    old.desired_cpu.clone_from(&new.desired_cpu);
    old.desired_memory.clone_from(&new.desired_memory);
    old.desired_gpu.clone_from(&new.desired_gpu);
    old.desired_tpu.clone_from(&new.desired_tpu);
    old != *new
}

/// Returns the status to show.
pub(super) fn calculate(view: View<'_>, now: Timestamp) -> Status {
    let View {
        cluster,
        pods,
        failure,
        ..
    } = view;
    let mut status = cluster.status.clone();
    set_failure(&mut status, failure, now);
    status.observed_generation = cluster.metadata.generation.unwrap_or(0);
    set_counts(&mut status, cluster, pods);
    set_resources(&mut status, cluster);
    let all = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let is_complete = all == status.desired_worker_replicas.saturating_add(1);
    if failure.is_none() && is_complete && are_all_ready(pods) {
        status.state = "ready".to_owned();
    }
    set_head_ready(&mut status, pods, now);
    set_provisioned(&mut status, pods, now);
    set_suspension(&mut status, cluster, pods, now);
    if cluster.spec.suspend && pods.is_empty() {
        status.state = "suspended".to_owned();
    }
    set_head_info(&mut status, view);
    status.last_update_time = Some(kube_time(now));
    if status.state != cluster.status.state {
        status
            .state_transition_times
            .insert(status.state.clone(), kube_time(now));
    }
    status
}

fn set_failure(status: &mut Status, failure: Option<&OperatorError>, now: Timestamp) {
    match failure {
        None => status
            .conditions
            .retain(|condition| condition.type_ != REPLICA_FAILURE),
        Some(OperatorError::Pod { reason, source }) => {
            let message = match source {
                kube::Error::Api(answer) => answer.message.clone(),
                other => other.to_string(),
            };
            let words = (*reason, format!("{reason}\n{message}"));
            set(status, REPLICA_FAILURE, true, (words.0, &words.1), now);
        }
        Some(_) => {}
    }
}

fn set_counts(status: &mut Status, cluster: &RayCluster, pods: &[Pod]) {
    let groups = || {
        cluster
            .spec
            .worker_group_specs
            .iter()
            .filter(|group| !group.suspend)
    };
    let total = |of: fn(&super::WorkerGroup) -> i32| {
        let pods: i64 = groups()
            .map(|group| i64::from(of(group)) * i64::from(group.num_of_hosts))
            .sum();
        i32::try_from(pods).unwrap_or(if pods > 0 { i32::MAX } else { i32::MIN })
    };
    status.desired_worker_replicas = total(super::WorkerGroup::replicas_wanted);
    status.min_worker_replicas = total(|group| group.min_replicas.unwrap_or(0));
    status.max_worker_replicas = total(|group| group.max_replicas.unwrap_or(i32::MAX));
    let workers = || pods.iter().filter(|pod| is_type(pod, "worker"));
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    status.available_worker_replicas = number(workers().filter(|pod| is_running(pod)).count());
    status.ready_worker_replicas = number(workers().filter(|pod| is_ready(pod)).count());
}

/// Sums what the pods request; replicas outside their bounds count as they are.
fn set_resources(status: &mut Status, cluster: &RayCluster) {
    let mut sums: BTreeMap<String, i128> = BTreeMap::new();
    let mut add = |spec: Option<&PodSpec>, times: i128| {
        for container in spec.iter().flat_map(|spec| &spec.containers) {
            let Some(resources) = &container.resources else {
                continue;
            };
            // A limit is also the request where none is given.
            let mut requests = resources.limits.clone().unwrap_or_default();
            requests.extend(resources.requests.clone().unwrap_or_default());
            for (name, quantity) in requests {
                let nanos = quantity::nanos(&quantity.0).unwrap_or(0);
                let sum = sums.entry(name).or_default();
                *sum = sum.saturating_add(nanos.saturating_mul(times));
            }
        }
    };
    add(cluster.spec.head_group_spec.template.spec.as_ref(), 1);
    for group in cluster
        .spec
        .worker_group_specs
        .iter()
        .filter(|group| !group.suspend)
    {
        let pods = i128::from(group.replicas.unwrap_or(0)) * i128::from(group.num_of_hosts);
        add(group.template.spec.as_ref(), pods);
    }
    let sum = |name: &str| sums.get(name).copied().unwrap_or(0);
    let gpus = sums
        .iter()
        .filter(|(name, _)| name.ends_with("gpu"))
        .map(|(_, sum)| sum)
        .sum();
    status.desired_cpu = quantity::decimal(sum("cpu"));
    status.desired_memory = quantity::binary(sum("memory"));
    status.desired_gpu = quantity::decimal(gpus);
    status.desired_tpu = quantity::decimal(sum("google.com/tpu"));
}

fn set_head_ready(status: &mut Status, pods: &[Pod], now: Timestamp) {
    let Some(head) = pods.iter().find(|pod| is_type(pod, "head")) else {
        return set(
            status,
            HEAD_READY,
            false,
            ("HeadPodNotFound", "Head Pod not found"),
            now,
        );
    };
    let conditions = head
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let Some(ready) = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
    else {
        return set(status, HEAD_READY, false, ("Unknown", ""), now);
    };
    let is_ready = ready.status == "True";
    let given = ready.reason.clone().filter(|reason| !reason.is_empty());
    let default = if is_ready {
        "HeadPodRunningAndReady"
    } else {
        "Unknown"
    };
    let mut reason = given.unwrap_or_else(|| default.to_owned());
    let mut message = ready.message.clone().unwrap_or_default();
    if reason == "ContainersNotReady"
        && let Some((own_reason, own_message)) = first_not_ready(head)
    {
        reason = own_reason;
        message = [message, own_message]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
    }
    set(status, HEAD_READY, is_ready, (&reason, &message), now);
}

/// Returns the reason of the first container that is not ready, and a message that names it.
fn first_not_ready(pod: &Pod) -> Option<(String, String)> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses
        .iter()
        .filter(|status| !status.ready)
        .find_map(|status| {
            let state = status.state.as_ref()?;
            let waiting = state
                .waiting
                .as_ref()
                .map(|it| (it.reason.clone(), it.message.clone()));
            let ended = state
                .terminated
                .as_ref()
                .map(|it| (it.reason.clone(), it.message.clone()));
            let (reason, message) = waiting.or(ended)?;
            let message = format!("{}: {}", status.name, message.unwrap_or_default());
            Some((reason.filter(|reason| !reason.is_empty())?, message))
        })
}

/// Stays true once it was, unless the cluster is suspended.
fn set_provisioned(status: &mut Status, pods: &[Pod], now: Timestamp) {
    if is_true(status, PROVISIONED) || is_true(status, SUSPENDED) {
        return;
    }
    let words = if are_all_ready(pods) {
        (
            "AllPodRunningAndReadyFirstTime",
            "All Ray Pods are ready for the first time",
        )
    } else {
        (
            "RayClusterPodsProvisioning",
            "RayCluster Pods are being provisioned for first time",
        )
    };
    set(status, PROVISIONED, are_all_ready(pods), words, now);
}

/// Suspension goes from wanted to suspending to suspended, a pass for each.
fn set_suspension(status: &mut Status, cluster: &RayCluster, pods: &[Pod], now: Timestamp) {
    let words = |kind: &'static str| (kind, "");
    if is_true(status, SUSPENDING) {
        if pods.is_empty() {
            let suspended = (
                "RayClusterPodsProvisioning",
                "RayCluster has been suspended",
            );
            set(status, PROVISIONED, false, suspended, now);
            set(status, SUSPENDING, false, words(SUSPENDING), now);
            set(status, SUSPENDED, true, words(SUSPENDED), now);
        }
    } else if is_true(status, SUSPENDED) {
        if !cluster.spec.suspend {
            set(status, SUSPENDED, false, words(SUSPENDED), now);
        }
    } else {
        set(status, SUSPENDED, false, words(SUSPENDED), now);
        set(
            status,
            SUSPENDING,
            cluster.spec.suspend,
            words(SUSPENDING),
            now,
        );
    }
}

fn set_head_info(status: &mut Status, view: View<'_>) {
    let head = view.pods.iter().find(|pod| is_type(pod, "head"));
    let ip = head
        .and_then(|pod| pod.status.as_ref()?.pod_ip.clone())
        .unwrap_or_default();
    status.head = HeadInfo {
        pod_ip: ip.clone(),
        pod_name: head.map(ResourceExt::name_any).unwrap_or_default(),
        // The service has no address of its own, so the head's stands for it.
        service_ip: ip,
        service_name: view.service.map(ResourceExt::name_any).unwrap_or_default(),
    };
    let ports = view
        .service
        .and_then(|service| service.spec.as_ref()?.ports.as_ref());
    for port in ports.into_iter().flatten() {
        let target = match &port.target_port {
            Some(IntOrString::Int(number)) => number.to_string(),
            Some(IntOrString::String(name)) => name.clone(),
            None => continue,
        };
        if let Some(name) = &port.name {
            status.endpoints.insert(name.clone(), target);
        }
    }
}

fn set(status: &mut Status, kind: &str, holds: bool, words: (&str, &str), now: Timestamp) {
    let value = if holds { "True" } else { "False" };
    let known = status
        .conditions
        .iter_mut()
        .find(|condition| condition.type_ == kind);
    let (reason, message) = (words.0.to_owned(), words.1.to_owned());
    if let Some(condition) = known {
        if condition.status != value {
            condition.last_transition_time = kube_time(now);
        }
        (condition.status, condition.reason, condition.message) =
            (value.to_owned(), reason, message);
        return;
    }
    status.conditions.push(Condition {
        last_transition_time: kube_time(now),
        message,
        observed_generation: None,
        reason,
        status: value.to_owned(),
        type_: kind.to_owned(),
    });
}

fn is_type(pod: &Pod, node_type: &str) -> bool {
    pod.labels()
        .get(NODE_TYPE_LABEL)
        .is_some_and(|value| value == node_type)
}

fn is_running(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some("Running")
}

fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    is_running(pod) && conditions.any(|it| it.type_ == "Ready" && it.status == "True")
}

fn are_all_ready(pods: &[Pod]) -> bool {
    !pods.is_empty() && pods.iter().all(is_ready)
}
