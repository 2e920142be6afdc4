//! Whatever the GCS answers: no panic, no overflow, no endless pass, and every invariant holds.
//!
//! Replies are made by changing others, byte by byte or as messages. Those that lead to a decision of a kind not seen
//! before are kept and changed further: a poor man's coverage, which needs no instrumented compiler. `corpus/` has
//! replies of a real GCS and every reply that once broke something.
//!
//! `RAYSCALER_FUZZ_RUNS` and `RAYSCALER_FUZZ_SEED` ask for more runs and others. `make fuzz` builds with
//! optimisation and with checks for overflow.
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
use rayscaler::wire::gcs::ray::rpc::autoscaler::GetClusterResourceStateReply;
use world::World;

/// What fits into every run of the tests.
const RUNS: u64 = 1_000;
/// A pass over replies of this size takes a millisecond; this allows for a busy machine.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Kept replies beside the corpus.
const KEPT_MAX: usize = 1_000;

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

/// Decides, and says what went wrong.
#[expect(clippy::disallowed_methods, reason = "a test of how long things take")]
fn attempt(world: &World, bytes: &[u8]) -> Result<Option<BTreeSet<String>>, String> {
    let begin = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run(bytes)));
    let took = begin.elapsed();
    if took > TIME_MAX {
        return Err(format!("took {took:?}"));
    }
    outcome.unwrap_or_else(|_| Err("panicked, see above".to_owned()))
}

/// Returns a changed reply.
fn changed(kept: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.pick(kept).clone();
    let reply = GetClusterResourceStateReply::decode(bytes.as_slice());
    match reply {
        // A message that was changed as a message is mostly read in full, one that was changed by the byte mostly not.
        Ok(mut reply) if !random.once_in(3) => {
            message::mutate(reply.cluster_resource_state.get_or_insert_default(), random);
            reply.encode_to_vec()
        }
        _ => {
            let other = random.pick(kept).clone();
            bytes::mutate(&mut bytes, &other, random);
            bytes
        }
    }
}

#[test]
fn the_corpus_leads_to_decisions() {
    let world = World::new();
    for (path, bytes) in corpus() {
        let outcome = attempt(&world, &bytes);
        assert!(
            outcome.is_ok(),
            "{}: {}",
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
    let world = World::new();
    let (runs, seed) = (
        setting("RAYSCALER_FUZZ_RUNS", RUNS),
        setting("RAYSCALER_FUZZ_SEED", 1),
    );
    let mut kept: Vec<Vec<u8>> = corpus().into_iter().map(|(_, bytes)| bytes).collect();
    let mut seen = BTreeSet::new();
    let mut read = 0_u64;
    let begin = Instant::now();
    for run in 0..runs {
        let bytes = changed(&kept, &mut Random::of(seed, run));
        match attempt(&world, &bytes) {
            Ok(None) => {}
            Ok(Some(codes)) => {
                read += 1;
                if seen.insert(codes) && kept.len() < KEPT_MAX {
                    kept.push(bytes);
                }
            }
            Err(problem) => {
                let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
                    .join(format!("fuzz-{seed}-{run}.pb"));
                fs::write(&path, &bytes).unwrap();
                panic!(
                    "seed {seed}, run {run}, kept as {}: {problem}",
                    path.display()
                );
            }
        }
    }
    let took = begin.elapsed();
    eprintln!(
        "seed {seed}: {runs} runs in {took:.1?}, {read} replies read, {} kinds of decision",
        seen.len()
    );
    assert!(
        read > runs / 3,
        "only {read} of {runs} replies could be read"
    );
    assert!(seen.len() > 50, "only {} kinds of decision", seen.len());
}
