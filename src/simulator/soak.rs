//! A long run of a large cluster: does anything grow that should not, and how much is logged when nothing happens?
//!
//! In a busy hour work comes first, with trouble in the middle, and then whoever asked for it
//! leaves: each such hour ends with the same small cluster, so that what an hour leaves behind shows. The first
//! hours have as much work as there ever is. The last ones are quiet: first with all nodes at work that does not
//! end, then with none.
//!
//! # Why the GCS takes longer the more it tells
//!
//! A sidecar asks as often as answers are cheap, and here answers take no time: it would ask a thousand
//! nodes ten times a second, which it never does where they cost something. (2026-11)
//!
//! # Why the API server forgets its past before the heap is looked at
//!
//! Most of the heap were pods that are gone, held in its history for watches: some more or less of them than
//! an hour before hide a leak of the sidecar. (2026-11)
//!
//! # Why the allocator gives back what it keeps before resident memory is looked at
//!
//! With 8 MiB of the heap in use 570 to 600 MiB were resident: what the largest pass of the stand-ins once took,
//! in pieces that came and went from hour to hour, twenty times more than what is to be found. (2026-11)

mod ledger;

use std::collections::BTreeMap;
use std::io::Write;

use super::faults::{FaultKind, Only};
use super::random::Random;
use super::run::Run;
use super::workload::whole;
use super::world::{Parts, World};
use super::{SimulateOptions, SimulatorError, in_virtual_time, io_error};
use crate::config::HumanDuration;
use crate::embedded::ray::{NodeCondition, Tasks, WorkId};
use crate::runtime::supervisor::{give_back_memory, heap_in_use};
use crate::sandbox::scenario::{Amount, Group, Scenario};
use ledger::{FIRST_HOURS, HourKind, Ledger, Sample, Verdict};

/// Processors of each node.
const CPUS: u64 = 4;

/// How often work comes, while it comes. Units: milliseconds.
const EVERY_MS: u64 = 30_000;

/// How long each task runs. Units: milliseconds.
const TASK_MS: (u64, u64) = (60_000, 600_000);

/// Dead nodes that Ray itself remembers.
const DEAD_MAX: u32 = 1_000;

/// Changes that the API server remembers for each node: it is full after the first hours, and so is what of it
/// counts as memory.
const CHANGES_PER_NODE: u32 = 4;

/// What the GCS takes for each node it tells of, reading included, which alone takes 7 as measured. Units: microseconds.
const NODE_US: u64 = 15;

/// A pod's token is good for an hour, and the kubelet renews it before. Units: milliseconds.
const TOKEN_MS: u64 = 2_400_000;

/// In the middle of a busy hour something goes wrong for so long. Units: milliseconds.
const TROUBLE_MS: u64 = 90_000;

/// What goes wrong: nothing that ends the sidecar, which would begin to remember anew, or changes the groups.
const TROUBLE: &str = "api,watch,gcs-u,gcs-h,gcs-s,raylet,drain,pod";

const HOUR_MS: u64 = 3_600_000;

/// Shorter runs have shorter hours, as many as this; else nothing could be said of a slope.
const HOURS_MIN: u64 = 12;

/// Plays busy hours up to so many nodes and quiet ones, prints a line for each, and judges them.
///
/// # Errors
///
/// What kept it from being played.
pub fn soak(
    options: &SimulateOptions,
    nodes: u32,
    out: &mut dyn Write,
) -> Result<bool, SimulatorError> {
    let lull_ms = lull_ms(nodes);
    let hour_ms = HOUR_MS.min(options.ms / HOURS_MIN).max(2 * lull_ms);
    let hours = (options.ms / hour_ms).max(1);
    in_virtual_time(options, async |clock, telemetry, sink| {
        let world = World::start(Parts {
            seed: options.seed,
            scenario: scenario(nodes),
            clock,
            config: options.config.clone(),
            telemetry,
            keeps_trace: false,
            changes_max: usize::try_from(nodes * CHANGES_PER_NODE).ok(),
        });
        let mut soak = Soak {
            run: Box::pin(Run::begin(world.await?, options.seed)).await?,
            random: Random::new(options.seed, "soak"),
            trouble: TROUBLE.parse().unwrap_or(Only(Vec::new())),
            works: Vec::new(),
            is_first: true,
            nodes,
            hour_ms,
            work_ms: hour_ms - lull_ms,
        };
        let mut ledger = Ledger::new(hour_ms);
        say(out, &Ledger::head())?;
        for hour in 0..hours {
            let kind = HourKind::of(hour, hours);
            let log_before = sink.bytes();
            soak.is_first = hour < FIRST_HOURS;
            let mut sample = soak.hour(kind).await?;
            sample.log_bytes = sink.bytes() - log_before;
            say(out, &sample.line(hour))?;
            ledger.add(sample);
        }
        let Verdict { told, mut wrong } = ledger.verdict();
        wrong.extend(soak.run.world.witness.problem());
        told.iter().try_for_each(|line| say(out, line))?;
        wrong
            .iter()
            .try_for_each(|line| say(out, &format!("WRONG: {line}")))?;
        Ok(wrong.is_empty())
    })
}

fn say(out: &mut dyn Write, line: &str) -> Result<(), SimulatorError> {
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(io_error("write"))
}

/// A soak under way.
struct Soak {
    run: Run,
    random: Random,
    trouble: Only,
    works: Vec<WorkId>,
    /// Whether this is one of the hours in which all becomes as large as it gets.
    is_first: bool,
    nodes: u32,
    hour_ms: u64,
    /// So long work comes in a busy hour.
    work_ms: u64,
}

impl Soak {
    /// Plays one hour, and returns how things are at its end.
    async fn hour(&mut self, kind: HourKind) -> Result<Sample, SimulatorError> {
        let world = &self.run.world;
        let (writes, met) = (world.witness.writes(), world.board.met());
        let count = |met: &BTreeMap<FaultKind, u64>| met.values().sum::<u64>();
        let faults = count(&met);
        let mut nodes_peak = 0;
        for step in 0..self.hour_ms / EVERY_MS {
            let at_ms = step * EVERY_MS;
            match kind {
                HourKind::Busy if at_ms < self.work_ms => self.submit(),
                HourKind::Filling if at_ms == 0 => self.fill(),
                HourKind::Full | HourKind::Filling => {}
                HourKind::Busy | HourKind::Emptying | HourKind::Empty => self.cancel(),
            }
            let is_middle = at_ms == self.work_ms / 2 / EVERY_MS * EVERY_MS;
            let has_trouble = kind == HourKind::Busy && is_middle;
            nodes_peak = nodes_peak.max(self.pass(has_trouble).await?);
        }
        let large = self.run.what_is_large().await?;
        let is_small = matches!(kind, HourKind::Busy | HourKind::Emptying | HourKind::Empty);
        let world = &self.run.world;
        if is_small && !large.is_empty() {
            let large = format!("not small after an hour: {}", large.join(", "));
            world.witness.object(large);
        }
        let stand_ins = (world.api.held(), world.ray.view().nodes.len());
        world.api.compact();
        give_back_memory();
        let mut sample = Sample {
            kind,
            nodes_peak,
            // Without what has been read of the program's own file: that is as large as the program at most.
            resident_kib: status_kib("RssAnon:")
                .unwrap_or_else(|| status_kib("VmRSS:").unwrap_or(0)),
            resident_peak_kib: status_kib("VmHWM:").unwrap_or(0),
            writes: world.witness.writes() - writes,
            faults: count(&world.board.met()) - faults,
            heap_kib: heap_in_use().map(|bytes| bytes / 1024),
            stand_ins,
            ..Sample::default()
        };
        if let Some(admin) = world.admin() {
            let memory = admin.last_pass().map(|pass| pass.memory);
            sample.remembered = serde_json::to_string(&memory)?.len();
            let text = admin.exposition();
            let series = text.lines().filter(|line| !line.starts_with('#'));
            sample.series = series.count();
        }
        Ok(sample)
    }

    /// Lets the time pass until work may come again; returns how many nodes there are then.
    async fn pass(&mut self, has_trouble: bool) -> Result<usize, SimulatorError> {
        if self.run.world.token_age_ms() >= TOKEN_MS {
            self.run.world.renew_token().await?;
        }
        let nodes = alive(&self.run);
        let takes_us = u64::try_from(nodes).unwrap_or(0) * NODE_US;
        self.run.world.set_gcs_takes_ms(takes_us / 1_000);
        if has_trouble {
            self.trouble().await?;
        } else {
            self.run.rest(EVERY_MS).await?;
        }
        // A small cluster's are few for the same reason.
        let dead_max = usize::try_from(self.nodes.min(DEAD_MAX)).unwrap_or(0);
        self.run.world.ray.forget_done(dead_max);
        Ok(nodes)
    }

    /// Has something go wrong, beside all the work.
    async fn trouble(&mut self) -> Result<(), SimulatorError> {
        let now = self.run.world.clock.now();
        self.run.havoc.plan(&self.trouble, now, TROUBLE_MS);
        let ends_at = now.plus_ms(TROUBLE_MS);
        while self.run.world.clock.now() < ends_at {
            self.run.havoc.act(&mut self.run.world).await?;
            self.run.step().await?;
        }
        self.run.havoc.end_all(&mut self.run.world).await
    }

    /// Asks for work for some share of all nodes, for one to ten minutes.
    fn submit(&mut self) {
        let most = u64::from(self.nodes) * CPUS / 6;
        let least = if self.is_first { most } else { 0 };
        let work = Tasks {
            resources: whole(&[("CPU", 1)]),
            count: self.random.between(least, most),
            duration_ms: Some(self.random.between(TASK_MS.0, TASK_MS.1)),
            ..Tasks::default()
        };
        self.works.push(self.run.world.ray.submit_tasks(work));
    }

    /// Asks for work for all nodes that does not end.
    fn fill(&mut self) {
        let work = Tasks {
            resources: whole(&[("CPU", 1)]),
            count: u64::from(self.nodes) * CPUS,
            ..Tasks::default()
        };
        self.works.push(self.run.world.ray.submit_tasks(work));
    }

    /// Takes everything back.
    fn cancel(&mut self) {
        for work in std::mem::take(&mut self.works) {
            self.run.world.ray.cancel(work);
        }
    }
}

/// Returns how long nobody asks for anything at the end of a busy hour: until it is small again, a large cluster
/// takes longer, as a quarter of it may go in a minute.
fn lull_ms(nodes: u32) -> u64 {
    let doublings = (nodes / 40).max(1).ilog2();
    60_000 * (6 + 4 * u64::from(doublings))
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

/// Returns what the system says of the memory of this process, stand-ins and all. Units: KiB.
fn status_kib(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}
