//! A long run of a large cluster: does memory grow, and how much is logged when nothing happens?

use std::io::Write;

use super::random::Random;
use super::run::Run;
use super::workload::whole;
use super::world::{Parts, World};
use super::{SimulateOptions, SimulatorError, in_virtual_time, io_error};
use crate::config::HumanDuration;
use crate::embedded::ray::{NodeCondition, Tasks};
use crate::sandbox::scenario::{Amount, Group, Scenario};

/// Processors of each node.
const CPUS: u64 = 4;

/// How often work comes, while it comes. Units: milliseconds.
const EVERY_MS: u64 = 30_000;

/// Dead nodes that Ray itself remembers.
const DEAD_MAX: usize = 1_000;

const HOUR_MS: u64 = 3_600_000;

/// Plays busy hours up to so many nodes and a quiet last quarter, and prints a line for each hour.
///
/// # Errors
///
/// What kept it from being played.
pub fn soak(
    options: &SimulateOptions,
    nodes: u32,
    out: &mut dyn Write,
) -> Result<bool, SimulatorError> {
    let mut print = |line: String| writeln!(out, "{line}").map_err(io_error("write"));
    in_virtual_time(options, async |clock, telemetry, sink| {
        let world = World::start(Parts {
            seed: options.seed,
            scenario: scenario(nodes),
            clock,
            config: options.config.clone(),
            telemetry,
            keeps_trace: false,
        });
        let mut run = Run::begin(world.await?, options.seed).await?;
        let mut random = Random::new(options.seed, "soak");
        let hours = options.ms.div_ceil(HOUR_MS).max(1);
        let busy_hours = hours.saturating_sub(hours / 4);
        print("hour  nodes peak  resident KiB  log bytes  writes".to_owned())?;
        let mut memory = Vec::new();
        for hour in 0..hours {
            let (log_before, writes_before) = (sink.bytes(), run.world.witness.writes());
            let mut peak = 0;
            for _ in 0..HOUR_MS / EVERY_MS {
                if hour < busy_hours {
                    submit(&run, nodes, &mut random);
                }
                run.rest(EVERY_MS).await?;
                peak = peak.max(alive(&run));
                run.world.ray.forget_done(DEAD_MAX);
            }
            let resident = resident_kib();
            memory.push(resident);
            let logged = sink.bytes() - log_before;
            let writes = run.world.witness.writes() - writes_before;
            print(format!(
                "{hour:>4}  {peak:>10}  {resident:>12}  {logged:>9}  {writes:>6}"
            ))?;
        }
        print(format!(
            "memory slope from hour {} to {}: {} KiB per hour",
            busy_hours / 3,
            busy_hours,
            slope(&memory, busy_hours)
        ))?;
        let problem = run.world.witness.problem();
        if let Some(problem) = &problem {
            print(format!("WRONG: {problem}"))?;
        }
        Ok(problem.is_none())
    })
}

/// Asks for work for some share of all nodes, for one to ten minutes.
fn submit(run: &Run, nodes: u32, random: &mut Random) {
    let most = u64::from(nodes) * CPUS;
    run.world.ray.submit_tasks(Tasks {
        resources: whole(&[("CPU", 1)]),
        count: random.between(0, most / 8),
        duration_ms: Some(random.between(60_000, 600_000)),
        ..Tasks::default()
    });
}

fn alive(run: &Run) -> usize {
    let view = run.world.ray.view();
    let is_alive =
        |condition: NodeCondition| !matches!(condition, NodeCondition::Dead | NodeCondition::Lost);
    let alive = view.nodes.iter().filter(|node| is_alive(node.condition));
    alive.count()
}

fn scenario(nodes: u32) -> Scenario {
    let group = |name: &str, max: u32| Group {
        name: name.to_owned(),
        resources: [("CPU".to_owned(), Amount(4.0))].into(),
        labels: Default::default(),
        min: 0,
        max,
        hosts: 1,
        priority: 0,
        idle_timeout: None,
        capacity: true,
    };
    Scenario {
        name: "soak".to_owned(),
        duration: HumanDuration::from_secs(0),
        idle_timeout: HumanDuration::from_secs(60),
        boot: HumanDuration::from_secs(20),
        join: HumanDuration::from_secs(5),
        head: Default::default(),
        groups: vec![
            group("first", nodes.div_ceil(2)),
            group("second", nodes / 2),
        ],
        events: Vec::new(),
    }
}

/// Returns how much memory this process has, stand-ins and all.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Returns how much memory grew in an hour, over the later two thirds of the busy ones.
fn slope(memory: &[u64], busy_hours: u64) -> i64 {
    let busy = usize::try_from(busy_hours).unwrap_or(0).min(memory.len());
    let from = busy / 3;
    let (Some(first), Some(last)) = (memory.get(from), memory.get(busy.saturating_sub(1))) else {
        return 0;
    };
    let hours = i64::try_from(busy.saturating_sub(from + 1).max(1)).unwrap_or(1);
    let signed = |kib: u64| i64::try_from(kib).unwrap_or(i64::MAX);
    (signed(*last) - signed(*first)) / hours
}
