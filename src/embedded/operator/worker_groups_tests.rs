//! Tests of the group plans.

use super::{GroupPlan, NewReplica, is_unhealthy, plan};
use crate::embedded::operator::cluster::WorkerGroup;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

fn group(replicas: i32, hosts: i32, named: &[&str]) -> WorkerGroup {
    serde_json::from_value(json!({
        "groupName": "g", "replicas": replicas, "minReplicas": 0, "maxReplicas": 10,
        "numOfHosts": hosts, "scaleStrategy": {"workersToDelete": named},
    }))
    .unwrap()
}

fn pod_in(name: &str, index: u32, phase: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"ray.io/worker-group-replica-index": index.to_string()}},
        "spec": {"containers": [{"name": "ray"}], "restartPolicy": "Never"},
        "status": {"phase": phase},
    }))
    .unwrap()
}

fn pod(name: &str, index: u32) -> Pod {
    pod_in(name, index, "Running")
}

/// A host whose replica is named by the first letter of its name.
fn host(name: &str, index: u32) -> Pod {
    let mut pod = pod(name, index);
    let label = "ray.io/worker-group-replica-name".to_owned();
    pod.metadata
        .labels
        .as_mut()
        .unwrap()
        .insert(label, name[..1].to_owned());
    pod
}

fn indexes(plan: &GroupPlan) -> Vec<u32> {
    plan.creates.iter().map(|replica| replica.index).collect()
}

#[test]
fn named_pods_go_and_their_replacements_come_in_one_pass_with_the_lowest_free_indexes() {
    let pods = [pod("a", 0), pod("b", 1), pod("c", 2)];
    let plan = plan(&group(5, 1, &["b", "unknown"]), &pods, true);
    assert_eq!(plan.deletes, ["b", "unknown"]);
    assert_eq!(indexes(&plan), [1, 3, 4]);
    assert_eq!(plan.ends_pass, None);
}

#[test]
fn surplus_pods_stay_unless_autoscaling_is_off() {
    let pods = [pod("a", 0), pod("b", 1), pod("c", 2)];
    assert_eq!(plan(&group(1, 1, &[]), &pods, true), GroupPlan::default());
    assert_eq!(plan(&group(1, 1, &[]), &pods, false).deletes, ["a", "b"]);
    assert_eq!(plan(&group(1, 1, &["a"]), &pods, false).deletes, ["a", "b"]);
}

#[test]
fn the_number_of_replicas_is_clamped_and_zero_hosts_are_no_pods() {
    let mut group = group(20, 1, &[]);
    assert_eq!(plan(&group, &[], true).creates.len(), 10);
    group.replicas = Some(-3);
    group.min_replicas = Some(2);
    assert_eq!(plan(&group, &[], true).creates.len(), 2);
    group.num_of_hosts = 0;
    assert_eq!(plan(&group, &[], true), GroupPlan::default());
}

#[test]
fn an_unhealthy_pod_ends_the_pass_of_a_single_host_group() {
    let pods = [pod_in("a", 0, "Failed"), pod("b", 1)];
    let plan = plan(&group(4, 1, &["b"]), &pods, true);
    assert_eq!(plan.deletes, ["a"]);
    assert!(plan.creates.is_empty());
    assert!(plan.ends_pass.is_some());
}

#[test]
fn naming_one_host_deletes_its_whole_replica_and_holds_growth_back() {
    let pods = [host("a1", 0), host("a2", 0), host("b1", 1), host("b2", 1)];
    let with_victim = plan(&group(3, 2, &["b2", "unknown"]), &pods, true);
    assert_eq!(with_victim.deletes, ["b1", "b2"]);
    assert!(with_victim.creates.is_empty());
    assert!(with_victim.ends_pass.is_some());
    let next = plan(&group(3, 2, &["b2", "unknown"]), &pods[..2], true);
    assert_eq!(
        next.creates,
        [1, 2].map(|index| NewReplica {
            index,
            hosts: Some(2)
        })
    );
    assert!(next.deletes.is_empty());
}

#[test]
fn an_incomplete_replica_goes_before_a_new_one_comes() {
    let pods = [host("a1", 0), host("b1", 1), host("b2", 1)];
    let plan = plan(&group(2, 2, &[]), &pods, true);
    assert_eq!(plan.deletes, ["a1"]);
    assert!(plan.creates.is_empty());
    assert!(plan.ends_pass.is_some());
}

#[test]
fn an_unhealthy_host_takes_its_replica_along_and_the_new_one_comes_at_once() {
    let mut pods = [host("a1", 0), host("a2", 0), host("b1", 1), host("b2", 1)];
    pods[1].status.as_mut().unwrap().phase = Some("Failed".to_owned());
    let plan = plan(&group(2, 2, &[]), &pods, true);
    assert_eq!(plan.deletes, ["a1", "a2"]);
    assert_eq!(indexes(&plan), [0]);
    assert_eq!(plan.ends_pass, None);
}

#[test]
fn pods_without_a_replica_name_are_not_counted_among_several_hosts() {
    let plan = plan(&group(1, 2, &["a"]), &[pod("a", 0), pod("b", 0)], true);
    assert!(plan.deletes.is_empty());
    assert_eq!(plan.creates.len(), 1);
}

#[test]
fn only_a_pod_that_cannot_come_back_is_unhealthy() {
    let ended = |name: &str| json!([{"name": name, "state": {"terminated": {"exitCode": 1}}}]);
    let cases: [(&str, &str, Value, bool); 9] = [
        ("Failed", "Always", json!([]), true),
        ("Succeeded", "Always", json!([]), true),
        ("Running", "Never", json!([]), false),
        ("Running", "Never", ended("ray"), true),
        ("Running", "Always", ended("ray"), false),
        ("Running", "OnFailure", ended("ray"), false),
        ("Running", "Never", ended("sidecar"), false),
        ("Pending", "Never", ended("ray"), false),
        ("Unknown", "Never", ended("ray"), false),
    ];
    for (phase, restarts, statuses, expected) in cases {
        let mut value = serde_json::to_value(pod_in("a", 0, phase)).unwrap();
        value["spec"]["restartPolicy"] = json!(restarts);
        value["status"]["containerStatuses"] = statuses.clone();
        let pod: Pod = serde_json::from_value(value).unwrap();
        assert_eq!(
            is_unhealthy(&pod),
            expected,
            "{phase} {restarts} {statuses}"
        );
    }
}
