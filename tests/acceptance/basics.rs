//! One group that grows and shrinks: actors, tasks, GPUs, custom resources, `request_resources`.

use crate::support::raycluster::{Group, Manifest};
use crate::world::{Options, World};

/// A cluster with one group of one-processor workers and a short idle time.
fn one_group(version: &str, group: Group) -> Manifest {
    let manifest = Manifest::new("c")
        .set("/spec/autoscalerOptions/idleTimeoutSeconds", 3)
        .group(group);
    if version.is_empty() {
        manifest
    } else {
        manifest.autoscaler(version)
    }
}

async fn two_actors_come_and_go(version: &str, options: Options) {
    let world = World::start(
        one_group(version, Group::new("small").replicas(0, 0, 3)),
        options,
    )
    .await;
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
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a01_actors_come_and_go() {
    two_actors_come_and_go("v2", Options::default()).await;
}
