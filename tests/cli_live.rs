//! `status` and `explain` as they are started, asking a real admin port of this process.
//!
//! What they print stands in `data/live/`; with `RAYSCALER_TEST_BLESS=1` the files are written anew.
#![cfg(feature = "sidecar")]
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rayscaler::admin::{self, AdminState, ClusterStatus, LastPass, SourceProblem};
use rayscaler::config::Config;
use rayscaler::engine::Engine;
use rayscaler::model::{NodeStatus, PlacementStrategy, Problem, ReplicaBounds, SkippedGroup};
use rayscaler::report::Metrics;
use support::builders::{Cluster, NOW, group, labels, resources, seen_before};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::watch;

const LATER_MS: u64 = 300;

/// A served admin port.
struct Port {
    state: Arc<AdminState>,
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Port {
    async fn start(configure: impl FnOnce(AdminState) -> AdminState) -> Self {
        let now = Arc::new(|| NOW.plus_ms(LATER_MS));
        let state = AdminState::new(Metrics::new(), now, 1_000).of_cluster("default", "demo");
        let state = Arc::new(configure(state));
        state.set_config(&serde_json::to_string(&Config::default()).unwrap());
        let (stop, stopped) = watch::channel(false);
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        tokio::spawn(admin::run(free, Arc::clone(&state), stopped));
        let mut listening = state.listening();
        let bound = listening.wait_for(Option::is_some);
        let bound = tokio::time::timeout(Duration::from_secs(30), bound).await;
        let address = bound.unwrap().unwrap().unwrap();
        Self {
            state,
            address,
            _stop: stop,
        }
    }

    async fn serving(cluster: &Cluster) -> Self {
        let port = Self::start(|state| state).await;
        port.state.decided(pass(cluster));
        port
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rayscaler"));
        command.args(arguments).env_clear().kill_on_drop(true);
        command.arg(format!("--address=http://{}", self.address));
        command
    }

    async fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    async fn success(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), error.as_str()), (Some(0), ""));
        text(&output.stdout)
    }

    /// Returns exit code and standard error.
    async fn failure(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.output(arguments).await;
        (output.status.code().unwrap(), text(&output.stderr))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn pass(cluster: &Cluster) -> LastPass {
    let mut snapshot = cluster.snapshot.clone();
    snapshot.sort();
    let engine = Engine::default();
    let history = seen_before(&engine, &snapshot, (&cluster.history, cluster.now));
    let decision = engine.decide(&snapshot, &history, cluster.now);
    LastPass {
        at: cluster.now,
        outcome: "patched".to_owned(),
        outcome_detail: String::new(),
        is_dry_run: false,
        snapshot: Arc::new(snapshot),
        decision: Arc::new(decision),
        memory: Arc::new(history),
    }
}

/// A cluster in which a bit of everything is going on.
fn busy() -> Cluster {
    let mut small = group("small", "CPU=2");
    small.bounds = ReplicaBounds { min: 0, max: 4 };
    let mut gpu = group("gpu", "CPU=8 GPU=1");
    gpu.bounds = ReplicaBounds { min: 1, max: 3 };
    gpu.idle_timeout_ms = Some(600_000);
    gpu.template.labels = labels("ray.io/node-group=gpu zone=z1");
    let mut spare = group("gpu-spare", "CPU=8 GPU=1");
    spare.priority = -1;
    let mut cluster = Cluster::default()
        .group(small)
        .group(gpu)
        .group(spare)
        .busy("small", "demo-small-a")
        .idle("small", "demo-small-b", 20)
        .idle("small", "demo-small-c", 100)
        .starting("small", "demo-small-d")
        .idle("gpu", "demo-gpu-a", 40)
        .starting("gpu", "demo-gpu-b")
        .demand("CPU=64", 2)
        .demand("GPU=1", 3)
        .gang("a1", PlacementStrategy::StrictSpread, &[("GPU=4", 2)]);
    for (index, group) in cluster.snapshot.groups.iter_mut().enumerate() {
        group.index = index;
    }
    cluster.group_mut("gpu").replicas = 3;
    "Unschedulable".clone_into(&mut cluster.node_mut("demo-small-d").waiting_reason);
    cluster.node_mut("demo-gpu-b").status = NodeStatus::Terminating;
    cluster.snapshot.skipped.push(SkippedGroup {
        name: "tpu".into(),
        index: 3,
        code: "no_hosts".to_owned(),
        detail: "spec.workerGroupSpecs[3].numOfHosts is 0; accepted: 1 or more".to_owned(),
    });
    cluster.snapshot.problems.push(Problem {
        code: "nodes_differ".to_owned(),
        detail: "group small: its nodes have CPU 2, its spec promises 4; going by the nodes"
            .to_owned(),
    });
    cluster
}

/// Compares with a file of `data/live/`.
#[expect(
    clippy::disallowed_methods,
    reason = "test settings travel in the environment"
)]
fn golden(name: &str, shown: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/live");
    let path = folder.join(name);
    if std::env::var("RAYSCALER_TEST_BLESS").is_ok() {
        std::fs::write(&path, shown).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, expected, "{name}");
}

#[tokio::test]
async fn a_status_is_one_screen() {
    let port = Port::serving(&busy()).await;
    golden("status.txt", &port.success(&["status"]).await);
    golden(
        "status-nodes.txt",
        &port.success(&["status", "--nodes"]).await,
    );
}

#[tokio::test]
async fn a_status_as_json_keeps_its_shape() {
    let port = Port::serving(&busy()).await;
    let shown = port.success(&["status", "--json"]).await;
    let status: ClusterStatus = serde_json::from_str(&shown).unwrap();
    assert_eq!(status.groups.len(), 4);
    // The version changes with each release; the shape does not.
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    golden(
        "status.json",
        &shown.replace(&version, "\"version\": \"0.0.0\""),
    );
    let nodes: serde_json::Value =
        serde_json::from_str(&port.success(&["status", "--json", "--nodes"]).await).unwrap();
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn a_status_says_what_keeps_everything_as_it_is() {
    let port = Port::start(|state| state).await;
    let problem = |source: &str, message: &str| SourceProblem {
        source: source.to_owned(),
        message: message.to_owned(),
    };
    port.state.sources_failed(vec![problem(
        "gcs",
        "cannot reach 127.0.0.1:6379: connection refused",
    )]);
    golden("status-first.txt", &port.success(&["status"]).await);

    let mut cluster = busy();
    cluster.snapshot.completeness.gcs_at = Some(NOW.minus_ms(20_000));
    cluster.snapshot.paused = Some("maintenance until Monday".to_owned());
    port.state.decided(pass(&cluster));
    golden("status-held.txt", &port.success(&["status"]).await);
    golden(
        "explain-held.txt",
        &port.success(&["explain", "--demand", "{CPU: 1}"]).await,
    );

    let mut cluster =
        Cluster::default()
            .group(group("small", "CPU=2"))
            .idle("small", "demo-small-a", 100);
    cluster.snapshot.completeness.pods_at = Some(NOW.minus_ms(20_000));
    port.state.decided(pass(&cluster));
    let fits = port.success(&["explain", "--demand", "{CPU: 1}"]).await;
    golden("explain-stale-pods.txt", &fits);
    let kept = port.success(&["explain", "--pod", "demo-small-a"]).await;
    golden("explain-stale-pod.txt", &kept);

    let failed = LastPass {
        outcome: "backing_off".to_owned(),
        outcome_detail: "cannot patch RayCluster default/demo: forbidden".to_owned(),
        ..pass(&busy())
    };
    port.state.decided(failed);
    golden("status-failed.txt", &port.success(&["status"]).await);

    let dry = LastPass {
        is_dry_run: true,
        outcome: "dry_run".to_owned(),
        ..pass(&Cluster::default())
    };
    port.state.decided(dry);
    port.state.sources_failed(Vec::new());
    golden("status-dry-run.txt", &port.success(&["status"]).await);
}

#[tokio::test]
async fn a_demand_is_explained_group_by_group() {
    let port = Port::serving(&busy()).await;
    for (name, arguments) in [
        ("explain-waiting.txt", &["--demand", "{CPU: 64}"][..]),
        ("explain-gpu.txt", &["--demand", "{GPU: 1}"]),
        ("explain-fits.txt", &["--demand", "CPU: 1"]),
        (
            "explain-grows.txt",
            &["--demand", "{CPU: 8, GPU: 1}", "--count", "4"],
        ),
        (
            "explain-too-many.txt",
            &["--demand", "{CPU: 8}", "--count", "99"],
        ),
        ("explain-case.txt", &["--demand", "{cpu: 1}"]),
        (
            "explain-decorator.txt",
            &["--demand", "{num_cpus: 1, num_gpus: 1}"],
        ),
        (
            "explain-label.txt",
            &["--demand", "{CPU: 8}", "--label", "zone=z2"],
        ),
    ] {
        let arguments = [&["explain"], arguments].concat();
        golden(name, &port.success(&arguments).await);
    }
    let json = port
        .success(&["explain", "--demand", "{CPU: 64}", "--json"])
        .await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["fate"], "no_place");
    assert_eq!(json["pending"], 2);
    assert_eq!(json["groups"][0]["code"], "too_small");
}

#[tokio::test]
async fn a_pod_that_cannot_be_scheduled_does_not_count_as_coming() {
    let mut gpu = group("gpu", "CPU=8 GPU=1");
    gpu.bounds = ReplicaBounds { min: 0, max: 3 };
    let mut spare = group("gpu-spare", "CPU=8 GPU=1");
    spare.priority = -1;
    let mut cluster = Cluster::default()
        .group(gpu)
        .group(spare)
        .group(group("small", "CPU=2"))
        .starting("gpu", "demo-gpu-a")
        .starting("gpu", "demo-gpu-b")
        .demand("GPU=1", 2);
    let arguments = ["explain", "--demand", "{GPU: 1}"];
    let port = Port::serving(&cluster).await;
    let shown = port.success(&arguments).await;
    let expected = "2 x {GPU: 1}: fits on nodes that run or are on their way\n";
    assert!(shown.starts_with(expected), "{shown}");

    "Unschedulable".clone_into(&mut cluster.node_mut("demo-gpu-b").waiting_reason);
    port.state.decided(pass(&cluster));
    golden("explain-unschedulable.txt", &port.success(&arguments).await);
    let json = port.success(&[&arguments[..], &["--json"]].concat()).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["fate"], "unschedulable");
    assert_eq!(json["unschedulable"]["requests"], 1);
    assert_eq!(json["unschedulable"]["groups"][0]["oldest"], "demo-gpu-b");

    // What has a place elsewhere does not wait for it, and what launches more says both.
    let shown = port.success(&["explain", "--demand", "{CPU: 2}"]).await;
    assert!(!shown.contains("schedul"), "{shown}");
    let arguments = [&arguments[..], &["--count", "4"]].concat();
    let shown = port.success(&arguments).await;
    for expected in ["group gpu grows 2 -> 3", "no place for 1, unschedulable: "] {
        assert!(shown.contains(expected), "{shown}");
    }
}

#[tokio::test]
async fn every_pod_is_explained() {
    let mut cluster = busy();
    let refused = &mut cluster.history.drain_refused_at;
    refused.insert("demo-small-c".into(), NOW.minus_ms(1_000));
    refused.insert("demo-small-d".into(), NOW.minus_ms(2_000));
    cluster.history.found_running.insert("demo-small-d".into());
    let port = Port::serving(&cluster).await;
    let mut all = String::new();
    for pod in [
        "head",
        "demo-small-a",
        "demo-small-b",
        "demo-small-c",
        "demo-small-d",
        "demo-gpu-a",
        "demo-gpu-b",
    ] {
        all.push_str(&port.success(&["explain", "--pod", pod]).await);
    }
    golden("explain-pods.txt", &all);
    let (code, error) = port.failure(&["explain", "--pod", "small-a"]).await;
    assert_eq!(code, 1);
    assert!(
        error.contains("no pod `small-a`") && error.contains("demo-small-a"),
        "{error}"
    );
}

#[tokio::test]
async fn a_pod_that_goes_says_why() {
    let mut small = group("small", "CPU=2");
    small.bounds = ReplicaBounds { min: 0, max: 4 };
    let cluster = Cluster::default()
        .group(small)
        .idle("small", "demo-small-a", 100);
    let port = Port::serving(&cluster).await;
    let shown = port.success(&["explain", "--pod", "demo-small-a"]).await;
    assert!(
        shown.contains(
            "removed, the last decision removes it, idle for 1m 40s; it came to: patched"
        ),
        "{shown}"
    );
    golden("status-change.txt", &port.success(&["status"]).await);
}

#[tokio::test]
async fn an_operator_that_makes_no_pods_is_called_silent_after_a_while() {
    let mut cluster = Cluster::default().group(group("small", "CPU=2"));
    cluster.group_mut("small").replicas = 2;
    for (asked_ms, expected) in [
        (
            5_000,
            "group small for 5.3 s, pods_to_come: 2 pods asked for that the operator has not made",
        ),
        (
            60_000,
            "group small for 1m, operator_silent: 2 pods asked for",
        ),
    ] {
        let at = NOW.minus_ms(asked_ms);
        cluster.history.scaled_up_at.insert("small".into(), at);
        let port = Port::serving(&cluster).await;
        let shown = port.success(&["status"]).await;
        assert!(shown.contains(expected), "{shown}");
    }
}

#[tokio::test]
async fn a_watch_asks_again() {
    let port = Port::serving(&busy()).await;
    let mut command = port.command(&["status", "--watch=1", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line());
        let line = line.await.unwrap().unwrap().unwrap();
        let status: ClusterStatus = serde_json::from_str(&line).unwrap();
        assert_eq!(status.cluster, "demo");
    }
    child.kill().await.unwrap();
}

#[tokio::test]
async fn no_answer_names_the_address_and_what_to_do() {
    let port = Port::start(|state| state.answer_only(vec![admin::Question::Config])).await;
    let (code, error) = port.failure(&["status"]).await;
    assert_eq!(code, 1);
    assert!(
        error.contains("/v1/status is not answered") && error.contains("admin.questions"),
        "{error}"
    );

    let port = Port::start(|state| state).await;
    let (code, error) = port.failure(&["explain", "--demand", "{CPU: 1}"]).await;
    assert!(
        code == 1 && error.contains("nothing to show yet"),
        "{error}"
    );

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rayscaler"));
    command.args(["status", "--address", &address]).env_clear();
    let output = command.output().await.unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for part in [&address, "Connection refused", "kubectl port-forward"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn a_demand_or_label_that_is_not_understood_is_refused() {
    let port = Port::start(|state| state).await;
    for (arguments, expected) in [
        (&["--demand", "many"][..], "'{CPU: 4, "),
        (&["--demand", "{CPU: 1}", "--label", "zone"], "KEY=!VALUE"),
        (
            &["--demand", "{CPU: 1}", "--pod", "p"],
            "cannot be used with",
        ),
        (&["--label", "zone=z1"], "--demand"),
        (&[], "--pod"),
    ] {
        let arguments = [&["explain"], arguments].concat();
        let (code, error) = port.failure(&arguments).await;
        assert_eq!(code, 64, "{error}");
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[tokio::test]
async fn ten_thousand_nodes_are_still_one_screen() {
    let mut large = group("large", "CPU=8");
    large.bounds = ReplicaBounds {
        min: 0,
        max: 12_000,
    };
    let mut cluster = Cluster::default().group(large);
    for at in 0..10_000_u32 {
        let mut node = support::builders::running("large", &format!("w{at}"), "CPU=8");
        node.available = resources("CPU=8");
        node.idle_since = (at % 4 == 0).then(|| NOW.minus_ms(u64::from(at)));
        cluster.snapshot.nodes.push(node);
    }
    cluster.group_mut("large").replicas = 10_000;
    for at in 0..300 {
        let id = format!("{at:03}");
        cluster = cluster.gang(&id, PlacementStrategy::Pack, &[("GPU=1", 2)]);
    }
    let port = Port::serving(&cluster).await;
    let shown = port.success(&["status"]).await;
    assert!(shown.lines().count() < 40, "{shown}");
    assert!(
        shown.contains("300 x PACK of 2 x {GPU: 1} (placement groups)"),
        "{shown}"
    );
    assert!(shown.contains("and 299 others without a place"), "{shown}");
    let url = format!("http://{}/v1/pass", port.address);
    let size = reqwest::get(url)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap()
        .len();
    assert!(size < 5_000_000, "{size}");
    let json = port.success(&["status", "--json"]).await;
    assert!(json.len() < 20_000, "{}", json.len());
    let shown = port
        .success(&["explain", "--demand", "{CPU: 8}", "--count", "7"])
        .await;
    assert!(
        shown.contains("10000 running nodes have room for 10000"),
        "{shown}"
    );
}
