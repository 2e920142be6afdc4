//! Seeds through trouble, and failures that users of the stock autoscaler have told of, as scenarios.
#![expect(clippy::unwrap_used, reason = "test")]

mod counting;
mod gangs;
mod live_work;
mod replay;
mod restarts;
mod seeds;
mod soak;
mod spec_edits;
mod stuck;
mod torn;
mod writes;

use rayscaler::embedded::ray::{Actor, Tasks, WorkId};
use rayscaler::model::{Quantity, ResourceMap, ResourceName};
use rayscaler::sandbox::scenario::Scenario;
use rayscaler::simulator::{SimulatorError, Stage, on_stage};

/// Plays `work` on a cluster; what a witness objects to fails the test.
fn play(cluster: &str, work: impl AsyncFnOnce(&mut Stage) -> Result<(), SimulatorError>) {
    play_seed(cluster, 1, work);
}

/// Plays `work` with answers as late as the seed says.
fn play_seed(
    cluster: &str,
    seed: u64,
    work: impl AsyncFnOnce(&mut Stage) -> Result<(), SimulatorError>,
) {
    let text = format!("name: field\nduration: 1s\nevents: []\n{cluster}");
    let scenario = Scenario::parse(&text).unwrap();
    let played = on_stage(&scenario, seed, async |stage| {
        work(stage).await?;
        Ok(stage.problem())
    });
    assert_eq!(played.unwrap(), None, "seed {seed}");
}

/// Returns amounts in whole units.
fn amounts(of: &[(&str, i64)]) -> ResourceMap {
    let amounts = of.iter();
    amounts
        .map(|(name, amount)| (ResourceName::from(*name), Quantity::from_whole(*amount)))
        .collect()
}

/// Submits tasks that run until they are cancelled, or for so long.
fn tasks(stage: &Stage, count: u64, of: &[(&str, i64)], duration_ms: Option<u64>) -> WorkId {
    stage.ray().submit_tasks(Tasks {
        resources: amounts(of),
        count,
        duration_ms,
        ..Tasks::default()
    })
}

/// Creates actors that start again when they are lost.
fn actors(stage: &Stage, count: u32, of: &[(&str, i64)]) -> Vec<WorkId> {
    let actor = Actor {
        resources: amounts(of),
        restarts: true,
        ..Actor::default()
    };
    let made = (0..count).map(|_| stage.ray().create_actor(actor.clone()));
    made.collect()
}

/// Returns whether nothing of this work waits.
fn runs(stage: &Stage, ids: &[WorkId]) -> bool {
    let view = stage.view();
    let runs = |id: &WorkId| {
        let work = view.works.iter().find(|work| work.id == *id);
        work.is_some_and(|work| work.queued == 0 && work.placed_at.is_some())
    };
    ids.iter().all(runs)
}

/// Fails unless all of this work has its place within so many milliseconds.
async fn served(stage: &mut Stage, ids: &[WorkId], ms: u64) -> Result<(), SimulatorError> {
    let is_served = stage.wait(ms, |stage| runs(stage, ids)).await?;
    assert!(is_served, "{:?} {:?}", stage.problem(), stage.view().works);
    Ok(())
}

/// Fails unless a group is down to so many replicas and as many pods within so many milliseconds.
async fn shrinks(
    stage: &mut Stage,
    (name, replicas): (&str, u64),
    ms: u64,
) -> Result<(), SimulatorError> {
    let is_small = stage.wait_for_group((name, ms), |group| {
        group.replicas == replicas && group.pods.len() == usize::try_from(replicas).unwrap()
    });
    let is_small = is_small.await?;
    let group = stage.group(name).await?;
    assert!(is_small, "{:?} {group:?}", stage.problem());
    Ok(())
}
