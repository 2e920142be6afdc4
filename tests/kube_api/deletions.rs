//! Deletions: at once, after a grace period, when the last finalizer goes.

use super::SERVER;
use crate::world::{JSON_PATCH, MERGE, World, cluster, config_map, pod};
use serde_json::{Value, json};

async fn bound_pod(world: &World, name: &str) -> Value {
    let mut bound = pod(name);
    bound["spec"]["nodeName"] = json!("some-node");
    world.post("pods", &bound).await.ok()
}

#[tokio::test]
async fn what_nothing_holds_is_gone_at_once() {
    let world = World::new(SERVER).await;
    let made = world
        .post("configmaps", &config_map("m", &json!({})))
        .await
        .ok();
    let deleted = world.delete("configmaps/m", &Value::Null).await.ok();
    assert_eq!(
        (&deleted["kind"], &deleted["status"]),
        (&json!("Status"), &json!("Success"))
    );
    let details = json!({"name": "m", "kind": "configmaps", "uid": made["metadata"]["uid"]});
    assert_eq!(deleted["details"], details);
    assert_eq!(world.get("configmaps/m").await.code, 404);
    assert_eq!(
        world.delete("configmaps/m", &Value::Null).await.refused(),
        (404, "NotFound")
    );
    world.post("rayclusters", &cluster("c")).await.ok();
    let deleted = world.delete("rayclusters/c", &Value::Null).await.ok();
    assert_eq!(deleted["details"]["group"], "ray.io");
    // A pod without a node has no kubelet to wait for.
    world.post("pods", &pod("p")).await.ok();
    let deleted = world.delete("pods/p", &Value::Null).await.ok();
    assert_eq!(
        (&deleted["kind"], &deleted["metadata"]["name"]),
        (&json!("Pod"), &json!("p"))
    );
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(world.get("pods/p").await.code, 404);
}

#[tokio::test]
async fn a_pod_on_a_node_has_time_to_end() {
    let world = World::new(SERVER).await;
    let made = bound_pod(&world, "p").await;
    let going = world.delete("pods/p", &Value::Null).await.ok();
    let metadata = &going["metadata"];
    assert_eq!(metadata["deletionGracePeriodSeconds"], 30);
    assert!(metadata["deletionTimestamp"].as_str() > metadata["creationTimestamp"].as_str());
    let generation = |pod: &Value| pod["metadata"]["generation"].as_i64().unwrap();
    assert_eq!(generation(&going), generation(&made) + 1);
    // Asking again changes nothing, more time is not given, less is.
    assert_eq!(world.delete("pods/p", &Value::Null).await.ok(), going);
    let longer = world
        .delete("pods/p?gracePeriodSeconds=50", &Value::Null)
        .await
        .ok();
    assert_eq!(longer, going);
    let shorter = world
        .delete("pods/p", &json!({"gracePeriodSeconds": 5}))
        .await
        .ok();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(
        shorter["metadata"]["deletionTimestamp"].as_str() < metadata["deletionTimestamp"].as_str()
    );
    world
        .delete("pods/p", &json!({"gracePeriodSeconds": 0}))
        .await
        .ok();
    assert_eq!(world.get("pods/p").await.code, 404);
}

#[tokio::test]
async fn a_pod_that_is_over_goes_at_once_unless_it_is_going_already() {
    let world = World::new(SERVER).await;
    for phase in ["Failed", "Succeeded"] {
        bound_pod(&world, "p").await;
        let status = json!({"status": {"phase": phase}});
        world.patch("pods/p/status", MERGE, &status).await.ok();
        world.delete("pods/p", &Value::Null).await.ok();
        assert_eq!(world.get("pods/p").await.code, 404, "{phase}");
    }
    bound_pod(&world, "p").await;
    world
        .delete("pods/p", &json!({"gracePeriodSeconds": 7}))
        .await
        .ok();
    world
        .patch(
            "pods/p/status",
            MERGE,
            &json!({"status": {"phase": "Failed"}}),
        )
        .await
        .ok();
    let going = world.delete("pods/p", &Value::Null).await.ok();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 7);
    assert_eq!(world.get("pods/p").await.code, 200);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let world = World::new(SERVER).await;
    world.post("rayclusters", &cluster("c")).await.ok();
    let held = json!({"metadata": {"finalizers": ["a.b/c"]}});
    world.patch("rayclusters/c", MERGE, &held).await.ok();
    let going = world.delete("rayclusters/c", &Value::Null).await.ok();
    assert_eq!(going["kind"], "RayCluster");
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(
        world.delete("rayclusters/c", &Value::Null).await.ok(),
        going
    );
    let another = json!({"metadata": {"finalizers": ["a.b/c", "d.e/f"]}});
    let refused = world.patch("rayclusters/c", MERGE, &another).await;
    assert_eq!(refused.refused(), (422, "Invalid"));
    assert_eq!(
        refused.message(),
        "RayCluster.ray.io \"c\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added \
         if the object is being deleted, found new finalizers []string{\"d.e/f\"}"
    );
    // It can still be changed meanwhile.
    world
        .patch("rayclusters/c", MERGE, &json!({"spec": {"suspend": true}}))
        .await
        .ok();
    let free = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
    world.patch("rayclusters/c", JSON_PATCH, &free).await.ok();
    assert_eq!(world.get("rayclusters/c").await.code, 404);
}

#[tokio::test]
async fn a_held_pod_is_not_forced_away() {
    let world = World::new(SERVER).await;
    bound_pod(&world, "p").await;
    let held = json!({"metadata": {"finalizers": ["a.b/c"]}});
    world.patch("pods/p", MERGE, &held).await.ok();
    world
        .delete("pods/p", &json!({"gracePeriodSeconds": 0}))
        .await
        .ok();
    let still = world.get("pods/p").await.ok();
    assert_eq!(still["metadata"]["deletionGracePeriodSeconds"], 0);
    world
        .patch("pods/p", MERGE, &json!({"metadata": {"finalizers": []}}))
        .await
        .ok();
    assert_eq!(world.get("pods/p").await.code, 404);
}

#[tokio::test]
async fn preconditions_name_the_object_that_is_meant() {
    let world = World::new(SERVER).await;
    let made = world.post("rayclusters", &cluster("c")).await.ok();
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let refused = world
        .delete("rayclusters/c", &json!({"preconditions": {"uid": "x"}}))
        .await;
    assert_eq!(refused.refused(), (409, "Conflict"));
    assert_eq!(
        refused.message(),
        format!(
            "Operation cannot be fulfilled on RayCluster.ray.io \"c\": the UID in the precondition (x) does \
             not match the UID in record ({uid}). The object might have been deleted and then recreated"
        )
    );
    let stale = json!({"preconditions": {"resourceVersion": "1"}});
    assert_eq!(
        world.delete("rayclusters/c", &stale).await.refused(),
        (409, "Conflict")
    );
    let right = json!({"preconditions": {"uid": uid}});
    world.delete("rayclusters/c", &right).await.ok();
    assert_eq!(world.get("rayclusters/c").await.code, 404);
}

#[tokio::test]
async fn dependents_can_be_waited_for_or_let_go() {
    let world = World::new(SERVER).await;
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        world.post("rayclusters", &cluster("c")).await.ok();
        let path = format!("rayclusters/c?propagationPolicy={policy}");
        let going = world.delete(&path, &Value::Null).await.ok();
        assert_eq!(
            going["metadata"]["finalizers"],
            json!([finalizer]),
            "{policy}"
        );
        world
            .patch(
                "rayclusters/c",
                MERGE,
                &json!({"metadata": {"finalizers": null}}),
            )
            .await
            .ok();
    }
}

#[tokio::test]
async fn a_collection_is_deleted_as_far_as_it_is_selected() {
    let world = World::new(SERVER).await;
    for (name, x) in [("a", "1"), ("b", "1"), ("c", "2")] {
        world
            .post("configmaps", &config_map(name, &json!({"x": x})))
            .await
            .ok();
    }
    let deleted = world
        .delete("configmaps?labelSelector=x%3D1", &Value::Null)
        .await
        .ok();
    assert_eq!(deleted["kind"], "ConfigMapList");
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    let left = world
        .get("configmaps?fieldSelector=metadata.name!%3Dkube-root-ca.crt")
        .await
        .ok();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}
