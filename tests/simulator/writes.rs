//! Reads go well and writes do not: what cannot be taken back waits.

use rayscaler::embedded::ray::NodeCondition;
use rayscaler::simulator::Stage;

use crate::{play, served, shrinks, tasks};

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
