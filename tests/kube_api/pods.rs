//! Pods: defaults, checks, status, binding, resizing, eviction, quotas.

use super::SERVER;
use crate::world::{JSON_PATCH, MERGE, STRATEGIC, World, pod};
use serde_json::{Value, json};

fn binding(pod: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    })
}

#[tokio::test]
async fn a_pod_is_filled_in() {
    let world = World::new(SERVER).await;
    let mut wanted = pod("p");
    wanted["spec"]["containers"][0] = json!({
        "name": "c", "image": "some.where/image",
        "env": [{"name": "A", "value": ""}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}, "requests": {"cpu": "0.5"}},
    });
    let made = world.post("pods", &wanted).await.ok();
    let tolerate = |key: &str| {
        json!({
            "key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 300,
        })
    };
    let expected = json!({
        "containers": [{
            "name": "c", "image": "some.where/image", "imagePullPolicy": "Always",
            "env": [
                {"name": "A"},
                {"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            ],
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {
                "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"},
            },
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        }],
        "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0, "restartPolicy": "Always", "schedulerName": "default-scheduler",
        "securityContext": {}, "terminationGracePeriodSeconds": 30,
        "tolerations": [tolerate("not-ready"), tolerate("unreachable")],
    });
    assert_eq!(made["spec"], expected);
    assert_eq!(
        made["status"],
        json!({"phase": "Pending", "qosClass": "Burstable"})
    );
    // Who made the pod owns what it left out to the defaults, not what admission decided.
    let fields = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(fields["f:restartPolicy"], json!({}));
    assert_eq!(
        (fields.get("f:priority"), fields.get("f:tolerations")),
        (None, None)
    );
    assert_eq!(fields["f:containers"].get("."), None);
}

#[tokio::test]
async fn every_mistake_of_a_pod_is_named() {
    let world = World::new(SERVER).await;
    let mut wrong = pod("p");
    wrong["spec"]["restartPolicy"] = json!("Sometimes");
    wrong["spec"]["containers"] =
        json!([{"name": "A", "image": "i"}, {"name": "b"}, {"name": "b", "image": "i"}]);
    let refused = world.post("pods", &wrong).await;
    assert_eq!(refused.refused(), (422, "Invalid"));
    assert_eq!(
        refused.causes(),
        [
            ("spec.containers[0].name", "FieldValueInvalid"),
            ("spec.containers[1].image", "FieldValueRequired"),
            ("spec.containers[2].name", "FieldValueDuplicate"),
            ("spec.restartPolicy", "FieldValueNotSupported"),
        ]
    );
    let empty = world
        .post(
            "pods",
            &json!({"metadata": {"name": "p"}, "spec": {"containers": []}}),
        )
        .await;
    assert_eq!(
        empty.message(),
        "Pod \"p\" is invalid: spec.containers: Required value"
    );
}

#[tokio::test]
async fn little_of_a_pod_may_change() {
    let world = World::new(SERVER).await;
    world.post("pods", &pod("p")).await.ok();
    let refused = world
        .patch("pods/p", MERGE, &json!({"spec": {"hostname": "x"}}))
        .await;
    assert_eq!(
        (refused.refused(), refused.causes()),
        ((422, "Invalid"), vec![("spec", "FieldValueForbidden")])
    );
    let image = json!({"spec": {"containers": [{"name": "c", "image": "j:2"}]}});
    let patched = world.patch("pods/p", STRATEGIC, &image).await.ok();
    assert_eq!(patched["spec"]["containers"][0]["image"], "j:2");
    assert_eq!(patched["metadata"]["generation"], 2);
    // What is left out of a replacement comes from the defaults again.
    let mut whole = pod("p");
    whole["spec"]["containers"][0]["image"] = json!("j:3");
    let replaced = world.put("pods/p", &whole).await.ok();
    assert_eq!(replaced["spec"]["containers"][0]["image"], "j:3");
}

#[tokio::test]
async fn a_status_is_written_apart_from_the_spec() {
    let world = World::new(SERVER).await;
    let mut never = pod("p");
    never["spec"]["restartPolicy"] = json!("Never");
    world.post("pods", &never).await.ok();
    let state = |state: Value| {
        json!({"status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
        "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state}]}})
    };
    let ended = state(json!({"terminated": {"exitCode": 1}}));
    let mut patch = ended.clone();
    patch["spec"] = json!({"hostname": "x"});
    patch["metadata"] = json!({"labels": {"x": "1"}});
    let patched = world.patch("pods/p/status", MERGE, &patch).await.ok();
    assert_eq!(
        (&patched["status"]["phase"], patched["spec"].get("hostname")),
        (&json!("Running"), None)
    );
    assert_eq!(patched["metadata"]["labels"], json!({"x": "1"}));
    let running = state(json!({"running": {"startedAt": "2026-01-02T03:04:05Z"}}));
    let refused = world.patch("pods/p/status", MERGE, &running).await;
    assert_eq!(
        refused.message(),
        "Pod \"p\" is invalid: status.containerStatuses[0].state: Forbidden: may not be transitioned to \
         non-terminated state"
    );
    let mut stranger = ended;
    stranger["metadata"] = json!({"uid": "x"});
    let refused = world.patch("pods/p/status", MERGE, &stranger).await;
    assert_eq!(
        (refused.refused(), refused.causes()),
        (
            (422, "Invalid"),
            vec![("metadata.uid", "FieldValueInvalid")]
        )
    );
    // A pod that restarts its containers has them running again.
    world.post("pods", &pod("q")).await.ok();
    world
        .patch(
            "pods/q/status",
            MERGE,
            &state(json!({"terminated": {"exitCode": 1}})),
        )
        .await
        .ok();
    world.patch("pods/q/status", MERGE, &running).await.ok();
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let world = World::new(SERVER).await;
    world.post("pods", &pod("p")).await.ok();
    let answer = world.post("pods/p/binding", &binding("p", "n1")).await;
    assert_eq!(
        (answer.code, &answer.body["status"]),
        (201, &json!("Success"))
    );
    let bound = world.get("pods/p").await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    let condition = &bound["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"]),
        (&json!("PodScheduled"), &json!("True"))
    );
    let refused = world.post("pods/p/binding", &binding("p", "n2")).await;
    assert_eq!(refused.refused(), (409, "Conflict"));
    assert_eq!(
        refused.message(),
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
    let absent = world
        .post("pods/absent/binding", &binding("absent", "n1"))
        .await;
    assert_eq!(absent.refused(), (404, "NotFound"));
}

#[tokio::test]
async fn a_gated_pod_waits_and_cannot_be_gated_again() {
    let world = World::new(SERVER).await;
    let mut gated = pod("p");
    gated["spec"]["schedulingGates"] = json!([{"name": "a.b/c"}]);
    let made = world.post("pods", &gated).await.ok();
    assert_eq!(made["status"]["conditions"][0]["reason"], "SchedulingGated");
    let refused = world.post("pods/p/binding", &binding("p", "n")).await;
    assert_eq!(refused.refused(), (409, "Conflict"));
    assert!(
        refused
            .message()
            .ends_with("pod p has non-empty .spec.schedulingGates")
    );
    let open = json!([{"op": "remove", "path": "/spec/schedulingGates"}]);
    world.patch("pods/p", JSON_PATCH, &open).await.ok();
    let close =
        json!([{"op": "add", "path": "/spec/schedulingGates", "value": [{"name": "d.e/f"}]}]);
    let refused = world.patch("pods/p", JSON_PATCH, &close).await;
    assert_eq!(
        refused.message(),
        "Pod \"p\" is invalid: spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found \
         new scheduling gate 'd.e/f'"
    );
}

#[tokio::test]
async fn a_resize_changes_resources_where_the_node_can() {
    let world = World::new(SERVER).await;
    let node = format!("node-{}", world.namespace);
    world
        .post("/api/v1/nodes", &json!({"metadata": {"name": node}}))
        .await
        .ok();
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "10"});
    let status = json!({"status": {"capacity": room, "allocatable": room}});
    world
        .patch(&format!("/api/v1/nodes/{node}/status"), MERGE, &status)
        .await
        .ok();
    let resources = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "1Gi"}});
    let mut sized = pod("p");
    sized["spec"]["containers"][0]["resources"] = resources("1");
    sized["spec"]["nodeName"] = json!(node);
    world.post("pods", &sized).await.ok();
    let resize =
        |cpu: &str| json!({"spec": {"containers": [{"name": "c", "resources": resources(cpu)}]}});
    let running = |resources: Value| {
        json!({"status": {"phase": "Running", "containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}, "resources": resources,
        }]}})
    };
    let old_kubelet = running(Value::Null);
    world.patch("pods/p/status", MERGE, &old_kubelet).await.ok();
    let refused = world.patch("pods/p/resize", STRATEGIC, &resize("2")).await;
    assert_eq!(
        refused.message(),
        "Pod \"p\" is invalid: spec: Forbidden: Pod running on node without support for resize"
    );
    let new_kubelet = running(resources("1"));
    world.patch("pods/p/status", MERGE, &new_kubelet).await.ok();
    let resized = world
        .patch("pods/p/resize", STRATEGIC, &resize("2"))
        .await
        .ok();
    assert_eq!(
        resized["spec"]["containers"][0]["resources"]["requests"]["cpu"],
        "2"
    );
    let too_much = world.patch("pods/p/resize", STRATEGIC, &resize("9")).await;
    assert_eq!(too_much.refused(), (403, "Forbidden"));
    let class = json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}]}});
    let refused = world.patch("pods/p/resize", STRATEGIC, &class).await;
    assert_eq!(
        refused.message(),
        "Pod \"p\" is invalid: spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result \
         of resizing"
    );
    // Not through the pod itself.
    let refused = world.patch("pods/p", STRATEGIC, &resize("3")).await;
    assert_eq!(
        (refused.refused(), refused.causes()),
        ((422, "Invalid"), vec![("spec", "FieldValueForbidden")])
    );
}

#[tokio::test]
async fn an_evicted_pod_says_why_it_goes() {
    let world = World::new(SERVER).await;
    let mut bound = pod("p");
    bound["spec"]["nodeName"] = json!("n");
    world.post("pods", &bound).await.ok();
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let answer = world.post("pods/p/eviction", &eviction).await;
    assert_eq!(
        (answer.code, &answer.body["status"]),
        (201, &json!("Success"))
    );
    let going = world.get("pods/p").await.ok();
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let condition = &going["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["reason"]),
        (&json!("DisruptionTarget"), &json!("EvictionByEvictionAPI"))
    );
}
