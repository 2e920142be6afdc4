//! More than one group, and groups of more than one host.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::options;
use crate::support::raycluster::Group;
use crate::world::{World, cluster};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a08_each_group_has_its_own_idle_timeout() {
    let group = |name, cpus, timeout| {
        Group::new(name)
            .replicas(0, 0, 1)
            .param("num-cpus", cpus)
            .set("/idleTimeoutSeconds", timeout)
    };
    let manifest = cluster("v2", 60)
        .group(group("short", "1", 3))
        .group(group("long", "2", 12));
    let world = World::start(manifest, options()).await;
    world.user(&["actor", "big", "--num-cpus=2"]).await;
    world.user(&["actor", "small", "--num-cpus=1"]).await;
    world.pods_of("short", 1).await;
    world.pods_of("long", 1).await;
    world.desired(2).await;
    world.user(&["kill", "small", "big"]).await;
    world.desired(1).await;
    assert_eq!(world.replicas_now(0).await, 0, "{}", world.sidecar_log());
    assert_eq!(world.replicas_now(1).await, 1, "{}", world.sidecar_log());
    world.desired(0).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_two_hosts_comes_and_goes_as_a_whole() {
    let manifest = cluster("v2", 3).group(Group::new("slice").hosts(2));
    let world = World::start(manifest, options()).await;
    world.user(&["actor", "one", "--num-cpus=1"]).await;
    world.pods_of("slice", 2).await;
    world.desired(2).await;
    world.idle_for("slice", 1, Duration::from_secs(6)).await;
    assert_eq!(world.replicas_now(0).await, 1, "{}", world.sidecar_log());
    assert!(world.named().await.is_empty());
    world.user(&["kill", "one"]).await;
    world.replicas(0, 0).await;
    world.pods_of("slice", 0).await;
    world.nothing_named().await;
    world.end().await;
}

/// Actors take the slice's hosts, one each; no node is there to bind its pods to.
async fn a_slice_that_never_starts(hosts: u8, max: i32, (topology, accelerator): (&str, &str)) {
    let node = json!({
        "cloud.google.com/gke-tpu-topology": topology,
        "cloud.google.com/gke-tpu-accelerator": accelerator,
    });
    let manifest = cluster("v2", 60).group(
        Group::new("slice")
            .replicas(0, 0, max)
            .hosts(hosts.into())
            .param("resources", r#"'{"TPU": 4}'"#)
            .set("/template/spec/nodeSelector", node),
    );
    let world = World::start(manifest, options()).await;
    let names: Vec<String> = (0..hosts).map(|number| format!("actor-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let wish = ["--num-cpus=1", r#"--resources={"TPU": 4}"#, "--no-wait"];
    world.user(&[&["actor"], &*names, &wish].concat()).await;
    world.replicas(0, 1).await;
    world.desired(hosts.into()).await;
    let pods = world.pods_of("slice", hosts.into()).await;
    passes(&world, 3).await;
    assert_eq!(world.pods_of("slice", hosts.into()).await, pods);
    for pod in world.cluster.pods_of("slice").await {
        let phase = pod.status.and_then(|status| status.phase);
        assert_eq!(phase.as_deref(), Some("Pending"));
    }
    assert_eq!(world.replicas_peak(), 1, "{}", world.sidecar_log());
    world.user(&[&["kill"], &*names].concat()).await;
    world.set_group(0, "maxReplicas", 0).await;
    world.pods_of("slice", 0).await;
    world.replicas(0, 0).await;
    world.nothing_named().await;
    world.end().await;
}

/// Waits until the sidecar has looked and decided so many times more.
async fn passes(world: &World, count: usize) {
    let seen = std::sync::Mutex::new(BTreeSet::new());
    let what = format!("{count} passes more");
    world
        .eventually(&what, || async {
            let pass: Value = serde_json::from_str(&world.admin("v1/pass").await).ok()?;
            let mut seen = seen.lock().unwrap();
            seen.insert(pass["at"].as_u64()?);
            // The first one was before.
            (seen.len() > count).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a03_a_tpu_host_that_never_starts_is_asked_for_once_and_goes() {
    a_slice_that_never_starts(1, 3, ("2x2x1", "tpu-v4-podslice")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a03_a_tpu_slice_that_never_starts_is_asked_for_once_and_goes() {
    a_slice_that_never_starts(4, 4, ("4x4", "tpu-v6e-slice")).await;
}

/// Applies the groups as a user does who has them in a file, whoever wrote to them since.
async fn apply(world: &World, groups: &[&Group]) {
    let groups: Vec<&Value> = groups.iter().map(|group| group.value()).collect();
    let patch = Patch::Apply(json!({
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": world.cluster.name},
        "spec": {"workerGroupSpecs": groups},
    }));
    let params = PatchParams::apply("a-user").force();
    let api = world.cluster.api();
    let applied = api.patch(&world.cluster.name, &params, &patch).await;
    let applied = &applied.unwrap().data["spec"]["workerGroupSpecs"];
    for (index, group) in groups.into_iter().enumerate() {
        assert_eq!(applied[index]["replicas"], group["replicas"], "the file's");
    }
}

/// A group is added while another one works, whose `replicas` of 1 the file overwrites with this.
async fn a_group_is_added(replicas: i32) {
    let cpu = Group::new("cpu").replicas(0, 0, 3);
    let world = World::start(cluster("v2", 3).group(cpu.clone()), options()).await;
    world.user(&["actor", "one", "--num-cpus=1"]).await;
    let first = world.pods_of("cpu", 1).await.remove(0);
    world.busy(1).await;
    let cpu = cpu.set("/replicas", replicas);
    let gpu = Group::new("gpu")
        .param("num-cpus", "0")
        .param("num-gpus", "1");
    apply(&world, &[&cpu, &gpu]).await;
    world
        .user(&["actor", "picture", "--num-cpus=0", "--num-gpus=1"])
        .await;
    world.pods_of("gpu", 1).await;
    world.user(&["actor", "two", "--num-cpus=1"]).await;
    let pods = world.pods_of("cpu", 2).await;
    assert!(pods.contains(&first), "{first} of {pods:?}");
    world.user(&["kill", "picture"]).await;
    world.pods_of("gpu", 0).await;
    world.replicas(1, 0).await;
    world.nothing_named().await;
    assert_eq!(world.pods_of("cpu", 2).await, pods, "the same pods");
    assert_eq!(world.replicas_now(0).await, 2, "{}", world.sidecar_log());
    assert_eq!(world.replicas_peak(), 2, "{}", world.sidecar_log());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a12_a_group_that_is_added_is_used() {
    a_group_is_added(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a12_a_group_that_is_added_is_used_though_replicas_are_overwritten() {
    a_group_is_added(0).await;
}
