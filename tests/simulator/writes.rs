//! Reads go well and writes do not: what cannot be taken back waits.

use rayscaler::embedded::ray::NodeCondition;
use rayscaler::simulator::{FaultKind, Stage};
use serde_json::{Value, json};

use crate::{actors, play, runs, served, shrinks, tasks};

const MANY: &str = "
idleTimeout: 5s
boot: 1s
groups: [{name: many, resources: {CPU: 1}, max: 40}]
";

/// Returns how many workers have a raylet.
fn raylets(stage: &Stage) -> usize {
    let view = stage.view();
    let alive = view.nodes.iter();
    let alive = alive.filter(|node| !node.is_head && node.condition != NodeCondition::Dead);
    alive.count()
}

#[test]
fn while_no_patch_goes_through_no_second_batch_of_idle_raylets_is_drained() {
    play(MANY, async |stage| {
        let work = tasks(stage, 40, &[("CPU", 1)], None);
        served(stage, &[work], 120_000).await?;
        assert_eq!(raylets(stage), 40);
        stage.let_patch(false).await?;
        stage.ray().cancel(work);
        // A quarter a minute may go.
        stage.pass(200_000).await?;
        assert_eq!(raylets(stage), 30);
        let group = stage.group("many").await?;
        assert_eq!((group.replicas, group.named.len()), (40, 0));

        // Within five seconds the right is seen, and then nothing waits.
        stage.let_patch(true).await?;
        let is_named = stage.wait_for_group(("many", 7_000), |group| group.replicas <= 30);
        assert!(is_named.await?, "{:?}", stage.group("many").await?);
        shrinks(stage, ("many", 0), 600_000).await
    });
}

#[test]
fn a_name_that_is_taken_back_before_the_operator_acts_costs_no_work() {
    play(MANY, async |stage| {
        let busy = actors(stage, 2, &[("CPU", 1)]);
        served(stage, &busy, 60_000).await?;
        stage.begin(FaultKind::OperatorDown, 60_000).await?;
        let pod = stage.group("many").await?.pods[0].clone();
        let name = |names: Vec<String>| {
            move |object: &mut Value| {
                let group = &mut object["spec"]["workerGroupSpecs"][0];
                group["replicas"] = json!(2);
                group["scaleStrategy"] = json!({"workersToDelete": names.clone()});
            }
        };
        stage.edit(name(vec![pod.clone()])).await?;
        let is_told = |stage: &Stage| {
            let view = stage.view();
            let mut nodes = view.nodes.iter();
            nodes.any(|node| node.pod == pod && node.condition == NodeCondition::Draining)
        };
        assert!(stage.wait(5_000, is_told).await?);
        stage.edit(name(Vec::new())).await?;
        stage.pass(200_000).await?;
        assert!(runs(stage, &busy), "{:?}", stage.view().works);
        let group = stage.group("many").await?;
        assert!(group.named.is_empty() && group.pods.contains(&pod));
        Ok(())
    });
}
