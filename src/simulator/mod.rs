//! `rayscaler simulate`: the whole sidecar through seeded trouble, under virtual time, on one thread.
//!
//! Controller, engine, observation and writes are those of `rayscaler run`; around them are the stand-ins of
//! `embedded`, and between the two a layer in which calls fail, answers are stale and watches lie. A
//! `witness` judges every write by what is true at that moment. When trouble ends, all demand has to be
//! served and everything has to become small again.
//!
//! # Why seeds, and one die for each purpose
//!
//! A seed draws cluster, work, trouble and edits, and is played again to the same bytes: there is one thread, no
//! clock but the runtime's paused one, and no randomness but the seed's. So several who wait for one thing wait
//! for `embedded::news`, and how late an answer comes depends on the moment and on the question alone. (2026-11)

mod edits;
mod faults;
mod gangs;
mod halves;
mod havoc;
mod kube_body;
mod kube_layer;
mod log;
mod old_heads;
mod pod_faults;
mod pod_orders;
mod promptly;
mod random;
mod ray_faults;
mod run;
mod scenes;
mod soak;
mod stage;
mod templates;
mod trace;
mod witness;
mod workload;
mod world;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use thiserror::Error;

use crate::clock::Clock;
use crate::config::Config;
use crate::model::Timestamp;
use crate::runtime::telemetry::Telemetry;
use crate::sandbox::scenario::Scenario;
pub use faults::{FaultKind, Only};
use log::Sink;
pub use run::Outcome;
use run::Run;
pub use soak::soak;
pub use stage::{GroupView, Stage};
use world::{Parts, World};

/// Where every run begins: 2026-11-01T00:00:00Z. Any moment would do, as long as it is always the same.
const BEGINNING: Timestamp = Timestamp::from_ms(1_793_491_200_000);

/// Says what is simulated.
#[derive(Debug, Clone)]
pub struct SimulateOptions {
    /// The first seed.
    pub seed: u64,
    /// How many seeds.
    pub seeds: u64,
    /// How long each run lasts at least.
    ///
    /// Units: virtual milliseconds.
    pub ms: u64,
    /// What may go wrong.
    pub only: Only,
    /// How `only` was written.
    pub only_text: Option<String>,
    /// Settings of the sidecar.
    pub config: Config,
    /// Where the trace of the last run goes.
    pub trace: Option<PathBuf>,
    /// Where the sidecar's log goes.
    pub log: Option<PathBuf>,
}

impl Default for SimulateOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            seeds: 1,
            ms: 60_000,
            only: Only::default(),
            only_text: None,
            config: Config::default(),
            trace: None,
            log: None,
        }
    }
}

/// Says why something could not be simulated; trouble that was meant to be is none of these.
#[derive(Debug, Error)]
pub enum SimulatorError {
    /// The stand-in of the API server refused something to the administrator.
    #[error("the embedded API server refused a call")]
    Api(#[from] kube::Error),
    /// An object is not what it should be.
    #[error("cannot read or make an object")]
    Object(#[from] serde_json::Error),
    /// The sidecar never decided anything.
    #[error("the sidecar did not get ready")]
    NoSidecar,
    /// A file or the runtime cannot be used.
    #[error("cannot {doing}")]
    Io {
        /// What for.
        doing: &'static str,
        /// What was wrong.
        source: io::Error,
    },
}

impl SimulatorError {
    /// Returns whether something was not there any more.
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 404)
    }
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> SimulatorError {
    move |source| SimulatorError::Io { doing, source }
}

/// Simulates all seeds and prints what came of each; returns whether all was well.
///
/// # Errors
///
/// What kept a run from being played.
pub fn simulate(options: &SimulateOptions, out: &mut dyn Write) -> Result<bool, SimulatorError> {
    let mut met: BTreeMap<FaultKind, u64> = BTreeMap::new();
    let (mut failed, mut writes, mut checks) = (Vec::new(), 0, 0);
    let (mut served_ms, mut small_ms) = (0, 0);
    let seeds = options.seed..options.seed.saturating_add(options.seeds);
    for seed in seeds {
        let outcome = run_seed(seed, options)?;
        for (kind, count) in &outcome.met {
            *met.entry(*kind).or_default() += count;
        }
        writes += outcome.writes;
        checks += outcome.checks;
        served_ms = outcome.served_ms_max.max(served_ms);
        small_ms = outcome.small_ms_max.max(small_ms);
        let verdict = outcome.problem.as_deref().unwrap_or("well");
        writeln!(
            out,
            "seed {seed}: {verdict} ({} writes, trace {:016x})",
            outcome.writes, outcome.digest
        )
        .map_err(io_error("write"))?;
        if outcome.problem.is_some() {
            writeln!(out, "  again with: {}", again(seed, options)).map_err(io_error("write"))?;
            failed.push(seed);
        }
        if let Some(path) = &options.trace {
            std::fs::write(path, &outcome.trace).map_err(io_error("write the trace"))?;
        }
    }
    let mut summary = format!(
        "{} seeds, {} failed {failed:?}; {writes} writes, {checks} times right again; \
         demand served within {served_ms} ms of boot and join, small within {small_ms} ms of the idle timeout\n",
        options.seeds,
        failed.len(),
    );
    for (kind, count) in &met {
        summary.push_str(&format!("  {kind:<20} {count:>8}\n"));
    }
    out.write_all(summary.as_bytes())
        .map_err(io_error("write"))?;
    Ok(failed.is_empty())
}

/// Returns the command that plays a run again.
fn again(seed: u64, options: &SimulateOptions) -> String {
    let hours = humantime::format_duration(std::time::Duration::from_millis(options.ms));
    let hours = hours.to_string().replace(' ', "");
    let only = options.only_text.as_ref();
    let only = only.map_or_else(String::new, |only| format!(" --only {only}"));
    format!("rayscaler simulate --seeds 1 --seed {seed} --hours {hours}{only} --trace trace.txt")
}

/// Plays one run.
///
/// # Errors
///
/// What kept it from being played.
pub fn run_seed(seed: u64, options: &SimulateOptions) -> Result<Outcome, SimulatorError> {
    in_virtual_time(options, async |clock, telemetry, sink| {
        let world = World::start(Parts {
            seed,
            scenario: scenes::random(seed),
            clock,
            config: scenes::paced(seed, &options.config),
            telemetry,
            keeps_trace: options.trace.is_some(),
            changes_max: None,
        });
        let mut run = Box::pin(Run::begin(world.await?, seed)).await?;
        run.play(&options.only, options.ms).await?;
        Ok(run.finish(sink.bytes()))
    })
}

/// Plays a scenario by hand on a cluster of these groups; its events are not played.
///
/// The seed decides how late each answer comes, and which pods trouble meets.
///
/// # Errors
///
/// What kept it from being played.
pub fn on_stage<T>(
    scenario: &Scenario,
    seed: u64,
    work: impl AsyncFnOnce(&mut Stage) -> Result<T, SimulatorError>,
) -> Result<T, SimulatorError> {
    let options = SimulateOptions::default();
    in_virtual_time(&options, async |clock, telemetry, _| {
        let world = World::start(Parts {
            seed,
            scenario: scenario.clone(),
            clock,
            config: options.config.clone(),
            telemetry,
            keeps_trace: false,
            changes_max: None,
        });
        let mut stage = Stage::new(Box::pin(Run::begin(world.await?, seed)).await?);
        work(&mut stage).await
    })
}

/// Runs `work` in a runtime whose time passes as fast as `work` lets it, with a log of its own.
fn in_virtual_time<T>(
    options: &SimulateOptions,
    work: impl AsyncFnOnce(Clock, Telemetry, Sink) -> Result<T, SimulatorError>,
) -> Result<T, SimulatorError> {
    let sink = Sink::open(options.log.as_deref()).map_err(io_error("open the log file"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .map_err(io_error("set up the runtime"))?;
    let guard = runtime.enter();
    let clock = Clock::starting_at(BEGINNING);
    drop(guard);
    let (subscriber, telemetry) =
        Telemetry::new(options.config.log, clock.clone(), sink.clone(), false);
    let work = work(clock, telemetry, sink);
    tracing::subscriber::with_default(subscriber, || {
        tokio::task::LocalSet::new().block_on(&runtime, work)
    })
}
