//! JSON Patch on a RayCluster: which operations pass, and how little is said about those that do not.

use super::SERVER;
use crate::world::{JSON_PATCH, World, cluster};
use serde_json::{Value, json};

const GROUP: &str = "/spec/workerGroupSpecs/0";
const PATH: &str = "rayclusters/c?fieldManager=me";

async fn with_cluster() -> World {
    let world = World::new(SERVER).await;
    world.post("rayclusters", &cluster("c")).await.ok();
    world
}

fn operation(op: &str, path: &str, value: Value) -> Value {
    json!([{"op": op, "path": path, "value": value}])
}

#[tokio::test]
async fn a_failed_operation_is_an_unspecific_refusal() {
    let world = with_cluster().await;
    let at = |rest: &str| format!("{GROUP}{rest}");
    let rows = [
        operation("test", &at("/groupName"), json!("b")),
        operation("test", &at("/replicas"), json!(0.0)),
        operation("test", "/spec/workerGroupSpecs/1/groupName", json!("a")),
        operation("test", "/spec/workerGroupSpecs/1/groupName", Value::Null),
        operation("test", "/metadata/uid", json!("other")),
        operation("test", "/metadata/resourceVersion", json!("1")),
        operation("add", &at("/scaleStrategy/workersToDelete"), json!(["x"])),
        operation(
            "replace",
            &at("/scaleStrategy/workersToDelete"),
            json!(["x"]),
        ),
        operation("replace", "/spec/workerGroupSpecs/7", json!({})),
        json!([{"op": "remove", "path": at("/scaleStrategy")}]),
        json!([{"op": "invent", "path": at("/replicas"), "value": 1}]),
        json!([{"path": at("/replicas"), "value": 1}]),
        json!([{"op": "add", "value": 1}]),
    ];
    let before = world.get("rayclusters/c").await.ok();
    for operations in rows {
        let refused = world.patch(PATH, JSON_PATCH, &operations).await;
        assert_eq!(refused.refused(), (422, "Invalid"), "{operations}");
        let expected = "the server rejected our request due to an error in our request";
        assert_eq!(refused.message(), expected, "{operations}");
        assert_eq!(refused.body["details"], json!({}), "{operations}");
    }
    assert_eq!(world.get("rayclusters/c").await.ok(), before);
}

#[tokio::test]
async fn operations_that_the_rfc_would_refuse_pass() {
    let world = with_cluster().await;
    let at = |rest: &str| format!("{GROUP}{rest}");
    let group = json!({"groupName": "b", "template": {}});
    let rows = [
        operation("test", &at("/scaleStrategy"), Value::Null),
        json!([{"op": "test", "path": at("/scaleStrategy")}]),
        operation("replace", &at("/scaleStrategy"), json!({})),
        operation("test", &at("/scaleStrategy/workersToDelete"), Value::Null),
        operation("add", &at("/scaleStrategy/workersToDelete"), json!(["x"])),
        json!([{"op": "add", "path": at("/replicas")}]),
        operation("add", "/spec/workerGroupSpecs/-1", group),
    ];
    for operations in rows {
        let answer = world.patch(PATH, JSON_PATCH, &operations).await;
        assert_eq!(answer.code, 200, "{operations} {}", answer.body);
    }
    let stored = world.get("rayclusters/c").await.ok();
    let groups = &stored["spec"]["workerGroupSpecs"];
    assert_eq!(
        groups[0]["scaleStrategy"],
        json!({"workersToDelete": ["x"]})
    );
    assert_eq!(
        (&groups[0]["replicas"], &groups[1]["groupName"]),
        (&json!(0), &json!("b"))
    );
    // A group that is added to the list gets its defaults.
    assert_eq!(groups[1]["numOfHosts"], 1);
}

#[tokio::test]
async fn a_list_of_operations_is_done_whole_or_not_at_all() {
    let world = with_cluster().await;
    let operations = json!([
        {"op": "test", "path": format!("{GROUP}/groupName"), "value": "a"},
        {"op": "add", "path": format!("{GROUP}/replicas"), "value": 3},
        {"op": "add", "path": format!("{GROUP}/scaleStrategy"), "value": {"workersToDelete": ["x"]}},
        {"op": "copy", "from": "/spec/workerGroupSpecs/0", "path": "/spec/workerGroupSpecs/-"},
        {"op": "move", "from": "/spec/workerGroupSpecs/1/replicas", "path": "/spec/workerGroupSpecs/1/minReplicas"},
        {"op": "remove", "path": "/spec/workerGroupSpecs/1/scaleStrategy"},
    ]);
    let patched = world.patch(PATH, JSON_PATCH, &operations).await.ok();
    let groups = &patched["spec"]["workerGroupSpecs"];
    assert_eq!(groups[0]["replicas"], 3);
    assert_eq!(
        (&groups[1]["minReplicas"], &groups[1]["replicas"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(groups[1].get("scaleStrategy"), None);
    let half = json!([
        {"op": "add", "path": format!("{GROUP}/replicas"), "value": 9},
        {"op": "test", "path": format!("{GROUP}/groupName"), "value": "b"},
    ]);
    assert_eq!(world.patch(PATH, JSON_PATCH, &half).await.code, 422);
    assert_eq!(world.get("rayclusters/c").await.ok(), patched);
    let nothing = world.patch(PATH, JSON_PATCH, &json!([])).await.ok();
    assert_eq!(nothing, patched);
}

#[tokio::test]
async fn an_object_that_does_not_fit_the_resource_is_refused_with_causes() {
    let world = with_cluster().await;
    let replicas = format!("{GROUP}/replicas");
    let field = "spec.workerGroupSpecs[0].replicas";
    let refused = world
        .patch(PATH, JSON_PATCH, &operation("add", &replicas, json!("x")))
        .await;
    assert_eq!(refused.refused(), (422, "Invalid"));
    assert_eq!(
        refused.causes(),
        [
            ("<nil>", "FieldValueInvalid"),
            (field, "FieldValueTypeInvalid")
        ]
    );
    let large = operation("add", &replicas, json!(2_147_483_648_i64));
    let refused = world.patch(PATH, JSON_PATCH, &large).await;
    assert_eq!(refused.refused(), (422, "Invalid"));
    assert_eq!(
        refused.message(),
        format!(
            "RayCluster.ray.io \"c\" is invalid: <nil>: Invalid value: \"\": Checked value must be of type \
             integer with format int32 in {field}"
        )
    );
    let negative = world
        .patch(PATH, JSON_PATCH, &operation("add", &replicas, json!(-1)))
        .await
        .ok();
    assert_eq!(negative["spec"]["workerGroupSpecs"][0]["replicas"], -1);
    let annotation = json!([
        {"op": "add", "path": "/metadata/annotations", "value": {}},
        {"op": "add", "path": "/metadata/annotations/x", "value": 1},
    ]);
    let refused = world.patch(PATH, JSON_PATCH, &annotation).await;
    assert_eq!(
        (refused.refused(), refused.causes()),
        ((422, "Invalid"), vec![("patch", "FieldValueInvalid")])
    );
}

#[tokio::test]
async fn what_an_object_is_cannot_be_patched() {
    let world = with_cluster().await;
    let before = world.get("rayclusters/c").await.ok();
    let rows = [
        ("/metadata/uid", 422, "Invalid"),
        ("/metadata/name", 400, "BadRequest"),
        ("/metadata/namespace", 400, "BadRequest"),
        ("/kind", 422, "Invalid"),
        ("/metadata/resourceVersion", 409, "Conflict"),
    ];
    for (path, code, reason) in rows {
        let value = if path.ends_with("Version") { "1" } else { "x" };
        let refused = world
            .patch(PATH, JSON_PATCH, &operation("replace", path, json!(value)))
            .await;
        assert_eq!(refused.refused(), (code, reason), "{path}");
    }
    for path in ["/metadata/generation", "/metadata/creationTimestamp"] {
        let value = if path.ends_with("generation") {
            json!(99)
        } else {
            json!("2001-01-01T00:00:00Z")
        };
        let kept = world
            .patch(PATH, JSON_PATCH, &operation("replace", path, value))
            .await
            .ok();
        assert_eq!(kept, before, "{path}");
    }
    let status = operation("add", "/status", json!({"state": "ready"}));
    assert_eq!(world.patch(PATH, JSON_PATCH, &status).await.ok(), before);
}

#[tokio::test]
async fn the_patch_itself_has_limits_and_a_form() {
    let world = with_cluster().await;
    let test = json!({"op": "test", "path": format!("{GROUP}/groupName"), "value": "a"});
    let many = json!(vec![test.clone(); 10_000]);
    assert_eq!(world.patch(PATH, JSON_PATCH, &many).await.code, 200);
    let too_many = json!(vec![test; 10_001]);
    let refused = world.patch(PATH, JSON_PATCH, &too_many).await;
    assert_eq!(refused.refused(), (413, "RequestEntityTooLarge"));
    assert_eq!(
        refused.message(),
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
    let object = world.patch(PATH, JSON_PATCH, &json!({})).await;
    assert_eq!(object.refused(), (400, "BadRequest"));
    let broken = world
        .send("PATCH", PATH, (JSON_PATCH, b"[{".to_vec()))
        .await;
    assert_eq!(broken.refused(), (400, "BadRequest"));
    let absent = world
        .patch("rayclusters/absent", JSON_PATCH, &json!([]))
        .await;
    assert_eq!(absent.refused(), (404, "NotFound"));
}
