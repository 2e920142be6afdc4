//! Head, GCS and API server came back, and the autoscaler did not.

use rayscaler::simulator::FaultKind;

use crate::{actors, play, play_seed, runs, served, shrinks, tasks};

const SMALL: &str = "
idleTimeout: 5s
groups: [{name: small, resources: {CPU: 2}, max: 6}]
";

#[test]
fn kuberay_4720_a_head_that_restarts_four_times_leaves_nothing_behind() {
    play(SMALL, async |stage| {
        for _ in 0..4 {
            let work = tasks(stage, 2, &[("CPU", 2)], Some(2_000));
            served(stage, &[work], 60_000).await?;
            stage.begin(FaultKind::GcsReplaced, 5_000).await?;
            stage.pass(15_000).await?;
        }
        let work = tasks(stage, 4, &[("CPU", 2)], Some(3_000));
        served(stage, &[work], 60_000).await?;
        shrinks(stage, ("small", 0), 90_000).await
    });
}

#[test]
fn ray_54353_a_head_that_recovers_what_it_knew_is_scaled_as_before() {
    play(SMALL, async |stage| {
        let busy = actors(stage, 2, &[("CPU", 2)]);
        served(stage, &busy, 30_000).await?;
        stage.begin(FaultKind::GcsStopped, 30_000).await?;
        stage.pass(35_000).await?;
        let more = actors(stage, 2, &[("CPU", 2)]);
        served(stage, &more, 40_000).await?;
        assert!(runs(stage, &busy));
        for id in &more {
            stage.ray().cancel(*id);
        }
        shrinks(stage, ("small", 2), 60_000).await?;
        assert!(runs(stage, &busy));
        Ok(())
    });
}

#[test]
fn kuberay_2324_a_token_that_nobody_knows_any_more_ends_nothing() {
    play(SMALL, async |stage| {
        let busy = actors(stage, 2, &[("CPU", 2)]);
        served(stage, &busy, 30_000).await?;
        stage.begin(FaultKind::Api401, 120_000).await?;
        stage.begin(FaultKind::Api403, 60_000).await?;
        stage.pass(120_000).await?;
        assert!(runs(stage, &busy));
        let more = tasks(stage, 2, &[("CPU", 2)], Some(3_000));
        served(stage, &[more], 60_000).await?;
        shrinks(stage, ("small", 2), 60_000).await
    });
}

#[test]
fn an_old_head_that_lives_on_writes_nothing_and_takes_no_live_work() {
    for seed in 1..7 {
        play_seed(SMALL, seed, async |stage| {
            let first = actors(stage, 2, &[("CPU", 2)]);
            served(stage, &first, 30_000).await?;
            // Half of the time the old sidecar sees neither that its pod is gone nor that somebody else writes.
            if seed % 2 == 0 {
                stage.begin(FaultKind::WatchSilent, 30_000).await?;
            }
            stage.begin(FaultKind::HeadReplaced, 120_000).await?;
            stage.pass(40_000).await?;
            let busy = actors(stage, 4, &[("CPU", 2)]);
            served(stage, &busy, 60_000).await?;
            // The first ones are there where the GCS lives on.
            for id in first {
                stage.ray().cancel(id);
            }
            shrinks(stage, ("small", 4), 90_000).await?;
            assert!(runs(stage, &busy));
            Ok(())
        });
    }
}
