//! A RayService updates its cluster in place: KubeRay writes the whole spec anew, with the replicas and
//! the empty list of the manifest, and drops annotations. Neither pods nor work may be lost by it.

use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::options;
use crate::support::raycluster::Group;
use crate::world::{World, cluster};

/// Writes the cluster as its RayService does when a worker group is added to it.
async fn update_in_place(world: &World, spec: &Value, group: &Group) {
    let api = world.cluster.api();
    let mut spec = spec.clone();
    let groups = spec["workerGroupSpecs"].as_array_mut().unwrap();
    groups.push(group.value().clone());
    let written = world.eventually("a write without conflict", || async {
        let mut object = api.get(&world.cluster.name).await.unwrap();
        object.metadata.annotations = None;
        object.data["spec"] = spec.clone();
        let written = api
            .replace(&world.cluster.name, &PostParams::default(), &object)
            .await;
        written.ok()
    });
    let written = written.await;
    let first = &written.data["spec"]["workerGroupSpecs"][0];
    assert_eq!(first["replicas"], 0, "the manifest's");
    assert!(written.metadata.annotations.unwrap_or_default().is_empty());
}

async fn merge(world: &World, patch: Value) {
    let api = world.cluster.api();
    let patch = Patch::Merge(patch);
    api.patch(&world.cluster.name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn hold(world: &World, pod: &str, finalizers: Value) {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    let pods = world.cluster.pods();
    pods.patch(pod, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_of_a_rayservice_costs_no_pod_and_is_undone() {
    let manifest = cluster("v2", 3).group(Group::new("small"));
    let world = World::start(manifest, options()).await;
    let spec = world.cluster.get().await["spec"].clone();
    merge(
        &world,
        json!({"metadata": {"annotations": {"example.com/ours": "1"}}}),
    )
    .await;
    world.user(&["actor", "one", "two", "--num-cpus=1"]).await;
    let pods = world.pods_of("small", 2).await;
    world.busy(2).await;
    let more = Group::new("more").param("resources", r#"'{"More": 1}'"#);
    update_in_place(&world, &spec, &more).await;
    world.replicas(0, 2).await;
    world
        .user(&[
            "actor",
            "three",
            "--num-cpus=0",
            r#"--resources={"More": 1}"#,
        ])
        .await;
    world.pods_of("more", 1).await;
    assert_eq!(world.pods_of("small", 2).await, pods, "the same pods");
    world.user(&["kill", "one", "two", "three"]).await;
    world.desired(0).await;
    world.pods_of("small", 0).await;
    world.pods_of("more", 0).await;
    world.nothing_named().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_while_a_worker_goes_takes_that_worker_alone() {
    let manifest = cluster("v2", 3).group(Group::new("small"));
    let world = World::start(manifest, options()).await;
    let spec = world.cluster.get().await["spec"].clone();
    world.user(&["actor", "one", "--num-cpus=1"]).await;
    let going = world.pods_of("small", 1).await.remove(0);
    hold(&world, &going, json!(["rayscaler.io/test"])).await;
    world.user(&["actor", "two", "--num-cpus=1"]).await;
    let pods = world.pods_of("small", 2).await;
    world.busy(2).await;
    world.user(&["kill", "one"]).await;
    world
        .eventually("the name of the idle worker", || async {
            world.named().await.contains(&going).then_some(())
        })
        .await;
    update_in_place(&world, &spec, &Group::new("more")).await;
    world.replicas(0, 1).await;
    hold(&world, &going, Value::Null).await;
    let left = world.pods_of("small", 1).await;
    assert!(
        left[0] != going && pods.contains(&left[0]),
        "{left:?} of {pods:?}, {going} goes"
    );
    world.desired(1).await;
    world.nothing_named().await;
    world.user(&["kill", "two"]).await;
    world.pods_of("small", 0).await;
    world.end().await;
}
