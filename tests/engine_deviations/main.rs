//! The table of deviations from Ray: each row has its minimal case, and nothing else may differ.
//!
//! With `RAYSCALER_PARITY_CASES=DIR` the cases of a directory, with Ray's own decisions beside
//! them, are decided as well: a difference in a family that is not in the table fails.
#![expect(clippy::unwrap_used, reason = "test")]

mod best;
#[path = "../../benches/parity/case.rs"]
mod case;
#[path = "../../benches/parity/outcome.rs"]
mod outcome;
mod rows;
#[path = "../support/core/mod.rs"]
mod support;
#[path = "../../benches/parity/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::path::Path;

use rayscaler::engine::{
    Against, ChainEntry, DEVIATIONS, Deviation, Engine, EngineSettings, Profile,
};
use rayscaler::model::{History, Input, ReplicaBounds, Timestamp};
use rayscaler::policy::Registry;
use rows::{corrections, cpu4};
use serde_json::{Value, json};
use support::builders::{Cluster, lines, running, tasks};

fn engine(profile: Profile, settings: &[(&str, Value)]) -> Engine {
    let mut chain: Vec<ChainEntry> = profile.chain();
    for (name, settings) in settings {
        chain
            .iter_mut()
            .find(|entry| entry.name == *name)
            .unwrap()
            .settings = settings.clone();
    }
    // A case is one decision, and a removal is confirmed by the next.
    let settings = EngineSettings {
        seen_twice: false,
        ..EngineSettings::default()
    };
    Engine::new(&chain, &Registry::default())
        .unwrap()
        .with_settings(settings)
        .with_profile(profile)
}

/// Returns the changes of a decision, and one word for demand that is not served.
fn changes(engine: &Engine, cluster: &Cluster) -> Vec<String> {
    let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
    let is_change = |group: &&rayscaler::model::GroupDecision| group.is_change();
    let mut changes: Vec<String> = decision
        .groups
        .iter()
        .filter(is_change)
        .map(|group| {
            let codes: Vec<&str> = group
                .reasons
                .iter()
                .map(|reason| reason.code.as_str())
                .collect();
            let removed = group
                .remove
                .iter()
                .map(|removal| format!(", remove {}", removal.replica));
            let removed: String = removed.collect();
            format!(
                "{} {} -> {}: {}{removed}",
                group.name,
                group.replicas_from,
                group.replicas_to,
                codes.join(", ")
            )
        })
        .collect();
    if changes.is_empty()
        && decision
            .unserved
            .iter()
            .any(|unserved| unserved.class == "tasks")
    {
        changes.push("unserved".to_owned());
    }
    changes
}

/// Returns in which cases two profiles do not decide as expected.
fn unexpected(rows: Vec<rows::Row>, [one, other]: [Profile; 2]) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in rows {
        for (profile, expected) in [(one, row.ray), (other, row.ours)] {
            let found = changes(&engine(profile, &row.settings), &row.cluster);
            if found != expected {
                wrong.push(format!(
                    "{} in {profile:?}: {found:?} instead of {expected:?}",
                    row.family
                ));
            }
        }
        assert_ne!(row.ray, row.ours, "{} is no deviation", row.family);
    }
    wrong
}

#[test]
fn every_correction_shows_in_its_minimal_case() {
    let wrong = unexpected(corrections(), [Profile::Ray, Profile::Default]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_the_best_profile_alone_does_shows_in_its_minimal_case() {
    let wrong = unexpected(best::best(), [Profile::Default, Profile::Best]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Which rows tell of a policy that a profile has, or sets otherwise than the one closer to Ray; none where its
/// settings leave all as it is until somebody changes them.
const ROWS_OF: [(&str, &[&str]); 14] = [
    ("gpu_sparing", &["accelerators"]),
    ("gangs", &["incomplete_gang", "spread", "fallbacks"]),
    ("pending_idle", &["withdrawn"]),
    ("packing", &["price"]),
    ("running_first", &["running_first"]),
    ("stopped", &["stopped"]),
    ("recycle", &["stuck_pods", "refused_pods", "locked_group"]),
    ("rate_up", &[]),
    ("runaway", &["runaway"]),
    ("fair_share", &["fair_share"]),
    ("growth_slices", &["growth_slice"]),
    ("stabilization", &[]),
    ("rate_down", &[]),
    ("blast_radius", &["blast_radius"]),
];

/// A policy, a setting or a correction that a profile has and the one closer to Ray has not is a new difference.
#[test]
fn whatever_the_profiles_differ_in_stands_in_the_table() {
    let table: BTreeSet<&str> = from_ray().map(|row| row.family).collect();
    let profiles = [Profile::Ray, Profile::Default, Profile::Best];
    for pair in profiles.windows(2) {
        let before = pair[0].chain();
        let chain = pair[1].chain();
        for entry in chain.iter().filter(|entry| !before.contains(entry)) {
            let known = ROWS_OF.iter().find(|(policy, _)| *policy == entry.name);
            let (_, rows) = known.unwrap_or_else(|| panic!("{} has no row", entry.name));
            assert!(rows.iter().all(|row| table.contains(row)), "{rows:?}");
        }
    }
    let text = format!("{:?}", Profile::Ray.corrections());
    let fields = text.trim_start_matches("Corrections { ").split(", ");
    let fields: Vec<&str> = fields.filter_map(|it| it.split(':').next()).collect();
    assert!(fields.len() > 5, "{text}");
    for field in fields {
        assert!(table.contains(field), "{field} has no row");
    }
}

/// Returns the rows about Ray; those about brute force have their cases in tests/engine_brute_force.
fn from_ray() -> impl Iterator<Item = &'static Deviation> {
    DEVIATIONS.iter().filter(|row| row.against == Against::Ray)
}

#[test]
fn the_table_has_no_row_without_a_case_and_no_case_without_a_row() {
    let all: BTreeSet<&str> = DEVIATIONS.iter().map(|row| row.family).collect();
    assert_eq!(all.len(), DEVIATIONS.len(), "a family stands twice");
    let table: BTreeSet<&str> = from_ray().map(|row| row.family).collect();
    let mut cases: BTreeSet<&str> = corrections().iter().map(|row| row.family).collect();
    // The settled decision is seen in tests/engine_properties.rs (I4), long lists in the tests of
    // src/placement/aside.rs, the second look in tests/engine_modes.rs; the others below.
    cases.extend(["settled", "second_look"]);
    cases.extend(best::best().iter().map(|row| row.family));
    let fixed = from_ray().filter(|row| row.profile == Profile::Ray);
    cases.extend(fixed.map(|row| row.family));
    assert_eq!(cases, table);
    for row in DEVIATIONS {
        assert!(
            [row.ray, row.ours, row.why]
                .iter()
                .all(|text| !text.is_empty()),
            "{row:?}"
        );
    }
}

#[test]
fn what_the_profile_ray_does_otherwise_is_seen_too() {
    let ray = engine(Profile::Ray, &[]);
    let float_edge = cpu4().demand("CPU=0.2", 20);
    assert_eq!(changes(&ray, &float_edge), ["cpu4 0 -> 1: tasks"]);
    let removed_group = cpu4()
        .node(running("removed", "w1", "CPU=4"))
        .demand("CPU=4", 1);
    assert_eq!(changes(&ray, &removed_group), Vec::<String>::new());
    let mut too_much = cpu4().idle("cpu4", "w1", 1).demand("CPU=8", 1);
    too_much.node_mut("w1").available = support::builders::resources("CPU=8");
    assert_eq!(changes(&ray, &too_much), Vec::<String>::new());
    let mut constraints = cpu4().constraint("CPU=4", 1);
    constraints
        .snapshot
        .constraint
        .as_mut()
        .unwrap()
        .demands
        .push(tasks("CPU=3", 1));
    assert_eq!(
        changes(&ray, &constraints),
        ["cpu4 0 -> 2: request_resources"]
    );
    let mut hosts = Cluster::default().group(support::builders::group("tpu", "CPU=4"));
    hosts.group_mut("tpu").num_of_hosts = 4;
    assert_eq!(
        changes(&ray, &hosts.demand("CPU=4", 4)),
        ["tpu 0 -> 1: tasks"]
    );
    let mut taught = cpu4().idle("cpu4", "w1", 1).demand("CPU=4", 1);
    taught.node_mut("w1").total = support::builders::resources("CPU=2");
    taught.node_mut("w1").available = support::builders::resources("CPU=2");
    let seen = Input::Observed(&taught.snapshot);
    taught.history.absorb(&seen, taught.now);
    assert_eq!(changes(&ray, &taught), ["unserved"]);
    let mut minima = cpu4();
    minima.group_mut("cpu4").bounds = ReplicaBounds { min: 2, max: 4 };
    let capped = engine(Profile::Ray, &[("maximum", json!({"nodes_max": 1}))]);
    assert_eq!(changes(&capped, &minima), ["cpu4 0 -> 2: minimum"]);
    assert!(
        lines(&minima.decide_with(&capped))
            .iter()
            .any(|line| line.starts_with("cpu4 0 -> 2"))
    );
}

/// Returns the fields in which two outcomes differ.
fn differences(want: &Value, got: &Value) -> Vec<String> {
    if let Some(steps) = want.get("steps").and_then(Value::as_array) {
        let none = Vec::new();
        let other = got.get("steps").and_then(Value::as_array).unwrap_or(&none);
        let pairs = steps.iter().zip(other);
        let mut found: Vec<String> = pairs
            .flat_map(|(want, got)| differences(want, got))
            .collect();
        if steps.len() != other.len() {
            found.push("steps".to_owned());
        }
        return found;
    }
    let object = want.as_object().unwrap();
    let is_same = |name: &str, want: &Value| match (name, want.as_object()) {
        ("cluster_resources", Some(want)) => {
            let got = got[name].as_object().unwrap();
            let close = |(name, want): (&String, &Value)| {
                let (want, got) = (
                    want.as_f64().unwrap(),
                    got.get(name).and_then(Value::as_f64),
                );
                got.is_some_and(|got| (want - got).abs() <= 1e-9 * want.abs().max(1.0))
            };
            want.len() == got.len() && want.iter().all(close)
        }
        _ => equal(want, &got[name]),
    };
    let differing = object.iter().filter(|(name, want)| !is_same(name, want));
    differing.map(|(name, _)| name.clone()).collect()
}

/// Compares numbers by value: Python writes 4 where Rust writes 4.0.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the directory is the caller's")]
fn cases_differ_only_in_the_families_of_the_table() {
    // The three kinds of difference are seen, so that an empty list means something.
    let want = json!({"to_launch": {"a": 1}, "cluster_resources": {"CPU": 4.0}});
    assert_eq!(
        differences(
            &want,
            &json!({"to_launch": {"a": 2}, "cluster_resources": {"CPU": 4}})
        ),
        ["to_launch"]
    );
    assert_eq!(
        differences(
            &want,
            &json!({"to_launch": {"a": 1}, "cluster_resources": {}})
        ),
        ["cluster_resources"]
    );
    let Some(folder) = std::env::var_os("RAYSCALER_PARITY_CASES") else {
        return;
    };
    let folder = Path::new(&folder);
    let names = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter_map(|name| Some(name.strip_suffix(".in.json")?.to_owned()))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "{} has no cases", folder.display());
    let fixed = from_ray().filter(|row| row.profile == Profile::Ray);
    let known: BTreeSet<&str> = fixed.map(|row| row.family).collect();
    let mut wrong = Vec::new();
    for name in names {
        let want = std::fs::read_to_string(folder.join(format!("{name}.out.json"))).unwrap();
        let want: Value = serde_json::from_str(&want).unwrap();
        let family = name.rsplit('-').next().unwrap();
        if known.contains(family) {
            continue;
        }
        let differences = differences(&want, &outcome(&case::Case::read(folder, &name)));
        if !differences.is_empty() {
            wrong.push(format!("{name}: {}", differences.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn outcome(case: &case::Case) -> Value {
    let engine = world::engine(case);
    let mut history = History::default();
    let steps = case.config.clock_steps_s.clone();
    let mut outcomes = Vec::new();
    for at in steps.clone().unwrap_or_else(|| vec![0.0]) {
        let now = Timestamp::from_ms(1_700_000_000_000).plus_ms(world::ms(at));
        let world = world::World::of(case, now, &mut history);
        let decision = engine.decide(&world.snapshot, &history, now);
        history.absorb(&Input::Decided(&decision), now);
        outcomes.push(outcome::of(case, &world, &decision));
    }
    if steps.is_some() {
        json!({"steps": outcomes})
    } else {
        outcomes.swap_remove(0)
    }
}
