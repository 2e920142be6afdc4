//! Measures the engine alone on large clusters: times, growth exponents, memory.
//!
//! `cargo run --release --example scale` prints a table; words after `--` choose rows by name.
//! No limit is asserted here, since machines differ.

#![expect(clippy::unwrap_used, reason = "program of developers")]

mod cluster;

use std::io::Write;
use std::time::{Duration, Instant};

use cluster::{Cluster, Size};
use rayscaler::engine::{Engine, Profile, invariants};
use rayscaler::model::{History, Timestamp};
use rayscaler::policy::Registry;

const ROWS: [(&str, Size); 6] = [
    (
        "busy",
        Size {
            nodes: 1_337,
            is_busy: true,
            tasks: 13_315,
            shapes: 10,
            gangs: 0,
            groups: 5,
            labels: false,
        },
    ),
    (
        "partly_free",
        Size {
            nodes: 1_000,
            is_busy: false,
            tasks: 1_000,
            shapes: 8,
            gangs: 0,
            groups: 5,
            labels: false,
        },
    ),
    (
        "gangs",
        Size {
            nodes: 1_000,
            is_busy: false,
            tasks: 0,
            shapes: 0,
            gangs: 1_000,
            groups: 5,
            labels: false,
        },
    ),
    (
        "labels",
        Size {
            nodes: 1_000,
            is_busy: false,
            tasks: 2_000,
            shapes: 40,
            gangs: 100,
            groups: 200,
            labels: true,
        },
    ),
    (
        "idle",
        Size {
            nodes: 10_000,
            is_busy: false,
            tasks: 0,
            shapes: 0,
            gangs: 0,
            groups: 20,
            labels: false,
        },
    ),
    (
        "largest",
        Size {
            nodes: 10_000,
            is_busy: false,
            tasks: 100_000,
            shapes: 100,
            gangs: 10_000,
            groups: 20,
            labels: false,
        },
    ),
];

/// Each figure is the best of so many calls, as many as fit into the time.
const CALLS_MIN: u32 = 7;
const CALLS_MAX: u32 = 200;
const TOLD: Duration = Duration::from_secs(2);
/// Sizes of the rows by which growth is told, and how often each is measured.
const FACTORS: [usize; 5] = [1, 2, 3, 5, 8];
const ROUNDS: u32 = 15;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:<12} {:<8} {:>9} {:>9} {:>10} {:>9} {:>9}",
        "row", "profile", "decide", "check", "steps", "launched", "peak MiB"
    )
    .unwrap();
    for (name, size) in ROWS.iter().filter(|(name, _)| is_wanted(name)) {
        for profile in [Profile::Default, Profile::Ray, Profile::Best] {
            let told = measure(&Cluster::new(*size), profile);
            writeln!(
                out,
                "{name:<12} {:<8} {:>7.2}ms {:>7.2}ms {:>10} {:>9} {:>9.1}",
                format!("{profile:?}").to_lowercase(),
                told.decide_ms,
                told.check_ms,
                told.steps,
                told.launched,
                peak_mib()
            )
            .unwrap();
        }
    }
    if is_wanted("growth") {
        growth(&mut out);
    }
}

struct Told {
    decide_ms: f64,
    check_ms: f64,
    steps: u64,
    launched: u64,
}

fn measure(cluster: &Cluster, profile: Profile) -> Told {
    let engine = Engine::new(&profile.chain(), &Registry::default())
        .unwrap()
        .with_profile(profile);
    let history = History::default();
    let now: Timestamp = cluster.now;
    let decide = || engine.decide(&cluster.snapshot, &history, now);
    let decision = decide();
    let violations = invariants::check(&cluster.snapshot, &history, &decision);
    assert!(
        profile == Profile::Ray || violations.is_empty(),
        "{violations:?}"
    );
    let grown = decision
        .groups
        .iter()
        .map(|group| u64::from(group.replicas_to.saturating_sub(group.replicas_from)));
    Told {
        decide_ms: best_ms(decide),
        check_ms: best_ms(|| invariants::check(&cluster.snapshot, &history, &decision)),
        steps: decision.steps,
        launched: grown.sum(),
    }
}

/// Returns the shortest of many calls: whatever else the machine does only makes a call longer.
#[expect(clippy::disallowed_methods, reason = "this program measures")]
fn best_ms<T>(call: impl Fn() -> T) -> f64 {
    let (began, mut best, mut calls) = (Instant::now(), f64::INFINITY, 0);
    while calls < CALLS_MIN || (calls < CALLS_MAX && began.elapsed() < TOLD) {
        let begin = Instant::now();
        std::hint::black_box(call());
        best = best.min(begin.elapsed().as_secs_f64() * 1000.0);
        calls += 1;
    }
    best
}

/// Prints by which power of its size the time of a decision grows, one dimension at a time.
fn growth(out: &mut impl Write) {
    let base = Size {
        nodes: 2_000,
        is_busy: false,
        tasks: 20_000,
        shapes: 50,
        gangs: 2_000,
        groups: 20,
        labels: false,
    };
    type Change = fn(&Size, usize) -> Size;
    let dimensions: [(&str, Change); 3] = [
        ("nodes", |size, times| Size {
            nodes: size.nodes * times,
            ..*size
        }),
        ("requests", |size, times| Size {
            tasks: size.tasks * u64::try_from(times).unwrap(),
            ..*size
        }),
        ("gangs", |size, times| Size {
            gangs: size.gangs * times,
            ..*size
        }),
    ];
    for profile in [Profile::Default, Profile::Ray] {
        for (name, change) in dimensions {
            let sizes = FACTORS.map(|factor| Cluster::new(change(&base, factor)));
            let logs = FACTORS.map(|factor| f64::from(u32::try_from(factor).unwrap()).ln());
            let best = best_of_each(&sizes, profile);
            let times: Vec<(f64, f64)> = logs.into_iter().zip(best.map(f64::ln)).collect();
            let shown: Vec<String> = best.iter().map(|ms| format!("{ms:.1}")).collect();
            let slope = slope(&times);
            writeln!(
                out,
                "growth {:?} in {name}: exponent {slope:.2} ({} ms)",
                profile,
                shown.join(", ")
            )
            .unwrap();
        }
    }
}

/// Returns the shortest of several decisions on each cluster, in turns: a busy minute of the machine then
/// meets all sizes and not one.
#[expect(clippy::disallowed_methods, reason = "this program measures")]
fn best_of_each<const N: usize>(clusters: &[Cluster; N], profile: Profile) -> [f64; N] {
    let engine = Engine::new(&profile.chain(), &Registry::default())
        .unwrap()
        .with_profile(profile);
    let history = History::default();
    let mut best = [f64::INFINITY; N];
    for _ in 0..ROUNDS {
        for (best, cluster) in best.iter_mut().zip(clusters) {
            let begin = Instant::now();
            std::hint::black_box(engine.decide(&cluster.snapshot, &history, cluster.now));
            *best = best.min(begin.elapsed().as_secs_f64() * 1000.0);
        }
    }
    best
}

/// Returns the slope of the line through points by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.iter().fold(0.0, |count, _| count + 1.0);
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (
            above + (point.0 - x) * (point.1 - y),
            below + (point.0 - x) * (point.0 - x),
        )
    });
    above / below
}

/// Returns the most memory that this process has had resident.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0.0) / 1024.0
}
