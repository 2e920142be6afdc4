//! Raylets, the API server with its store, and the sidecar itself.

use std::time::Duration;

use crate::support::kube::KubeApi;
use crate::support::ray_process::kill;
use crate::support::raycluster::{Group, Manifest};
use crate::support::wait::eventually;
use crate::town::{
    IDLE, SURVIVORS, VICTIMS, a_busy_pod, cluster, kill_raylet, options, parent_of, plays, sidecars,
};
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raylets_die_and_their_actors_move_without_a_worker_too_many() {
    let manifest = cluster().autoscaler("v2");
    let mut world = World::start(manifest, options()).await;
    plays(&mut world, VICTIMS, async |world| {
        let pod = a_busy_pod(world).await;
        kill_raylet(world, &pod).await;
        let what = "another pod, and a raylet in every pod";
        eventually(what, async || {
            let pods = world.cluster.names_of("small").await;
            let wish = usize::try_from(world.replicas_now(0).await).unwrap();
            let nodes = world.nodes().await;
            let has_raylet = |pod: &String| nodes.iter().any(|node| node.instance_id == *pod);
            let is_replaced = !pods.contains(&pod) && pods.len() == wish && wish > 0;
            (is_replaced && pods.iter().all(has_raylet)).then_some(())
        })
        .await;
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_and_its_store_die_and_come_back() {
    // Its own one; the process that holds it is ended with the test process.
    let api: &'static KubeApi = Box::leak(Box::new(KubeApi::start().await));
    let mut own = options();
    own.api = Some(api);
    let mut world = World::start(cluster().autoscaler("v2"), own).await;
    plays(&mut world, SURVIVORS, async |world| {
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
async fn the_operator_dies_and_another_one_does_what_was_asked_meanwhile() {
    let mut world = World::start(cluster().autoscaler("v2"), options()).await;
    plays(&mut world, SURVIVORS, async |world| {
        world.stand_ins().stop_operator().await;
        // Whatever is due is asked for while nobody makes or deletes a pod.
        tokio::time::sleep(Duration::from_secs(IDLE.into())).await;
        world.stand_ins().start_operator().await;
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sidecar_is_killed_with_its_parent_and_goes_on_where_it_was() {
    let mut world = World::start(cluster(), options()).await;
    plays(&mut world, SURVIVORS, async |world| {
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

/// One host of each replica has work, and the sidecar is killed again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_replicas_of_two_and_four_hosts_none_goes_while_one_host_is_busy() {
    let group = |name: &str, hosts| {
        let group = Group::new(name).hosts(hosts).replicas(1, 0, 1);
        group.param("resources", &format!("'{{\"{name}\": 1}}'"))
    };
    let manifest = Manifest::new("c")
        .set("/spec/autoscalerOptions/idleTimeoutSeconds", IDLE)
        .autoscaler("v2")
        .group(group("two", 2))
        .group(group("four", 4));
    let world = World::start(manifest, options()).await;
    for name in ["two", "four"] {
        let wish = format!("--resources={{\"{name}\": 1}}");
        world.user(&["actor", name, &wish]).await;
    }
    let long = Duration::from_secs((2 * IDLE).into());
    for (group, hosts) in [("two", 2), ("four", 4)] {
        world.pods_of(group, hosts).await;
        let all = sidecars(&world);
        let parent = parent_of(&all);
        kill(all.into_iter().filter(|id| *id != parent));
        world.idle_for(group, hosts - 1, long).await;
        assert_eq!(world.replicas_now(0).await, 1, "{}", world.sidecar_log());
        assert_eq!(world.replicas_now(1).await, 1, "{}", world.sidecar_log());
        assert!(world.named().await.is_empty(), "{}", world.sidecar_log());
    }
    world.user(&["kill", "two", "four"]).await;
    world.pods_of("two", 0).await;
    world.pods_of("four", 0).await;
    world.end().await;
}
