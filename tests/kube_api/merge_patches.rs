//! Merge patches, plain and strategic.

use super::SERVER;
use crate::world::{MERGE, STRATEGIC, World, cluster, pod};
use serde_json::{Value, json};

#[tokio::test]
async fn a_merge_patch_merges_maps_removes_nulls_and_replaces_lists() {
    let world = World::new(SERVER).await;
    world.post("rayclusters", &cluster("c")).await.ok();
    let patch =
        json!({"metadata": {"labels": {"x": "y"}}, "spec": {"rayVersion": "2", "suspend": true}});
    world.patch("rayclusters/c", MERGE, &patch).await.ok();
    let patch = json!({"metadata": {"labels": {"x": null}}, "spec": {"rayVersion": null}});
    let patched = world.patch("rayclusters/c", MERGE, &patch).await.ok();
    assert_eq!(patched["metadata"].get("labels"), None);
    assert_eq!(
        (
            patched["spec"].get("rayVersion"),
            &patched["spec"]["suspend"]
        ),
        (None, &json!(true))
    );
    // The list of groups is one value: half a group is no group.
    let half = json!({"spec": {"workerGroupSpecs": [{"groupName": "a"}]}});
    let refused = world.patch("rayclusters/c", MERGE, &half).await;
    assert_eq!(refused.refused(), (422, "Invalid"));
    let expected = [
        ("<nil>", "FieldValueInvalid"),
        ("spec.workerGroupSpecs[0].template", "FieldValueRequired"),
    ];
    assert_eq!(refused.causes(), expected);
    let stale = json!({"metadata": {"resourceVersion": "1"}});
    let refused = world.patch("rayclusters/c", MERGE, &stale).await;
    assert_eq!(refused.refused(), (409, "Conflict"));
    let list = world.patch("rayclusters/c", MERGE, &json!([])).await;
    assert_eq!(list.refused(), (400, "BadRequest"));
}

#[tokio::test]
async fn custom_resources_know_no_strategic_merge() {
    let world = World::new(SERVER).await;
    world.post("rayclusters", &cluster("c")).await.ok();
    for content_type in [STRATEGIC, "application/json", "text/plain"] {
        let refused = world.patch("rayclusters/c", content_type, &json!({})).await;
        assert_eq!(
            refused.refused(),
            (415, "UnsupportedMediaType"),
            "{content_type}"
        );
    }
    let refused = world.patch("rayclusters/c", STRATEGIC, &json!({})).await;
    assert_eq!(
        refused.message(),
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    );
}

#[tokio::test]
async fn a_strategic_merge_patch_finds_entries_by_their_keys() {
    let world = World::new(SERVER).await;
    let mut two = pod("p");
    two["spec"]["containers"] = json!([
        {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]},
        {"name": "b", "image": "1"},
    ]);
    world.post("pods", &two).await.ok();
    let image = json!({"spec": {"containers": [{"name": "b", "image": "2"}]}});
    let patched = world.patch("pods/p", STRATEGIC, &image).await.ok();
    let containers = &patched["spec"]["containers"];
    assert_eq!(
        (&containers[0]["image"], &containers[1]["image"]),
        (&json!("1"), &json!("2"))
    );
    let finalizers = json!({"metadata": {"finalizers": ["a.b/c"], "labels": {"x": "1"}}});
    world.patch("pods/p", STRATEGIC, &finalizers).await.ok();
    let more = json!({"metadata": {"finalizers": ["d.e/f"], "labels": {"y": "2", "x": null}}});
    let patched = world.patch("pods/p", STRATEGIC, &more).await.ok();
    assert_eq!(patched["metadata"]["labels"], json!({"y": "2"}));
    let mut found: Vec<&str> = strings(&patched["metadata"]["finalizers"]);
    found.sort_unstable();
    assert_eq!(found, ["a.b/c", "d.e/f"]);
    let fewer = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a.b/c", "d.e/f"]}});
    let patched = world.patch("pods/p", STRATEGIC, &fewer).await.ok();
    assert_eq!(patched["metadata"].get("finalizers"), None);
    let another = json!({"spec": {"containers": [{"name": "c", "image": "1"}]}});
    let refused = world.patch("pods/p", STRATEGIC, &another).await;
    assert_eq!(
        refused.message(),
        "Pod \"p\" is invalid: spec.containers: Forbidden: pod updates may not add or remove containers"
    );
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_patch_that_makes_no_object_of_the_kind_is_invalid() {
    let world = World::new(SERVER).await;
    world.post("pods", &pod("p")).await.ok();
    for content_type in [MERGE, STRATEGIC] {
        let patch = json!({"status": {"phase": 1}});
        let refused = world.patch("pods/p/status", content_type, &patch).await;
        assert_eq!(refused.refused(), (422, "Invalid"), "{content_type}");
        assert_eq!(
            refused.causes(),
            [("patch", "FieldValueInvalid")],
            "{content_type}"
        );
    }
}
