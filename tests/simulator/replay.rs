//! A seed is played again to the same bytes, here and in another process.

use std::path::Path;
use std::process::Command;

use rayscaler::simulator::{Outcome, SimulateOptions, run_seed};

/// Any will do.
const SEEDS: [u64; 2] = [7, 23];

fn play(seed: u64) -> Outcome {
    let options = SimulateOptions {
        trace: Some("kept, not written".into()),
        ..SimulateOptions::default()
    };
    run_seed(seed, &options).unwrap()
}

/// Plays a seed in a process of its own; returns its trace.
fn play_elsewhere(seed: u64, folder: &Path) -> Vec<u8> {
    let path = folder.join(format!("{seed}.txt"));
    let mut program = Command::new(env!("CARGO_BIN_EXE_rayscaler"));
    program.args(["simulate", "--hours", "1m", "--seed", &seed.to_string()]);
    let output = program.arg("--trace").arg(&path).output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    std::fs::read(path).unwrap()
}

/// Fails with the first line in which two traces differ.
fn same(seed: u64, first: &[u8], second: &[u8]) {
    let lines = |trace: &[u8]| {
        let text = String::from_utf8_lossy(trace).into_owned();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (first, second) = (lines(first), lines(second));
    assert!(!first.is_empty());
    let number = first
        .iter()
        .zip(&second)
        .take_while(|(a, b)| a == b)
        .count();
    assert_eq!(
        (number, first.get(number), second.get(number)),
        (first.len(), None, None),
        "seed {seed}"
    );
}

#[test]
fn a_seed_is_played_again_to_the_same_bytes_here_and_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    for seed in SEEDS {
        let (first, second) = (play(seed), play(seed));
        same(seed, &first.trace, &second.trace);
        // The number stands for more than the lines.
        assert_eq!(first, second);
        same(seed, &first.trace, &play_elsewhere(seed, folder.path()));
    }
}
