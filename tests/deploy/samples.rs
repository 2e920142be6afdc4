//! The example clusters on an operator: they come up as they are, and a quota that forbids them shows.

use k8s_openapi::api::core::v1::{Container, ResourceQuota};
use kube::api::{Api, Patch, PatchParams, PostParams};
use rayscaler::embedded::pods::Pretend;
use rayscaler::observe::access::{Access, Rules};
use serde_json::{Value, json};

use crate::manifests::{api, run_of};
use crate::support::kube::Server;
use crate::support::raycluster::Manifest;
use crate::support::stand_ins::{Cluster, StandIns, eventually};
use crate::{documents, ray_clusters, text};

async fn condition(cluster: &Cluster, kind: &str) -> Option<Value> {
    let status = cluster.get().await["status"].clone();
    let conditions = status["conditions"].as_array()?.clone();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
}

/// Returns the autoscaler's container of the head pod, as JSON.
async fn sidecar(cluster: &Cluster) -> Value {
    let head = cluster.pods_of("headgroup").await.remove(0);
    let containers: Vec<Container> = head.spec.unwrap().containers;
    let ours = containers
        .iter()
        .find(|container| container.name == "autoscaler");
    serde_json::to_value(ours.unwrap()).unwrap()
}

#[tokio::test]
async fn every_example_comes_up_with_its_replicas_and_starts_rayscaler() {
    for (file, manifest) in ray_clusters() {
        let stand_ins = StandIns::start(Server::Real, Pretend::default()).await;
        let cluster = stand_ins.create(&Manifest::of(manifest.clone())).await;
        cluster.wait_for_status("/state", "ready").await;
        let provisioned = condition(&cluster, "RayClusterProvisioned").await.unwrap();
        assert_eq!(provisioned["status"], "True", "{file}");
        let mut pods = cluster.pods_of("headgroup").await.len();
        let mut expected = 1;
        for group in manifest["spec"]["workerGroupSpecs"].as_array().unwrap() {
            expected += usize::try_from(group["replicas"].as_u64().unwrap()).unwrap();
            pods += cluster
                .pods_of(group["groupName"].as_str().unwrap())
                .await
                .len();
        }
        assert_eq!(pods, expected, "{file}");
        let sidecar = sidecar(&cluster).await;
        if file == "dry-run.yaml" {
            assert_eq!(
                sidecar["image"], "rayproject/ray:2.60.0",
                "the stock one stays"
            );
        } else {
            assert!(
                sidecar["image"].as_str().unwrap().contains("/rayscaler:"),
                "{file}"
            );
            assert_eq!(run_of(&sidecar).cluster_name, "demo", "{file}");
        }
        stand_ins.end().await;
    }
}

#[tokio::test]
async fn a_quota_of_nothing_shows_as_a_head_that_cannot_be_made() {
    let (_, manifest) = ray_clusters().remove(0);
    let stand_ins = StandIns::start(Server::Real, Pretend::default()).await;
    let quotas: Api<ResourceQuota> =
        Api::namespaced(stand_ins.client.clone(), &stand_ins.namespace);
    let none = json!({"pods": "0"});
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": none}});
    let quota = serde_json::from_value(quota).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // No controller counts here.
    let status = Patch::Merge(json!({"status": {"hard": none, "used": none}}));
    quotas
        .patch_status("none", &PatchParams::default(), &status)
        .await
        .unwrap();
    let probe = json!({"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "p", "image": "p"}]}});
    let probe = serde_json::from_value(probe).unwrap();
    let pods = stand_ins.cluster("demo").pods();
    eventually("the quota's effect", || async {
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        pods.create(&dry, &probe).await.err()
    })
    .await;
    let cluster = stand_ins.create(&Manifest::of(manifest)).await;
    let failure = eventually("ReplicaFailure", || condition(&cluster, "ReplicaFailure")).await;
    assert_eq!(failure["reason"], "FailedCreateHeadPod");
    assert!(
        failure["message"]
            .as_str()
            .unwrap()
            .contains("exceeded quota"),
        "{failure}"
    );
    assert!(cluster.pods_of("headgroup").await.is_empty());
    stand_ins.end().await;
}

/// Asks what the ServiceAccount of the example may do.
async fn access(stand_ins: &StandIns) -> Access {
    let token = stand_ins
        .api
        .sidecar_token(&stand_ins.namespace, "demo")
        .await;
    let client = stand_ins.api.client_for(&token).await;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": stand_ins.namespace},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(review.to_string().into_bytes()).unwrap();
    let answer: Value = client.request(request).await.unwrap();
    let rules: Rules = serde_json::from_value(answer["status"].clone()).unwrap();
    Access::from_rules(&rules, "demo")
}

fn missing(access: &Access) -> Vec<String> {
    access
        .missing()
        .map(|right| format!("{} {}", right.verb, right.resource))
        .collect()
}

#[tokio::test]
async fn the_extra_role_gives_every_right_that_is_made_use_of_and_no_other() {
    api().await;
    let stand_ins = StandIns::start(Server::Real, Pretend::default()).await;
    let (_, manifest) = ray_clusters().remove(0);
    let cluster = stand_ins.create(&Manifest::of(manifest)).await;
    cluster.wait_for_pods("headgroup", 1).await;
    let extra = [
        "list rayclusters",
        "watch rayclusters",
        "create events",
        "patch events",
    ];
    let before = access(&stand_ins).await;
    assert_eq!(missing(&before), extra, "KubeRay's Role alone");
    let mut granted = Vec::new();
    for object in documents(&text("deploy/rbac.yaml")) {
        let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
        let path = format!(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/{plural}",
            stand_ins.namespace
        );
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(object.to_string().into_bytes()).unwrap();
        stand_ins.client.request::<Value>(request).await.unwrap();
        for rule in object["rules"].as_array().into_iter().flatten() {
            let verbs = rule["verbs"].as_array().unwrap().iter();
            let resource = rule["resources"][0].as_str().unwrap();
            granted.extend(verbs.map(|verb| format!("{} {resource}", verb.as_str().unwrap())));
        }
    }
    assert_eq!(granted, extra);
    // The authorizer reads roles from a cache of its own.
    eventually("the role's effect", || async {
        missing(&access(&stand_ins).await).is_empty().then_some(())
    })
    .await;
    stand_ins.end().await;
}
