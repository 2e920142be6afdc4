//! Lists: selectors, pages, versions.

use super::SERVER;
use crate::world::{World, config_map, pod};
use serde_json::{Value, json};

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

async fn with_config_maps() -> World {
    let world = World::new(SERVER).await;
    for (name, labels) in [
        ("a", json!({"x": "1"})),
        ("b", json!({"x": "2", "y": "1"})),
        ("c", json!({})),
    ] {
        world
            .post("configmaps", &config_map(name, &labels))
            .await
            .ok();
    }
    world
}

#[tokio::test]
async fn labels_and_fields_select() {
    let world = with_config_maps().await;
    let rows: [(&str, &[&str]); 11] = [
        ("", &["a", "b", "c"]),
        ("labelSelector=x%3D1", &["a"]),
        ("labelSelector=x%3D%3D1", &["a"]),
        ("labelSelector=x!%3D1", &["b", "c"]),
        ("labelSelector=x", &["a", "b"]),
        ("labelSelector=!x", &["c"]),
        ("labelSelector=x%20in%20(1,2),y", &["b"]),
        ("labelSelector=x%20notin%20(1)", &["b", "c"]),
        ("fieldSelector=metadata.name%3Db", &["b"]),
        ("fieldSelector=metadata.name!%3Db", &["a", "c"]),
        ("fieldSelector=metadata.name%3Db&labelSelector=x%3D1", &[]),
    ];
    for (query, expected) in rows {
        let listed = world.get(&format!("configmaps?{query}")).await.ok();
        assert_eq!(names(&listed), expected, "{query}");
    }
    for query in [
        "labelSelector=a%20b",
        "labelSelector=a%3Db%20c",
        "labelSelector=a%20in%20(b",
        "fieldSelector=data.a%3D1",
        "fieldSelector=x",
        "limit=many",
        "resourceVersion=new",
        "continue=x",
    ] {
        let refused = world.get(&format!("configmaps?{query}")).await;
        assert_eq!(refused.refused(), (400, "BadRequest"), "{query}");
    }
}

#[tokio::test]
async fn pods_are_selected_by_node_and_phase() {
    let world = World::new(SERVER).await;
    let mut bound = pod("bound");
    bound["spec"]["nodeName"] = json!("n");
    world.post("pods", &bound).await.ok();
    world.post("pods", &pod("free")).await.ok();
    let rows: [(&str, &[&str]); 4] = [
        ("spec.nodeName%3Dn", &["bound"]),
        ("spec.nodeName%3D", &["free"]),
        ("status.phase%3DPending", &["bound", "free"]),
        ("status.phase%3DRunning", &[]),
    ];
    for (query, expected) in rows {
        let listed = world.get(&format!("pods?fieldSelector={query}")).await.ok();
        assert_eq!(names(&listed), expected, "{query}");
    }
}

#[tokio::test]
async fn a_list_says_its_kind_and_its_items_do_not() {
    let world = with_config_maps().await;
    let listed = world.get("configmaps").await.ok();
    assert_eq!(
        (&listed["kind"], &listed["apiVersion"]),
        (&json!("ConfigMapList"), &json!("v1"))
    );
    assert_eq!(listed["items"][0].get("kind"), None);
    let custom = world
        .post("rayclusters", &crate::world::cluster("r"))
        .await
        .ok();
    let listed = world.get("rayclusters").await.ok();
    assert_eq!(listed["items"][0], custom);
    let all = world
        .get("/api/v1/configmaps?fieldSelector=metadata.name%3Da")
        .await
        .ok();
    assert!(!names(&all).is_empty());
}

#[tokio::test]
async fn pages_are_of_one_moment() {
    let world = with_config_maps().await;
    let first = world.get("configmaps?limit=2").await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let token = first["metadata"]["continue"].as_str().unwrap();
    world
        .post("configmaps", &config_map("d", &json!({})))
        .await
        .ok();
    world.delete("configmaps/c", &Value::Null).await.ok();
    let token: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
    let second = world
        .get(&format!("configmaps?limit=2&continue={token}"))
        .await
        .ok();
    assert_eq!(names(&second), ["c"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert!(
        second["metadata"]["continue"]
            .as_str()
            .is_none_or(str::is_empty)
    );
    let selected = world.get("configmaps?limit=1&labelSelector=x").await.ok();
    assert_eq!(selected["metadata"].get("remainingItemCount"), None);
    let both = world
        .get(&format!("configmaps?continue={token}&resourceVersion=5"))
        .await;
    assert_eq!(both.refused(), (400, "BadRequest"));
}

#[tokio::test]
async fn a_list_can_be_of_an_earlier_version() {
    let world = with_config_maps().await;
    let version = world.version("configmaps").await;
    world
        .post("configmaps", &config_map("d", &json!({})))
        .await
        .ok();
    let query = |rest: &str| format!("configmaps?resourceVersion={version}{rest}");
    let exact = world.get(&query("&resourceVersionMatch=Exact")).await.ok();
    assert_eq!(names(&exact), ["a", "b", "c"]);
    assert_eq!(exact["metadata"]["resourceVersion"], version);
    let page = world.get(&query("&limit=5")).await.ok();
    assert_eq!(names(&page), ["a", "b", "c"]);
    let newer = world
        .get(&query("&resourceVersionMatch=NotOlderThan"))
        .await
        .ok();
    assert_eq!(names(&newer), ["a", "b", "c", "d"]);
    let any = world.get("configmaps?resourceVersion=0").await.ok();
    assert!(names(&any).len() >= 3);
}

#[tokio::test]
async fn versions_that_make_no_sense_are_refused() {
    let world = with_config_maps().await;
    for path in [
        "configmaps?resourceVersion=99999999",
        "configmaps/a?resourceVersion=99999999",
    ] {
        let refused = world.get(path).await;
        assert_eq!(refused.refused(), (504, "Timeout"), "{path}");
        assert!(
            refused
                .message()
                .contains("Too large resource version: 99999999")
        );
        let details = &refused.body["details"];
        assert_eq!(details["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(details["retryAfterSeconds"], 1);
    }
    for query in [
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=Exact&resourceVersion=0",
        "resourceVersionMatch=Other&resourceVersion=1",
    ] {
        let refused = world.get(&format!("configmaps?{query}")).await;
        assert_eq!(refused.refused(), (422, "Invalid"), "{query}");
        let details = &refused.body["details"];
        assert_eq!(
            (&details["kind"], &details["group"]),
            (&json!("ListOptions"), &json!("meta.k8s.io"))
        );
    }
}
