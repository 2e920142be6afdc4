//! Nodes whose pods are gone, or are being deleted by somebody else.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rayscaler::config::Config;
use rayscaler::embedded::ray::{NodeCondition, PlacementGroupState};
use rayscaler::model::PlacementStrategy::{Pack, Spread, StrictPack, StrictSpread};

use crate::raycluster::{Group, Manifest};
use crate::world::{Sidecar, World, play};

const BOOT: Duration = Duration::from_secs(3);

async fn world(cpus: &str) -> (World, Sidecar) {
    let group = Group::new("small")
        .replicas(0, 0, 6)
        .param("num-cpus", cpus);
    let manifest = Manifest::new("c")
        .set("/spec/autoscalerOptions/idleTimeoutSeconds", 10)
        .group(group);
    let mut world = World::start(manifest, BOOT).await;
    let start = world.autoscaler_starts().await;
    let sidecar = world.sidecar(&start);
    (world, sidecar)
}

fn told(world: &World, sidecar: &Sidecar, kind: &str, outcome: &str) -> Vec<String> {
    let all = sidecar.samples("rayscaler_departures_told_total{", world.clock.now());
    let labels = format!("kind=\"{kind}\",outcome=\"{outcome}\"");
    all.into_iter()
        .filter(|line| line.contains(&labels))
        .collect()
}

fn is_placed(world: &World) -> bool {
    let view = world.ray.view();
    view.placement_groups
        .iter()
        .all(|group| group.state == PlacementGroupState::Created)
}

#[tokio::test(start_paused = true)]
async fn a13_a_vanished_pod_gets_one_replacement_and_its_bundles_move_at_once() {
    let cases = [
        (StrictPack, "2", 1),
        (Pack, "2", 1),
        (StrictSpread, "1", 2),
        (Spread, "1", 2),
    ];
    for (strategy, cpus, pods) in cases {
        play(async {
            let (world, sidecar) = world(cpus).await;
            world.gang(strategy, &["CPU=1", "CPU=1"]);
            world.until_workers(pods).await;
            world.until("the bundles", async || is_placed(&world)).await;
            let old = world.workers().await;
            for name in &old {
                world.delete(name, 0).await;
            }
            let noticed = world.until("the loss", async || !is_placed(&world)).await;
            assert!(noticed <= 200, "{strategy:?}: after {noticed} ms");
            world.until_workers(pods).await;
            let placed = world.until("the bundles", async || is_placed(&world)).await;
            assert!(
                placed <= 200,
                "{strategy:?}: {placed} ms after the replacement"
            );
            // As long as the GCS would have taken, and the idle timeout.
            world.pass_ms(30_000).await;
            let new = world.workers().await;
            assert!(new.len() == pods && new.iter().all(|name| !old.contains(name)));
            assert_eq!(
                world.asked_max(),
                i64::try_from(pods).unwrap(),
                "{strategy:?}"
            );
            let told = told(&world, &sidecar, "gone", "told");
            assert!(
                told.len() == 1 && told[0].ends_with(&format!(" {pods}")),
                "{told:?}"
            );
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn switched_off_nobody_is_told() {
    play(async {
        let group = Group::new("small").replicas(1, 1, 6);
        let mut world = World::start(Manifest::new("c").group(group), BOOT).await;
        let start = world.autoscaler_starts().await;
        let mut config = Config::default();
        config.ray.tell_lost_nodes = false;
        let sidecar = world.sidecar_with(&start, config);
        world.until_workers(1).await;
        world.delete(&world.workers().await[0], 0).await;
        world.pass_ms(10_000).await;
        let view = world.ray.view();
        let lost = |node: &&_| matches!(node, NodeCondition::Lost);
        let conditions: Vec<NodeCondition> = view.nodes.iter().map(|node| node.condition).collect();
        assert_eq!(conditions.iter().filter(lost).count(), 1, "{conditions:?}");
        let all = sidecar.samples("rayscaler_departures_told_total{", world.clock.now());
        assert!(all.is_empty(), "{all:?}");
    })
    .await;
}

/// Has one pod work, and takes the label off that says whose it is; returns its name.
async fn loses_its_label(world: &World) -> String {
    world.tasks("CPU=1", 1);
    world.until_workers(1).await;
    world.pass_ms(1_000).await;
    let name = world.workers().await.remove(0);
    let patch = serde_json::json!({"metadata": {"labels": {"ray.io/cluster": "other"}}});
    let parameters = kube::api::PatchParams::default();
    world
        .pods()
        .patch(&name, &parameters, &kube::api::Patch::Merge(patch))
        .await
        .unwrap();
    name
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_lost_its_label_is_not_gone() {
    play(async {
        let (world, sidecar) = world("1").await;
        let name = loses_its_label(&world).await;
        world.pass_ms(3_000).await;
        let node = world
            .ray
            .view()
            .nodes
            .into_iter()
            .find(|node| node.pod == name);
        assert_eq!(node.unwrap().condition, NodeCondition::Busy);
        assert!(!told(&world, &sidecar, "gone", "still_there").is_empty());
        assert!(told(&world, &sidecar, "gone", "told").is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_lost_its_label_is_asked_about_for_a_while_and_then_holds_nothing_up() {
    play(async {
        let (world, sidecar) = world("1").await;
        loses_its_label(&world).await;
        // What the operator makes in its place waits for its work, which may be lost for all we know.
        world.pass_ms(290_000).await;
        assert_eq!(world.replicas().await, 1);
        assert_eq!(world.workers().await.len(), 2);
        world.pass_ms(60_000).await;
        assert_eq!(world.replicas().await, 0);
        let asked = told(&world, &sidecar, "gone", "still_there");
        world.pass_ms(600_000).await;
        assert_eq!(told(&world, &sidecar, "gone", "still_there"), asked);
        assert_eq!(world.ray.view().works[0].running, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_being_deleted_is_drained_once_with_its_deadline() {
    play(async {
        let (world, sidecar) = world("1").await;
        world.tasks("CPU=1", 1);
        world.until_workers(1).await;
        world.pass_ms(1_000).await;
        let name = world.workers().await.remove(0);
        // Its raylet hears of it only from us.
        world.deaf.store(true, Ordering::Relaxed);
        world.delete(&name, 20).await;
        world
            .until("a drain", async || {
                let view = world.ray.view();
                let node = view.nodes.iter().find(|node| node.pod == name);
                node.unwrap().condition == NodeCondition::Draining
            })
            .await;
        world.pass_ms(60_000).await;
        let told = told(&world, &sidecar, "leaving", "told");
        assert!(told.len() == 1 && told[0].ends_with(" 1"), "{told:?}");
        assert_eq!(world.workers().await.len(), 1);
        assert_eq!(world.ray.view().works[0].running, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_is_replaced_while_it_is_still_there_and_once() {
    play(async {
        let (world, _sidecar) = world("1").await;
        world.tasks("CPU=1", 2);
        world.until_workers(2).await;
        world.pass_ms(1_000).await;
        let old = world.workers().await.remove(0);
        // It ignores the request to end, as work that saves its state does.
        world.delete(&old, 100).await;
        let count = async || world.pods_of("worker").await.len();
        let passed = world
            .until("the new pod", async || count().await == 3)
            .await;
        assert!(passed < 5_000, "{passed} ms");
        world
            .until("the number to go back", async || {
                world.replicas().await == 2
            })
            .await;
        world.until_workers(2).await;
        world.pass_ms(200_000).await;
        assert_eq!((count().await, world.asked_max()), (2, 3));
        assert!(!world.workers().await.contains(&old));
        assert_eq!(world.ray.view().works[0].running, 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_raylet_died_is_replaced_by_the_operator_and_by_nobody_else() {
    play(async {
        let (world, _sidecar) = world("1").await;
        world.tasks("CPU=1", 1);
        world.until_workers(1).await;
        world.pass_ms(1_000).await;
        let old = world.workers().await.remove(0);
        let finalizers = async |names: &[&str]| {
            let patch = serde_json::json!({"metadata": {"finalizers": names}});
            let parameters = kube::api::PatchParams::default();
            let patch = kube::api::Patch::Merge(patch);
            world.pods().patch(&old, &parameters, &patch).await.unwrap();
        };
        // The operator deletes a pod that has ended; a machine may take its time to let it go.
        finalizers(&["tests/slow"]).await;
        let view = world.ray.view();
        let node = view.nodes.iter().find(|node| node.pod == old).unwrap();
        world.ray.kill_node(node.id);
        world
            .until("the deletion", async || world.workers().await.is_empty())
            .await;
        world.pass_ms(5_000).await;
        finalizers(&[]).await;
        world.until_workers(1).await;
        world.pass_ms(5_000).await;
        assert_eq!(world.asked_max(), 1);
        assert_eq!(world.pods_of("worker").await.len(), 1);
        assert_eq!(world.ray.view().works[0].running, 1);
    })
    .await;
}
