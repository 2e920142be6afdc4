//! The RayCluster resource: defaults, what is dropped, what is refused.

use super::SERVER;
use crate::world::{MERGE, World, cluster};
use serde_json::{Value, json};

fn with(pointer: &str, value: Value) -> Value {
    let mut cluster = cluster("c");
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    cluster.pointer_mut(parent).unwrap()[name] = value;
    cluster
}

#[tokio::test]
async fn groups_get_their_defaults() {
    let world = World::new(SERVER).await;
    let mut given = with("/spec/workerGroupSpecs/0/replicas", Value::Null);
    given["spec"]["rayVersion"] = Value::Null;
    let made = world.post("rayclusters", &given).await.ok();
    let expected = json!({
        "headGroupSpec": {"template": {}},
        "workerGroupSpecs": [{
            "groupName": "a", "template": {}, "replicas": 0, "minReplicas": 0, "maxReplicas": 2_147_483_647,
            "numOfHosts": 1, "priority": 0,
        }],
    });
    assert_eq!(made["spec"], expected);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_field() {
    let world = World::new(SERVER).await;
    let group = |name: &str| format!("/spec/workerGroupSpecs/0/{name}");
    let of_group = |name: &str| format!("spec.workerGroupSpecs[0].{name}");
    let options = |name: &str, value: &str| with("/spec/autoscalerOptions", json!({name: value}));
    let rows = [
        (
            with(&group("replicas"), json!("1")),
            of_group("replicas"),
            "FieldValueTypeInvalid",
        ),
        (
            with(&group("groupName"), Value::Null),
            of_group("groupName"),
            "FieldValueRequired",
        ),
        (
            with(&group("template"), Value::Null),
            of_group("template"),
            "FieldValueRequired",
        ),
        (
            with(&group("rayStartParams"), json!({"num-cpus": 1})),
            of_group("rayStartParams.num-cpus"),
            "FieldValueTypeInvalid",
        ),
        (
            with("/spec/workerGroupSpecs", json!({})),
            "spec.workerGroupSpecs".into(),
            "FieldValueTypeInvalid",
        ),
        (
            with("/spec", json!({})),
            "spec.headGroupSpec".into(),
            "FieldValueRequired",
        ),
        (
            options("version", "v3"),
            "spec.autoscalerOptions.version".into(),
            "FieldValueNotSupported",
        ),
        (
            options("upscalingMode", "Fast"),
            "spec.autoscalerOptions.upscalingMode".into(),
            "FieldValueNotSupported",
        ),
    ];
    for (cluster, field, reason) in rows {
        let refused = world.post("rayclusters", &cluster).await;
        assert_eq!(refused.refused(), (422, "Invalid"), "{cluster}");
        let expected = [("<nil>", "FieldValueInvalid"), (field.as_str(), reason)];
        assert_eq!(refused.causes(), expected, "{}", refused.body);
    }
    let refused = world.post("rayclusters", &options("version", "v3")).await;
    assert_eq!(
        refused.message(),
        "RayCluster.ray.io \"c\" is invalid: [spec.autoscalerOptions.version: Unsupported value: \"v3\": \
         supported values: \"v1\", \"v2\", <nil>: Invalid value: null: some validation rules were not \
         checked because the object was invalid; correct the existing errors to complete validation]"
    );
}

#[tokio::test]
async fn rules_hold_what_may_not_change() {
    let world = World::new(SERVER).await;
    let refused = world
        .post("rayclusters", &with("/spec/managedBy", json!("nobody")))
        .await;
    assert_eq!(refused.refused(), (422, "Invalid"));
    assert_eq!(
        refused.message(),
        "RayCluster.ray.io \"c\" is invalid: spec.managedBy: Invalid value: \"nobody\": managedBy names no \
         known controller"
    );
    let ours = json!("ray.io/kuberay-operator");
    world
        .post("rayclusters", &with("/spec/managedBy", ours))
        .await
        .ok();
    let theirs = json!({"spec": {"managedBy": "kueue.x-k8s.io/multikueue"}});
    let refused = world.patch("rayclusters/c", MERGE, &theirs).await;
    assert_eq!(refused.causes(), [("spec.managedBy", "FieldValueInvalid")]);
}

#[tokio::test]
async fn a_status_is_checked_like_a_spec() {
    let world = World::new(SERVER).await;
    world.post("rayclusters", &cluster("c")).await.ok();
    let missing = json!({"status": {"conditions": [{"type": "A", "status": "Maybe"}]}});
    let refused = world.patch("rayclusters/c/status", MERGE, &missing).await;
    let at = |name: &str| format!("status.conditions[0].{name}");
    let fields = ["lastTransitionTime", "message", "reason", "status"].map(at);
    let found: Vec<&str> = refused.causes().iter().map(|(field, _)| *field).collect();
    let expected: Vec<&str> = std::iter::once("<nil>")
        .chain(fields.iter().map(String::as_str))
        .collect();
    assert_eq!(found, expected);
    let good = json!({"status": {"desiredCPU": 3, "desiredMemory": "1Gi", "lastUpdateTime": null, "unknown": 1}});
    let patched = world.patch("rayclusters/c/status", MERGE, &good).await.ok();
    assert_eq!(
        patched["status"],
        json!({"desiredCPU": 3, "desiredMemory": "1Gi"})
    );
    let bad = json!({"status": {"lastUpdateTime": "yesterday"}});
    let refused = world.patch("rayclusters/c/status", MERGE, &bad).await;
    assert_eq!(
        (refused.code, refused.causes()[1].0),
        (422, "status.lastUpdateTime")
    );
}
