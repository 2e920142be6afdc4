//! One pod at the wrong moment stopped all scaling, and here it stops nothing.

use rayscaler::simulator::FaultKind;
use serde_json::json;

use crate::{play, play_seed, served, shrinks, tasks};

const TWO: &str = "
idleTimeout: 5s
groups:
  - {name: small, resources: {CPU: 2}, max: 6}
  - {name: gpu, resources: {CPU: 2, GPU: 1}, max: 4}
";

#[test]
fn ray_60566_a_pod_that_does_not_go_keeps_no_other_group() {
    play(TWO, async |stage| {
        let first = tasks(stage, 4, &[("CPU", 2)], Some(5_000));
        served(stage, &[first], 30_000).await?;
        // One of them is deleted and hangs, for as long as it takes the other group to grow and shrink.
        stage.begin(FaultKind::PodTerminating, 90_000).await?;
        let second = tasks(stage, 2, &[("GPU", 1)], Some(5_000));
        served(stage, &[second], 30_000).await?;
        shrinks(stage, ("gpu", 0), 40_000).await?;
        shrinks(stage, ("small", 0), 90_000).await?;
        let third = tasks(stage, 3, &[("CPU", 2)], Some(5_000));
        served(stage, &[third], 30_000).await
    });
}

#[test]
fn ray_63424_a_raylet_that_dies_while_it_drains_is_forgotten() {
    play(TWO, async |stage| {
        let first = tasks(stage, 3, &[("CPU", 2)], Some(2_000));
        served(stage, &[first], 30_000).await?;
        stage
            .wait_for_group(("small", 60_000), |group| !group.named.is_empty())
            .await?;
        for pod in stage.group("small").await?.pods {
            stage.kill_raylet(&pod);
        }
        let second = tasks(stage, 4, &[("CPU", 2)], Some(5_000));
        served(stage, &[second], 60_000).await?;
        shrinks(stage, ("small", 0), 60_000).await
    });
}

#[test]
fn ray_59550_a_lower_maximum_takes_back_what_has_no_pod_yet() {
    play(TWO, async |stage| {
        stage.begin(FaultKind::OperatorDown, 30_000).await?;
        let all = tasks(stage, 6, &[("CPU", 2)], Some(3_000));
        let asked = stage.wait_for_group(("small", 10_000), |group| group.replicas == 6);
        assert!(asked.await?);
        assert!(stage.group("small").await?.pods.is_empty());
        stage
            .edit(|object| object["spec"]["workerGroupSpecs"][0]["maxReplicas"] = json!(2))
            .await?;
        let lowered = stage.wait_for_group(("small", 20_000), |group| group.replicas <= 2);
        assert!(lowered.await?);
        served(stage, &[all], 120_000).await?;
        shrinks(stage, ("small", 0), 60_000).await
    });
}

#[test]
fn ray_50868_a_lower_maximum_takes_back_pods_that_wait_for_a_machine() {
    play(TWO, async |stage| {
        stage.begin(FaultKind::PodPending, 60_000).await?;
        let all = tasks(stage, 6, &[("CPU", 2)], Some(3_000));
        let there = stage.wait_for_group(("small", 20_000), |group| group.pods.len() == 6);
        assert!(there.await?);
        stage
            .edit(|object| object["spec"]["workerGroupSpecs"][0]["maxReplicas"] = json!(2))
            .await?;
        shrinks(stage, ("small", 2), 40_000).await?;
        served(stage, &[all], 120_000).await?;
        shrinks(stage, ("small", 0), 60_000).await
    });
}

#[test]
fn ray_52264_an_idle_pod_whose_removal_fails_is_removed_later() {
    play(TWO, async |stage| {
        let first = tasks(stage, 3, &[("CPU", 2)], Some(2_000));
        served(stage, &[first], 30_000).await?;
        for kind in [FaultKind::Api409, FaultKind::Api422, FaultKind::ApiReset] {
            stage.begin(kind, 60_000).await?;
        }
        stage.pass(60_000).await?;
        shrinks(stage, ("small", 0), 60_000).await
    });
}

#[test]
fn news_of_pods_that_is_lost_for_good_is_missed_and_asked_for() {
    for seed in 1..5 {
        play_seed(TWO, seed, async |stage| {
            // Half of all news is lost, and nobody is told that it was.
            stage.begin(FaultKind::WatchDropped, 3_600_000).await?;
            for _ in 0..3 {
                let all = tasks(stage, 5, &[("CPU", 2)], Some(5_000));
                served(stage, &[all], 60_000).await?;
                shrinks(stage, ("small", 0), 180_000).await?;
            }
            Ok(())
        });
    }
}

#[test]
fn news_of_pods_that_comes_out_of_order_is_not_believed() {
    for seed in 1..5 {
        play_seed(TWO, seed, async |stage| {
            stage.begin(FaultKind::WatchReordered, 3_600_000).await?;
            for _ in 0..3 {
                let all = tasks(stage, 5, &[("CPU", 2)], Some(5_000));
                served(stage, &[all], 60_000).await?;
                shrinks(stage, ("small", 0), 60_000).await?;
            }
            Ok(())
        });
    }
}
