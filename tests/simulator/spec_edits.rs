//! Others write too: groups that go, bounds that change, replicas that are set back.

use rayscaler::simulator::FaultKind;
use serde_json::{Value, json};

use crate::{actors, play, play_seed, runs, served, shrinks, tasks};

const TWO: &str = "
idleTimeout: 5s
groups:
  - {name: old, resources: {CPU: 2, GPU: 1}, max: 4}
  - {name: small, resources: {CPU: 2}, max: 6}
";

fn specs(object: &mut Value) -> &mut Vec<Value> {
    object["spec"]["workerGroupSpecs"].as_array_mut().unwrap()
}

#[test]
fn ray_64177_a_group_that_was_removed_is_no_matter_even_after_a_restart() {
    play(TWO, async |stage| {
        let first = tasks(stage, 2, &[("GPU", 1)], Some(3_000));
        served(stage, &[first], 30_000).await?;
        shrinks(stage, ("old", 0), 60_000).await?;
        stage.edit(|object| drop(specs(object).remove(0))).await?;
        let second = tasks(stage, 3, &[("CPU", 2)], Some(3_000));
        served(stage, &[second], 30_000).await?;
        stage.begin(FaultKind::SidecarKilled, 2_000).await?;
        shrinks(stage, ("small", 0), 60_000).await?;
        let third = tasks(stage, 3, &[("CPU", 2)], Some(3_000));
        served(stage, &[third], 30_000).await
    });
}

#[test]
fn kuberay_1739_a_group_that_goes_with_its_nodes_at_work_stops_no_other() {
    play(TWO, async |stage| {
        let busy = actors(stage, 2, &[("GPU", 1)]);
        served(stage, &busy, 30_000).await?;
        stage.edit(|object| drop(specs(object).remove(0))).await?;
        let second = tasks(stage, 4, &[("CPU", 2)], Some(3_000));
        served(stage, &[second], 40_000).await?;
        shrinks(stage, ("small", 0), 60_000).await?;
        // The operator leaves its pods alone, and so does everybody.
        assert!(runs(stage, &busy));
        Ok(())
    });
}

#[test]
fn kuberay_4568_changed_bounds_hold_within_a_pass_or_two() {
    play(TWO, async |stage| {
        stage
            .edit(|object| {
                specs(object)[1]["minReplicas"] = json!(3);
                specs(object)[1]["maxReplicas"] = json!(4);
            })
            .await?;
        let is_raised = stage.wait_for_group(("small", 15_000), |group| group.replicas == 3);
        assert!(is_raised.await?);
        let many = tasks(stage, 6, &[("CPU", 2)], Some(20_000));
        let is_full = stage.wait_for_group(("small", 15_000), |group| group.replicas == 4);
        assert!(is_full.await?);
        stage
            .edit(|object| specs(object)[1]["minReplicas"] = json!(0))
            .await?;
        served(stage, &[many], 60_000).await?;
        shrinks(stage, ("small", 0), 60_000).await
    });
}

#[test]
fn kuberay_1769_another_writer_of_replicas_costs_no_running_work() {
    play(TWO, async |stage| {
        let busy = actors(stage, 4, &[("CPU", 2)]);
        served(stage, &busy, 30_000).await?;
        for _ in 0..6 {
            stage
                .edit(|object| specs(object)[1]["replicas"] = json!(0))
                .await?;
            stage.pass(7_000).await?;
            assert!(runs(stage, &busy));
        }
        let is_settled = stage.wait_for_group(("small", 30_000), |group| {
            group.replicas == 4 && group.pods.len() == 4
        });
        assert!(is_settled.await?);
        Ok(())
    });
}

/// A node is always there, and keeps the shape that it was made with.
const KEPT: &str = "
idleTimeout: 5s
boot: 2s
groups: [{name: node, resources: {CPU: 2}, min: 1, max: 4}]
";

/// Has new nodes of the first group offer eight processors and an accelerator, said in one of three places.
fn enlarge(object: &mut Value, place: &str) {
    let group = &mut specs(object)[0];
    let (cpus, gpus) = (json!("8"), json!("1"));
    let (mut resources, mut params, mut limits) = (json!({}), json!({}), json!({}));
    match place {
        "resources" => resources = json!({"CPU": cpus, "GPU": gpus}),
        "rayStartParams" => params = json!({"num-cpus": cpus, "num-gpus": gpus}),
        _ => limits = json!({"cpu": cpus, "nvidia.com/gpu": gpus}),
    }
    group["resources"] = resources;
    group["rayStartParams"] = params;
    group["template"]["spec"]["containers"][0]["resources"] = json!({"limits": limits});
}

#[test]
fn older_nodes_of_an_edited_group_tell_nothing_of_new_ones_even_after_a_restart() {
    let killed = Some(FaultKind::SidecarKilled);
    let clock = Some(FaultKind::SidecarClock);
    // A clock that is behind, and one that is ahead.
    for (seed, trouble) in [(1, None), (1, killed), (8, clock), (1, clock)] {
        for place in ["resources", "rayStartParams", "limits"] {
            play_seed(KEPT, seed, async |stage| {
                let busy = actors(stage, 1, &[("CPU", 2)]);
                served(stage, &busy, 30_000).await?;
                let is_edited_first = trouble == killed;
                if is_edited_first {
                    stage.edit(|object| enlarge(object, place)).await?;
                }
                if let Some(trouble) = trouble {
                    let ms = if trouble == FaultKind::SidecarClock {
                        3_600_000
                    } else {
                        2_000
                    };
                    stage.begin(trouble, ms).await?;
                    stage.pass(5_000).await?;
                }
                if !is_edited_first {
                    stage.edit(|object| enlarge(object, place)).await?;
                }
                for of in [[("CPU", 8)], [("GPU", 1)]] {
                    let work = tasks(stage, 2, &of, Some(5_000));
                    let is_served = stage.wait(60_000, |stage| runs(stage, &[work])).await?;
                    assert!(is_served, "{seed} {trouble:?} {place} {of:?}");
                }
                assert!(runs(stage, &busy));
                Ok(())
            });
        }
    }
}
