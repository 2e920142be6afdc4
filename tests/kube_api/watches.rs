//! Watches: what they show first, which changes they tell, how they end.

use super::SERVER;
use crate::world::{MERGE, World, config_map};
use serde_json::{Value, json};

/// Long enough for the changes that a test makes on a busy machine.
const SECS: u32 = 5;

async fn with_two() -> World {
    let world = World::new(SERVER).await;
    for (name, x) in [("one", "1"), ("two", "2")] {
        world
            .post("configmaps", &config_map(name, &json!({"x": x})))
            .await
            .ok();
    }
    world
}

fn path(query: &str) -> String {
    format!("configmaps?watch=true&timeoutSeconds={SECS}&{query}")
}

/// Makes one, moves it out of the selection `x=1` and back, and deletes another.
async fn change(world: &World) {
    world
        .post("configmaps", &config_map("three", &json!({"x": "1"})))
        .await
        .ok();
    for x in ["2", "1"] {
        let labels = json!({"metadata": {"labels": {"x": x}}});
        world.patch("configmaps/one", MERGE, &labels).await.ok();
    }
    world
        .patch("configmaps/three", MERGE, &json!({"data": {"b": "1"}}))
        .await
        .ok();
    world.delete("configmaps/three", &Value::Null).await.ok();
}

#[tokio::test]
async fn a_watch_without_a_version_shows_what_is_there_first() {
    let world = with_two().await;
    for query in [
        "",
        "resourceVersion=0",
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
    ] {
        let watch = world.watch(&path(query)).await;
        let made = format!("three{}", query.len());
        world
            .post("configmaps", &config_map(&made, &json!({})))
            .await
            .ok();
        world
            .delete(&format!("configmaps/{made}"), &Value::Null)
            .await
            .ok();
        let told = watch.rest().await;
        let expected = ["ADDED one", "ADDED two"];
        assert_eq!(told[..2], expected, "{query}");
        assert_eq!(
            told[2..],
            [format!("ADDED {made}"), format!("DELETED {made}")],
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_watch_from_a_version_tells_every_change_since() {
    let world = with_two().await;
    let version = world.version("configmaps").await;
    // Half of it has happened before the watch begins.
    change(&world).await;
    let watch = world
        .watch(&path(&format!("resourceVersion={version}")))
        .await;
    world.delete("configmaps/two", &Value::Null).await.ok();
    let expected = [
        "ADDED three",
        "MODIFIED one",
        "MODIFIED one",
        "MODIFIED three",
        "DELETED three",
        "DELETED two",
    ];
    assert_eq!(watch.rest().await, expected);
}

#[tokio::test]
async fn a_selector_makes_changes_into_comings_and_goings() {
    let world = with_two().await;
    let version = world.version("configmaps").await;
    let watch = world
        .watch(&path(&format!(
            "resourceVersion={version}&labelSelector=x%3D1"
        )))
        .await;
    change(&world).await;
    let expected = [
        "ADDED three",
        "DELETED one",
        "ADDED one",
        "MODIFIED three",
        "DELETED three",
    ];
    assert_eq!(watch.rest().await, expected);
    let version = world.version("configmaps").await;
    let query = format!("resourceVersion={version}&fieldSelector=metadata.name%3Dtwo");
    let watch = world.watch(&path(&query)).await;
    change(&world).await;
    world.delete("configmaps/two", &Value::Null).await.ok();
    assert_eq!(watch.rest().await, ["DELETED two"]);
}

#[tokio::test]
async fn a_deletion_is_told_with_the_version_of_the_deletion() {
    let world = with_two().await;
    let version = world.version("configmaps").await;
    world.delete("configmaps/one", &Value::Null).await.ok();
    let after = world.version("configmaps").await;
    assert_ne!(version, after);
    // From there on there is nothing to tell.
    let watch = world
        .watch(&path(&format!("resourceVersion={after}")))
        .await;
    world.delete("configmaps/two", &Value::Null).await.ok();
    assert_eq!(watch.rest().await, ["DELETED two"]);
}

#[tokio::test]
async fn a_version_that_is_forgotten_ends_the_watch_with_gone() {
    let world = World::new(SERVER).await;
    // The resource is younger than the server, so that nobody knows of any before.
    let path = "rayclusters?watch=true&timeoutSeconds=5&resourceVersion=1";
    let mut watch = world.watch(path).await;
    assert_eq!(watch.next().await.unwrap(), "ERROR 410 Expired");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_bookmark_ends_what_was_there_first() {
    let world = with_two().await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = world.watch(&path(query)).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(watch.next().await.unwrap());
    }
    assert_eq!(told[..2], ["ADDED one", "ADDED two"]);
    assert_eq!(
        told[2],
        "BOOKMARK {\"k8s.io/initial-events-end\": \"true\"}"
    );
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let world = with_two().await;
    for query in [
        "sendInitialEvents=true",
        "sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1",
        "resourceVersionMatch=NotOlderThan&resourceVersion=1",
    ] {
        let refused = world.get(&path(query)).await;
        assert_eq!(refused.refused(), (422, "Invalid"), "{query}");
        assert_eq!(refused.body["details"]["kind"], "ListOptions", "{query}");
    }
}
