//! Decides every case of a folder.

use std::fs;
use std::path::Path;
use std::time::Instant;

use rayscaler::model::{History, Input, Timestamp};
use serde_json::{Value, json};

use super::case::Case;
use super::outcome;
use super::world::{self, World};

/// Writes `NAME.out.json` for each `NAME.in.json`, and the times; returns how many there are.
pub(crate) fn decide_all(cases: &Path, out: &Path) -> usize {
    fs::create_dir_all(out).unwrap();
    let mut names: Vec<String> = fs::read_dir(cases)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".in.json").map(str::to_owned))
        .collect();
    names.sort();
    let mut times = String::new();
    for name in &names {
        let case = Case::read(cases, name);
        let (outcome, ms) = decide(&case);
        let text = serde_json::to_string(&outcome).unwrap();
        fs::write(out.join(format!("{name}.out.json")), text + "\n").unwrap();
        times.push_str(&format!("{name}.ms\t{ms:.3}\n"));
    }
    fs::write(out.join("TIMES.tsv"), times).unwrap();
    names.len()
}

/// Returns the outcome and how long the decisions took, in milliseconds.
#[expect(clippy::disallowed_methods, reason = "this program measures")]
fn decide(case: &Case) -> (Value, f64) {
    let engine = world::engine(case);
    let mut history = History::default();
    let mut ms = 0.0;
    let steps = case.config.clock_steps_s.clone();
    let mut outcomes = Vec::new();
    for at in steps.clone().unwrap_or_else(|| vec![0.0]) {
        let now = moment(at);
        let world = World::of(case, now, &mut history);
        let began = Instant::now();
        let decision = engine.decide(&world.snapshot, &history, now);
        ms += began.elapsed().as_secs_f64() * 1000.0;
        history.absorb(&Input::Decided(&decision), now);
        outcomes.push(outcome::of(case, &world, &decision));
    }
    match steps {
        Some(_) => (json!({ "steps": outcomes }), ms),
        None => (outcomes.swap_remove(0), ms),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seconds of a test")]
fn moment(seconds: f64) -> Timestamp {
    Timestamp::from_ms(1_700_000_000_000 + (seconds * 1000.0).round() as i64)
}
