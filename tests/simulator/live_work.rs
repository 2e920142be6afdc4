//! Live work was taken, and here it stays.

use rayscaler::simulator::FaultKind;

use crate::{actors, play, runs, served};

const GPUS: &str = "
idleTimeout: 5s
groups: [{name: gpu, resources: {CPU: 4, GPU: 1}, max: 8}]
";

#[test]
fn ray_58933_calls_that_time_out_make_no_node_idle() {
    play(GPUS, async |stage| {
        let busy = actors(stage, 4, &[("GPU", 1)]);
        served(stage, &busy, 30_000).await?;
        for kind in [FaultKind::ApiHang, FaultKind::Api500, FaultKind::WatchGone] {
            stage.begin(kind, 90_000).await?;
        }
        stage.pass(150_000).await?;
        let group = stage.group("gpu").await?;
        assert_eq!((group.replicas, group.pods.len()), (4, 4));
        assert!(group.named.is_empty(), "{group:?}");
        assert!(runs(stage, &busy));
        Ok(())
    });
}

#[test]
fn ray_35560_work_that_comes_while_a_node_is_to_go_keeps_it() {
    play(GPUS, async |stage| {
        let first = actors(stage, 2, &[("GPU", 1)]);
        served(stage, &first, 30_000).await?;
        for id in &first {
            stage.ray().cancel(*id);
        }
        // Idle for long enough, but nobody hears of the drains; then there is work again.
        stage.begin(FaultKind::DrainHang, 40_000).await?;
        stage.pass(8_000).await?;
        let second = actors(stage, 2, &[("GPU", 1)]);
        served(stage, &second, 60_000).await?;
        stage.pass(90_000).await?;
        assert!(runs(stage, &second));
        assert!(stage.group("gpu").await?.named.is_empty());
        Ok(())
    });
}
