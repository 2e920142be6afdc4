//! A sidecar that is killed at any moment, and the next one in the same pod.

use std::time::Duration;

use crate::raycluster::{Group, Manifest};
use crate::world::{World, play};

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
