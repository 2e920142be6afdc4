//! Pods and raylets in, nodes out.

use serde_json::{Value, json};

use super::{cluster, codes, group, only, pod, raylet, snapshot};
use crate::model::{NodeId, NodeKind, NodeStatus, Quantity, Timestamp};
use crate::observe::ray_state::{RayNode, RayNodeStatus};

use NodeStatus::{Draining, Failed, Lost, Running, Starting, Stopped, Terminating};

const CONTAINER: &str = "/status/containerStatuses/0/state";
const RESTARTS: &str = "/status/containerStatuses/0/restartCount";
const DELETION: &str = "/metadata/deletionTimestamp";
const LABELS: &str = "/metadata/labels";

/// Asserts the status of a pod changed by `edits` whose raylets have these statuses.
fn assert_status(
    what: &str,
    edits: &[(&str, Value)],
    raylets: &[RayNodeStatus],
    expected: NodeStatus,
) {
    let raylets = raylets.iter().zip(1..);
    let raylets: Vec<RayNode> = raylets
        .map(|(status, id)| raylet("p", id, *status))
        .collect();
    assert_eq!(
        only(&[pod("p", edits)], &raylets).status,
        expected,
        "{what}"
    );
}

#[test]
fn a_pod_is_what_its_raylet_is() {
    use RayNodeStatus as R;
    assert_status("no raylet yet", &[], &[], Starting);
    assert_status("alive and busy", &[], &[R::Running], Running);
    assert_status("alive and idle", &[], &[R::Idle], Running);
    assert_status("draining", &[], &[R::Draining], Draining);
    assert_status("a status of the future", &[], &[R::Unknown], Running);
    assert_status("container outlives the raylet", &[], &[R::Dead], Stopped);
    let silent = [("/status/phase", json!("Unknown"))];
    assert_status("kubelet silent", &silent, &[R::Running], Running);
}

#[test]
fn a_container_restarted_in_place_waits_for_its_new_raylet() {
    use RayNodeStatus as R;
    let again = [
        ("/spec/restartPolicy", json!("Always")),
        (RESTARTS, json!(1)),
    ];
    assert_status("new raylet on its way", &again, &[R::Dead], Starting);
    assert_status("died again", &again, &[R::Dead, R::Dead], Stopped);
    assert_status("new raylet there", &again, &[R::Dead, R::Idle], Running);
    let always = || ("/spec/restartPolicy", json!("Always"));
    let waits = [
        always(),
        (
            CONTAINER,
            json!({"waiting": {"reason": "CrashLoopBackOff"}}),
        ),
    ];
    assert_status("between restarts", &waits, &[R::Dead], Starting);
    let ended = [
        always(),
        (CONTAINER, json!({"terminated": {"exitCode": 1}})),
    ];
    assert_status("the kubelet will restart it", &ended, &[R::Dead], Starting);
}

#[test]
fn a_pod_that_ended_or_goes_is_no_node_any_more() {
    use RayNodeStatus as R;
    let ended = [(CONTAINER, json!({"terminated": {"exitCode": 1}}))];
    assert_status("ended for good", &ended, &[R::Dead], Failed);
    assert_status("the GCS does not know yet", &ended, &[R::Running], Failed);
    for phase in ["Failed", "Succeeded"] {
        assert_status(phase, &[("/status/phase", json!(phase))], &[], Failed);
    }
    let gone = || (DELETION, json!("1970-01-01T00:02:00Z"));
    assert_status("deleted", &[gone()], &[R::Running], Terminating);
    let both = [gone(), ("/status/phase", json!("Failed"))];
    assert_status("deleted after it failed", &both, &[], Failed);
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

/// Where a pod differs from a running one, as JSON pointer and value.
type Edits<'a> = &'a [(&'a str, Value)];

/// What the operator deletes by itself: `(name, replica, edits)` of pods of a group of that many hosts.
fn taken_down(hosts: u32, list: &Value, pods: &[(&str, &str, Edits<'_>)]) -> Vec<String> {
    let index = (
        "/metadata/labels/ray.io~1worker-group-replica-index",
        json!("0"),
    );
    let of = |(name, replica, edits): &(&str, &str, Edits<'_>)| {
        let mut edits = edits.to_vec();
        if !replica.is_empty() {
            let label = "/metadata/labels/ray.io~1worker-group-replica-name";
            edits.extend([index.clone(), (label, json!(replica))]);
        }
        pod(name, &edits)
    };
    let pods: Vec<_> = pods.iter().map(of).collect();
    let snapshot = snapshot(&cluster(&json!([group("g", hosts, list)])), &pods, &[]);
    let taken_down = snapshot.taken_down.iter();
    taken_down
        .map(|(pod, group)| format!("{pod} of {group}"))
        .collect()
}

#[test]
fn a_pod_that_has_ended_is_deleted_by_the_operator_itself() {
    let gone = || (DELETION, json!("1970-01-01T00:02:00Z"));
    let ended = || (CONTAINER, json!({"terminated": {"exitCode": 1}}));
    let nobody = json!([]);
    let one = |edits: Edits<'_>| taken_down(1, &nobody, &[("p", "", edits)]);
    assert_eq!(one(&[gone(), ended()]), ["p of g"]);
    assert_eq!(
        one(&[gone(), ("/status/phase", json!("Failed"))]),
        ["p of g"]
    );
    assert!(
        one(&[ended()]).is_empty(),
        "the operator has not come to it"
    );
    assert!(one(&[gone()]).is_empty(), "somebody else has deleted it");
    let again = ("/spec/restartPolicy", json!("Always"));
    assert!(
        one(&[gone(), ended(), again]).is_empty(),
        "left to the kubelet"
    );
}

#[test]
fn a_replica_of_several_hosts_is_deleted_whole() {
    let gone: Edits<'_> = &[(DELETION, json!("1970-01-01T00:02:00Z"))];
    let ended: Edits<'_> = &[(CONTAINER, json!({"terminated": {"exitCode": 1}}))];
    let nobody = json!([]);
    let both = |first, second| taken_down(2, &nobody, &[("a", "r", first), ("b", "r", second)]);
    assert_eq!(both(ended, gone), ["b of g"]);
    assert_eq!(
        both(gone, gone),
        [] as [&str; 0],
        "by hand, and whole so far"
    );
    assert_eq!(
        taken_down(2, &nobody, &[("a", "r", gone)]),
        ["a of g"],
        "the other is gone"
    );
    let named = json!(["a"]);
    let whole: [(&str, &str, Edits<'_>); 2] = [("a", "r", gone), ("b", "r", gone)];
    assert_eq!(taken_down(2, &named, &whole), ["a of g", "b of g"]);
    // Where the operator does not index replicas it knows single pods only.
    let single: [(&str, &str, Edits<'_>); 2] = [("a", "", ended), ("b", "", gone)];
    assert!(taken_down(2, &nobody, &single).is_empty());
}
