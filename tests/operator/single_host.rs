//! Groups of single hosts (U01, U02, U06, U07, U08 of KubeRay's own tests).

use crate::support::raycluster::{Group, Manifest};
use crate::support::stand_ins::{StandIns, eventually};
use crate::{delete, let_a_pass_go_by, with_canary};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use rayscaler::embedded::pods::{Exit, Pretend};
use serde_json::json;

fn index_of(pod: &Pod) -> &str {
    &pod.labels()["ray.io/worker-group-replica-index"]
}

#[tokio::test]
async fn named_workers_go_and_new_ones_take_their_indexes() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("G").replicas(3, 0, 5)]))
        .await;
    cluster.wait_for_pods("G", 3).await;
    let pods = cluster.pods_of("G").await;
    let second = pods
        .iter()
        .find(|pod| index_of(pod) == "1")
        .unwrap()
        .name_any();
    assert!(second.starts_with("c-g-worker-"), "{second}");
    cluster.scale(0, 2, std::slice::from_ref(&second)).await;
    let left = cluster.wait_for_pods("G", 2).await;
    assert!(!left.contains(&second));
    let_a_pass_go_by(&cluster).await;
    assert_eq!(cluster.names_of("G").await, left);
    let list = &cluster.get().await["spec"]["workerGroupSpecs"][0]["scaleStrategy"];
    assert_eq!(
        list["workersToDelete"],
        json!([second]),
        "clearing is the autoscaler's"
    );
    cluster.scale(0, 4, &[]).await;
    cluster.wait_for_pods("G", 4).await;
    let pods = cluster.pods_of("G").await;
    let mut indexes: Vec<&str> = pods.iter().map(index_of).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, ["0", "1", "2", "3"]);
    stand_ins.end().await;
}

#[tokio::test]
async fn pods_carry_the_labels_that_the_autoscaler_reads() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let group = Group::new("G")
        .replicas(1, 0, 5)
        .set("/labels", json!({"zone": "a"}));
    let cluster = stand_ins.create(&with_canary([group])).await;
    cluster.wait_for_pods("G", 1).await;
    let pod = &cluster.pods_of("G").await[0];
    let expected = [
        ("ray.io/cluster", "c"),
        ("ray.io/node-type", "worker"),
        ("ray.io/group", "G"),
        ("ray.io/is-ray-node", "yes"),
        ("ray.io/identifier", "c-worker"),
        ("ray.io/worker-group-replica-index", "0"),
        ("zone", "a"),
    ];
    for (name, value) in expected {
        assert_eq!(
            pod.labels().get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    assert!(
        !pod.labels()
            .contains_key("ray.io/worker-group-replica-name")
    );
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let env = container.env.as_ref().unwrap();
    let names: Vec<&str> = env.iter().map(|variable| variable.name.as_str()).collect();
    for name in [
        "RAY_CLUSTER_NAME",
        "RAY_CLOUD_INSTANCE_ID",
        "RAY_NODE_TYPE_NAME",
        "RAY_ADDRESS",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let command = env
        .iter()
        .find(|variable| variable.name == "KUBERAY_GEN_RAY_START_CMD")
        .unwrap();
    let flags: Vec<&str> = command.value.as_ref().unwrap().split_whitespace().collect();
    for flag in ["--block", "--num-cpus=1", "--labels=zone=a"] {
        assert!(flags.contains(&flag), "{flag} is not in {flags:?}");
    }
    stand_ins.end().await;
}

#[tokio::test]
async fn replicas_are_clamped_and_the_number_in_the_spec_stays_as_it_is() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let groups = [
        Group::new("high").replicas(9, 0, 3),
        Group::new("low").replicas(-5, 1, 3),
        Group::new("none").replicas(2, 0, 3).hosts(0),
    ];
    let cluster = stand_ins.create(&with_canary(groups)).await;
    cluster.wait_for_pods("high", 3).await;
    cluster.wait_for_pods("low", 1).await;
    let path = "/spec/workerGroupSpecs/1/minReplicas";
    cluster
        .patch(json!([{"op": "replace", "path": path, "value": 2}]))
        .await;
    cluster.wait_for_pods("low", 2).await;
    let path = "/spec/workerGroupSpecs/0/maxReplicas";
    cluster
        .patch(json!([{"op": "replace", "path": path, "value": 1}]))
        .await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(
        cluster.names_of("high").await.len(),
        3,
        "a lower maximum deletes nobody"
    );
    assert_eq!(cluster.names_of("none").await.len(), 0);
    let groups = &cluster.get().await["spec"]["workerGroupSpecs"];
    assert_eq!(groups[0]["replicas"], 9);
    assert_eq!(groups[1]["replicas"], -5);
    stand_ins.end().await;
}

#[tokio::test]
async fn surplus_pods_stay_until_they_are_named() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("g").replicas(3, 0, 5)]))
        .await;
    let names = cluster.wait_for_pods("g", 3).await;
    cluster.scale(0, 1, &["nobody".to_owned()]).await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(cluster.names_of("g").await, names);
    // Raising from there creates only what is missing to the new number.
    cluster.scale(0, 2, &[]).await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(cluster.names_of("g").await, names);
    cluster.scale(0, 1, &names[1..]).await;
    assert_eq!(cluster.wait_for_pods("g", 1).await, names[..1]);
    stand_ins.end().await;
}

#[tokio::test]
async fn without_autoscaling_named_pods_go_first_and_then_the_surplus() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let manifest = with_canary([Group::new("g").replicas(4, 0, 5)]);
    let manifest = manifest.set("/spec/enableInTreeAutoscaling", false);
    let cluster = stand_ins.create(&manifest).await;
    let names = cluster.wait_for_pods("g", 4).await;
    cluster.scale(0, 2, &names[3..]).await;
    let left = cluster.wait_for_pods("g", 2).await;
    assert!(!left.contains(&names[3]));
    let head = &cluster.pods_of("headgroup").await[0];
    assert_eq!(head.spec.as_ref().unwrap().containers.len(), 1);
    stand_ins.end().await;
}

#[tokio::test]
async fn a_named_pod_is_replaced_when_replicas_are_not_lowered() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("g").replicas(2, 0, 5)]))
        .await;
    let names = cluster.wait_for_pods("g", 2).await;
    cluster.scale(0, 2, &names[..1]).await;
    let after = eventually("a replacement", || async {
        let after = cluster.names_of("g").await;
        (after.len() == 2 && !after.contains(&names[0])).then_some(after)
    })
    .await;
    assert!(after.contains(&names[1]));
    stand_ins.end().await;
}

#[tokio::test]
async fn a_pod_that_cannot_come_back_is_replaced_and_one_that_restarts_is_not() {
    let runtime = Pretend::default();
    let stand_ins = StandIns::start(super::SERVER, runtime.clone()).await;
    let restarting = Group::new("restarting").set("/template/spec/restartPolicy", "Always");
    let manifest = Manifest::new("c")
        .group(
            Group::new("g")
                .replicas(2, 0, 5)
                .set("/template/spec/restartPolicy", "Never"),
        )
        .group(restarting.replicas(1, 0, 5))
        .group(Group::new("canary").replicas(0, 0, 5));
    let cluster = stand_ins.create(&manifest).await;
    let names = cluster.wait_for_pods("g", 2).await;
    let staying = cluster.wait_for_pods("restarting", 1).await;
    cluster.wait_for_status("/readyWorkerReplicas", 3).await;
    let crash = |code| Exit {
        container: "ray".to_owned(),
        code,
        reason: None,
    };
    assert!(runtime.end(&staying[0], crash(1)));
    assert!(runtime.end(&names[0], crash(1)));
    let replaced = |gone: String| {
        let cluster = cluster.clone();
        eventually("a replacement", move || {
            let (cluster, gone) = (cluster.clone(), gone.clone());
            async move {
                let names = cluster.names_of("g").await;
                (names.len() == 2 && !names.contains(&gone)).then_some(names)
            }
        })
    };
    replaced(names[0].clone()).await;
    let evicted = json!({"status": {"phase": "Failed", "reason": "Evicted"}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(evicted));
    cluster
        .pods()
        .patch_status(&names[1], &params, &patch)
        .await
        .unwrap();
    replaced(names[1].clone()).await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(cluster.names_of("restarting").await, staying);
    stand_ins.end().await;
}

#[tokio::test]
async fn pods_of_a_removed_group_are_left_alone_and_adopted_when_it_comes_back() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("g").replicas(2, 0, 5)]))
        .await;
    let names = cluster.wait_for_pods("g", 2).await;
    cluster.wait_for_status("/readyWorkerReplicas", 2).await;
    let group = cluster.get().await["spec"]["workerGroupSpecs"][0].clone();
    cluster
        .patch(json!([{"op": "remove", "path": "/spec/workerGroupSpecs/0"}]))
        .await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(cluster.names_of("g").await, names);
    delete(&cluster, &names[0]).await;
    cluster.wait_for_pods("g", 1).await;
    cluster
        .patch(json!([{"op": "add", "path": "/spec/workerGroupSpecs/0", "value": group}]))
        .await;
    assert!(cluster.wait_for_pods("g", 2).await.contains(&names[1]));
    stand_ins.end().await;
}
