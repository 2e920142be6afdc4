//! Refusals: what is said to requests that make no sense, or not here.

use super::SERVER;
use crate::world::{MERGE, World, cluster, config_map, pod};
use serde_json::{Value, json};

#[tokio::test]
async fn what_is_not_there_is_told_by_name() {
    let world = World::new(SERVER).await;
    let rows = [
        (
            "pods/p",
            "pods \"p\" not found",
            json!({"name": "p", "kind": "pods"}),
        ),
        (
            "rayclusters/c",
            "rayclusters.ray.io \"c\" not found",
            json!({"name": "c", "group": "ray.io", "kind": "rayclusters"}),
        ),
        (
            "nothings",
            "the server could not find the requested resource",
            json!({}),
        ),
        (
            "pods/p/nothing",
            "the server could not find the requested resource",
            json!({}),
        ),
    ];
    for (path, message, details) in rows {
        let refused = world.get(path).await;
        assert_eq!(refused.refused(), (404, "NotFound"), "{path}");
        assert_eq!(
            (refused.message(), &refused.body["details"]),
            (message, &details),
            "{path}"
        );
    }
    for path in [
        "/apis/nobody.io/v1/things",
        "/apis/ray.io/v2/rayclusters",
        "/nowhere",
    ] {
        let answer = world.get(path).await;
        let expected = json!("404 page not found\n");
        assert_eq!((answer.code, &answer.body), (404, &expected), "{path}");
    }
    let elsewhere = "/api/v1/namespaces/no-such-namespace/pods";
    let refused = world.post(elsewhere, &pod("p")).await;
    assert_eq!(refused.refused(), (404, "NotFound"));
    assert_eq!(
        refused.message(),
        "namespaces \"no-such-namespace\" not found"
    );
}

#[tokio::test]
async fn what_is_there_cannot_be_made_again() {
    let world = World::new(SERVER).await;
    world.post("rayclusters", &cluster("c")).await.ok();
    let refused = world.post("rayclusters", &cluster("c")).await;
    assert_eq!(refused.refused(), (409, "AlreadyExists"));
    assert_eq!(refused.message(), "rayclusters.ray.io \"c\" already exists");
    let refused = world.put("pods", &pod("p")).await;
    assert_eq!(refused.refused(), (405, "MethodNotAllowed"));
}

#[tokio::test]
async fn a_body_that_is_no_object_of_the_kind_is_refused() {
    let world = World::new(SERVER).await;
    let with = |pointer: &str, value: Value| {
        let mut pod = pod("p");
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        *pod.pointer_mut(pointer).unwrap() = value;
        pod
    };
    let mut no_kind = cluster("c");
    no_kind.as_object_mut().unwrap().remove("kind");
    let elsewhere = json!({"metadata": {"name": "p", "namespace": "elsewhere"}, "spec": {}});
    let rows = [
        ("pods", with("/kind", json!("Service"))),
        ("pods", with("/apiVersion", json!("v2"))),
        ("pods", with("/spec/containers", json!("x"))),
        ("pods", elsewhere),
        ("rayclusters", no_kind),
        (
            "secrets",
            json!({"metadata": {"name": "s"}, "data": {"a": "!"}}),
        ),
        (
            "configmaps",
            json!({"metadata": {"name": "m", "labels": {"a": 1}}}),
        ),
    ];
    for (path, body) in rows {
        let refused = world.post(path, &body).await;
        assert_eq!(refused.refused(), (400, "BadRequest"), "{path} {body}");
    }
    let broken = world
        .send("POST", "pods", ("application/json", b"{\"a\":".to_vec()))
        .await;
    assert_eq!(broken.refused(), (400, "BadRequest"));
    let text = world
        .send("POST", "pods", ("text/plain", b"{}".to_vec()))
        .await;
    assert_eq!(text.refused(), (415, "UnsupportedMediaType"));
    let mut versioned = config_map("m", &json!({}));
    versioned["metadata"]["resourceVersion"] = json!("1");
    let refused = world.post("configmaps", &versioned).await;
    assert_eq!(refused.refused(), (500, ""));
    assert_eq!(
        refused.message(),
        "resourceVersion should not be set on objects to be created"
    );
}

#[tokio::test]
async fn unknown_fields_are_dropped_unless_they_are_forbidden() {
    let world = World::new(SERVER).await;
    let mut unknown = pod("p");
    unknown["spec"]["unknown"] = json!(1);
    let mut odd_cluster = cluster("c");
    odd_cluster["spec"]["unknown"] = json!(1);
    for (path, body) in [("pods", &unknown), ("rayclusters", &odd_cluster)] {
        let strict = world
            .post(&format!("{path}?fieldValidation=Strict"), body)
            .await;
        assert_eq!(strict.refused(), (400, "BadRequest"));
        let expected = "strict decoding error: unknown field \"spec.unknown\"";
        assert!(strict.message().ends_with(expected), "{}", strict.message());
        let made = world.post(path, body).await.ok();
        assert_eq!(made["spec"].get("unknown"), None);
    }
}

#[tokio::test]
async fn names_and_labels_have_their_forms() {
    let world = World::new(SERVER).await;
    let named = |name: &str| config_map(name, &json!({}));
    for name in ["A", "a_b", "-a", "a..b"] {
        let refused = world.post("configmaps", &named(name)).await;
        assert_eq!(refused.refused(), (422, "Invalid"), "{name}");
        assert_eq!(
            refused.causes(),
            [("metadata.name", "FieldValueInvalid")],
            "{name}"
        );
    }
    world.post("configmaps", &named("a.b-1")).await.ok();
    let unnamed = world.post("configmaps", &json!({"metadata": {}})).await;
    assert_eq!(unnamed.refused(), (422, "Invalid"));
    assert_eq!(
        unnamed.message(),
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    for labels in [
        json!({"a b": "c"}),
        json!({"a": "b c"}),
        json!({"a": "x".repeat(64)}),
    ] {
        let refused = world.post("configmaps", &config_map("m", &labels)).await;
        assert_eq!(refused.refused(), (422, "Invalid"), "{labels}");
        assert_eq!(
            refused.causes(),
            [("metadata.labels", "FieldValueInvalid")],
            "{labels}"
        );
    }
    // Roles are not so strict.
    let role = json!({"metadata": {"name": "some:Role_1"}, "rules": []});
    world.post("roles", &role).await.ok();
}

#[tokio::test]
async fn sizes_have_limits() {
    let world = World::new(SERVER).await;
    world.post("rayclusters", &cluster("c")).await.ok();
    let names: Vec<String> = (0..40_000).map(|number| format!("{number:042}")).collect();
    let large = json!({"metadata": {"annotations": {"names": "x"}}, "spec": {"workerGroupSpecs": [
        {"groupName": "a", "template": {}, "scaleStrategy": {"workersToDelete": names}}]}});
    let refused = world.patch("rayclusters/c", MERGE, &large).await;
    assert_eq!(
        (refused.code, refused.message()),
        (500, "etcdserver: request is too large")
    );
    let huge = json!({"metadata": {"name": "m"}, "data": {"a": "x".repeat(4_000_000)}});
    let refused = world.post("configmaps", &huge).await;
    assert_eq!(refused.refused(), (413, "RequestEntityTooLarge"));
}

#[tokio::test]
async fn a_token_has_to_be_good() {
    let world = World::new(SERVER).await;
    let stranger = world.with_token("no-such-token").await;
    let refused = stranger.get("pods").await;
    assert_eq!(refused.refused(), (401, "Unauthorized"));
    assert_eq!(
        (refused.message(), refused.body.get("details")),
        ("Unauthorized", None)
    );
}
