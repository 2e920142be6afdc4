//! Short runs of seeds.

use std::thread;

use rayscaler::simulator::{SimulateOptions, run_seed};

/// How many seeds each of two threads plays: a bout of trouble each, until all is right again.
const SEEDS: u64 = 12;

/// Plays seeds with trouble of these kinds; returns what went wrong.
fn failures(only: &str, seeds: std::ops::Range<u64>) -> Vec<String> {
    let options = SimulateOptions {
        only: only.parse().unwrap(),
        ..SimulateOptions::default()
    };
    let played = seeds.map(|seed| (seed, run_seed(seed, &options).unwrap()));
    let failed = played.filter_map(|(seed, outcome)| {
        let problem = outcome.problem?;
        Some(format!(
            "rayscaler simulate --seed {seed} --hours 1m --only {only} --trace trace.txt: {problem}"
        ))
    });
    failed.collect()
}

/// Returns what went wrong in any of so many seeds, played on two threads.
fn all_failures(only: &'static str, first: u64) -> Vec<String> {
    let halves = [first..first + SEEDS, first + SEEDS..first + 2 * SEEDS];
    let threads = halves.map(|seeds| thread::spawn(move || failures(only, seeds)));
    let failed = threads.map(|thread| thread.join().unwrap());
    failed.into_iter().flatten().collect()
}

#[test]
fn no_trouble_of_any_kind_wedges_it_or_takes_live_work() {
    let every = "api,watch,gcs,raylet,drain,pod,operator,clock,sidecar,head,edit";
    let failed = all_failures(every, 1);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn without_trouble_all_is_well() {
    let failed = failures("none", 1..2);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
