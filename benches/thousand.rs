//! Measures how a cluster goes from no worker to a thousand and back: the whole sidecar and a real API server, the
//! operator and a kubelet, and a head in memory behind sockets, since a thousand raylets need more machines.
//!
//! `make thousand`; with `RAYSCALER_TEST_KUBERAY_OPERATOR` and `RAYSCALER_TEST_KUBERAY_CRDS` the operator is
//! KubeRay's own. All of them share the machine: what is measured of time is mostly API server and operator.

#![expect(clippy::unwrap_used, reason = "measuring program")]
#![allow(unreachable_pub, dead_code, reason = "shared with the tests")]

#[path = "measure/mod.rs"]
mod measure;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "../tests/acceptance/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use measure::{counters, cpu_seconds, processes, pss_kib};
use support::kube::{KubeApi, Server};
use support::raycluster::{Group, Manifest};
use world::{Options, Parts, World};

/// How many workers are asked for.
const WORKERS: usize = 1_000;

/// How often it is said how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Longer than that nobody waits for the pods of either way.
const DEADLINE: Duration = Duration::from_secs(1_800);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut out = std::io::stdout();
    let manifest = Manifest::new("c")
        .set("/spec/autoscalerOptions/idleTimeoutSeconds", 5)
        .autoscaler("v2")
        .group(Group::new("small").replicas(0, 0, 1_000));
    let options = Options {
        api: Some(KubeApi::shared_on(Server::Real).await),
        ..Options::of(Parts::Embedded)
    };
    let world = World::start(manifest, options).await;
    let names: Vec<String> = (0..WORKERS).map(|number| format!("a{number}")).collect();
    let mut words = vec!["actor", "--num-cpus=1", "--no-wait"];
    words.extend(names.iter().map(String::as_str));
    world.user(&words).await;
    way(&world, (&mut out, "0 -> 1000"), WORKERS).await;
    let mut words = vec!["kill"];
    words.extend(names.iter().map(String::as_str));
    world.user(&words).await;
    way(&world, (&mut out, "1000 -> 0"), 0).await;
    world.end().await;
}

/// Waits until there are so many pods and nodes, and prints when which share of the way was done, and at what cost.
#[expect(clippy::disallowed_methods, reason = "measures")]
async fn way(world: &World, (out, name): (&mut impl Write, &str), pods_to: usize) {
    let namespace = &world.cluster.namespace;
    let began = Instant::now();
    let (calls, cpu) = (
        counters(&world.admin("metrics").await),
        cpu_seconds(namespace),
    );
    let (mut peak_kib, mut wishes, mut shares) = (0, Vec::new(), BTreeMap::new());
    let mut told = began;
    loop {
        let seconds = began.elapsed().as_secs_f64();
        let wish = world.replicas_now(0).await;
        if wishes.last().is_none_or(|(_, last)| *last != wish) {
            wishes.push((seconds, wish));
        }
        let nodes = world.nodes().await;
        let workers = nodes
            .iter()
            .filter(|node| node.ray_node_type_name != "headgroup");
        let alive = workers.count();
        let pods = world.cluster.pods_of("small").await.len();
        let done = if pods_to == 0 { WORKERS - pods } else { alive };
        for percent in [10, 50, 75, 90, 100] {
            if done * 100 >= WORKERS * percent {
                shares.entry(percent).or_insert(seconds);
            }
        }
        let kib = processes(namespace)
            .iter()
            .map(|folder| pss_kib(folder))
            .sum();
        peak_kib = peak_kib.max(kib);
        if told.elapsed() >= TELL_EVERY {
            let now = format!("{name}: {pods} pods, {alive} nodes, {wish} wished for");
            writeln!(out, "{now} after {seconds:.0} s").unwrap();
            told = Instant::now();
        }
        if pods == pods_to && shares.contains_key(&100) {
            break;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "{name}: {pods} pods, {alive} nodes, {wish} wished for"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for (percent, seconds) in &shares {
        writeln!(out, "{name}: {percent:>3} % after {seconds:.1} s").unwrap();
    }
    let texts: Vec<String> = wishes
        .iter()
        .map(|(at, wish)| format!("{wish} at {at:.1} s"))
        .collect();
    writeln!(out, "{name}: {} wishes: {}", wishes.len(), texts.join(", ")).unwrap();
    let used = cpu_seconds(namespace) - cpu;
    writeln!(
        out,
        "{name}: sidecar {used:.2} s of processor time, {peak_kib} KiB at most (PSS)"
    )
    .unwrap();
    for (line, count) in counters(&world.admin("metrics").await) {
        let more = count - calls.get(&line).copied().unwrap_or(0.0);
        if more > 0.0 {
            writeln!(out, "{name}: {line} {more}").unwrap();
        }
    }
}
