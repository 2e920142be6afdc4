//! A sidecar that is killed at any moment, and the next one in the same pod.

use std::time::Duration;

use rayscaler::model::{ANNOTATION_INTENT, INTENT_BYTES_MAX};
use serde_json::json;

use crate::raycluster::{Group, Manifest};
use crate::world::{World, annotations, play};

const BOOT: Duration = Duration::from_secs(2);

fn manifest() -> Manifest {
    let group = Group::new("small").replicas(0, 0, 20);
    Manifest::new("c")
        .set("/spec/autoscalerOptions/idleTimeoutSeconds", 3)
        .group(group)
}

async fn workers_to_delete(world: &World) -> usize {
    let raycluster = world.raycluster().await;
    let list = &raycluster["spec"]["workerGroupSpecs"][0]["scaleStrategy"]["workersToDelete"];
    list.as_array().map_or(0, Vec::len)
}

/// Grows from two workers to five and shrinks to none, while the first sidecar is killed `polls`
/// looks after the growth, or the shrinking, was due; returns whether it lived that long.
async fn grows_and_shrinks(polls: u64, kills_while_shrinking: bool) -> bool {
    let mut world = World::start(manifest(), BOOT).await;
    let start = world.autoscaler_starts().await;
    let sidecar = world.sidecar(&start);
    let some = world.tasks("CPU=1", 2);
    world.until_workers(2).await;
    if !kills_while_shrinking {
        sidecar.cut_after(polls);
    }
    let more = world.tasks("CPU=1", 3);
    // The second one starts when the first is gone, or else when all is done.
    let mut second = None;
    for _ in 0..500 {
        world.pass_ms(10).await;
        if sidecar.is_over() && second.is_none() {
            second = Some(world.sidecar(&start));
        }
    }
    sidecar.cut_after(u64::MAX);
    if sidecar.is_over() && second.is_none() {
        second = Some(world.sidecar(&start));
    }
    world.until_workers(5).await;
    assert_eq!(world.asked_max(), 5, "killed after {polls} looks");
    world.ray.cancel(some);
    world.ray.cancel(more);
    world.pass_ms(2_990).await;
    if kills_while_shrinking {
        sidecar.cut_after(polls);
    }
    for _ in 0..300 {
        world.pass_ms(10).await;
        if sidecar.is_over() && second.is_none() {
            second = Some(world.sidecar(&start));
        }
    }
    sidecar.cut_after(u64::MAX);
    if sidecar.is_over() && second.is_none() {
        second = Some(world.sidecar(&start));
    }
    world.until_workers(0).await;
    let what = "a cleared list";
    world
        .until(what, async || workers_to_delete(&world).await == 0)
        .await;
    assert_eq!(world.replicas().await, 0, "killed after {polls} looks");
    assert_eq!(world.asked_max(), 5, "killed after {polls} looks");
    second.is_none()
}

/// Kills at each moment, until it lives through all of it.
async fn killed_at_any_moment(kills_while_shrinking: bool) {
    let mut polls = 1;
    let mut kills = 0;
    while !grows_and_shrinks(polls, kills_while_shrinking).await {
        kills += 1;
        polls += 1;
    }
    assert!(kills >= 10, "{kills} kills");
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_moment_of_growth_it_asks_for_nothing_twice() {
    play(killed_at_any_moment(false)).await;
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_moment_of_shrinking_it_forgets_no_deletion() {
    play(killed_at_any_moment(true)).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_a_scale_up_does_not_scale_up_twice() {
    // In the stock sidecar ten and five more become fifteen and five more.
    for wipe in [None, Some("gone"), Some("{]"), Some("{\"v\":9,\"at\":0}")] {
        play(async {
            let mut world = World::start(manifest(), BOOT).await;
            let start = world.autoscaler_starts().await;
            let first = world.sidecar(&start);
            world.tasks("CPU=1", 10);
            world.until_workers(10).await;
            world.tasks("CPU=1", 5);
            world
                .until("the patch", async || world.replicas().await == 15)
                .await;
            let stands = annotations(&world.raycluster().await).remove(ANNOTATION_INTENT);
            let text = stands.unwrap();
            assert!(
                text.len() <= INTENT_BYTES_MAX && text.contains("\"asked\":{\"small\":[15,"),
                "{text}"
            );
            first.kill();
            let path = "/metadata/annotations/rayscaler.io~1intent";
            match wipe {
                None => {}
                Some("gone") => world.patch(json!([{"op": "remove", "path": path}])).await,
                Some(text) => {
                    world
                        .patch(json!([{"op": "add", "path": path, "value": text}]))
                        .await;
                }
            }
            let second = world.sidecar(&start);
            world.until_workers(15).await;
            world.pass_ms(15_000).await;
            assert_eq!((world.asked_max(), world.workers().await.len()), (15, 15));
            let snapshot = second.inside.snapshot().unwrap();
            let is_named = snapshot
                .problems
                .iter()
                .any(|it| it.code == "intent_unreadable");
            assert_eq!(is_named, wipe.is_some_and(|text| text.starts_with('{')));
            let memory = second.inside.last_pass().unwrap().memory;
            let is_known = memory.scaled_up_at.contains_key(&"small".into());
            assert_eq!(is_known, wipe.is_none());
            // Everybody got what was asked for.
            assert!(memory.asked.is_empty());
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_nothing_changes() {
    play(async {
        let mut world = World::start(manifest(), BOOT).await;
        let start = world.autoscaler_starts().await;
        let sidecar = world.sidecar(&start);
        world.tasks("CPU=1", 2);
        world.until_workers(2).await;
        world.pass_ms(5_000).await;
        let patches = || sidecar.patches(world.clock.now());
        let before = patches();
        assert_eq!(before.len(), 1, "{before:?}");
        world.pass_ms(120_000).await;
        assert_eq!(patches(), before);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_was_told_to_finish_keeps_its_time_though_the_sidecar_is_killed() {
    play(async {
        let mut world = World::start(manifest(), BOOT).await;
        let start = world.autoscaler_starts().await;
        let first = world.sidecar(&start);
        world.tasks("CPU=1", 2);
        world.until_workers(2).await;
        // Their raylets run, and have work.
        world.pass_ms(5_000).await;
        let path = "/spec/workerGroupSpecs/0/maxReplicas";
        world
            .patch(json!([{"op": "replace", "path": path, "value": 1}]))
            .await;
        let lowered = async || world.replicas().await == 1;
        world.until("lowered replicas", lowered).await;
        first.kill();
        let _second = world.sidecar(&start);
        // Nearly all of the thirty seconds that a node with work is given.
        for _ in 0..28 {
            world.pass_ms(1_000).await;
            assert_eq!(workers_to_delete(&world).await, 0);
            assert_eq!(world.workers().await.len(), 2);
        }
        world.until_workers(1).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_nobody_needs_any_more_are_given_up_before_they_run_though_the_sidecar_was_killed()
 {
    play(async {
        // None of them runs before this test is over.
        let mut world = World::start(manifest(), Duration::from_secs(300)).await;
        let start = world.autoscaler_starts().await;
        let first = world.sidecar(&start);
        let work = world.tasks("CPU=1", 10);
        let asked = async || world.workers().await.len() == 10;
        world.until("ten pods", asked).await;
        world.pass_ms(5_000).await;
        first.kill();
        world.ray.cancel(work);
        let second = world.sidecar(&start);
        world.pass_ms(25_000).await;
        assert_eq!(
            (world.replicas().await, world.workers().await.len()),
            (10, 10)
        );
        let gone = async || world.workers().await.is_empty();
        let passed_ms = world.until("no pods", gone).await;
        assert!(passed_ms < 15_000, "{passed_ms}");
        assert_eq!(world.replicas().await, 0);
        // A third one knows no more of them than this one: they are gone.
        second.kill();
        let _third = world.sidecar(&start);
        world.pass_ms(60_000).await;
        assert_eq!((world.replicas().await, world.asked_max()), (0, 10));
        let nodes = world.ray.view().nodes;
        assert!(nodes.iter().all(|node| node.is_head), "{nodes:?}");
    })
    .await;
}
