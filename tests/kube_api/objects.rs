//! Objects as they are made and replaced: what the server adds, counts and keeps.

use super::SERVER;
use crate::world::{MERGE, World, cluster, config_map, pod};
use serde_json::{Value, json};

fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_new_object_gets_uid_version_time_and_owner() {
    let world = World::new(SERVER).await;
    let made = world
        .post(
            "configmaps?fieldManager=me",
            &config_map("m", &json!({"x": "1"})),
        )
        .await
        .ok();
    let metadata = &made["metadata"];
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(
        metadata["creationTimestamp"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert_eq!(metadata["namespace"], *world.namespace);
    assert_eq!(metadata.get("generation"), None);
    let entry = &metadata["managedFields"][0];
    let told = ["manager", "operation", "apiVersion", "fieldsType"]
        .map(|name| entry[name].as_str().unwrap());
    assert_eq!(told, ["me", "Update", "v1", "FieldsV1"]);
    let fields = json!({
        "f:data": {".": {}, "f:a": {}},
        "f:metadata": {"f:labels": {".": {}, "f:x": {}}},
    });
    assert_eq!(entry["fieldsV1"], fields);
    let stored = world.get("configmaps/m").await.ok();
    assert_eq!(stored, made);
    let other = world
        .post("configmaps", &config_map("n", &json!({})))
        .await
        .ok();
    assert!(number(&other["metadata"]["resourceVersion"]) > number(&metadata["resourceVersion"]));
    assert_ne!(other["metadata"]["uid"], metadata["uid"]);
    // Without a name for the manager it is the program's.
    assert_eq!(other["metadata"]["managedFields"][0]["manager"], "tester");
}

#[tokio::test]
async fn a_name_is_made_up_from_its_beginning() {
    let world = World::new(SERVER).await;
    let object = json!({"metadata": {"generateName": "made-up-"}});
    let first = world.post("configmaps", &object).await.ok();
    let second = world.post("configmaps", &object).await.ok();
    let name = first["metadata"]["name"].as_str().unwrap();
    assert_eq!(name.len(), "made-up-".len() + 5);
    assert!(name.starts_with("made-up-"));
    assert_ne!(first["metadata"]["name"], second["metadata"]["name"]);
    let long = json!({"metadata": {"generateName": "x".repeat(80)}});
    let cut = world.post("configmaps", &long).await.ok();
    assert_eq!(cut["metadata"]["name"].as_str().unwrap().len(), 63);
}

#[tokio::test]
async fn the_generation_counts_changes_of_the_spec_alone() {
    let world = World::new(SERVER).await;
    let generation = |object: &Value| object["metadata"]["generation"].as_i64().unwrap();
    let made = world.post("rayclusters", &cluster("c")).await.ok();
    assert_eq!(generation(&made), 1);
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    let labelled = world.patch("rayclusters/c", MERGE, &labelled).await.ok();
    assert_eq!(generation(&labelled), 1);
    let status = json!({"status": {"state": "ready"}, "spec": {"rayVersion": "9"}});
    let reported = world
        .patch("rayclusters/c/status", MERGE, &status)
        .await
        .ok();
    assert_eq!(
        (generation(&reported), &reported["status"]["state"]),
        (1, &json!("ready"))
    );
    assert_eq!(reported["spec"].get("rayVersion"), None);
    let changed = world
        .patch("rayclusters/c", MERGE, &json!({"spec": {"suspend": true}}))
        .await
        .ok();
    assert_eq!(generation(&changed), 2);
    // The status cannot be written through the object itself.
    let status = json!({"status": {"state": "suspended"}});
    let unchanged = world.patch("rayclusters/c", MERGE, &status).await.ok();
    assert_eq!(unchanged, changed);
}

#[tokio::test]
async fn what_changes_nothing_writes_nothing() {
    let world = World::new(SERVER).await;
    let made = world.post("rayclusters", &cluster("c")).await.ok();
    assert_eq!(world.put("rayclusters/c", &made).await.ok(), made);
    assert_eq!(
        world.patch("rayclusters/c", MERGE, &json!({})).await.ok(),
        made
    );
    let same = json!({"spec": {"headGroupSpec": {"template": {}}}});
    assert_eq!(
        world
            .patch("rayclusters/c?fieldManager=other", MERGE, &same)
            .await
            .ok(),
        made
    );
}

#[tokio::test]
async fn a_replacement_needs_the_version_that_it_replaces() {
    let world = World::new(SERVER).await;
    let made = world.post("rayclusters", &cluster("c")).await.ok();
    let mut stale = made.clone();
    world
        .patch("rayclusters/c", MERGE, &json!({"spec": {"suspend": true}}))
        .await
        .ok();
    stale["spec"]["rayVersion"] = json!("1");
    let refused = world.put("rayclusters/c", &stale).await;
    assert_eq!(refused.refused(), (409, "Conflict"));
    assert_eq!(
        refused.message(),
        "Operation cannot be fulfilled on rayclusters.ray.io \"c\": the object has been modified; \
         please apply your changes to the latest version and try again"
    );
    assert_eq!(
        refused.body["details"],
        json!({"name": "c", "group": "ray.io", "kind": "rayclusters"})
    );
    let refused = world.put("rayclusters/c", &cluster("c")).await;
    assert_eq!(refused.refused(), (422, "Invalid"));
    assert_eq!(
        refused.causes(),
        [("metadata.resourceVersion", "FieldValueInvalid")]
    );
    // A built-in kind may be replaced blindly.
    world
        .post("configmaps", &config_map("m", &json!({})))
        .await
        .ok();
    let replaced = json!({"metadata": {"name": "m"}, "data": {"b": "2"}});
    let replaced = world.put("configmaps/m", &replaced).await.ok();
    assert_eq!(replaced["data"], json!({"b": "2"}));
}

#[tokio::test]
async fn a_replacement_is_about_one_object() {
    let world = World::new(SERVER).await;
    let made = world
        .post("configmaps", &config_map("m", &json!({})))
        .await
        .ok();
    let mut other = made.clone();
    other["metadata"]["name"] = json!("x");
    let refused = world.put("configmaps/m", &other).await;
    assert_eq!(refused.refused(), (400, "BadRequest"));
    assert_eq!(
        refused.message(),
        "the name of the object (x) does not match the name on the URL (m)"
    );
    let mut other = made.clone();
    other["metadata"]["uid"] = json!("6a7f8b60-0000-4000-8000-000000000000");
    assert_eq!(
        world.put("configmaps/m", &other).await.refused(),
        (409, "Conflict")
    );
    let refused = world
        .put("configmaps/absent", &config_map("absent", &json!({})))
        .await;
    assert_eq!(refused.refused(), (404, "NotFound"));
    let mut kept = made.clone();
    kept["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    kept["data"] = json!({"b": "2"});
    let replaced = world.put("configmaps/m", &kept).await.ok();
    assert_eq!(
        replaced["metadata"]["creationTimestamp"],
        made["metadata"]["creationTimestamp"]
    );
}

#[tokio::test]
async fn a_dry_run_leaves_no_trace() {
    let world = World::new(SERVER).await;
    world
        .post("rayclusters?dryRun=All", &cluster("c"))
        .await
        .ok();
    assert_eq!(
        world.get("rayclusters/c").await.refused(),
        (404, "NotFound")
    );
    let made = world.post("rayclusters", &cluster("c")).await.ok();
    let patch = json!({"spec": {"suspend": true}});
    let tried = world
        .patch("rayclusters/c?dryRun=All", MERGE, &patch)
        .await
        .ok();
    assert_eq!(tried["spec"]["suspend"], true);
    world
        .delete("rayclusters/c?dryRun=All", &Value::Null)
        .await
        .ok();
    assert_eq!(world.get("rayclusters/c").await.ok(), made);
}

#[tokio::test]
async fn a_secret_keeps_text_as_bytes() {
    let world = World::new(SERVER).await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"token": "abc"}});
    let made = world.post("secrets", &secret).await.ok();
    assert_eq!(made["data"], json!({"token": "YWJj"}));
    assert_eq!(
        (made["type"].as_str(), made.get("stringData")),
        (Some("Opaque"), None)
    );
    let more = json!({"stringData": {"other": "d"}});
    let patched = world.patch("secrets/s", MERGE, &more).await.ok();
    assert_eq!(patched["data"], json!({"token": "YWJj", "other": "ZA=="}));
}

#[tokio::test]
async fn both_forms_of_an_event_are_one_object() {
    let world = World::new(SERVER).await;
    let newer = format!(
        "/apis/events.k8s.io/v1/namespaces/{}/events",
        world.namespace
    );
    let event = json!({
        "metadata": {"name": "e"}, "eventTime": "2026-01-02T03:04:05.000000Z", "type": "Warning",
        "reason": "R", "note": "N", "action": "A", "reportingController": "c", "reportingInstance": "i",
        "regarding": {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": "x", "namespace": world.namespace},
    });
    let made = world.post(&newer, &event).await.ok();
    assert_eq!(made["note"], "N");
    let core = world.get("events/e").await.ok();
    assert_eq!(
        (&core["message"], &core["involvedObject"]["name"]),
        (&json!("N"), &json!("x"))
    );
    let found = world
        .get("events?fieldSelector=involvedObject.name%3Dx,type%3DWarning")
        .await
        .ok();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let refused = world
        .post(&newer, &json!({"metadata": {"name": "f"}}))
        .await;
    let causes = [
        ("eventTime", "FieldValueRequired"),
        ("involvedObject.namespace", "FieldValueInvalid"),
        ("type", "FieldValueInvalid"),
    ];
    assert_eq!((refused.code, refused.causes()), (422, causes.to_vec()));
}

#[tokio::test]
async fn a_namespace_that_is_going_takes_nothing_new() {
    let world = World::new(SERVER).await;
    let path = format!("/api/v1/namespaces/{}", world.namespace);
    let namespace = world.get(&path).await.ok();
    assert_eq!(namespace["status"]["phase"], "Active");
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"],
        *world.namespace
    );
    let going = world.delete(&path, &Value::Null).await.ok();
    assert_eq!(going["status"]["phase"], "Terminating");
    let refused = world.post("pods", &pod("p")).await;
    assert_eq!(refused.refused(), (403, "Forbidden"));
    assert!(
        refused
            .message()
            .ends_with("because it is being terminated"),
        "{}",
        refused.message()
    );
    assert_eq!(
        refused.causes(),
        [("metadata.namespace", "NamespaceTerminating")]
    );
}
