//! Measures the whole sidecar beside a real Ray head and a real API server:
//! the time from `.remote()` to the patch, memory, processor time and requests.
//!
//! `make figures`; the worker pods never run, so that nothing but the sidecar and
//! Ray is measured. Times are taken by one clock on one machine: the driver's before the call, ours when
//! a watch shows the patch.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "measuring program")]
#![allow(unreachable_pub, dead_code, reason = "shared with the tests")]

#[path = "measure/mod.rs"]
mod measure;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "../tests/acceptance/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use measure::{counters, cpu_seconds, processes, pss_kib};
use support::process::Start as _;
use support::raycluster::{Group, Manifest};
use world::{Options, World};

/// Samples of each kind of demand.
const SAMPLES: usize = 50;

/// Makes one more demand of a kind, at random moments, and prints when it was made.
const DRIVER: &str = r#"
import random, sys, time
import ray
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import placement_group

kind, samples, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(seed)
ray.init(namespace="reaction", log_to_driver=False)

@ray.remote(num_cpus=1)
def task():
    pass

@ray.remote(num_cpus=1)
class Actor:
    pass

kept = []
made = open(sys.argv[4], "w")
time.sleep(3)
for i in range(samples):
    time.sleep(random.uniform(0.4, 1.4))
    at = time.time()
    if kind == "task":
        # Each of a new shape: a driver asks for ten leases of a shape, and tells its raylet of more
        # only once a second. None of them fits beside another on one processor.
        kept.append(task.options(num_cpus=0.6 + i / 1000).remote())
    elif kind == "equal":
        kept.append(task.remote())
    elif kind == "actor":
        kept.append(Actor.remote())
    elif kind == "gang":
        kept.append(placement_group([{"CPU": 1}]))
    else:
        request_resources(num_cpus=i + 1)
    print(at, file=made, flush=True)
time.sleep(600)
"#;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut out = std::io::stdout();
    // `cargo bench ... -- task` measures that kind alone.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    for kind in ["task", "actor", "gang", "request", "equal"] {
        if !wanted.is_empty() && !wanted.iter().any(|word| word == kind) {
            continue;
        }
        let world = start().await;
        if kind == "task" && wanted.is_empty() {
            startup(&world, &mut out).await;
            idle(&world, &mut out).await;
        }
        let mut times = reactions(&world, kind).await;
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        writeln!(
            out,
            "reaction {kind:<8} n={} p50={:.1}ms p90={:.1}ms p99={:.1}ms max={:.1}ms",
            times.len(),
            at(50),
            at(90),
            at(99),
            times[times.len() - 1]
        )
        .unwrap();
        world.end().await;
    }
}

async fn start() -> World {
    // Pods that no node takes stay Pending, as capacity that is on its way.
    let group = Group::new("small").replicas(0, 0, 500).set(
        "/template/spec/nodeSelector",
        serde_json::json!({"no": "where"}),
    );
    World::start(
        Manifest::new("c").autoscaler("v2").group(group),
        Options::default(),
    )
    .await
}

async fn reactions(world: &World, kind: &str) -> Vec<f64> {
    let api = world.cluster.api();
    let mut changes = watcher(api, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    let samples = SAMPLES.to_string();
    let made = tempfile::NamedTempFile::new().unwrap();
    let driver = world.pods.driver(DRIVER, &world.gcs_port());
    let driver = driver.arg(kind).arg(&samples).arg("7");
    let _driver = driver.arg(made.path().display().to_string()).start();
    let mut seen: BTreeMap<u64, f64> = BTreeMap::new();
    let all = async {
        while (seen.len() as u64) < SAMPLES as u64 {
            let Some(Ok(object)) = changes.next().await else {
                continue;
            };
            let at = wall_ms();
            let replicas = object.data["spec"]["workerGroupSpecs"][0]["replicas"]
                .as_u64()
                .unwrap_or(0);
            let first = seen.last_key_value().map_or(0, |(last, _)| *last) + 1;
            for replica in first..=replicas {
                seen.insert(replica, at);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(180), all)
        .await
        .expect("every demand is answered");
    let made = std::fs::read_to_string(made.path()).unwrap();
    let made = made
        .lines()
        .filter_map(|line| line.trim().parse::<f64>().ok());
    made.zip(seen.values())
        .map(|(made, seen)| seen - made * 1000.0)
        .collect()
}

/// Starts a second sidecar, in a dry run, beside the first.
async fn startup(world: &World, out: &mut impl Write) {
    let mut times = Vec::new();
    for _ in 0..10 {
        let port = support::free_port();
        let began = wall_ms();
        let mut command = tokio::process::Command::new(world::sidecar());
        let kubeconfig = world.kubeconfig().await;
        command
            .args(["run", "--dry-run", "--cluster-name=c"])
            .arg(format!("--cluster-namespace={}", world.cluster.namespace))
            .env("KUBECONFIG", kubeconfig)
            .env("AUTOSCALER_METRIC_PORT", port.to_string())
            .stdout(std::process::Stdio::null());
        let began = wall_ms().max(began);
        let mut child = command.spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}/readyz");
        while reqwest::get(&url)
            .await
            .map(|reply| reply.status().as_u16())
            .unwrap_or(0)
            != 200
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(wall_ms() - began);
        // SIGTERM through the shell: the sidecar ends in order.
        let pid = child.id().unwrap().to_string();
        drop(std::process::Command::new("kill").arg(pid).status());
        drop(child.wait().await);
    }
    times.sort_by(f64::total_cmp);
    writeln!(
        out,
        "start to first decision p50={:.0}ms max={:.0}ms n=10",
        times[5], times[9]
    )
    .unwrap();
}

/// Watches the idle sidecar for a minute.
async fn idle(world: &World, out: &mut impl Write) {
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = (
        counters(&world.admin("metrics").await),
        cpu_seconds(&world.cluster.namespace),
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    let after = (
        counters(&world.admin("metrics").await),
        cpu_seconds(&world.cluster.namespace),
    );
    for (name, count) in &after.0 {
        let more = count - before.0.get(name).copied().unwrap_or(0.0);
        writeln!(out, "idle minute: {name} {more}").unwrap();
    }
    writeln!(out, "idle minute: processor {:.3} s", after.1 - before.1).unwrap();
    let pss: Vec<(String, u64)> = processes(&world.cluster.namespace)
        .iter()
        .map(|pid| (pid.display().to_string(), pss_kib(pid)))
        .collect();
    let total: u64 = pss.iter().map(|(_, kib)| kib).sum();
    writeln!(
        out,
        "resident (PSS) {total} KiB in {} processes {pss:?}",
        pss.len()
    )
    .unwrap();
    let size = std::fs::metadata(world::sidecar()).unwrap().len();
    writeln!(out, "binary {size} bytes").unwrap();
}

#[expect(
    clippy::disallowed_methods,
    reason = "two processes compare wall clocks"
)]
fn wall_ms() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
        * 1000.0
}
