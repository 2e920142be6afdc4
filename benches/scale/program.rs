//! Measures the engine alone on large clusters: times, growth exponents, memory.
//!
//! `cargo run --release --example scale` prints a table; words after `--` choose rows by name.
//! No limit is asserted here, since machines differ.

#![expect(clippy::unwrap_used, reason = "program of developers")]

mod cluster;

use std::io::Write;

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

/// Processor time that each figure is the mean of; the kernel counts in steps of some milliseconds.
const TOLD_MS: f64 = 200.0;

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
        decide_ms: mean_ms(decide),
        check_ms: mean_ms(|| invariants::check(&cluster.snapshot, &history, &decision)),
        steps: decision.steps,
        launched: grown.sum(),
    }
}

/// Returns the processor time of a call.
fn mean_ms<T>(call: impl Fn() -> T) -> f64 {
    let (began, mut calls) = (processor_ms(), 0.0);
    loop {
        drop(std::hint::black_box(call()));
        calls += 1.0;
        let took = processor_ms() - began;
        if took >= TOLD_MS || calls >= 10_000.0 {
            return took / calls;
        }
    }
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
            let times = [1_usize, 2, 4, 8].map(|factor| {
                let told = measure(&Cluster::new(change(&base, factor)), profile);
                (
                    f64::from(u32::try_from(factor).unwrap()).ln(),
                    told.decide_ms,
                )
            });
            let shown: Vec<String> = times.iter().map(|(_, ms)| format!("{ms:.1}")).collect();
            let slope = slope(&times.map(|(x, ms)| (x, ms.ln())));
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

/// Returns the time that this process, which has one thread, has had a processor.
///
/// Why not the clock: the machine does other things meanwhile.
fn processor_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    let ns: f64 = stat.split_whitespace().next().unwrap().parse().unwrap();
    ns / 1e6
}

/// Returns the most memory that this process has had resident.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0.0) / 1024.0
}
