//! What users allow: minimum, maximum, and the upscaling mode.

use super::options;
use crate::support::raycluster::Group;
use crate::world::{Options, World, cluster};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a06_a_raised_minimum_is_followed_and_leaves_room_for_demand() {
    let manifest = cluster("v2", 60).group(Group::new("small").replicas(1, 0, 3));
    let world = World::start(manifest, options()).await;
    world.desired(1).await;
    world.set_group(0, "minReplicas", 2).await;
    world.replicas(0, 2).await;
    world.desired(2).await;
    world
        .user(&["actor", "one", "two", "three", "--num-cpus=1"])
        .await;
    world.desired(3).await;
    assert_eq!(world.replicas_now(0).await, 3);
    world.pods_of("small", 3).await;
    world.end().await;
}

/// Actors take all that either maximum allows; then the maximum changes.
async fn the_maximum_changes(to: u8, actors: &[&str], options: Options) {
    let manifest = cluster("v2", 60).group(Group::new("small").replicas(1, 1, 2));
    let world = World::start(manifest, options).await;
    let command = [&["actor"], actors, &["--num-cpus=1", "--no-wait"]].concat();
    world.user(&command).await;
    world.replicas(0, 2).await;
    world.pods_of("small", 2).await;
    world.busy(2).await;
    world.set_group(0, "maxReplicas", to.into()).await;
    world.desired(to.into()).await;
    world.replicas(0, to.into()).await;
    world.pods_of("small", to.into()).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_a_raised_maximum_is_used() {
    the_maximum_changes(3, &["one", "two", "three"], options()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_a_lowered_maximum_removes_even_a_node_with_work() {
    let options = options().names_busy();
    the_maximum_changes(1, &["one", "two"], options).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_conservative_upscaling_starts_few_and_ends_with_all() {
    let manifest = cluster("v2", 60)
        .set("/spec/autoscalerOptions/upscalingMode", "Conservative")
        .group(Group::new("small").replicas(0, 0, 10));
    let world = World::start(manifest, options()).await;
    let names: Vec<String> = (0..10).map(|number| format!("actor-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let command = [&["actor"], &*names, &["--num-cpus=1", "--no-wait"]].concat();
    let driver = world.user_starts(&command);
    let first = world
        .eventually("the first replicas", || async {
            Some(world.replicas_now(0).await).filter(|replicas| *replicas > 0)
        })
        .await;
    assert!(first <= 5, "{first} at once\n{}", world.sidecar_log());
    world.finishes(driver, &command).await;
    world.desired(10).await;
    world.pods_of("small", 10).await;
    world.end().await;
}
