//! What the planner of patches relies on, seen with KubeRay's own Role.

use std::collections::BTreeSet;

use crate::ray_access::{CLUSTER, RayAccess};
use rayscaler::act::kube::KubeAct;
use rayscaler::act::patch::{PatchPlan, plan};
use rayscaler::act::{ActError, NextStep};
use rayscaler::model::{
    ANNOTATION_INTENT, ClusterSnapshot, GroupDecision, IntentSeen, Node, NodeKind, NodeStatus,
    NodeTemplate, PodName, RemovalCause, ReplicaBounds, ReplicaName, ReplicaRemoval, ResourceMap,
    ScaleDecision, WorkerGroup,
};
use serde_json::{Value, json};

pub(super) fn group(name: &str, replicas: u32) -> Value {
    json!({"groupName": name, "replicas": replicas, "minReplicas": 0, "maxReplicas": 5000, "template": {}})
}

fn group_with(name: &str, replicas: u32, strategy: &Value) -> Value {
    let mut group = group(name, replicas);
    group["scaleStrategy"] = strategy.clone();
    group
}

/// What an observer makes of a stored RayCluster, every listed or wanted pod being there.
pub(super) fn snapshot(stored: &Value, pods: &[(&str, &str)]) -> ClusterSnapshot {
    let groups = stored["spec"]["workerGroupSpecs"].as_array().unwrap();
    let group = |(index, spec): (usize, &Value)| {
        let strategy = spec.get("scaleStrategy");
        let list = strategy.and_then(|strategy| strategy.get("workersToDelete"));
        let names = list.and_then(Value::as_array).into_iter().flatten();
        WorkerGroup {
            surge: 0,
            has_replicas: true,
            name: spec["groupName"].as_str().unwrap().into(),
            index,
            replicas: u32::try_from(spec["replicas"].as_u64().unwrap()).unwrap(),
            bounds: ReplicaBounds { min: 0, max: 5000 },
            num_of_hosts: 1,
            priority: 0,
            idle_timeout_ms: None,
            template: NodeTemplate::default(),
            workers_to_delete: names.map(|name| name.as_str().unwrap().into()).collect(),
            has_scale_strategy: strategy.is_some(),
            has_workers_to_delete: list.is_some(),
        }
    };
    ClusterSnapshot {
        uid: stored["metadata"]["uid"].as_str().unwrap().to_owned(),
        groups: groups.iter().enumerate().map(group).collect(),
        nodes: pods.iter().map(|(group, name)| node(group, name)).collect(),
        ..ClusterSnapshot::default()
    }
}

fn node(group: &str, name: &str) -> Node {
    Node {
        name: name.into(),
        raylet_address: None,
        node_id: None,
        kind: NodeKind::Worker,
        group: group.into(),
        replica: ReplicaName::from(name),
        host_index: 0,
        status: NodeStatus::Draining,
        total: ResourceMap::new(),
        available: ResourceMap::new(),
        labels: Default::default(),
        idle_since: None,
        created_at: None,
        waiting_reason: String::new(),
        pod_ip: String::new(),
    }
}

/// Plans `replicas` for each group, and the removal of every pod of the snapshot.
fn planned(snapshot: &ClusterSnapshot, targets: &[(&str, u32)]) -> PatchPlan {
    let removal = |node: &Node| ReplicaRemoval {
        replica: node.replica.clone(),
        pods: vec![node.name.clone()],
        cause: RemovalCause::Idle,
        idle_ms: 1,
        finish: rayscaler::model::Finish::default(),
    };
    let decided = |(name, to): &(&str, u32)| {
        let name = rayscaler::model::WorkerGroupName::from(*name);
        let nodes = snapshot.nodes.iter().filter(|node| node.group == name);
        GroupDecision {
            replicas_from: snapshot.group(&name).unwrap().replicas,
            replicas_to: *to,
            remove: nodes.map(removal).collect(),
            forget: Vec::new(),
            reasons: Vec::new(),
            name,
        }
    };
    let decision = ScaleDecision {
        groups: targets.iter().map(decided).collect(),
        ..ScaleDecision::default()
    };
    let accepted: BTreeSet<PodName> = snapshot
        .nodes
        .iter()
        .map(|node| node.name.clone())
        .collect();
    plan(snapshot, &decision, &accepted).unwrap()
}

async fn act(access: &RayAccess<'_>) -> KubeAct {
    KubeAct::new(access.client().await, &access.namespace, CLUSTER)
}

async fn send(act: &KubeAct, ops: Value) -> Result<Value, ActError> {
    let Value::Array(ops) = ops else {
        panic!("expected operations");
    };
    let groups = Vec::new();
    act.patch(&PatchPlan { ops, groups }).await
}

/// Returns what the API server answers, as the metric's label.
async fn answer(act: &KubeAct, ops: Value) -> &'static str {
    match send(act, ops).await {
        Ok(_) => "ok",
        Err(error) => error.kind(),
    }
}

#[tokio::test]
async fn the_operations_that_plans_are_made_of_do_what_they_should() {
    let groups = json!([
        group("a", 2),
        group_with("b", 2, &json!({})),
        group_with(
            "c",
            2,
            &json!({"workersToDelete": ["c-1"], "scaleGate": {"by": "kueue"}})
        )
    ]);
    let access = RayAccess::on_shared(super::SERVER, &groups, &[]).await;
    let act = act(&access).await;
    let at = |rest: &str| format!("/spec/workerGroupSpecs/{rest}");
    let test = |rest: &str, value: Value| json!([{"op": "test", "path": at(rest), "value": value}]);
    let add = |rest: &str, value: Value| json!([{"op": "add", "path": at(rest), "value": value}]);
    let uid = access.stored().await["metadata"]["uid"].clone();
    let rows = [
        (
            "ok",
            json!([{"op": "test", "path": "/metadata/uid", "value": uid}]),
        ),
        (
            "rejected",
            json!([{"op": "test", "path": "/metadata/uid", "value": "other"}]),
        ),
        ("ok", test("0/groupName", json!("a"))),
        ("rejected", test("0/groupName", json!("b"))),
        ("rejected", test("3/groupName", json!("a"))),
        // Absent members are null, at each depth that exists.
        ("ok", test("0/scaleStrategy", Value::Null)),
        ("rejected", test("1/scaleStrategy", Value::Null)),
        ("ok", test("1/scaleStrategy/workersToDelete", Value::Null)),
        (
            "rejected",
            test("2/scaleStrategy/workersToDelete", Value::Null),
        ),
        (
            "ok",
            test("2/scaleStrategy/workersToDelete", json!(["c-1"])),
        ),
        (
            "rejected",
            test("2/scaleStrategy/workersToDelete", json!(["c-1", "c-2"])),
        ),
        (
            "rejected",
            test("2/scaleStrategy/workersToDelete", json!([])),
        ),
        // The list goes only into a strategy that is there.
        (
            "rejected",
            add("0/scaleStrategy/workersToDelete", json!(["a-1"])),
        ),
        ("ok", add("1/scaleStrategy/workersToDelete", json!(["b-1"]))),
        (
            "ok",
            add("0/scaleStrategy", json!({"workersToDelete": ["a-1"]})),
        ),
        ("ok", add("0/scaleStrategy/workersToDelete", json!([]))),
        ("ok", test("0/scaleStrategy/workersToDelete", json!([]))),
        (
            "rejected",
            test("0/scaleStrategy/workersToDelete", Value::Null),
        ),
        // Nothing but the planner stops a negative number; the CRD stops one above int32.
        ("ok", add("0/replicas", json!(-1))),
        ("ok", add("0/replicas", json!(2_147_483_647))),
        ("rejected", add("0/replicas", json!(2_147_483_648_u64))),
    ];
    for (expected, ops) in rows {
        let text = ops.to_string();
        assert_eq!(answer(&act, ops).await, expected, "{text}");
    }
}

#[tokio::test]
async fn a_patch_that_changes_nothing_writes_nothing() {
    let access = RayAccess::on_shared(super::SERVER, &json!([group("a", 2)]), &[]).await;
    let act = act(&access).await;
    let before = access.stored().await;
    let same = json!([{"op": "add", "path": "/spec/workerGroupSpecs/0/replicas", "value": 2}]);
    let answer = send(&act, same).await.unwrap();
    assert_eq!(
        answer["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn limits_of_the_api_server_are_told_apart() {
    let access = RayAccess::on_shared(super::SERVER, &json!([group("a", 2)]), &[]).await;
    let act = act(&access).await;
    let test = json!({"op": "test", "path": "/spec/workerGroupSpecs/0/groupName", "value": "a"});
    let error = send(&act, json!(vec![test; 10_001])).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.next_step()),
        ("too_large", NextStep::Hold)
    );
    let names: Vec<String> = (0..40_000).map(|n| format!("{n:042}")).collect();
    let path = "/spec/workerGroupSpecs/0/scaleStrategy";
    let huge = json!([{"op": "add", "path": path, "value": {"workersToDelete": names}}]);
    let error = send(&act, huge).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.next_step()),
        ("too_large", NextStep::Hold)
    );
}

#[tokio::test]
async fn all_groups_change_in_one_patch_whatever_their_strategy_looked_like() {
    let gate = json!({"by": "kueue"});
    let groups = json!([
        group("absent", 3),
        group_with("empty", 3, &json!({})),
        group_with("gated", 3, &json!({"scaleGate": gate})),
        group_with(
            "listed",
            3,
            &json!({"workersToDelete": ["l-0"], "scaleGate": gate})
        ),
        group("growing", 1),
    ]);
    let access = RayAccess::on_shared(super::SERVER, &groups, &[]).await;
    let pods = [
        ("absent", "a-1"),
        ("empty", "e-1"),
        ("gated", "g-1"),
        ("listed", "l-1"),
    ];
    let snapshot = snapshot(&access.stored().await, &pods);
    let targets = [
        ("absent", 2),
        ("empty", 2),
        ("gated", 2),
        ("listed", 4),
        ("growing", 9),
    ];
    let answer = act(&access)
        .await
        .patch(&planned(&snapshot, &targets))
        .await
        .unwrap();
    let stored = access.stored().await;
    assert_eq!(answer["spec"], stored["spec"]);
    let spec = &stored["spec"]["workerGroupSpecs"];
    let replicas: Vec<&Value> = (0..5).map(|index| &spec[index]["replicas"]).collect();
    assert_eq!(replicas, [2, 2, 2, 4, 9]);
    assert_eq!(
        spec[0]["scaleStrategy"],
        json!({"workersToDelete": ["a-1"]})
    );
    assert_eq!(
        spec[1]["scaleStrategy"],
        json!({"workersToDelete": ["e-1"]})
    );
    assert_eq!(
        spec[2]["scaleStrategy"],
        json!({"workersToDelete": ["g-1"], "scaleGate": gate})
    );
    assert_eq!(
        spec[3]["scaleStrategy"],
        json!({"workersToDelete": ["l-0", "l-1"], "scaleGate": gate})
    );
    assert_eq!(spec[4].get("scaleStrategy"), None);
    let managers = stored["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|entry| entry["manager"] == "rayscaler"));
    assert_eq!(access.calls(), [("patch", 200)]);
}

/// Somebody edits between our read and our patch: nothing of it may be written.
async fn nothing_is_written_after(edit: &Value) {
    let groups = json!([
        group("a", 3),
        group_with("b", 3, &json!({"workersToDelete": ["b-0"]}))
    ]);
    let access = RayAccess::on_shared(super::SERVER, &groups, &[]).await;
    let snapshot = snapshot(&access.stored().await, &[("a", "a-1"), ("b", "b-1")]);
    access.edit(edit).await;
    let edited = access.stored().await;
    let plan = planned(&snapshot, &[("a", 2), ("b", 2)]);
    let error = act(&access).await.patch(&plan).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.next_step()),
        ("rejected", NextStep::ObserveAgain),
        "{edit}"
    );
    assert_eq!(access.stored().await, edited, "{edit}");
}

#[tokio::test]
async fn groups_that_were_reordered_or_removed_are_not_touched() {
    let b = group_with("b", 3, &json!({"workersToDelete": ["b-0"]}));
    nothing_is_written_after(&json!({"spec": {"workerGroupSpecs": [b, group("a", 3)]}})).await;
    nothing_is_written_after(&json!({"spec": {"workerGroupSpecs": [group("a", 3)]}})).await;
}

#[tokio::test]
async fn a_list_that_somebody_else_edited_is_not_overwritten() {
    let listed = |names: Value| group_with("b", 3, &json!({"workersToDelete": names}));
    for b in [
        listed(json!(["b-0", "b-7"])),
        listed(json!([])),
        group("b", 3),
    ] {
        nothing_is_written_after(&json!({"spec": {"workerGroupSpecs": [group("a", 3), b]}})).await;
    }
    let a = group_with("a", 3, &json!({"workersToDelete": ["a-7"]}));
    nothing_is_written_after(&json!({"spec": {"workerGroupSpecs": [a, listed(json!(["b-0"]))]}}))
        .await;
}

#[tokio::test]
async fn a_number_that_somebody_else_edited_is_not_overwritten() {
    let b = group_with("b", 3, &json!({"workersToDelete": ["b-0"]}));
    for replicas in [0, 2, 4, 5] {
        let a = group("a", replicas);
        nothing_is_written_after(&json!({"spec": {"workerGroupSpecs": [a, b]}})).await;
    }
}

#[tokio::test]
async fn a_cluster_made_anew_is_not_touched() {
    let groups = json!([group("a", 3)]);
    let access = RayAccess::on_shared(super::SERVER, &groups, &[]).await;
    let snapshot = snapshot(&access.stored().await, &[]);
    access.delete().await;
    access.create(&groups).await;
    let plan = planned(&snapshot, &[("a", 4)]);
    let act = act(&access).await;
    assert_eq!(act.patch(&plan).await.unwrap_err().kind(), "rejected");
    assert_eq!(
        access.stored().await["spec"]["workerGroupSpecs"][0]["replicas"],
        3
    );
    access.delete().await;
    let error = act.patch(&plan).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.next_step()),
        ("not_found", NextStep::ObserveAgain)
    );
}

#[tokio::test]
async fn a_thousand_victims_are_named_and_forgotten() {
    let access = RayAccess::on_shared(super::SERVER, &json!([group("a", 1000)]), &[]).await;
    let names: Vec<String> = (0..1000)
        .map(|n| format!("cluster-a-worker-{n:05}-abcdefghij"))
        .collect();
    let pods: Vec<(&str, &str)> = names.iter().map(|name| ("a", name.as_str())).collect();
    let act = act(&access).await;
    let named = snapshot(&access.stored().await, &pods);
    let stored = act.patch(&planned(&named, &[("a", 0)])).await.unwrap();
    let list = &stored["spec"]["workerGroupSpecs"][0]["scaleStrategy"]["workersToDelete"];
    assert_eq!(list.as_array().unwrap().len(), 1000);

    let gone = snapshot(&stored, &[]);
    let mut decision = ScaleDecision::default();
    decision.groups.push(GroupDecision {
        name: "a".into(),
        replicas_from: 0,
        replicas_to: 0,
        remove: Vec::new(),
        forget: names
            .iter()
            .map(|name| PodName::from(name.as_str()))
            .collect(),
        reasons: Vec::new(),
    });
    let plan = plan(&gone, &decision, &BTreeSet::new()).unwrap();
    let stored = act.patch(&plan).await.unwrap();
    let strategy = &stored["spec"]["workerGroupSpecs"][0]["scaleStrategy"];
    assert_eq!(*strategy, json!({"workersToDelete": []}));
}

#[tokio::test]
async fn a_token_without_the_verb_is_told_apart_from_no_token() {
    let access = RayAccess::on_shared(super::SERVER, &json!([group("a", 1)]), &[]).await;
    let plan = planned(&snapshot(&access.stored().await, &[]), &[("a", 2)]);
    let elsewhere = KubeAct::new(access.client().await, "default", CLUSTER);
    let error = elsewhere.patch(&plan).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.next_step()),
        ("forbidden", NextStep::Hold)
    );
    std::fs::write(access.token_path(), "not-a-token").unwrap();
    let error = act(&access).await.patch(&plan).await.unwrap_err();
    assert_eq!(error.kind(), "unauthorized");
    assert!(matches!(error.next_step(), NextStep::Wait(_)));
    assert_eq!(access.calls(), [("patch", 403), ("patch", 401)]);
}

/// Returns what stands in the annotations for the intent.
pub(super) fn seen(stored: &Value) -> IntentSeen {
    match &stored["metadata"]["annotations"] {
        Value::Null => IntentSeen::NoAnnotations,
        annotations => match &annotations[ANNOTATION_INTENT] {
            Value::String(text) => IntentSeen::Text(text.clone()),
            _ => IntentSeen::Absent,
        },
    }
}

#[tokio::test]
async fn an_intent_goes_along_and_of_two_writers_one_fails() {
    let access = RayAccess::on_shared(super::SERVER, &json!([group("a", 0)]), &[]).await;
    let act = act(&access).await;
    let change = |stored: &Value, replicas| planned(&snapshot(stored, &[]), &[("a", replicas)]);
    let first = access.stored().await;
    assert_eq!(seen(&first), IntentSeen::NoAnnotations);
    let plan = change(&first, 1).carrying(&seen(&first), "one");
    let one = act.patch(&plan).await.unwrap();
    assert_eq!(seen(&one), IntentSeen::Text("one".to_owned()));
    // Somebody who has not seen it, and somebody who has seen another one.
    for stale in [
        IntentSeen::NoAnnotations,
        IntentSeen::Absent,
        IntentSeen::Text("two".to_owned()),
    ] {
        let late = act.patch(&change(&one, 7).carrying(&stale, "late")).await;
        assert_eq!(late.unwrap_err().kind(), "rejected", "{stale:?}");
    }
    let plan = change(&one, 2).carrying(&seen(&one), "two");
    let two = act.patch(&plan).await.unwrap();
    assert_eq!(two["spec"]["workerGroupSpecs"][0]["replicas"], 2);
    // Wiped, with another annotation left: the next one is written all the same.
    let path = format!("/metadata/annotations/{}", "rayscaler.io~1intent");
    let wiped = send(
        &act,
        json!([
            {"op": "remove", "path": path},
            {"op": "add", "path": "/metadata/annotations/other", "value": "x"}
        ]),
    );
    let wiped = wiped.await.unwrap();
    assert_eq!(seen(&wiped), IntentSeen::Absent);
    let plan = change(&wiped, 3).carrying(&seen(&wiped), "three");
    let three = act.patch(&plan).await.unwrap();
    assert_eq!(seen(&three), IntentSeen::Text("three".to_owned()));
    assert_eq!(three["metadata"]["annotations"]["other"], "x");
    // A claim alone changes nothing that the operator looks at.
    let claim = PatchPlan::nothing(&snapshot(&three, &[]));
    let claimed = act
        .patch(&claim.carrying(&seen(&three), "mine"))
        .await
        .unwrap();
    assert_eq!(
        claimed["metadata"]["generation"],
        three["metadata"]["generation"]
    );
}
