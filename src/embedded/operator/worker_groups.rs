//! Decides which worker pods of a group go and which come. Pure: pods in, changes out.

use super::cluster::WorkerGroup;
use super::names::{REPLICA_INDEX_LABEL, REPLICA_NAME_LABEL};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};

/// Holds what is to be done about a group, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GroupPlan {
    /// Names to delete, one call each, also for names that are unknown.
    pub(super) deletes: Vec<String>,
    /// Replicas to create.
    pub(super) creates: Vec<NewReplica>,
    /// When set, the pass ends here and is tried again.
    pub(super) ends_pass: Option<String>,
}

/// A replica to create.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NewReplica {
    /// The lowest index that was free.
    pub(super) index: u32,
    /// How many pods it has; `None` in groups of single hosts.
    pub(super) hosts: Option<u32>,
}

/// One pod of a new replica.
#[derive(Debug)]
pub(super) struct NewHost {
    /// The index of its replica.
    pub(super) replica_index: u32,
    /// The name of its replica and its place therein, in groups of several hosts.
    pub(super) of_replica: Option<(String, u32)>,
}

/// Returns the changes that a group needs.
///
/// `keeps_surplus`: with autoscaling on, pods too many stay until the autoscaler names them.
pub(super) fn plan(group: &WorkerGroup, pods: &[Pod], keeps_surplus: bool) -> GroupPlan {
    if group.num_of_hosts > 1 {
        plan_multi_host(group, pods, keeps_surplus)
    } else {
        plan_single_host(group, pods, keeps_surplus)
    }
}

/// Returns true for a pod that cannot become useful again.
pub(super) fn is_unhealthy(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let restarts = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    match phase {
        Some("Failed" | "Succeeded") => true,
        Some("Running") => restarts == Some("Never") && has_ray_ended(pod),
        _ => false,
    }
}

/// Statuses come in any order, so Ray's is found by the name of the first container.
fn has_ray_ended(pod: &Pod) -> bool {
    let Some(container) = pod.spec.as_ref().and_then(|spec| spec.containers.first()) else {
        return false;
    };
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let status = statuses
        .into_iter()
        .find(|status| status.name == container.name);
    let state = status.and_then(|status| status.state.as_ref());
    state.is_some_and(|state| state.terminated.is_some())
}

fn plan_single_host(group: &WorkerGroup, pods: &[Pod], keeps_surplus: bool) -> GroupPlan {
    let unhealthy: Vec<String> = pods
        .iter()
        .filter(|pod| is_unhealthy(pod))
        .map(ResourceExt::name_any)
        .collect();
    if !unhealthy.is_empty() {
        let reason = format!("delete {} unhealthy worker Pods", unhealthy.len());
        return GroupPlan {
            deletes: unhealthy,
            ends_pass: Some(reason),
            ..Default::default()
        };
    }
    let named = &group.scale_strategy.workers_to_delete;
    let kept: Vec<&Pod> = pods
        .iter()
        .filter(|pod| !named.contains(&pod.name_any()))
        .collect();
    let wanted = count(group.replicas_wanted().saturating_mul(group.num_of_hosts));
    let mut plan = GroupPlan {
        deletes: named.clone(),
        ..Default::default()
    };
    let missing = wanted.saturating_sub(kept.len());
    let taken = kept.iter().filter_map(|pod| replica_index(pod)).collect();
    let new = |index| NewReplica { index, hosts: None };
    plan.creates = free_indexes(taken).take(missing).map(new).collect();
    if !keeps_surplus {
        let surplus = kept.len().saturating_sub(wanted);
        plan.deletes
            .extend(kept.iter().take(surplus).map(|pod| pod.name_any()));
    }
    plan
}

fn plan_multi_host(group: &WorkerGroup, pods: &[Pod], keeps_surplus: bool) -> GroupPlan {
    let mut replicas: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in pods {
        // Pods without the label, from before replicas had names, are neither counted nor deleted.
        if let Some(name) = replica_name(pod) {
            replicas.entry(name).or_default().push(pod);
        }
    }
    let hosts = count(group.num_of_hosts);
    if let Some((name, members)) = replicas.iter().find(|(_, members)| members.len() < hosts) {
        let reason = format!("cleaned up incomplete replica group {name}, requeueing");
        return GroupPlan {
            deletes: names_of(members),
            ends_pass: Some(reason),
            ..Default::default()
        };
    }
    let mut plan = GroupPlan::default();
    let is_broken = |members: &[&Pod]| members.iter().any(|pod| is_unhealthy(pod));
    for members in replicas.values().filter(|members| is_broken(members)) {
        plan.deletes.extend(names_of(members));
    }
    let named = &group.scale_strategy.workers_to_delete;
    let is_named = |members: &[&Pod]| members.iter().any(|pod| named.contains(&pod.name_any()));
    let victims: Vec<String> = replicas
        .values()
        .filter(|members| is_named(members))
        .flat_map(|m| names_of(m))
        .collect();
    if !victims.is_empty() {
        let text = format!(
            "deleted {} worker Pods based on ScaleStrategy, requeueing",
            victims.len()
        );
        plan.deletes.extend(victims);
        plan.ends_pass = Some(text);
        return plan;
    }
    replicas.retain(|_, members| !is_broken(members));
    let wanted = count(group.replicas_wanted());
    let missing = wanted.saturating_sub(replicas.len());
    let firsts = replicas.values().filter_map(|members| members.first());
    let taken = firsts.filter_map(|pod| replica_index(pod)).collect();
    let new = |index| NewReplica {
        index,
        hosts: u32::try_from(group.num_of_hosts).ok(),
    };
    plan.creates = free_indexes(taken).take(missing).map(new).collect();
    if !keeps_surplus {
        let surplus = replicas.len().saturating_sub(wanted);
        plan.deletes.extend(
            replicas
                .values()
                .take(surplus)
                .flat_map(|members| names_of(members)),
        );
    }
    plan
}

fn names_of(pods: &[&Pod]) -> Vec<String> {
    pods.iter().map(|pod| pod.name_any()).collect()
}

fn count(number: i32) -> usize {
    usize::try_from(number).unwrap_or(0)
}

fn free_indexes(taken: BTreeSet<u32>) -> impl Iterator<Item = u32> {
    (0..).filter(move |index| !taken.contains(index))
}

fn replica_index(pod: &Pod) -> Option<u32> {
    pod.labels().get(REPLICA_INDEX_LABEL)?.parse().ok()
}

fn replica_name(pod: &Pod) -> Option<&str> {
    pod.labels().get(REPLICA_NAME_LABEL).map(String::as_str)
}

#[cfg(test)]
#[path = "worker_groups_tests.rs"]
mod tests;
