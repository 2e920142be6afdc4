//! Server-side apply, and who owns which field.

use super::SERVER;
use crate::world::{APPLY, JSON_PATCH, MERGE, World, cluster, pod};
use serde_json::{Value, json};

const GITOPS: &str = "rayclusters/c?fieldManager=gitops";

/// Returns the fields of a manager.
fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["manager"] == manager);
    entry.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

fn with_replicas(replicas: i64) -> Value {
    let mut cluster = cluster("c");
    cluster["spec"]["workerGroupSpecs"][0]["replicas"] = json!(replicas);
    cluster
}

#[tokio::test]
async fn an_apply_makes_what_is_not_there() {
    let world = World::new(SERVER).await;
    let answer = world.patch(GITOPS, APPLY, &with_replicas(2)).await;
    assert_eq!(answer.code, 201);
    let expected =
        json!({"f:spec": {"f:headGroupSpec": {"f:template": {}}, "f:workerGroupSpecs": {}}});
    let made = answer.ok();
    assert_eq!(fields(&made, "gitops"), expected);
    assert_eq!(made["spec"]["workerGroupSpecs"][0]["numOfHosts"], 1);
    let again = world.patch(GITOPS, APPLY, &with_replicas(2)).await;
    assert_eq!((again.code, again.body), (200, made));
}

#[tokio::test]
async fn the_groups_are_one_field_and_belong_to_who_changed_them_last() {
    let world = World::new(SERVER).await;
    world.patch(GITOPS, APPLY, &with_replicas(2)).await.ok();
    let replicas = json!([{"op": "add", "path": "/spec/workerGroupSpecs/0/replicas", "value": 5}]);
    let scaled = world
        .patch("rayclusters/c?fieldManager=scaler", JSON_PATCH, &replicas)
        .await
        .ok();
    assert_eq!(
        fields(&scaled, "scaler"),
        json!({"f:spec": {"f:workerGroupSpecs": {}}})
    );
    assert_eq!(
        fields(&scaled, "gitops"),
        json!({"f:spec": {"f:headGroupSpec": {"f:template": {}}}})
    );
    let refused = world.patch(GITOPS, APPLY, &with_replicas(2)).await;
    assert_eq!(refused.refused(), (409, "Conflict"));
    assert_eq!(
        refused.message(),
        "Apply failed with 1 conflict: conflict with \"scaler\" using ray.io/v1: .spec.workerGroupSpecs"
    );
    assert_eq!(
        refused.causes(),
        [(".spec.workerGroupSpecs", "FieldManagerConflict")]
    );
    let forced = world
        .patch(&format!("{GITOPS}&force=true"), APPLY, &with_replicas(2))
        .await
        .ok();
    assert_eq!(forced["spec"]["workerGroupSpecs"][0]["replicas"], 2);
    assert_eq!(fields(&forced, "scaler"), Value::Null);
    // Even the same values are taken over by force: what the defaults added was not in the manifest.
    world
        .patch("rayclusters/c?fieldManager=scaler", JSON_PATCH, &replicas)
        .await
        .ok();
    let forced = world
        .patch(&format!("{GITOPS}&force=true"), APPLY, &with_replicas(5))
        .await
        .ok();
    assert_eq!(fields(&forced, "scaler"), Value::Null);
}

#[tokio::test]
async fn what_is_applied_no_more_goes_unless_somebody_else_has_it() {
    let world = World::new(SERVER).await;
    let with = |labels: Value| {
        let mut cluster = cluster("c");
        cluster["metadata"]["labels"] = labels;
        // Its defaults would be a conflict of their own.
        cluster["spec"]
            .as_object_mut()
            .unwrap()
            .remove("workerGroupSpecs");
        cluster
    };
    world
        .patch(GITOPS, APPLY, &with(json!({"a": "1", "b": "1"})))
        .await
        .ok();
    let shared = with(json!({"b": "1"}));
    world
        .patch("rayclusters/c?fieldManager=other", APPLY, &shared)
        .await
        .ok();
    let fewer = world
        .patch(GITOPS, APPLY, &with(json!({"c": "1"})))
        .await
        .ok();
    assert_eq!(fewer["metadata"]["labels"], json!({"b": "1", "c": "1"}));
    let refused = world.patch(GITOPS, APPLY, &with(json!({"b": "2"}))).await;
    assert_eq!(
        refused.message(),
        "Apply failed with 1 conflict: conflict with \"other\": .metadata.labels.b"
    );
}

#[tokio::test]
async fn entries_with_keys_have_owners_of_their_own() {
    let world = World::new(SERVER).await;
    let condition = |kind: &str, message: &str| {
        let conditions = json!([{"type": kind, "status": "True", "reason": "r", "message": message,
            "lastTransitionTime": "2026-01-02T03:04:05Z"}]);
        json!({"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "c"},
            "status": {"conditions": conditions}})
    };
    world.post("rayclusters", &cluster("c")).await.ok();
    let status = |manager: &str| format!("rayclusters/c/status?fieldManager={manager}");
    world
        .patch(&status("one"), APPLY, &condition("A", "m"))
        .await
        .ok();
    let both = world
        .patch(&status("two"), APPLY, &condition("B", "m"))
        .await
        .ok();
    assert_eq!(both["status"]["conditions"].as_array().unwrap().len(), 2);
    let refused = world
        .patch(&status("two"), APPLY, &condition("A", "n"))
        .await;
    assert_eq!(
        refused.message(),
        "Apply failed with 1 conflict: conflict with \"one\" with subresource \"status\": \
         .status.conditions[type=\"A\"].message"
    );
    // A pod's containers are told apart by name, its ports by number and protocol.
    let mut manifest = pod("p");
    manifest["apiVersion"] = json!("v1");
    manifest["kind"] = json!("Pod");
    manifest["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    let made = world
        .patch("pods/p?fieldManager=one", APPLY, &manifest)
        .await
        .ok();
    let container = &fields(&made, "one")["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"];
    let port = "k:{\"containerPort\":80,\"protocol\":\"TCP\"}";
    assert_eq!(
        container["f:ports"][port],
        json!({".": {}, "f:containerPort": {}})
    );
}

#[tokio::test]
async fn a_status_and_a_spec_have_different_owners() {
    let world = World::new(SERVER).await;
    world
        .post("rayclusters?fieldManager=user", &cluster("c"))
        .await
        .ok();
    let status = json!({"status": {"state": "ready"}});
    let path = "rayclusters/c/status?fieldManager=operator";
    let reported = world.patch(path, MERGE, &status).await.ok();
    let entries = reported["metadata"]["managedFields"].as_array().unwrap();
    let operator = entries
        .iter()
        .find(|entry| entry["manager"] == "operator")
        .unwrap();
    assert_eq!(operator["subresource"], "status");
    assert_eq!(
        operator["fieldsV1"],
        json!({"f:status": {".": {}, "f:state": {}}})
    );
}

#[tokio::test]
async fn an_apply_has_to_be_complete() {
    let world = World::new(SERVER).await;
    let unnamed = world.patch("rayclusters/c", APPLY, &cluster("c")).await;
    assert_eq!(unnamed.refused(), (422, "Invalid"));
    assert_eq!(
        unnamed.message(),
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let untyped = world
        .patch(GITOPS, APPLY, &json!({"metadata": {"name": "c"}}))
        .await;
    assert_eq!(untyped.refused(), (400, "BadRequest"));
    world.patch(GITOPS, APPLY, &cluster("c")).await.ok();
    let mut managed = cluster("c");
    managed["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    let refused = world.patch(GITOPS, APPLY, &managed).await;
    assert_eq!(refused.refused(), (400, "BadRequest"));
    assert_eq!(refused.message(), "metadata.managedFields must be nil");
    let yaml = "apiVersion: ray.io/v1\nkind: RayCluster\nmetadata: {name: c, labels: {a: b}}\n\
                spec: {headGroupSpec: {template: {}}, workerGroupSpecs: [{groupName: a, template: {}}]}\n";
    let applied = world
        .send("PATCH", GITOPS, (APPLY, yaml.as_bytes().to_vec()))
        .await
        .ok();
    assert_eq!(applied["metadata"]["labels"], json!({"a": "b"}));
}
