//! One group that grows and shrinks: actors, tasks, GPUs, custom resources, `request_resources`.

use std::time::Duration;

use super::options;
use crate::support::raycluster::Group;
use crate::world::{Options, World, cluster};

/// Two actors come one after the other, and go: 0, 1, 2, 1, 0.
pub(super) async fn actors_come_and_go(version: &str, options: Options) {
    let manifest = cluster(version, 3).group(Group::new("small"));
    let world = World::start(manifest, options).await;
    world.desired(0).await;
    world.user(&["actor", "one", "--num-cpus=1"]).await;
    world.desired(1).await;
    world.user(&["actor", "two", "--num-cpus=1"]).await;
    world.desired(2).await;
    world.pods_of("small", 2).await;
    world.user(&["kill", "one"]).await;
    world.desired(1).await;
    world.user(&["kill", "two"]).await;
    world.desired(0).await;
    world.pods_of("small", 0).await;
    world.nothing_named().await;
    let log = world.sidecar_log();
    assert_eq!(log.matches("drain accepted").count(), 2, "{log}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a01_actors_come_and_go() {
    actors_come_and_go("v2", options()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a01_actors_come_and_go_with_v2_off() {
    actors_come_and_go("v1", options()).await;
}

/// One actor is one pod of the only group, however the group is asked for.
async fn one_actor_comes_and_goes(group: Group, wish: &str) {
    let manifest = cluster("v2", 3).group(group);
    let world = World::start(manifest, options()).await;
    world.user(&["actor", "one", wish]).await;
    world.desired(1).await;
    world.pods_of("g", 1).await;
    world.user(&["kill", "one"]).await;
    world.desired(0).await;
    world.pods_of("g", 0).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a02_a_gpu_actor_gets_a_node_with_a_gpu() {
    let group = Group::new("g").param("num-gpus", "1");
    one_actor_comes_and_goes(group, "--num-gpus=1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a04_a_custom_resource_gets_the_group_that_has_it() {
    let group = Group::new("g").param("resources", r#"'{"CustomResource": 1}'"#);
    one_actor_comes_and_goes(group, r#"--resources={"CustomResource": 1}"#).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a09_a_cpu_actor_gets_a_gpu_node_where_there_is_no_other() {
    let group = Group::new("g").param("num-gpus", "1");
    one_actor_comes_and_goes(group, "--num-cpus=1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a05_many_tasks_get_the_maximum_and_no_more() {
    let manifest = cluster("v2", 3600).group(Group::new("small"));
    let world = World::start(manifest, options()).await;
    world.user(&["tasks", "--count=30", "--seconds=1.5"]).await;
    let pods = world.cluster.pods_of("small").await;
    assert_eq!(pods.len(), 3, "{}", world.sidecar_log());
    assert_eq!(world.replicas_now(0).await, 3);
    world.end().await;
}

/// What `request_resources` asks for outlives its driver, and is not given up when it has no work.
pub(super) async fn a_request_outlives_its_driver(version: &str, options: Options) {
    let manifest = cluster(version, 3).group(Group::new("small").replicas(0, 0, 2));
    let world = World::start(manifest, options).await;
    world.user(&["request", "--num-cpus=1"]).await;
    world.desired(1).await;
    world.pods_of("small", 1).await;
    world.idle_for("small", 1, Duration::from_secs(5)).await;
    assert_eq!(world.replicas_now(0).await, 1, "{}", world.sidecar_log());
    assert!(world.named().await.is_empty());
    world.user(&["request", "--num-cpus=0"]).await;
    world.desired(0).await;
    world.pods_of("small", 0).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_a_request_outlives_its_driver() {
    a_request_outlives_its_driver("v2", options()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_a_request_outlives_its_driver_with_v2_off() {
    a_request_outlives_its_driver("v1", options()).await;
}
