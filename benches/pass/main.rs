//! How long each step of a pass takes, and the whole of it: decode, join, decide, patch.
//!
//!     cargo bench --bench pass
//!
//! The largest cluster has 10,000 nodes in 20 groups, 100,000 tasks in 100 shapes and 10,000 placement groups; its reply has
//! about 10 MB. The whole pass has to stay below 400 ms there: with `RAYSCALER_BENCH_STRICT=1` the bench fails otherwise.
#![expect(clippy::unwrap_used, reason = "bench")]

mod synthetic;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use prost::Message as _;
use prost::bytes::Bytes;
use rayscaler::act::patch::plan;
use rayscaler::engine::{Engine, invariants};
use rayscaler::model::{
    ClusterSnapshot, Completeness, History, Input, PodName, ScaleDecision, Timestamp,
};
use rayscaler::observe::convert::encoded_state;
use rayscaler::observe::departures::departures;
use rayscaler::observe::join::{JoinInput, join};
use rayscaler::observe::ray_state::RayState;
use rayscaler::wire::pod::PodFacts;
use rayscaler::wire::raycluster::RayCluster;
use synthetic::Size;

const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
const LARGEST: Size = Size {
    nodes: 10_000,
    shapes: 100,
    tasks_per_shape: 1_000,
    gangs: 10_000,
};
/// What the whole pass may take for the largest cluster.
const PASS_MAX: Duration = Duration::from_millis(400);
/// How often the largest pass is run.
const REPEATS: u32 = 10;

/// Holds what the sources show.
struct World {
    bytes: Bytes,
    raycluster: RayCluster,
    pods: Vec<PodFacts>,
}

impl World {
    fn of(size: Size) -> Self {
        Self {
            bytes: synthetic::reply(size).encode_to_vec().into(),
            raycluster: synthetic::raycluster(size),
            pods: synthetic::pods(size),
        }
    }

    fn decode(&self) -> RayState {
        encoded_state(self.bytes.clone(), NOW).unwrap().unwrap()
    }

    fn join(&self, ray: &RayState) -> ClusterSnapshot {
        let pods: Vec<&PodFacts> = self.pods.iter().collect();
        let input = JoinInput {
            ray,
            raycluster: &self.raycluster,
            pods: &pods,
            completeness: Completeness {
                gcs_at: Some(NOW),
                pods_at: Some(NOW),
                raycluster_at: Some(NOW),
            },
        };
        let mut snapshot = join(&input);
        snapshot.departures = departures(&input, &|_| None);
        snapshot
    }
}

/// Decides as the loop does: what is seen is remembered first.
fn decide(engine: &Engine, snapshot: &ClusterSnapshot) -> (History, ScaleDecision) {
    let mut history = History::default();
    history.absorb(&Input::Observed(snapshot), NOW);
    let decision = engine.decide(snapshot, &history, NOW);
    (history, decision)
}

/// Plans the patch as if every raylet had accepted its drain.
fn patch(snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Vec<u8> {
    let removed = decision.groups.iter().flat_map(|group| &group.remove);
    let accepted: BTreeSet<PodName> = removed
        .flat_map(|removal| removal.pods.iter().cloned())
        .collect();
    let planned = plan(snapshot, decision, &accepted);
    planned
        .map(|planned| serde_json::to_vec(&planned.ops).unwrap())
        .unwrap_or_default()
}

/// Does everything that the loop does between a reply and a patch, the check of the decision included.
fn whole_pass(world: &World, engine: &Engine) -> usize {
    let snapshot = world.join(&world.decode());
    let (history, decision) = decide(engine, &snapshot);
    assert_eq!(invariants::check(&snapshot, &history, &decision), []);
    patch(&snapshot, &decision).len()
}

fn steps(criterion: &mut Criterion, size: Size) {
    let world = World::of(size);
    let engine = Engine::default();
    let ray = world.decode();
    let snapshot = world.join(&ray);
    let (history, decision) = decide(&engine, &snapshot);
    let mut group = criterion.benchmark_group("pass");
    group.sample_size(10);
    let id = |step: &str| BenchmarkId::new(step, size.nodes);
    group.throughput(Throughput::Bytes(u64::try_from(world.bytes.len()).unwrap()));
    group.bench_function(id("decode"), |bencher| {
        bencher.iter(|| black_box(world.decode()))
    });
    group.throughput(Throughput::Elements(u64::try_from(size.nodes).unwrap()));
    group.bench_function(id("join"), |bencher| {
        bencher.iter(|| black_box(world.join(&ray)))
    });
    group.bench_function(id("decide"), |bencher| {
        bencher.iter(|| black_box(decide(&engine, &snapshot)))
    });
    group.bench_function(id("check"), |bencher| {
        bencher.iter(|| black_box(invariants::check(&snapshot, &history, &decision)));
    });
    group.bench_function(id("patch"), |bencher| {
        bencher.iter(|| black_box(patch(&snapshot, &decision)))
    });
    group.bench_function(id("whole"), |bencher| {
        bencher.iter(|| black_box(whole_pass(&world, &engine)))
    });
    group.finish();
}

/// Measures the largest pass apart from the statistics, against its target.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures and prints"
)]
fn target() {
    let world = World::of(LARGEST);
    let engine = Engine::default();
    let ray = world.decode();
    let snapshot = world.join(&ray);
    let (history, decision) = decide(&engine, &snapshot);
    let steps: [(&str, &dyn Fn()); 6] = [
        ("decode", &|| drop(black_box(world.decode()))),
        ("join", &|| drop(black_box(world.join(&ray)))),
        ("decide", &|| drop(black_box(decide(&engine, &snapshot)))),
        ("check", &|| {
            drop(black_box(invariants::check(&snapshot, &history, &decision)));
        }),
        ("patch", &|| drop(black_box(patch(&snapshot, &decision)))),
        ("whole pass", &|| {
            black_box(whole_pass(&world, &engine));
        }),
    ];
    let megabytes = world.bytes.len() / 1_000_000;
    println!(
        "{} nodes, reply of {megabytes} MB, best of {REPEATS}:",
        LARGEST.nodes
    );
    let mut whole = Duration::ZERO;
    for (step, run) in steps {
        whole = best(run);
        println!("{step:<11} {whole:>9.1?}");
    }
    println!("target      {PASS_MAX:>9.1?}");
    let is_strict = std::env::var("RAYSCALER_BENCH_STRICT").is_ok_and(|value| value == "1");
    assert!(
        !is_strict || whole <= PASS_MAX,
        "{whole:?} is more than {PASS_MAX:?}"
    );
}

/// Returns the shortest of several runs: whatever else the machine does only makes a run longer.
#[expect(clippy::disallowed_methods, reason = "a bench measures")]
fn best(run: impl Fn()) -> Duration {
    let took = (0..REPEATS).map(|_| {
        let begin = Instant::now();
        run();
        begin.elapsed()
    });
    took.min().unwrap_or_default()
}

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let mut criterion = Criterion::default().configure_from_args();
    for nodes in [100, 1_000] {
        steps(
            &mut criterion,
            Size {
                nodes,
                shapes: nodes / 10,
                tasks_per_shape: 100,
                gangs: nodes,
            },
        );
    }
    if std::env::args().any(|argument| argument == "--bench") {
        steps(&mut criterion, LARGEST);
        target();
    }
    criterion.final_summary();
}
