//! Clusters that the API server takes and the operator refuses (U03, U12 of KubeRay's own tests).

use crate::support::raycluster::{Group, Manifest};
use crate::support::stand_ins::{Cluster, StandIns, eventually};
use crate::{let_a_pass_go_by, with_canary};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use rayscaler::embedded::pods::Pretend;
use serde_json::{Value, json};

/// Waits for an Event about a cluster.
pub(crate) async fn wait_for_event(cluster: &Cluster, reason: &str) {
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    eventually(
        &format!("the Event {reason} for {}", cluster.name),
        || async {
            let listed = events.list(&ListParams::default()).await.unwrap();
            let is_it = |event: &Event| {
                let regarding = event.regarding.as_ref().and_then(|it| it.name.as_deref());
                regarding == Some(cluster.name.as_str()) && event.reason.as_deref() == Some(reason)
            };
            listed.items.iter().any(is_it).then_some(())
        },
    )
    .await;
}

fn cluster(name: &str, group: Group) -> Manifest {
    Manifest::new(name).group(group.set("/replicas", 1))
}

#[tokio::test]
async fn a_refused_cluster_gets_nothing() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let group = || Group::new("g");
    let always = "/template/spec/restartPolicy";
    let options = "/spec/autoscalerOptions";
    let reserved = json!([{"name": "KUBERAY_GEN_AUTOSCALER_START_CMD", "value": "x"}]);
    let spec = [
        cluster("min-above-max", group().set("/minReplicas", 4)),
        cluster("negative-min", group().set("/minReplicas", -1)),
        cluster("negative-max", group().set("/maxReplicas", -1)),
        cluster("suspended-group", group().set("/suspend", true)),
        cluster("restarts-with-v2", group().set(always, "Always")).autoscaler("v2"),
        cluster("idle-without-v2", group().set("/idleTimeoutSeconds", 5)),
        cluster("priority-too-early", group().set("/priority", 1))
            .autoscaler("v2")
            .set("/spec/rayVersion", "2.55.0"),
        cluster("negative-idle", group()).set(&format!("{options}/idleTimeoutSeconds"), -1),
        cluster("reserved-env", group()).set(&format!("{options}/env"), reserved),
        cluster("two-shapes", group().set("/resources", json!({"CPU": "1"}))),
        cluster("labels-as-flag", group().param("labels", "a=b")),
        cluster("bad-label", group().set("/labels", json!({"a b": "c"}))),
        cluster("both-switches", group())
            .autoscaler("v2")
            .head_env("RAY_enable_autoscaler_v2", "1"),
    ];
    let long = "a".repeat(54);
    let mut refused = Vec::new();
    for manifest in spec {
        refused.push((stand_ins.create(&manifest).await, "InvalidRayClusterSpec"));
    }
    refused.push((
        stand_ins.create(&cluster(&long, group())).await,
        "InvalidRayClusterMetadata",
    ));
    for (cluster, reason) in &refused {
        wait_for_event(cluster, reason).await;
        assert!(
            cluster.pods_of("headgroup").await.is_empty(),
            "{}",
            cluster.name
        );
        assert!(cluster.pods_of("g").await.is_empty(), "{}", cluster.name);
        let status = &cluster.get().await["status"];
        assert!(status["conditions"].is_null(), "{}: {status}", cluster.name);
    }
    stand_ins.end().await;
}

#[tokio::test]
async fn what_looks_odd_but_is_allowed_works() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let group = || Group::new("g");
    let manifests = [
        cluster("not-suspended", group().set("/suspend", false)),
        cluster("priority-zero", group().set("/priority", 0)),
        cluster("priority", group().set("/priority", 7)).autoscaler("v2"),
        cluster("idle-with-v2", group().set("/idleTimeoutSeconds", 5)).autoscaler("v2"),
        cluster("idle-with-switch", group().set("/idleTimeoutSeconds", 5))
            .head_env("RAY_enable_autoscaler_v2", "1"),
        cluster(
            "restarts-with-v1",
            group().set("/template/spec/restartPolicy", "Always"),
        )
        .autoscaler("v1"),
    ];
    for manifest in manifests {
        stand_ins
            .create(&manifest)
            .await
            .wait_for_pods("g", 1)
            .await;
    }
    // The larger of two counts wins, since groups of one name share their pods.
    let twice = cluster("twice", group()).group(group().set("/replicas", 3));
    stand_ins.create(&twice).await.wait_for_pods("g", 3).await;
    stand_ins
        .create(&Manifest::new("no-groups"))
        .await
        .wait_for_pods("headgroup", 1)
        .await;
    stand_ins.end().await;
}

#[tokio::test]
async fn a_bad_edit_freezes_a_running_cluster_until_it_is_mended() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("g").replicas(2, 0, 5)]))
        .await;
    let names = cluster.wait_for_pods("g", 2).await;
    cluster.wait_for_status("/state", "ready").await;
    let suspend = |value: Value| json!([{"op": "add", "path": "/spec/workerGroupSpecs/0/suspend", "value": value}]);
    cluster.patch(suspend(json!(true))).await;
    wait_for_event(&cluster, "InvalidRayClusterSpec").await;
    cluster.scale(0, 3, &names[..1]).await;
    // Another cluster's pod shows that the operator has had time for this one.
    let other = Manifest::new("other").group(Group::new("g").replicas(1, 0, 1));
    stand_ins.create(&other).await.wait_for_pods("g", 1).await;
    assert_eq!(
        cluster.names_of("g").await,
        names,
        "no pod of a suspended group is deleted"
    );
    assert_eq!(cluster.get().await["status"]["state"], "ready");
    cluster.patch(suspend(json!(false))).await;
    let mended = cluster.wait_for_pods("g", 3).await;
    assert!(!mended.contains(&names[0]) && mended.contains(&names[1]));
    let_a_pass_go_by(&cluster).await;
    stand_ins.end().await;
}

#[tokio::test]
async fn the_api_server_refuses_what_the_resource_forbids() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let group = || Group::new("g");
    let manifests = [
        cluster("mode", group()).set("/spec/autoscalerOptions/upscalingMode", "Fast"),
        cluster("version", group()).set("/spec/autoscalerOptions/version", "v3"),
        Manifest::new("replicas").group(group().set("/replicas", "1")),
        Manifest::new("large").group(group().set("/replicas", 2_147_483_648_i64)),
        cluster("no-name", group().set("/groupName", Value::Null)),
        cluster("no-template", group().set("/template", Value::Null)),
    ];
    for manifest in manifests {
        let object: DynamicObject = serde_json::from_value(manifest.value().clone()).unwrap();
        let api = stand_ins.cluster("any").api();
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) => assert_eq!(status.code, 422, "{status}"),
            other => panic!(
                "{} should be refused, not {other:?}",
                manifest.value()["metadata"]["name"]
            ),
        }
    }
    let plain = json!({"groupName": "g", "template": {"spec": {"containers": [{"name": "r", "image": "i"}]}}});
    let manifest = Manifest::new("defaults").set("/spec/workerGroupSpecs", json!([plain]));
    let manifest = manifest.set("/spec/idleSuspend", true);
    let stored = stand_ins.create(&manifest).await.get().await;
    let group = &stored["spec"]["workerGroupSpecs"][0];
    let numbers = [
        "replicas",
        "minReplicas",
        "maxReplicas",
        "numOfHosts",
        "priority",
    ];
    assert_eq!(
        numbers.map(|name| group[name].as_i64().unwrap()),
        [0, 0, 2_147_483_647, 1, 0]
    );
    assert!(
        stored["spec"]["idleSuspend"].is_null(),
        "unknown fields are dropped"
    );
    stand_ins.end().await;
}
