//! Replicas, doomed pods, demand, and what the RayCluster itself says.

use serde_json::{Value, json};

use super::{cluster, codes, group, pod, raylet, snapshot};
use crate::model::{
    ClusterSnapshot, Completeness, GangRequest, Node, NodeStatus, PlacementStrategy, Quantity,
    ResourceDemand, ResourceName, ResourceRequest, UpscalingMode,
};
use crate::observe::join::{JoinInput, join};
use crate::observe::ray_state::{RayNode, RayNodeStatus, RayState};
use crate::wire::pod::PodFacts;
use crate::wire::raycluster::RayCluster;

const DELETION: &str = "/metadata/deletionTimestamp";

#[test]
fn workers_to_delete_reach_as_far_as_the_operators_hand() {
    let in_group =
        |name: &str, group: &str| pod(name, &[("/metadata/labels/ray.io~1group", json!(group))]);
    let member = |name: &str, replica: &str| {
        pod(
            name,
            &[
                ("/metadata/labels/ray.io~1group", json!("m")),
                (
                    "/metadata/labels/ray.io~1worker-group-replica-name",
                    json!(replica),
                ),
            ],
        )
    };
    let cluster = cluster(&json!([
        group("g", 1, &json!(["a", "foreign", "gone"])),
        group("m", 2, &json!(["m0", "elsewhere"]))
    ]));
    let pods = [
        in_group("a", "g"),
        in_group("b", "g"),
        in_group("foreign", "other"),
        in_group("elsewhere", "g"),
        member("m0", "r1"),
        member("m1", "r1"),
        member("m2", "r2"),
        member("m3", "r2"),
    ];
    let snapshot = snapshot(&cluster, &pods, &[]);
    let doomed: Vec<&str> = snapshot
        .nodes
        .iter()
        .filter(|n| n.status == NodeStatus::Deleting)
        .map(|n| n.name.as_str())
        .collect();
    assert_eq!(doomed, ["a", "m0", "m1", "foreign"]);
    assert_eq!(codes(&snapshot), ["orphaned_pods"]);
    assert_eq!(snapshot.groups[0].workers_to_delete.len(), 3);
}

#[test]
fn hosts_of_a_replica_are_found_by_label() {
    let host = |name: &str, replica: &str, index: &str| {
        pod(
            name,
            &[
                (
                    "/metadata/labels/ray.io~1worker-group-replica-name",
                    json!(replica),
                ),
                ("/metadata/labels/ray.io~1replica-host-index", json!(index)),
            ],
        )
    };
    let pods = [
        host("p3", "r1", "1"),
        host("p1", "r2", "0"),
        host("p2", "r1", "0"),
    ];
    let seen = |hosts: u32| {
        let snapshot = snapshot(
            &cluster(&json!([group("g", hosts, &json!([]))])),
            &pods,
            &[],
        );
        let text: Vec<String> = snapshot
            .nodes
            .iter()
            .map(|n| format!("{}/{}={}", n.replica, n.host_index, n.name))
            .collect();
        text.join(" ")
    };
    assert_eq!(seen(2), "r1/0=p2 r1/1=p3 r2/0=p1");
    // The operator counts pods of a single-host group one by one, labels of former times or not.
    assert_eq!(seen(1), "p1/0=p1 p2/0=p2 p3/0=p3");
}

#[test]
fn unlabelled_hosts_are_taken_in_the_order_of_their_creation() {
    let at = |name: &str, second: u32, gone: bool| {
        let mut edits = vec![(
            "/metadata/creationTimestamp",
            json!(format!("1970-01-01T00:00:{second:02}Z")),
        )];
        edits.extend(gone.then(|| (DELETION, json!("1970-01-01T00:02:00Z"))));
        pod(name, &edits)
    };
    let pods = [
        at("e", 9, false),
        at("d", 1, false),
        at("c", 1, false),
        at("b", 2, false),
        at("a", 0, true),
    ];
    let snapshot = snapshot(&cluster(&json!([group("g", 2, &json!([]))])), &pods, &[]);
    let text: Vec<String> = snapshot
        .nodes
        .iter()
        .map(|n| format!("{}/{}={}", n.replica, n.host_index, n.name))
        .collect();
    assert_eq!(text, ["a/0=a", "b/0=b", "b/1=e", "c/0=c", "c/1=d"]);
    assert_eq!(codes(&snapshot), ["replicas_unlabelled"]);
}

#[test]
fn unlabelled_pods_raise_no_replicas_once_newer_ones_are_labelled() {
    const CREATED: &str = "/metadata/creationTimestamp";
    const LABEL: &str = "/metadata/labels/ray.io~1worker-group-replica-name";
    let old = |name: &str| pod(name, &[(CREATED, json!("1970-01-01T00:00:09Z"))]);
    let host = |name: &str, replica: &str| pod(name, &[(LABEL, json!(replica))]);
    let mut scaled = group("g", 2, &json!([]));
    (scaled["replicas"], scaled["maxReplicas"]) = (json!(2), json!(9));
    let cluster = cluster(&json!([scaled]));
    let head = pod(
        "head",
        &[
            ("/metadata/labels/ray.io~1node-type", json!("head")),
            ("/metadata/labels/ray.io~1group", json!("headgroup")),
        ],
    );
    // Four replicas of one host became two of two: the operator made these anew, and counts no others.
    let mut pods = vec![head, old("o1"), old("o2"), old("o3"), old("o4")];
    pods.extend([
        host("a1", "a"),
        host("a2", "a"),
        host("b1", "b"),
        host("b2", "b"),
    ]);
    let raylets: Vec<RayNode> = (1..)
        .zip(&pods)
        .map(|(id, pod)| raylet(&pod.name, id, RayNodeStatus::Running))
        .collect();
    let seen = snapshot(&cluster, &pods, &raylets);
    let names = |snapshot: &ClusterSnapshot| -> Vec<String> {
        let replicas = snapshot.replicas_of(&"g".into());
        replicas.iter().map(|it| it.name.to_string()).collect()
    };
    assert_eq!(names(&seen), ["a", "b"]);
    assert_eq!(codes(&seen), ["replicas_unlabelled"]);
    // Their work counts, and they can take more.
    let is_node = |node: &&Node| node.status == NodeStatus::Running && !node.available.is_empty();
    assert_eq!(seen.nodes.iter().filter(is_node).count(), 9);
    // Those are newer: the operator has ceased to index, and counts every pod.
    pods[1..5].clone_from_slice(
        &["o1", "o2", "o3", "o4"]
            .map(|name| pod(name, &[(CREATED, json!("1970-01-01T00:02:00Z"))])),
    );
    let seen = snapshot(&cluster, &pods, &[]);
    assert_eq!(names(&seen), ["a", "b", "o1", "o3"]);
}

#[test]
fn demand_that_new_nodes_cannot_serve_is_left_out() {
    let request = |name: &str| {
        ResourceRequest::of(
            [(ResourceName::from(name), Quantity::from_whole(1))]
                .into_iter()
                .collect(),
        )
    };
    let demand = |name: &str, count| ResourceDemand {
        request: request(name),
        count,
    };
    let gang = |bundles: Vec<ResourceDemand>| GangRequest {
        details: "d".to_owned(),
        strategy: PlacementStrategy::Pack,
        bundles,
        fallbacks: Vec::new(),
        constraint_count: 0,
        bundle_count: 1,
    };
    let inside = format!("CPU_group_{}", "0123456789ab".repeat(3));
    let ray = RayState {
        demands: vec![
            demand("CPU", u64::MAX),
            demand(&inside, 3),
            demand("GPU", 0),
            demand("CPU", 2),
            demand("A", 1),
        ],
        gangs: vec![
            gang(vec![]),
            gang(vec![demand("CPU", 0)]),
            gang(vec![demand("CPU", 2)]),
        ],
        ..RayState::default()
    };
    let snapshot = join(&JoinInput {
        ray: &ray,
        raycluster: &RayCluster::from_value(&cluster(&json!([]))).unwrap(),
        pods: &[],
        completeness: Completeness::default(),
    });
    assert_eq!(snapshot.demands, [demand("A", 1), demand("CPU", u64::MAX)]);
    assert_eq!(snapshot.gangs.len(), 1);
}

#[test]
fn the_rayclusters_own_wishes_are_carried_over() {
    let with = |pointer: &str, value: Value| {
        let mut cluster = cluster(&json!([]));
        cluster["metadata"]["annotations"] = json!({});
        cluster["spec"]["autoscalerOptions"] = json!({});
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        cluster.pointer_mut(parent).unwrap()[key.replace("~1", "/")] = value;
        snapshot(&cluster, &[], &[])
    };
    const PAUSED: &str = "/metadata/annotations/rayscaler.io~1paused";
    for (value, expected) in [
        ("", None),
        ("false", None),
        ("False ", None),
        ("true", Some("annotation rayscaler.io/paused")),
        ("upgrade until noon", Some("upgrade until noon")),
    ] {
        assert_eq!(
            with(PAUSED, json!(value)).paused.as_deref(),
            expected,
            "{value}"
        );
    }
    let plain = with(PAUSED, json!(null));
    assert_eq!(
        (
            plain.uid.as_str(),
            plain.is_suspended,
            plain.is_deleting,
            plain.idle_timeout_ms,
            plain.paused
        ),
        ("u", false, false, None, None)
    );
    assert!(with("/spec/suspend", json!(true)).is_suspended);
    assert!(with("/metadata/deletionTimestamp", json!("1970-01-01T00:02:00Z")).is_deleting);
    assert_eq!(
        with("/spec/autoscalerOptions/idleTimeoutSeconds", json!(30)).idle_timeout_ms,
        Some(30_000)
    );
    assert_eq!(
        with("/spec/autoscalerOptions/idleTimeoutSeconds", json!(-1)).idle_timeout_ms,
        None
    );
    for (mode, expected) in [
        ("Conservative", UpscalingMode::Conservative),
        ("Aggressive", UpscalingMode::Unlimited),
        ("Default", UpscalingMode::Unlimited),
    ] {
        assert_eq!(
            with("/spec/autoscalerOptions/upscalingMode", json!(mode)).upscaling_mode,
            expected
        );
    }
}

#[test]
fn an_empty_cluster_and_hostile_groups_make_a_snapshot() {
    let empty = snapshot(&json!({"metadata": {"name": "c"}, "spec": {}}), &[], &[]);
    assert!(empty.groups.is_empty() && empty.nodes.is_empty() && !empty.is_head_running());
    let groups = json!([group("g", 0, &json!([])), group("t", 1, &json!([])), group("t", 3, &json!([])), {"groupName": "x", "numOfHosts": 9_223_372_036_854_775_807_i64}, 5]);
    let pods = [
        pod("p", &[]),
        pod("q", &[("/metadata/labels/ray.io~1group", json!("t"))]),
        pod("r", &[("/metadata/labels/ray.io~1group", json!("x"))]),
    ];
    let hostile = snapshot(
        &cluster(&groups),
        &pods,
        &[raylet("p", 1, RayNodeStatus::Running)],
    );
    assert_eq!(
        (
            hostile.groups.len(),
            hostile.skipped.len(),
            hostile.nodes.len()
        ),
        (0, 5, 3)
    );
}

#[test]
fn the_order_of_the_input_does_not_matter() {
    let names: Vec<String> = (0..60).map(|n| format!("p{n}")).collect();
    let mut pods: Vec<PodFacts> = names.iter().map(|name| pod(name, &[])).collect();
    let mut raylets: Vec<RayNode> = names
        .iter()
        .zip(1_u8..)
        .map(|(name, id)| {
            let status = [
                RayNodeStatus::Idle,
                RayNodeStatus::Running,
                RayNodeStatus::Dead,
                RayNodeStatus::Draining,
            ][usize::from(id % 4)];
            raylet(if id % 7 == 0 { "p3" } else { name }, id, status)
        })
        .collect();
    let cluster = cluster(&json!([group("g", 3, &json!(["p9"]))]));
    let first = snapshot(&cluster, &pods, &raylets);
    pods.reverse();
    raylets.reverse();
    assert_eq!(snapshot(&cluster, &pods, &raylets), first);
    assert!(first.nodes.len() >= 60);
}
