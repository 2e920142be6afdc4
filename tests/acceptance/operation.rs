//! How clusters are run: tokens, pauses, dry runs, and others who write the same lists.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::options;
use crate::support::raycluster::Group;
use crate::world::{World, cluster};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_a_token_is_scaled() {
    let options = options()
        .env("RAY_AUTH_MODE", "token")
        .env("RAY_AUTH_TOKEN", "a-token-of-the-tests");
    let manifest = cluster("v2", 3).group(Group::new("small"));
    let world = World::start(manifest, options).await;
    world.user(&["actor", "one", "--num-cpus=1"]).await;
    world.pods_of("small", 1).await;
    world.user(&["kill", "one"]).await;
    world.pods_of("small", 0).await;
    assert!(
        world.sidecar_log().contains("drain accepted"),
        "{}",
        world.sidecar_log()
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_while_the_annotation_pauses() {
    let manifest = cluster("v2", 3)
        .set(
            "/metadata/annotations",
            json!({"rayscaler.io/paused": "true"}),
        )
        .group(Group::new("small"));
    let world = World::start(manifest, options()).await;
    world
        .user(&["actor", "one", "--num-cpus=1", "--no-wait"])
        .await;
    let generation = world.generation().await;
    wishes(&world, 1, "paused").await;
    assert_eq!(world.replicas_now(0).await, 0);
    assert_eq!(world.generation().await, generation);
    let annotation = "/metadata/annotations/rayscaler.io~1paused";
    world
        .cluster
        .patch(json!([{"op": "remove", "path": annotation}]))
        .await;
    world.replicas(0, 1).await;
    world.pods_of("small", 1).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_decides_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("rayscaler.yaml");
    let text =
        "apiVersion: rayscaler.io/v1alpha1\nkind: RayscalerConfig\nscaling:\n  dryRun: true\n";
    std::fs::write(&config, text).unwrap();
    let options = options().env("RAYSCALER_CONFIG", config.to_str().unwrap());
    let manifest = cluster("v2", 3).group(Group::new("small").replicas(1, 0, 3));
    let world = World::start(manifest, options).await;
    let generation = world.generation().await;
    wishes(&world, 0, "dry_run").await;
    // A drained raylet would not stay.
    world.idle_for("small", 1, Duration::from_secs(6)).await;
    world
        .user(&["actor", "one", "two", "--num-cpus=1", "--no-wait"])
        .await;
    wishes(&world, 2, "dry_run").await;
    assert_eq!(world.replicas_now(0).await, 1);
    assert_eq!(world.generation().await, generation);
    // With a mistake in the file the last good one stays, and whoever asks is told why.
    std::fs::write(&config, text.replace("true", "7")).unwrap();
    refused(&world, Some("scaling.dryRun: found the number 7")).await;
    wishes(&world, 2, "dry_run").await;
    assert_eq!(world.generation().await, generation);
    std::fs::write(&config, text.replace("true", "false")).unwrap();
    world.desired(2).await;
    refused(&world, None).await;
    world.end().await;
}

/// Waits until this, or nothing, is said to be wrong with the config file.
async fn refused(world: &World, words: Option<&str>) {
    let what = format!("a config file with this mistake: {words:?}");
    world
        .eventually(&what, || async {
            let status: Value = serde_json::from_str(&world.admin("v1/status").await).ok()?;
            let problem = status["config_problem"].as_str();
            let is_right = match (problem, words) {
                (Some(problem), Some(words)) => problem.contains(words),
                (problem, words) => problem.is_none() && words.is_none(),
            };
            is_right.then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_others_stay_until_their_pods_are_gone() {
    let options = options().names_busy();
    let manifest = cluster("v2", 3).group(Group::new("small"));
    let world = World::start(manifest, options).await;
    world.user(&["actor", "one", "two", "--num-cpus=1"]).await;
    let pods = world.pods_of("small", 2).await;
    world.busy(2).await;
    let (theirs, ours) = (&pods[0], &pods[1]);
    finalizers(&world, theirs, json!(["rayscaler.io/test"])).await;
    let named = json!({"workersToDelete": [theirs]});
    let path = "/spec/workerGroupSpecs/0/scaleStrategy";
    world
        .cluster
        .patch(json!([{"op": "add", "path": path, "value": named}]))
        .await;
    world.user(&["kill", "one", "two"]).await;
    world
        .eventually("both names", || async {
            let named = world.named().await;
            (named.contains(ours) && named.contains(theirs)).then_some(())
        })
        .await;
    finalizers(&world, theirs, Value::Null).await;
    world.pods_of("small", 0).await;
    world.desired(0).await;
    world.nothing_named().await;
    world.end().await;
}

/// Waits until the only group is decided to have so many replicas, and this came of it.
async fn wishes(world: &World, replicas: u64, outcome: &str) {
    let what = format!("a decision for {replicas} replicas, {outcome}");
    world
        .eventually(&what, || async {
            let decided = world.decided().await;
            let to = &decided["decision"]["groups"][0]["replicas_to"];
            (*to == replicas && decided["outcome"] == outcome).then_some(())
        })
        .await;
}

async fn finalizers(world: &World, pod: &str, names: Value) {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": names}}));
    let pods = world.cluster.pods();
    pods.patch(pod, &PatchParams::default(), &patch)
        .await
        .unwrap();
}
