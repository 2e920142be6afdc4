//! Placement groups that could not be, or never became.

use rayscaler::embedded::ray::{Bundle, PlacementGroup, PlacementGroupId, PlacementGroupState};
use rayscaler::model::PlacementStrategy;
use rayscaler::simulator::Stage;

use crate::{amounts, play, served, shrinks, tasks};

fn spread(stage: &Stage, count: usize, of: &[(&str, i64)]) -> PlacementGroupId {
    let bundle = Bundle {
        resources: amounts(of),
        ..Bundle::default()
    };
    stage.ray().create_placement_group(PlacementGroup {
        strategy: PlacementStrategy::StrictSpread,
        bundles: vec![bundle; count],
    })
}

fn is_placed(stage: &Stage, id: PlacementGroupId) -> bool {
    let view = stage.view();
    let mut groups = view.placement_groups.iter();
    groups.any(|group| group.id == id && group.state == PlacementGroupState::Created)
}

const GPUS: &str = "
idleTimeout: 5s
groups:
  - {name: gpu, resources: {CPU: 1, GPU: 1}, max: 2}
  - {name: small, resources: {CPU: 2}, max: 4}
";

#[test]
fn ray_39691_a_gang_that_can_never_be_gets_nothing_and_stops_nobody() {
    play(GPUS, async |stage| {
        spread(stage, 10, &[("GPU", 1)]);
        stage.pass(30_000).await?;
        assert_eq!(stage.group("gpu").await?.replicas, 0);
        let other = tasks(stage, 3, &[("CPU", 2)], Some(3_000));
        served(stage, &[other], 30_000).await?;
        shrinks(stage, ("small", 0), 60_000).await?;
        assert_eq!(stage.group("gpu").await?.replicas, 0);
        Ok(())
    });
}

#[test]
fn kuberay_2385_a_second_gang_waits_for_the_first_within_the_maximum() {
    play(GPUS, async |stage| {
        let gangs = [0; 2].map(|_| spread(stage, 2, &[("CPU", 1), ("GPU", 1)]));
        let placed = |stage: &Stage| gangs.map(|gang| is_placed(stage, gang));
        let is_one = stage
            .wait(40_000, |stage| placed(stage) != [false; 2])
            .await?;
        assert!(is_one, "{:?}", stage.view());
        stage.pass(60_000).await?;
        let first = usize::from(placed(stage)[1]);
        assert!(!placed(stage)[1 - first]);
        assert_eq!(stage.group("gpu").await?.replicas, 2);
        stage.ray().remove_placement_group(gangs[first]);
        let is_other = stage.wait(40_000, |stage| placed(stage)[1 - first]).await?;
        assert!(is_other, "{:?}", stage.view());
        Ok(())
    });
}

/// Nodes need longer to come than they may be idle.
const SLOW: &str = "
idleTimeout: 5s
boot: 20s
groups: [{name: node, resources: {CPU: 4}, max: 4}]
";

#[test]
fn kuberay_3227_a_node_that_waits_for_its_gang_is_not_idle() {
    play(SLOW, async |stage| {
        let first = tasks(stage, 1, &[("CPU", 4)], Some(1_000));
        served(stage, &[first], 60_000).await?;
        let node = stage.group("node").await?.pods;
        stage.pass(2_000).await?;
        let gang = spread(stage, 2, &[("CPU", 4)]);
        let is_there = stage.wait(60_000, |stage| is_placed(stage, gang)).await?;
        assert!(is_there);
        // The node that was there first is still the same one.
        let nodes = stage.group("node").await?.pods;
        assert_eq!(nodes.len(), 2);
        assert!(nodes.contains(&node[0]), "{nodes:?} {node:?}");
        Ok(())
    });
}
