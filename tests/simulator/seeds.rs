//! Short runs of seeds.

use std::collections::BTreeSet;
use std::thread;

use rayscaler::simulator::{FaultKind, SimulateOptions, run_seed};

/// How many seeds each of two threads plays: a bout of trouble each, until all is right again.
const SEEDS: u64 = 75;

/// What came of some seeds.
#[derive(Debug, Default)]
struct Played {
    /// What went wrong, with the command that shows it.
    failed: Vec<String>,
    /// What trouble was met.
    met: BTreeSet<FaultKind>,
}

/// Plays seeds with trouble of these kinds, for so many minutes each.
fn play(only: &str, minutes: u64, seeds: std::ops::Range<u64>) -> Played {
    let options = SimulateOptions {
        only: only.parse().unwrap(),
        ms: minutes * 60_000,
        ..SimulateOptions::default()
    };
    let mut played = Played::default();
    for seed in seeds {
        let outcome = run_seed(seed, &options).unwrap();
        played.met.extend(outcome.met.keys());
        played.failed.extend(outcome.problem.map(|problem| {
            format!("rayscaler simulate --seed {seed} --hours {minutes}m --only {only} --trace trace.txt: {problem}")
        }));
    }
    played
}

#[test]
fn no_trouble_of_any_kind_wedges_it_or_takes_live_work() {
    let every = "api,watch,gcs,raylet,drain,pod,operator,clock,sidecar,head,edit";
    let halves = [1..1 + SEEDS, 1 + SEEDS..1 + 2 * SEEDS];
    let mixed = on_threads(halves.map(|seeds| move || play(every, 1, seeds)));
    // Among many others some kinds are hardly ever met, and trouble that nobody meets proves nothing.
    let rare = FaultKind::ALL.iter().filter(|kind| !mixed.contains(kind));
    let rare: Vec<FaultKind> = rare.copied().collect();
    let halves = [0, 1].map(|half| {
        let kinds: Vec<_> = rare.iter().copied().skip(half).step_by(2).collect();
        move || play_alone(&kinds)
    });
    let alone = on_threads(halves);
    let unmet: Vec<_> = rare.iter().filter(|kind| !alone.contains(kind)).collect();
    assert!(unmet.is_empty(), "{unmet:?}");
}

/// Plays what both say, and returns what trouble was met.
fn on_threads(plays: [impl FnOnce() -> Played + Send + 'static; 2]) -> BTreeSet<FaultKind> {
    let threads = plays.map(thread::spawn);
    let played = threads.map(|thread| thread.join().unwrap());
    let mut met = BTreeSet::new();
    for played in played {
        assert!(played.failed.is_empty(), "{}", played.failed.join("\n"));
        met.extend(played.met);
    }
    met
}

/// Plays seeds with trouble of one kind each, until it is met.
fn play_alone(kinds: &[FaultKind]) -> Played {
    let mut all = Played::default();
    for kind in kinds {
        // Nodes have to be idle before anybody drains them, for which a minute is short.
        for seed in 1..6 {
            let played = play(kind.name(), 2 * seed - 1, seed..seed + 1);
            let is_met = played.met.contains(kind);
            all.failed.extend(played.failed);
            all.met.extend(played.met);
            if is_met {
                break;
            }
        }
    }
    all
}

#[test]
fn without_trouble_all_is_well() {
    let played = play("none", 1, 1..2);
    assert!(played.failed.is_empty(), "{}", played.failed.join("\n"));
}
