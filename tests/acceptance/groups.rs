//! More than one group, and groups of more than one host.

use std::time::Duration;

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
