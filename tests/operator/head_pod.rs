//! The head pod, the autoscaler's container in it and its rights (U09, U11 of KubeRay's own tests).

use crate::support::raycluster::{Group, Manifest};
use crate::support::stand_ins::{Cluster, StandIns, eventually};
use crate::{let_a_pass_go_by, with_canary};
use k8s_openapi::api::core::v1::{Container, Event, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use rayscaler::embedded::pods::{Exit, Pretend};
use serde_json::{Value, json};

async fn head_of(cluster: &Cluster) -> Pod {
    cluster.wait_for_pods("headgroup", 1).await;
    cluster.pods_of("headgroup").await.remove(0)
}

fn containers(pod: &Pod) -> &[Container] {
    &pod.spec.as_ref().unwrap().containers
}

fn value_of<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let variable = container
        .env
        .iter()
        .flatten()
        .find(|variable| variable.name == name)?;
    variable.value.as_deref()
}

#[tokio::test]
async fn the_role_is_exactly_what_the_autoscaler_gets() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins.create(&with_canary([])).await;
    let head = head_of(&cluster).await;
    assert_eq!(
        head.spec.unwrap().service_account_name.as_deref(),
        Some("c")
    );
    let (client, namespace) = (cluster.client.clone(), &cluster.namespace);
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    let rules = serde_json::to_value(roles.get("c").await.unwrap().rules).unwrap();
    assert_eq!(
        rules,
        json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
            {"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]},
            {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "patch"]},
        ])
    );
    let bindings: Api<RoleBinding> = Api::namespaced(client, namespace);
    let subjects = bindings.get("c").await.unwrap().subjects.unwrap();
    assert_eq!((subjects.len(), subjects[0].name.as_str()), (1, "c"));
    stand_ins.end().await;
}

#[tokio::test]
async fn the_token_of_the_head_pod_can_do_what_the_role_says_and_no_more() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins.create(&with_canary([])).await;
    let head = head_of(&cluster).await.name_any();
    let token = stand_ins.api.sidecar_token(&cluster.namespace, "c").await;
    let client = stand_ins.api.client_for(&token).await;
    let own = Cluster {
        client: client.clone(),
        ..cluster.clone()
    };
    own.get().await;
    let operation = json!([{"op": "test", "path": "/metadata/name", "value": "c"}]);
    own.patch(operation).await;
    own.pods().list(&ListParams::default()).await.unwrap();
    own.pods().get(&head).await.unwrap();
    let note = Patch::Merge(json!({"metadata": {"annotations": {"a": "b"}}}));
    own.pods()
        .patch(&head, &PatchParams::default(), &note)
        .await
        .unwrap();
    let refused = |answer: Option<kube::Error>| match answer {
        Some(kube::Error::Api(status)) => assert_eq!(status.code, 403, "{status}"),
        other => panic!("expected a refusal, got {other:?}"),
    };
    refused(own.api().list(&ListParams::default()).await.err());
    refused(own.api().watch(&Default::default(), "0").await.err());
    refused(own.api().delete("c", &Default::default()).await.err());
    let status = Patch::Merge(json!({"status": {"state": "ready"}}));
    refused(
        own.api()
            .patch_status("c", &PatchParams::default(), &status)
            .await
            .err(),
    );
    refused(own.pods().delete(&head, &Default::default()).await.err());
    let events: Api<Event> = Api::namespaced(client, &cluster.namespace);
    let event =
        json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": cluster.namespace}});
    let event = serde_json::from_value(event).unwrap();
    refused(events.create(&PostParams::default(), &event).await.err());
    stand_ins.end().await;
}

#[tokio::test]
async fn the_autoscaler_comes_after_the_users_containers() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let second = json!({"name": "mine", "image": "busybox"});
    let manifest = with_canary([]).set(
        "/spec/headGroupSpec/template/spec/containers/0/image",
        "ray:1",
    );
    let first =
        manifest.value()["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0].clone();
    let manifest = manifest.set(
        "/spec/headGroupSpec/template/spec/containers",
        json!([first, second]),
    );
    let cluster = stand_ins.create(&manifest).await;
    let head = head_of(&cluster).await;
    let names: Vec<&str> = containers(&head)
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    assert_eq!(names, ["ray", "mine", "autoscaler"]);
    let autoscaler = &containers(&head)[2];
    assert_eq!(autoscaler.image.as_deref(), Some("ray:1"));
    let env: Vec<&str> = autoscaler
        .env
        .iter()
        .flatten()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(
        env,
        [
            "RAY_CLUSTER_NAME",
            "RAY_CLUSTER_NAMESPACE",
            "RAY_HEAD_POD_NAME",
            "KUBERAY_CRD_VER",
            "KUBERAY_GEN_AUTOSCALER_START_CMD"
        ]
    );
    assert_eq!(
        autoscaler.command.as_deref().unwrap(),
        ["/bin/bash", "-c", "--"]
    );
    let line = "ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) \
                --cluster-namespace $(RAY_CLUSTER_NAMESPACE)";
    assert_eq!(autoscaler.args.as_deref().unwrap(), [line]);
    assert_eq!(
        value_of(autoscaler, "KUBERAY_GEN_AUTOSCALER_START_CMD"),
        Some(line)
    );
    let resources = serde_json::to_value(&autoscaler.resources).unwrap();
    let amounts = json!({"cpu": "500m", "memory": "512Mi"});
    assert_eq!(resources, json!({"limits": amounts, "requests": amounts}));
    let shares = |container: &Container| {
        container
            .volume_mounts
            .iter()
            .flatten()
            .any(|mount| mount.mount_path == "/tmp/ray")
    };
    assert_eq!(
        containers(&head).iter().map(shares).collect::<Vec<_>>(),
        [true, false, true]
    );
    let command = value_of(&containers(&head)[0], "KUBERAY_GEN_RAY_START_CMD").unwrap();
    assert!(
        command.contains("--head") && command.contains("--no-monitor"),
        "{command}"
    );
    stand_ins.end().await;
}

#[tokio::test]
async fn the_version_decides_the_heads_switch_and_the_restart_policy() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cases = [
        ("v1", Some("false"), "Always"),
        ("v2", Some("true"), "Never"),
        ("unset", None, "Always"),
    ];
    for (version, switch, policy) in cases {
        let manifest = Manifest::new(version).group(Group::new("g").replicas(1, 0, 1));
        let manifest = match switch {
            Some(_) => manifest.autoscaler(version),
            None => manifest,
        };
        let cluster = stand_ins.create(&manifest).await;
        let head = head_of(&cluster).await;
        let found = value_of(&containers(&head)[0], "RAY_enable_autoscaler_v2");
        assert_eq!(found, switch, "{version}");
        cluster.wait_for_pods("g", 1).await;
        let worker = cluster.pods_of("g").await.remove(0);
        for pod in [head, worker] {
            assert_eq!(
                pod.spec.unwrap().restart_policy.as_deref(),
                Some(policy),
                "{version}"
            );
        }
    }
    stand_ins.end().await;
}

#[tokio::test]
async fn options_change_the_autoscaler_as_the_user_says() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let options = json!({
        "version": "v2",
        "image": "mine:1",
        "imagePullPolicy": "Always",
        "command": ["/autoscaler"],
        "env": [{"name": "A", "value": "b"}],
        "resources": {"requests": {"cpu": "50m"}},
        "securityContext": {"runAsUser": 1000},
    });
    let manifest = with_canary([]).set("/spec/autoscalerOptions", options);
    let cluster = stand_ins.create(&manifest).await;
    let head = head_of(&cluster).await;
    let autoscaler = &containers(&head)[1];
    assert_eq!(autoscaler.image.as_deref(), Some("mine:1"));
    assert_eq!(autoscaler.image_pull_policy.as_deref(), Some("Always"));
    assert_eq!(autoscaler.command.as_deref().unwrap(), ["/autoscaler"]);
    assert_eq!(
        autoscaler.args.as_ref().unwrap().len(),
        1,
        "the generated line stays"
    );
    assert_eq!(autoscaler.env.as_ref().unwrap().last().unwrap().name, "A");
    assert_eq!(
        serde_json::to_value(&autoscaler.resources).unwrap(),
        json!({"requests": {"cpu": "50m"}})
    );
    assert_eq!(
        autoscaler.security_context.as_ref().unwrap().run_as_user,
        Some(1000)
    );
    stand_ins.end().await;
}

#[tokio::test]
async fn a_service_account_that_the_user_names_has_to_be_there() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let path = "/spec/headGroupSpec/template/spec/serviceAccountName";
    let manifest = with_canary([Group::new("g").replicas(1, 0, 1)]).set(path, "mine");
    let cluster = stand_ins.create(&manifest).await;
    super::refusals::wait_for_event(&cluster, "AutoscalerServiceAccountNotFound").await;
    assert!(cluster.pods_of("headgroup").await.is_empty());
    assert!(cluster.pods_of("g").await.is_empty());
    let (client, namespace) = (cluster.client.clone(), &cluster.namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    assert!(accounts.get_opt("c").await.unwrap().is_none());
    let account = serde_json::from_value(json!({"metadata": {"name": "mine"}})).unwrap();
    accounts
        .create(&PostParams::default(), &account)
        .await
        .unwrap();
    cluster
        .patch(json!([{"op": "add", "path": "/metadata/annotations", "value": {"kick": "1"}}]))
        .await;
    let head = head_of(&cluster).await;
    assert_eq!(
        head.spec.unwrap().service_account_name.as_deref(),
        Some("mine")
    );
    let bindings: Api<RoleBinding> = Api::namespaced(client, namespace);
    assert_eq!(
        bindings.get("c").await.unwrap().subjects.unwrap()[0].name,
        "mine"
    );
    stand_ins.end().await;
}

#[tokio::test]
async fn a_head_that_cannot_come_back_is_replaced_and_workers_go_on() {
    let runtime = Pretend::default();
    let stand_ins = StandIns::start(super::SERVER, runtime.clone()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("g").replicas(1, 0, 9)]))
        .await;
    let head = head_of(&cluster).await.name_any();
    let workers = cluster.wait_for_pods("g", 1).await;
    cluster.wait_for_status("/state", "ready").await;
    let oom = Exit {
        container: "autoscaler".to_owned(),
        code: 137,
        reason: Some("OOMKilled".to_owned()),
    };
    assert!(runtime.end(&head, oom));
    eventually("HeadPodReady turning false", || async {
        let status = cluster.get().await["status"].clone();
        let conditions = status["conditions"].as_array().unwrap().clone();
        let ready = conditions
            .into_iter()
            .find(|it| it["type"] == "HeadPodReady")?;
        (ready["status"] == "False" && ready["reason"] == "OOMKilled").then_some(())
    })
    .await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(
        cluster.names_of("headgroup").await,
        [head.as_str()],
        "only Ray's container counts"
    );
    assert_eq!(cluster.get().await["status"]["state"], "ready");
    let crash = Exit {
        container: "ray".to_owned(),
        code: 1,
        reason: None,
    };
    assert!(runtime.end(&head, crash));
    eventually("another head", || async {
        let names = cluster.names_of("headgroup").await;
        (names.len() == 1 && names[0] != head).then_some(())
    })
    .await;
    assert_eq!(cluster.names_of("g").await, workers);
    stand_ins.end().await;
}

#[tokio::test]
async fn a_suspended_cluster_has_no_pods_and_comes_back_at_its_replicas() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("g").replicas(2, 0, 9)]))
        .await;
    cluster.wait_for_pods("g", 2).await;
    cluster.wait_for_pods("headgroup", 1).await;
    // A pod that is gone before the operator's next pass locks its group; that pass counts the maxima.
    let maximum =
        json!([{"op": "add", "path": "/spec/workerGroupSpecs/0/maxReplicas", "value": 8}]);
    cluster.patch(maximum).await;
    cluster.wait_for_status("/maxWorkerReplicas", 108).await;
    let suspend = |value: Value| json!([{"op": "add", "path": "/spec/suspend", "value": value}]);
    cluster.patch(suspend(json!(true))).await;
    cluster.wait_for_status("/state", "suspended").await;
    assert!(cluster.pods_of("g").await.is_empty());
    cluster.scale(0, 3, &[]).await;
    cluster.wait_for_status("/desiredWorkerReplicas", 3).await;
    assert!(cluster.pods_of("g").await.is_empty());
    cluster.patch(suspend(json!(false))).await;
    cluster.wait_for_pods("g", 3).await;
    cluster.wait_for_status("/state", "ready").await;
    stand_ins.end().await;
}
