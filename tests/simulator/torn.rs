//! GCS and raylets answer one after the other, and in between work finds its place: nothing is counted twice.

use rayscaler::embedded::ray::{Bundle, PlacementGroup, PlacementGroupState};
use rayscaler::model::PlacementStrategy;
use rayscaler::simulator::{FaultKind, Stage};

use crate::{amounts, play_seed, served, tasks};

/// How many ways there are for answers to be late.
const SEEDS: std::ops::Range<u64> = 1..13;

const NODES: &str = "
idleTimeout: 60s
boot: 1s
groups: [{name: node, resources: {CPU: 1}, max: 100}]
";

#[test]
fn kuberay_1108_nodes_that_join_one_by_one_take_what_they_came_for() {
    for seed in SEEDS {
        play_seed(NODES, seed, async |stage| {
            stage.begin(FaultKind::PodLate, 60_000).await?;
            let work = tasks(stage, 5, &[("CPU", 1)], None);
            served(stage, &[work], 90_000).await?;
            stage.pass(3_000).await?;
            assert_eq!(stage.sizes("node"), [5], "seed {seed}");
            Ok(())
        });
    }
}

#[test]
fn tasks_that_end_while_other_nodes_join_need_fewer_nodes_and_never_more() {
    for seed in SEEDS {
        play_seed(NODES, seed, async |stage| {
            stage.begin(FaultKind::PodLate, 60_000).await?;
            tasks(stage, 5, &[("CPU", 1)], Some(3_000 + 113 * seed));
            let is_over = |stage: &Stage| {
                let view = stage.view();
                view.works
                    .iter()
                    .all(|work| work.queued + work.running == 0)
            };
            assert!(stage.wait(90_000, is_over).await?);
            let sizes = stage.sizes("node");
            assert_eq!(sizes.first(), Some(&5), "seed {seed}");
            assert!(sizes.is_sorted_by(|a, b| a > b), "seed {seed}: {sizes:?}");
            Ok(())
        });
    }
}

#[test]
fn a_gang_that_has_just_got_its_last_node_asks_for_no_other() {
    for seed in SEEDS {
        play_seed(NODES, seed, async |stage| {
            stage.begin(FaultKind::PodLate, 60_000).await?;
            let bundle = Bundle {
                resources: amounts(&[("CPU", 1)]),
                ..Bundle::default()
            };
            stage.ray().create_placement_group(PlacementGroup {
                strategy: PlacementStrategy::StrictSpread,
                bundles: vec![bundle; 4],
            });
            let is_placed = |stage: &Stage| {
                let view = stage.view();
                let mut groups = view.placement_groups.iter();
                groups.all(|group| group.state == PlacementGroupState::Created)
            };
            assert!(stage.wait(90_000, is_placed).await?);
            stage.pass(3_000).await?;
            assert_eq!(stage.sizes("node"), [4], "seed {seed}");
            Ok(())
        });
    }
}
