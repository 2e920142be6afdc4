//! The API server with its store, and the sidecar itself.

use crate::support::kube::KubeApi;
use crate::support::ray_process::kill;
use crate::support::wait::eventually;
use crate::town::{cluster, options, plays, sidecars};
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_and_its_store_die_and_come_back() {
    // Its own one; the process that holds it is ended with the test process.
    let api: &'static KubeApi = Box::leak(Box::new(KubeApi::start().await));
    let mut own = options();
    own.api = Some(api);
    let mut world = World::start(cluster().autoscaler("v2"), own).await;
    plays(&mut world, true, async |world| {
        world.api.kill_with_store();
        let what = "word of it";
        eventually(what, async || {
            let metrics = world.admin("metrics").await;
            metrics
                .contains("rayscaler_api_calls_total{verb=\"watch\",status=\"none\"}")
                .then_some(())
        })
        .await;
        world.api.restart().await;
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sidecar_is_killed_with_its_parent_and_goes_on_where_it_was() {
    let mut world = World::start(cluster(), options()).await;
    plays(&mut world, true, async |world| {
        let killed = sidecars(world);
        assert_eq!(killed.len(), 2);
        kill(killed.clone());
        let what = "another sidecar";
        eventually(what, async || {
            let now = sidecars(world);
            let is_new = now.len() == 2 && now.iter().all(|id| !killed.contains(id));
            (is_new && world.admin("livez").await.trim() == "ok").then_some(())
        })
        .await;
    })
    .await;
    world.end().await;
}
