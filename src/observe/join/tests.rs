//! Tables: pods and raylets in, nodes out.

use serde_json::{Value, json};

use super::{JoinInput, join};
use crate::model::{
    ClusterSnapshot, Completeness, GangRequest, Node, NodeId, NodeKind, NodeStatus,
    PlacementStrategy, Quantity, ResourceDemand, ResourceMap, ResourceName, ResourceRequest,
    Timestamp, UpscalingMode,
};
use crate::observe::ray_state::{RayNode, RayNodeStatus, RayState};
use crate::wire::pod::PodFacts;
use crate::wire::raycluster::RayCluster;

use NodeStatus::{Deleting, Draining, Failed, Lost, Running, Starting, Stopped, Terminating};

fn cluster(groups: &Value) -> Value {
    json!({"metadata": {"name": "c", "uid": "u"}, "spec": {"enableInTreeAutoscaling": true,
        "headGroupSpec": {"template": {"spec": {"containers": [{"name": "ray"}]}}}, "workerGroupSpecs": groups}})
}

fn group(name: &str, hosts: u32, workers_to_delete: &Value) -> Value {
    json!({"groupName": name, "numOfHosts": hosts, "scaleStrategy": {"workersToDelete": workers_to_delete},
        "template": {"spec": {"containers": [{"name": "ray", "resources": {"limits": {"cpu": 1}}}]}}})
}

/// A running worker of group `g`, changed by `edits` (JSON pointer, value).
fn pod(name: &str, edits: &[(&str, Value)]) -> PodFacts {
    let mut pod = json!({
        "metadata": {"name": name, "creationTimestamp": "1970-01-01T00:01:00Z",
            "labels": {"ray.io/cluster": "c", "ray.io/node-type": "worker", "ray.io/group": "g"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "ray"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "ray", "restartCount": 0, "state": {"running": {}}}]}});
    for (pointer, value) in edits {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/");
        pod.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    PodFacts::from_value(&pod).unwrap()
}

fn cpus(count: i64) -> ResourceMap {
    [(ResourceName::from("CPU"), Quantity::from_whole(count))]
        .into_iter()
        .collect()
}

fn raylet(instance_id: &str, id: u8, status: RayNodeStatus) -> RayNode {
    RayNode {
        node_id: NodeId::from_bytes(&[id; 28]).unwrap(),
        instance_id: instance_id.to_owned(),
        group: "g".to_owned(),
        ip_address: "10.0.0.1".to_owned(),
        raylet_address: None,
        status,
        is_head: false,
        total: cpus(4),
        available: cpus(1),
        labels: [("zone".to_owned(), "z".to_owned())].into_iter().collect(),
        idle_ms: if status == RayNodeStatus::Idle {
            3_000
        } else {
            0
        },
    }
}

fn snapshot(cluster: &Value, pods: &[PodFacts], nodes: &[RayNode]) -> ClusterSnapshot {
    let ray = RayState {
        received_at: Timestamp::from_ms(10_000),
        nodes: nodes.to_vec(),
        ..RayState::default()
    };
    join(&JoinInput {
        ray: &ray,
        raycluster: &RayCluster::from_value(cluster).unwrap(),
        pods: &pods.iter().collect::<Vec<_>>(),
        completeness: Completeness::default(),
    })
}

fn only(pods: &[PodFacts], nodes: &[RayNode]) -> Node {
    let snapshot = snapshot(&cluster(&json!([group("g", 1, &json!([]))])), pods, nodes);
    assert_eq!(snapshot.nodes.len(), 1, "{:?}", snapshot.nodes);
    snapshot.nodes[0].clone()
}

fn codes(snapshot: &ClusterSnapshot) -> Vec<&str> {
    snapshot
        .problems
        .iter()
        .map(|problem| problem.code.as_str())
        .collect()
}

const CONTAINER: &str = "/status/containerStatuses/0/state";
const RESTARTS: &str = "/status/containerStatuses/0/restartCount";
const DELETION: &str = "/metadata/deletionTimestamp";
const LABELS: &str = "/metadata/labels";

#[test]
fn a_pod_and_its_raylets_have_one_status() {
    use RayNodeStatus as R;
    let ended = || {
        (
            CONTAINER,
            json!({"terminated": {"exitCode": 1, "reason": "OOMKilled"}}),
        )
    };
    let always = || ("/spec/restartPolicy", json!("Always"));
    let gone = || (DELETION, json!("1970-01-01T00:02:00Z"));
    let cases: Vec<(&str, Vec<(&str, Value)>, &[R], NodeStatus)> = vec![
        ("no raylet yet", vec![], &[], Starting),
        ("alive and busy", vec![], &[R::Running], Running),
        ("alive and idle", vec![], &[R::Idle], Running),
        ("draining", vec![], &[R::Draining], Draining),
        ("a status of the future", vec![], &[R::Unknown], Running),
        (
            "drained, container outlives the raylet",
            vec![],
            &[R::Dead],
            Stopped,
        ),
        (
            "restarted in place, new raylet on its way",
            vec![always(), (RESTARTS, json!(1))],
            &[R::Dead],
            Starting,
        ),
        (
            "restarted in place and died again",
            vec![always(), (RESTARTS, json!(1))],
            &[R::Dead, R::Dead],
            Stopped,
        ),
        (
            "restarted in place, new raylet there",
            vec![always(), (RESTARTS, json!(1))],
            &[R::Dead, R::Idle],
            Running,
        ),
        (
            "container between restarts",
            vec![
                always(),
                (
                    CONTAINER,
                    json!({"waiting": {"reason": "CrashLoopBackOff"}}),
                ),
            ],
            &[R::Dead],
            Starting,
        ),
        (
            "container ended, kubelet restarts it",
            vec![always(), ended()],
            &[R::Dead],
            Starting,
        ),
        (
            "container ended for good",
            vec![ended()],
            &[R::Dead],
            Failed,
        ),
        (
            "container ended, the GCS does not know yet",
            vec![ended()],
            &[R::Running],
            Failed,
        ),
        (
            "evicted",
            vec![("/status/phase", json!("Failed"))],
            &[],
            Failed,
        ),
        (
            "completed",
            vec![("/status/phase", json!("Succeeded"))],
            &[],
            Failed,
        ),
        (
            "kubelet silent",
            vec![("/status/phase", json!("Unknown"))],
            &[R::Running],
            Running,
        ),
        ("deleted", vec![gone()], &[R::Running], Terminating),
        (
            "deleted after it failed",
            vec![gone(), ("/status/phase", json!("Failed"))],
            &[],
            Terminating,
        ),
    ];
    for (what, edits, statuses, expected) in cases {
        let raylets: Vec<RayNode> = statuses
            .iter()
            .zip(1..)
            .map(|(status, id)| raylet("p", id, *status))
            .collect();
        assert_eq!(
            only(&[pod("p", &edits)], &raylets).status,
            expected,
            "{what}"
        );
    }
}

#[test]
fn a_running_node_is_what_its_raylet_registered() {
    let node = only(&[pod("p", &[])], &[raylet("p", 7, RayNodeStatus::Idle)]);
    assert_eq!(
        (node.total.get("CPU"), node.available.get("CPU")),
        (Quantity::from_whole(4), Quantity::from_whole(1))
    );
    assert_eq!(node.idle_since, Some(Timestamp::from_ms(7_000)));
    assert_eq!(node.created_at, Some(Timestamp::from_ms(60_000)));
    assert_eq!(
        (
            node.labels["zone"].as_str(),
            node.group.as_str(),
            node.replica.as_str()
        ),
        ("z", "g", "p")
    );
    assert_eq!(node.node_id, NodeId::from_bytes(&[7; 28]));
    let busy = only(&[pod("p", &[])], &[raylet("p", 7, RayNodeStatus::Running)]);
    assert_eq!(busy.idle_since, None);
    let going = only(
        &[pod("p", &[(DELETION, json!("1970-01-01T00:02:00Z"))])],
        &[raylet("p", 7, RayNodeStatus::Idle)],
    );
    assert!(going.idle_since.is_none() && going.node_id.is_some());
}

#[test]
fn a_node_of_unknown_status_offers_nothing_and_is_never_idle() {
    let cluster = cluster(&json!([group("g", 1, &json!([]))]));
    let snapshot = snapshot(
        &cluster,
        &[pod("p", &[])],
        &[raylet("p", 7, RayNodeStatus::Unknown)],
    );
    assert!(snapshot.nodes[0].available.is_empty() && snapshot.nodes[0].idle_since.is_none());
    assert_eq!(codes(&snapshot), ["unknown_node_status"]);
}

#[test]
fn of_two_raylets_of_one_pod_the_one_that_was_last_heard_counts() {
    let mut silent = raylet("p", 1, RayNodeStatus::Idle);
    silent.idle_ms = 90_000;
    let raylets = [silent, raylet("p", 2, RayNodeStatus::Idle)];
    let cluster = cluster(&json!([group("g", 1, &json!([]))]));
    for raylets in [raylets.clone(), [raylets[1].clone(), raylets[0].clone()]] {
        let snapshot = snapshot(&cluster, &[pod("p", &[])], &raylets);
        assert_eq!(snapshot.nodes.len(), 1);
        assert_eq!(snapshot.nodes[0].node_id, NodeId::from_bytes(&[2; 28]));
        assert_eq!(codes(&snapshot), ["two_raylets"]);
    }
}

#[test]
fn a_raylet_without_a_pod_is_lost_and_a_dead_one_is_nothing() {
    let node = only(
        &[],
        &[
            raylet("gone", 1, RayNodeStatus::Running),
            raylet("old", 2, RayNodeStatus::Dead),
            raylet("odd", 3, RayNodeStatus::Unknown),
        ],
    );
    assert_eq!(
        (node.name.as_str(), node.status, node.created_at),
        ("gone", Lost, None)
    );
    let by_hand = only(&[], &[raylet("", 1, RayNodeStatus::Idle)]);
    assert_eq!(
        (by_hand.name.as_str(), by_hand.status, by_hand.idle_since),
        ("10.0.0.1", Lost, None)
    );
    let mut head = raylet("", 1, RayNodeStatus::Running);
    head.is_head = true;
    assert_eq!(only(&[], &[head]).kind, NodeKind::Head);
}

#[test]
fn a_pod_says_why_it_does_not_run() {
    let pending = ("/status/phase", json!("Pending"));
    let cases: Vec<(Vec<(&str, Value)>, &str)> = vec![
        (vec![], ""),
        (
            vec![
                pending.clone(),
                (
                    "/status/conditions",
                    json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]),
                ),
            ],
            "Unschedulable",
        ),
        (
            vec![
                pending.clone(),
                ("/spec/schedulingGates", json!([{"name": "q"}])),
            ],
            "SchedulingGated",
        ),
        (
            vec![
                pending.clone(),
                (
                    CONTAINER,
                    json!({"waiting": {"reason": "ImagePullBackOff"}}),
                ),
            ],
            "ImagePullBackOff",
        ),
        (
            vec![
                pending,
                (CONTAINER, json!({"waiting": {"reason": "PodInitializing"}})),
                (
                    "/status/initContainerStatuses",
                    json!([{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}]),
                ),
            ],
            "ErrImagePull",
        ),
        (
            vec![
                ("/status/phase", json!("Failed")),
                ("/status/reason", json!("Evicted")),
            ],
            "Evicted",
        ),
        (
            vec![(
                CONTAINER,
                json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            )],
            "OOMKilled",
        ),
    ];
    for (edits, expected) in cases {
        assert_eq!(only(&[pod("p", &edits)], &[]).waiting_reason, expected);
    }
    assert_eq!(
        only(&[pod("p", &[])], &[raylet("p", 1, RayNodeStatus::Running)]).waiting_reason,
        ""
    );
}

#[test]
fn head_and_helper_pods_are_told_apart_by_label() {
    let head = pod(
        "h",
        &[
            ("/metadata/labels/ray.io~1node-type", json!("head")),
            ("/metadata/labels/ray.io~1group", json!("headgroup")),
        ],
    );
    let helper = pod(
        "r",
        &[("/metadata/labels/ray.io~1node-type", json!("redis-cleanup"))],
    );
    let foreign = pod("f", &[("/metadata/labels/ray.io~1cluster", json!("other"))]);
    let unlabelled = pod(
        "u",
        &[(
            LABELS,
            json!({"ray.io/cluster": "c", "ray.io/node-type": "worker"}),
        )],
    );
    let bare = pod("b", &[(LABELS, json!(null))]);
    let pods = [head, helper, foreign, unlabelled, bare];
    let snapshot = snapshot(
        &cluster(&json!([])),
        &pods,
        &[raylet("h", 1, RayNodeStatus::Running)],
    );
    assert_eq!(snapshot.nodes.len(), 1);
    assert!(snapshot.is_head_running() && snapshot.nodes[0].group.as_str() == "headgroup");
    assert_eq!(codes(&snapshot), ["pod_without_group"]);
}

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
        .filter(|n| n.status == Deleting)
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
