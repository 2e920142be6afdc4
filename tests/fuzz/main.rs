//! Whatever the GCS answers: no panic, no overflow, no endless pass, and every invariant holds.
//!
//! Replies are made by changing others, byte by byte or as messages. Those that lead to a decision of a kind not seen
//! before are kept and changed further: a poor man's coverage, which needs no instrumented compiler. `corpus/` has
//! replies of a real GCS and every reply that once broke something.
//!
//! `RAYSCALER_FUZZ_RUNS`, `RAYSCALER_FUZZ_SEED` and `RAYSCALER_FUZZ_THREADS` ask for more runs, others, and several at
//! a time, each with a seed of its own. `make fuzz` builds with optimisation and with checks for overflow.
#![expect(clippy::unwrap_used, reason = "test")]

mod bytes;
mod message;
mod random;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use prost::Message as _;
use random::Random;
use rayscaler::wire::gcs::ray::rpc::autoscaler::{
    ClusterResourceState, GetClusterResourceStateReply,
};
use world::{Effort, World};

/// What fits into every run of the tests.
const RUNS: u64 = 1_000;
/// A pass over replies of this size takes a millisecond; this allows for a busy machine.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Kept replies beside the corpus.
const KEPT_MAX: usize = 1_000;
/// Kept replies are no longer than this: what they grow to only takes longer.
const KEPT_LENGTH_MAX: usize = 4 * 1024;
/// One decision in so many is made again in every way.
const FULL_PERIOD: usize = 8;
/// Runs after which a long run says how far it is.
const PROGRESS: u64 = 100_000;

#[expect(
    clippy::disallowed_methods,
    reason = "test settings travel in the environment"
)]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// One thread's part of the runs.
struct Worker {
    worlds: [World; 3],
    /// Replies that others are made from.
    kept: Vec<Kept>,
    seen: BTreeSet<u64>,
    read: u64,
}

/// A reply, and what it says where it can be read.
#[derive(Clone)]
struct Kept {
    bytes: Vec<u8>,
    state: Option<ClusterResourceState>,
}

impl Kept {
    fn of(bytes: Vec<u8>) -> Self {
        let reply = GetClusterResourceStateReply::decode(bytes.as_slice());
        let state = reply
            .ok()
            .map(|reply| reply.cluster_resource_state.unwrap_or_default());
        Self { bytes, state }
    }
}

/// A reply to be tried.
enum Reply {
    Bytes(Vec<u8>),
    State(ClusterResourceState),
}

impl Reply {
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::State(state) => GetClusterResourceStateReply {
                cluster_resource_state: Some(state),
            }
            .encode_to_vec(),
        }
    }
}

impl Worker {
    fn new() -> Self {
        let kept = corpus().into_iter().map(|(_, bytes)| Kept::of(bytes));
        Self {
            worlds: World::all(),
            kept: kept.collect(),
            seen: BTreeSet::new(),
            read: 0,
        }
    }

    /// Tries a changed reply, and keeps it when what comes of it is new.
    fn run(&mut self, seed: u64, run: u64) {
        let mut random = Random::of(seed, run);
        let effort = if random.once_in(FULL_PERIOD) {
            Effort::Full
        } else {
            Effort::Usual
        };
        let world = match usize::from(random.once_in(3)) {
            0 if random.once_in(4) => 2,
            world => world,
        };
        let reply = changed(&self.kept, &mut random);
        match attempt(&self.worlds[world], &reply, effort) {
            Ok(None) => {}
            Ok(Some(kind)) => {
                self.read += 1;
                if self.seen.insert(kind) && self.kept.len() < KEPT_MAX {
                    let bytes = reply.into_bytes();
                    if bytes.len() <= KEPT_LENGTH_MAX {
                        self.kept.push(Kept::of(bytes));
                    }
                }
            }
            Err(problem) => {
                let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
                    .join(format!("fuzz-{seed}-{run}.pb"));
                fs::write(&path, reply.into_bytes()).unwrap();
                panic!(
                    "seed {seed}, run {run}, RayCluster {world}, kept as {}: {problem}",
                    path.display()
                );
            }
        }
    }
}

/// Decides, and says what went wrong.
#[expect(clippy::disallowed_methods, reason = "a test of how long things take")]
fn attempt(world: &World, reply: &Reply, effort: Effort) -> Result<Option<u64>, String> {
    let begin = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| match reply {
        Reply::Bytes(bytes) => world.run(bytes, effort),
        Reply::State(state) => world.run_on(state, effort).map(Some),
    }));
    let took = begin.elapsed();
    if took > TIME_MAX {
        return Err(format!("took {took:?}"));
    }
    outcome.unwrap_or_else(|_| Err("panicked, see above".to_owned()))
}

/// Returns a changed reply.
fn changed(kept: &[Kept], random: &mut Random) -> Reply {
    let chosen = random.pick(kept);
    match &chosen.state {
        // A message that was changed as a message is mostly read in full, one that was changed by the byte mostly not.
        Some(state) if !random.once_in(3) => {
            let mut state = state.clone();
            message::mutate(&mut state, random);
            Reply::State(state)
        }
        _ => {
            let mut bytes = chosen.bytes.clone();
            bytes::mutate(&mut bytes, &random.pick(kept).bytes, random);
            Reply::Bytes(bytes)
        }
    }
}

#[test]
fn the_corpus_leads_to_decisions() {
    let worlds = World::all();
    let all =
        |(path, bytes): (PathBuf, Vec<u8>)| [0, 1, 2].map(|at| (at, path.clone(), bytes.clone()));
    for (world, path, bytes) in corpus().into_iter().flat_map(all) {
        let outcome = attempt(&worlds[world], &Reply::Bytes(bytes), Effort::Full);
        assert!(
            outcome.is_ok(),
            "RayCluster {world}, {}: {}",
            path.display(),
            outcome.unwrap_err()
        );
    }
}

#[test]
#[expect(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "says what was run, and how fast"
)]
fn changed_replies_lead_to_decisions() {
    let (runs, first) = (
        setting("RAYSCALER_FUZZ_RUNS", RUNS),
        setting("RAYSCALER_FUZZ_SEED", 1),
    );
    let threads = setting("RAYSCALER_FUZZ_THREADS", 1).max(1);
    let begin = Instant::now();
    let part = |seed: u64| {
        let mut worker = Worker::new();
        for run in 0..runs.div_ceil(threads) {
            worker.run(seed, run);
            if (run + 1) % PROGRESS == 0 {
                let took = begin.elapsed();
                eprintln!("seed {seed}: {} runs in {took:.1?}", run + 1);
            }
        }
        worker
    };
    let workers: Vec<Worker> = std::thread::scope(|scope| {
        let seeds = first..first + threads;
        let parts: Vec<_> = seeds.map(|seed| scope.spawn(move || part(seed))).collect();
        // A thread that found something has said what.
        parts.into_iter().map(|part| part.join().unwrap()).collect()
    });
    let took = begin.elapsed();
    let runs = runs.div_ceil(threads) * threads;
    let read: u64 = workers.iter().map(|worker| worker.read).sum();
    let kinds: BTreeSet<u64> = workers
        .iter()
        .flat_map(|worker| worker.seen.clone())
        .collect();
    eprintln!(
        "seeds {first} to {}: {runs} runs in {took:.1?}, {read} replies read, {} kinds of decision",
        first + threads - 1,
        kinds.len()
    );
    assert!(
        read > runs / 3,
        "only {read} of {runs} replies could be read"
    );
    assert!(kinds.len() > 50, "only {} kinds of decision", kinds.len());
}
