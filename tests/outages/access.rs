//! The way to the API server: rights that are taken away, tokens that are refused, answers that are late.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::proxy::SlowWay;
use crate::town::{IDLE, cluster, environment, is_right, options, pids, sidecars};
use crate::world::{Options, World};

/// How late the answers are.
const LATE: Duration = Duration::from_secs(1);

/// Returns a world with one actor on one worker.
async fn with_an_actor(options: Options) -> World {
    let world = World::start(cluster().autoscaler("v2"), options).await;
    world.user(&["actor", "one", "--num-cpus=1"]).await;
    is_right(&world, 1, Duration::ZERO).await;
    world
}

/// Waits until metrics and `/v1/status` hold these words.
async fn is_told(world: &World, metric: &str, words: &str) {
    let what = format!("{metric} and {words}");
    world
        .eventually(&what, || async {
            let metrics = world.admin("metrics").await;
            let status = world.admin("v1/status").await;
            let has_metric = metrics.lines().any(|line| line == metric);
            (has_metric && status.contains(words)).then_some(())
        })
        .await;
}

/// Has a second actor wait, and shows that the wish for it comes to nothing.
async fn nothing_is_written_for_a_second_actor(world: &World) {
    let generation = world.generation().await;
    let words = ["actor", "two", "--num-cpus=1", "--no-wait"];
    world.user(&words).await;
    let what = "a pass that has seen both actors";
    world
        .eventually(what, || async {
            let decided = world.decided().await;
            let (decision, summary) = (&decided["decision"], &decided["summary"]);
            let is_seen = summary["pending_requests"] == 1
                || decision["groups"][0]["replicas_to"] == 2
                || decision["mode"] == "frozen";
            (is_seen && decided["outcome"] != "patched").then_some(())
        })
        .await;
    assert_eq!(world.generation().await, generation);
}

/// Shows that all is well again: two workers, then one.
async fn goes_on(world: &World) {
    is_right(world, 2, Duration::ZERO).await;
    is_told(world, "rayscaler_mode{mode=\"normal\"} 1.0", "\"normal\"").await;
    pids(world, &["two"]).await;
    world.user(&["kill", "two"]).await;
    is_right(world, 1, Duration::from_secs(IDLE.into())).await;
}

/// Returns the file by which the sidecar finds the API server.
fn kubeconfig(world: &World) -> PathBuf {
    let mut variables = environment(sidecars(world)[0]);
    let path = variables.find_map(|entry| entry.strip_prefix("KUBECONFIG=").map(PathBuf::from));
    path.unwrap()
}

/// Replaces a file as the kubelet does: in one step.
fn replace(path: &PathBuf, change: impl Fn(&mut Value)) {
    let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut config);
    let next = path.with_extension("next");
    fs::write(&next, config.to_string()).unwrap();
    fs::rename(next, path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_taken_away_and_given_back() {
    let world = with_an_actor(options()).await;
    let before = sidecars(&world);
    let roles: Api<Role> = Api::namespaced(world.cluster.client.clone(), &world.cluster.namespace);
    let role = roles.get("c").await.unwrap();
    let set = async |rules: Value| {
        let patch = Patch::Merge(json!({"rules": rules}));
        let params = PatchParams::default();
        roles.patch("c", &params, &patch).await.unwrap();
    };
    set(json!([])).await;
    let missing = "rayscaler_rbac_missing{verb=\"get\",resource=\"rayclusters\"} 1.0";
    is_told(&world, missing, "403").await;
    is_told(&world, "rayscaler_mode{mode=\"frozen\"} 1.0", "\"frozen\"").await;
    nothing_is_written_for_a_second_actor(&world).await;
    set(serde_json::to_value(role.rules).unwrap()).await;
    goes_on(&world).await;
    assert!(!world.admin("metrics").await.contains(missing));
    assert_eq!(sidecars(&world), before, "it was started again");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_refused_until_the_file_has_the_next_one() {
    // What is 15 s and 2 min by default.
    let mut config = tempfile::NamedTempFile::new().unwrap();
    let text = "apiVersion: rayscaler.io/v1alpha1\nkind: RayscalerConfig\n\
                scaling: {staleAfter: 8s, frozenAfter: 12s}\n";
    config.write_all(text.as_bytes()).unwrap();
    let path = config.path().display().to_string();
    let world = with_an_actor(options().env("RAYSCALER_CONFIG", &path)).await;
    let before = sidecars(&world);
    let (client, namespace) = (world.cluster.client.clone(), &world.cluster.namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
    // A token is good for the account it was made for, not for another one of its name.
    accounts
        .delete("c", &DeleteParams::default())
        .await
        .unwrap();
    let account = serde_json::from_value(json!({"metadata": {"name": "c"}})).unwrap();
    let created = accounts.create(&PostParams::default(), &account).await;
    assert!(
        matches!(created, Ok(_) | Err(kube::Error::Api(_))),
        "{created:?}"
    );
    is_told(&world, "rayscaler_mode{mode=\"no-scale-down\"} 1.0", "401").await;
    is_told(&world, "rayscaler_mode{mode=\"frozen\"} 1.0", "401").await;
    nothing_is_written_for_a_second_actor(&world).await;
    let token = world.api.sidecar_token(namespace, "c").await;
    replace(&kubeconfig(&world), |config| {
        config["users"][0]["user"]["token"] = json!(token);
    });
    goes_on(&world).await;
    assert_eq!(sidecars(&world), before, "it was started again");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_the_api_server_take_a_second() {
    let world = with_an_actor(options()).await;
    let before = sidecars(&world);
    let url = world.api.url();
    let target = url.trim_start_matches("https://").to_owned();
    let way = SlowWay::open(target, LATE).await;
    let goes_by = |address: String| {
        replace(&kubeconfig(&world), move |config| {
            config["clusters"][0]["cluster"]["server"] = json!(address);
        });
    };
    goes_by(format!("https://{}", way.address));
    // The next read finds the new way.
    let log = || world.pods.log(&world.head, "autoscaler");
    let what = "credentials for the API server were read again";
    world
        .eventually(what, || async { log().contains(what).then_some(()) })
        .await;
    world
        .user(&["actor", "two", "--num-cpus=1", "--no-wait"])
        .await;
    is_right(&world, 2, Duration::ZERO).await;
    // A patch that took its second shows once it is answered.
    let quick = "rayscaler_pass_duration_seconds_bucket{phase=\"act\",le=\"0.3\"} ";
    let all = "rayscaler_pass_duration_seconds_count{phase=\"act\"} ";
    let what = "an act that took its time";
    world
        .eventually(what, || async {
            let metrics = world.admin("metrics").await;
            let value = |name: &str| {
                let line = metrics.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|number| number.parse::<f64>().ok())
            };
            (value(quick)? < value(all)?).then_some(())
        })
        .await;
    pids(&world, &["two"]).await;
    world.user(&["kill", "two"]).await;
    is_right(&world, 1, Duration::from_secs(IDLE.into())).await;
    goes_by(url);
    drop(way);
    world
        .user(&["actor", "three", "--num-cpus=1", "--no-wait"])
        .await;
    is_right(&world, 2, Duration::ZERO).await;
    assert_eq!(sidecars(&world), before, "it was started again");
    world.end().await;
}
