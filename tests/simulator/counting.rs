//! Too many nodes, too few, or the same ones again and again.

use rayscaler::simulator::{FaultKind, SimulatorError, Stage};

use crate::{actors, play, served, tasks};

/// Lets time pass, and returns the sizes that a group had, one after the other.
async fn sizes(stage: &mut Stage, name: &str, ms: u64) -> Result<Vec<u64>, SimulatorError> {
    let mut sizes: Vec<u64> = Vec::new();
    stage
        .wait_for_group((name, ms), |group| {
            if sizes.last() != Some(&group.replicas) {
                sizes.push(group.replicas);
            }
            false
        })
        .await?;
    Ok(sizes)
}

const LARGE: &str = "
idleTimeout: 5s
groups: [{name: cpu, resources: {CPU: 15}, max: 30}]
";

#[test]
fn kuberay_859_a_job_that_ends_shrinks_its_cluster_once() {
    play(LARGE, async |stage| {
        let long = tasks(stage, 2, &[("CPU", 1)], Some(120_000));
        served(stage, &[long], 30_000).await?;
        let most = tasks(stage, 300, &[("CPU", 1)], Some(20_000));
        served(stage, &[most], 60_000).await?;
        let sizes = sizes(stage, "cpu", 80_000).await?;
        assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
        assert!(sizes.len() > 1, "{sizes:?}");
        Ok(())
    });
}

const MANY: &str = "
idleTimeout: 5s
groups: [{name: gpu, resources: {CPU: 1, GPU: 1}, max: 100}]
";

#[test]
fn kuberay_1108_pods_that_stay_pending_are_not_asked_for_again() {
    play(MANY, async |stage| {
        stage.begin(FaultKind::PodPending, 240_000).await?;
        let work = tasks(stage, 5, &[("GPU", 1)], Some(3_000));
        let sizes = sizes(stage, "gpu", 235_000).await?;
        assert!(sizes.iter().all(|size| *size <= 5), "{sizes:?}");
        assert!(stage.group("gpu").await?.pods.len() <= 5);
        served(stage, &[work], 90_000).await
    });
}

#[test]
fn ray_52864_actors_that_land_one_by_one_are_not_counted_twice() {
    play(MANY, async |stage| {
        let work = actors(stage, 20, &[("GPU", 1)]);
        // What is in use and what is wanted are told of different moments, while nodes come late.
        stage.begin(FaultKind::PodLate, 20_000).await?;
        for _ in 0..8 {
            stage.begin(FaultKind::GcsStale, 3_000).await?;
            let sizes = sizes(stage, "gpu", 8_000).await?;
            assert!(sizes.iter().all(|size| *size <= 20), "{sizes:?}");
        }
        served(stage, &work, 60_000).await?;
        assert_eq!(stage.group("gpu").await?.replicas, 20);
        Ok(())
    });
}

/// A machine, an image and a model take eight minutes.
const SLOW: &str = "
idleTimeout: 60s
boot: 8m
groups: [{name: llm, resources: {CPU: 8, GPU: 1}, max: 4}]
";

#[test]
fn kuberay_4226_a_node_that_takes_eight_minutes_gets_them() {
    play(SLOW, async |stage| {
        let work = actors(stage, 2, &[("GPU", 1)]);
        stage.pass(10_000).await?;
        let pods = stage.group("llm").await?.pods;
        assert_eq!(pods.len(), 2);
        served(stage, &work, 600_000).await?;
        assert_eq!(stage.group("llm").await?.pods, pods);
        Ok(())
    });
}
