//! What the status says (U10 of KubeRay's own tests).

use crate::support::raycluster::Group;
use crate::support::stand_ins::{Cluster, StandIns, eventually};
use crate::{hold, let_a_pass_go_by, release, with_canary};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{Api, Patch, PatchParams, PostParams};
use rayscaler::embedded::pods::Pretend;
use serde_json::{Value, json};

async fn condition(cluster: &Cluster, kind: &str) -> Option<Value> {
    let status = cluster.get().await["status"].clone();
    let conditions = status["conditions"].as_array()?.clone();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
}

#[tokio::test]
async fn counts_are_pods_and_the_cluster_turns_ready_when_all_run() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let pending = Group::new("pending").set("/template/spec/nodeSelector", json!({"tpu": "v4"}));
    let groups = [
        Group::new("single").replicas(2, 1, 5),
        Group::new("multi").replicas(1, 0, 2_147_483_647).hosts(2),
        pending.replicas(0, 0, 1),
    ];
    let cluster = stand_ins.create(&with_canary(groups)).await;
    cluster.wait_for_status("/readyWorkerReplicas", 4).await;
    cluster.wait_for_status("/state", "ready").await;
    let status = cluster.get().await["status"].clone();
    let counts = ["desired", "available", "min", "max"];
    let counts = counts.map(|name| status[format!("{name}WorkerReplicas")].as_i64().unwrap());
    assert_eq!(counts, [4, 4, 1, 2_147_483_647]);
    let head = cluster.names_of("headgroup").await;
    assert_eq!(status["head"]["podName"], head[0]);
    assert_eq!(status["head"]["serviceName"], "c-head-svc");
    assert_eq!(status["head"]["podIP"], status["head"]["serviceIP"]);
    for kind in ["HeadPodReady", "RayClusterProvisioned"] {
        assert_eq!(
            condition(&cluster, kind).await.unwrap()["status"],
            "True",
            "{kind}"
        );
    }
    assert!(condition(&cluster, "ReplicaFailure").await.is_none());
    cluster.scale(2, 1, &[]).await;
    cluster.wait_for_pods("pending", 1).await;
    cluster.wait_for_status("/desiredWorkerReplicas", 5).await;
    let status = cluster.get().await["status"].clone();
    assert_eq!(status["availableWorkerReplicas"], 4);
    assert_eq!(status["state"], "ready", "it is never taken back");
    stand_ins.end().await;
}

#[tokio::test]
async fn pods_on_their_way_out_count_as_available() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("g").replicas(2, 0, 5)]))
        .await;
    let names = cluster.wait_for_pods("g", 2).await;
    cluster.wait_for_status("/readyWorkerReplicas", 2).await;
    hold(&cluster, &names[0]).await;
    cluster.scale(0, 1, &names[..1]).await;
    cluster.wait_for_status("/desiredWorkerReplicas", 1).await;
    let_a_pass_go_by(&cluster).await;
    // The pass writes the status last, after the pod that tells of it.
    cluster.wait_for_status("/desiredWorkerReplicas", 2).await;
    cluster.wait_for_status("/availableWorkerReplicas", 3).await;
    release(&cluster, &names[0]).await;
    cluster.wait_for_status("/availableWorkerReplicas", 2).await;
    stand_ins.end().await;
}

#[tokio::test]
async fn the_generation_is_written_only_along_with_something_else() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins.create(&with_canary([])).await;
    cluster.wait_for_status("/state", "ready").await;
    let path = "/spec/autoscalerOptions/idleTimeoutSeconds";
    cluster
        .patch(json!([{"op": "add", "path": path, "value": 77}]))
        .await;
    let_a_pass_go_by(&cluster).await;
    cluster.wait_for_status("/readyWorkerReplicas", 1).await;
    let cluster_now = cluster.get().await;
    let generation = &cluster_now["metadata"]["generation"];
    assert_eq!(&cluster_now["status"]["observedGeneration"], generation);
    stand_ins.end().await;
}

#[tokio::test]
async fn a_pod_that_cannot_be_made_is_told_and_holds_back_the_groups_after_it() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("g").replicas(0, 0, 5)]))
        .await;
    cluster.wait_for_status("/state", "ready").await;
    set_quota(&cluster, 1).await;
    cluster.scale(0, 2, &[]).await;
    let failure = eventually("ReplicaFailure", || condition(&cluster, "ReplicaFailure")).await;
    assert_eq!(failure["reason"], "FailedCreateWorkerPod");
    let message = failure["message"].as_str().unwrap();
    assert!(message.starts_with("FailedCreateWorkerPod\n"), "{message}");
    assert!(message.contains("exceeded quota: q"), "{message}");
    cluster
        .patch(json!([{"op": "add", "path": "/spec/workerGroupSpecs/1/replicas", "value": 1}]))
        .await;
    cluster.wait_for_status("/desiredWorkerReplicas", 3).await;
    assert!(cluster.names_of("canary").await.is_empty());
    let quotas: Api<ResourceQuota> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    quotas.delete("q", &Default::default()).await.unwrap();
    cluster
        .patch(json!([{"op": "add", "path": "/metadata/annotations", "value": {"kick": "1"}}]))
        .await;
    cluster.wait_for_pods("g", 2).await;
    cluster.wait_for_pods("canary", 1).await;
    eventually("the failure's end", || async {
        condition(&cluster, "ReplicaFailure")
            .await
            .is_none()
            .then_some(())
    })
    .await;
    stand_ins.end().await;
}

/// Allows this many pods and says that they are used; no controller counts here.
async fn set_quota(cluster: &Cluster, pods: u32) {
    let quotas: Api<ResourceQuota> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let amounts = json!({"pods": pods.to_string()});
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": amounts}});
    let quota = serde_json::from_value(quota).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    let status = Patch::Merge(json!({"status": {"hard": amounts, "used": amounts}}));
    quotas
        .patch_status("q", &PatchParams::default(), &status)
        .await
        .unwrap();
    // Admission reads quotas from a cache of its own.
    let probe = json!({"metadata": {"generateName": "probe-"}, "spec": {"containers": [{"name": "p", "image": "p"}]}});
    let probe: k8s_openapi::api::core::v1::Pod = serde_json::from_value(probe).unwrap();
    eventually("the quota's effect", || async {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        cluster
            .pods()
            .create(&params, &probe)
            .await
            .is_err()
            .then_some(())
    })
    .await;
}
