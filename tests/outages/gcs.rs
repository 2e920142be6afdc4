//! The GCS, with what it knows in Redis and without.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

use crate::support::raycluster::Manifest;
use crate::support::redis::Redis;
use crate::support::wait::eventually;
use crate::town::{
    ASKED_AGAIN, IDLE, cluster, is_right, kill_gcs, new_head_is_known, options, pids, plays,
};
use crate::world::World;

fn with(redis: &Redis, manifest: Manifest) -> Manifest {
    let options = json!({
        "redisAddress": redis.address,
        "redisPassword": {"value": redis.password},
    });
    manifest.set("/spec/gcsFaultToleranceOptions", options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gcs_dies_and_finds_everything_in_redis() {
    let redis = Redis::start().await;
    let mut world = World::start(with(&redis, cluster()), options()).await;
    plays(&mut world, ASKED_AGAIN, async |world| {
        let before = world.nodes().await;
        kill_gcs(world);
        new_head_is_known(world, &before).await;
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a14_the_head_pod_is_deleted_and_its_successor_goes_on() {
    let redis = Redis::start().await;
    let manifest = with(&redis, cluster().autoscaler("v2"));
    let mut world = World::start(manifest, options()).await;
    plays(&mut world, ASKED_AGAIN, async |world| {
        let before = world.nodes().await;
        let pods = world.cluster.pods();
        let now = DeleteParams::default().grace_period(0);
        pods.delete(&world.head, &now).await.unwrap();
        let old = world.head.clone();
        world.head = eventually("another head pod", async || {
            let names = world.cluster.names_of("headgroup").await;
            names.into_iter().find(|name| *name != old)
        })
        .await;
        new_head_is_known(world, &before).await;
    })
    .await;
    world.end().await;
}

/// Ray loses actors and raylets by design; what counts is that nothing else is lost, and that it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gcs_dies_and_has_forgotten_everything() {
    let world = World::start(cluster(), options()).await;
    world.user(&["actor", "one", "--num-cpus=1"]).await;
    world
        .user(&["actor", "two", "--num-cpus=1", "--no-wait"])
        .await;
    world.pods_of("small", 2).await;
    let before = world.nodes().await;
    kill_gcs(&world);
    eventually("another GCS, and raylets that have joined it", async || {
        let now = world.nodes().await;
        let is_new = |id: &[u8]| before.iter().all(|old| old.node_id != id);
        let new = now.iter().filter(|node| is_new(&node.node_id)).count();
        (new == 3).then_some(())
    })
    .await;
    let idle = Duration::from_secs(IDLE.into());
    is_right(&world, 0, idle).await;
    world
        .user(&["actor", "three", "--num-cpus=1", "--no-wait"])
        .await;
    is_right(&world, 1, Duration::ZERO).await;
    pids(&world, &["three"]).await;
    assert_eq!(world.replicas_peak(), 2, "{}", world.sidecar_log());
    let pods = world.cluster.pods_of("small").await;
    let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names.len(), 1);
    world.end().await;
}
