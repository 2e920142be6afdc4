//! `rayscaler sandbox`: the sidecar at work where there is neither Kubernetes nor Ray.
//!
//! The sidecar is the one that `rayscaler run` runs, whole: it reads a RayCluster and pods from an API server,
//! demand from a GCS and raylets, patches and drains. API server, operator, kubelet and Ray head are the
//! stand-ins of `embedded`, in this process and under virtual time.
//!
//! # Why virtual time
//!
//! The scenario is the same on a slow machine, at any speed, and for the stock loop that it is compared
//! with, which is played afterwards in a moment. (2026-11)

mod autoscaler;
mod demand;
mod door;
mod log;
pub(crate) mod manifest;
mod pace;
mod plain;
mod play;
mod real_ray;
pub mod scenario;
mod stock;
mod summary;
mod tally;
mod timeline;
mod view;
mod world;

use std::io::{self, Write};
use std::path::PathBuf;

use thiserror::Error;

use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::embedded::kube::CertificateError;
use crate::embedded::pods::ContainerStart;
use crate::runtime::telemetry::Telemetry;
use autoscaler::{Autoscaler, Sidecar};
use door::Door;
use pace::Pace;
pub use pace::Speed;
use plain::Plain;
use play::{Blind, Played, play, wait_until_ready};
pub use real_ray::RayInstallation;
use real_ray::RealRay;
use scenario::Scenario;
use view::Terminal;
use world::World;

/// Holds what a sandbox is started with.
#[derive(Debug)]
pub struct SandboxOptions {
    /// What is played.
    pub scenario: Scenario,
    /// Settings of the sidecar.
    pub config: Config,
    /// How fast the scenario is played.
    pub speed: Speed,
    /// Whether lines are printed in place of the view.
    pub is_plain: bool,
    /// Where the sidecar's log goes; nowhere without.
    pub log: Option<PathBuf>,
    /// Whether the sidecar's admin port is served.
    pub serves_admin: bool,
    /// Whether the API server is served, for kubectl.
    pub serves_kube: bool,
    /// Whether the stock loop is played too.
    pub compares: bool,
    /// A Ray installation, whose head and raylets take the place of the embedded ones; nothing is played then.
    pub ray: Option<RayInstallation>,
}

/// Says why a sandbox could not be played.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The scenario has mistakes.
    #[error("the scenario `{path}` is not accepted:\n{}", lines(errors))]
    Scenario {
        /// The file.
        path: String,
        /// The mistakes.
        errors: Vec<ConfigError>,
    },
    /// The stand-in of the API server refused something.
    #[error("the embedded API server refused a call")]
    Api(#[from] kube::Error),
    /// The scenario makes no RayCluster.
    #[error("cannot make a RayCluster of the scenario")]
    Manifest(#[from] serde_json::Error),
    /// The autoscaler's container did not start, or it never saw everything.
    #[error("the autoscaler did not get ready")]
    NoAutoscaler,
    /// Something that runs beside the scenario is gone.
    #[error("the task `{0}` ended")]
    TaskEnded(&'static str),
    /// The API server cannot be served.
    #[error("cannot serve the embedded API server")]
    Certificate(#[from] CertificateError),
    /// The terminal, the log file or the runtime cannot be used.
    #[error("cannot {doing}")]
    Io {
        /// What for.
        doing: &'static str,
        /// What was wrong.
        source: io::Error,
    },
    /// The log cannot be started.
    #[error("cannot start the log")]
    Log(#[from] tracing::subscriber::SetGlobalDefaultError),
}

fn lines(errors: &[ConfigError]) -> String {
    let lines: Vec<String> = errors.iter().map(|error| format!("  {error}")).collect();
    lines.join("\n")
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> SandboxError {
    move |source| SandboxError::Io { doing, source }
}

/// Plays a scenario, shows it, and prints what came of it.
///
/// # Errors
///
/// What kept it from being played to its end.
pub fn run(options: SandboxOptions, out: &mut dyn Write) -> Result<(), SandboxError> {
    let clock = Clock::system();
    let log = log::LogFile::open(options.log.as_deref()).map_err(io_error("open the log file"))?;
    let (subscriber, telemetry) = Telemetry::new(options.config.log, clock, log, false);
    tracing::subscriber::set_global_default(subscriber)?;
    if let Some(installation) = &options.ray {
        return in_real_time(real_ray(&options, installation, (telemetry, &mut *out)));
    }
    let ours = under_virtual_time(rayscaler(&options, telemetry, &mut *out))?;
    let stock = if options.compares {
        Some(under_virtual_time(stock(&options.scenario))?)
    } else {
        None
    };
    match summary::write(&ours, stock.as_ref(), out) {
        // A reader that is gone, such as `head`, has had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(io_error("write the summary")),
    }
}

/// Runs `work` in a runtime of its own, whose time passes as fast as `work` lets it.
fn under_virtual_time<T>(
    work: impl Future<Output = Result<T, SandboxError>>,
) -> Result<T, SandboxError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .map_err(io_error("set up the runtime"))?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// Runs `work` in a runtime of its own, on a real clock.
fn in_real_time<T>(work: impl Future<Output = Result<T, SandboxError>>) -> Result<T, SandboxError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io_error("set up the runtime"))?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

async fn real_ray(
    options: &SandboxOptions,
    installation: &RayInstallation,
    (telemetry, out): (Telemetry, &mut dyn Write),
) -> Result<(), SandboxError> {
    let scenario = &options.scenario;
    writeln!(out, "starting a Ray head, which takes some seconds").map_err(io_error("write"))?;
    let mut real = RealRay::start(scenario, installation).await?;
    let mut hints = vec![real.hint()];
    let door = if options.serves_kube {
        let door = Door::open(&mut real.cluster).await?;
        hints.push(door.hint());
        Some(door)
    } else {
        None
    };
    let autoscaler = real.autoscale(options.sidecar(telemetry)).await?;
    let shown = if options.is_plain {
        let mut screen = Plain::new(out, Pace::new(Speed::REAL));
        screen.say(&hints).map_err(io_error("write"))?;
        real.show(&autoscaler, scenario, &mut screen).await
    } else {
        let pace = Pace::new(Speed::REAL);
        let mut screen = Terminal::open(pace, hints).map_err(io_error("use the terminal"))?;
        real.show(&autoscaler, scenario, &mut screen).await
    };
    drop(door);
    shown
}

impl SandboxOptions {
    fn sidecar(&self, telemetry: Telemetry) -> Sidecar {
        Sidecar {
            config: self.config.clone(),
            telemetry,
            serves_admin: self.serves_admin,
        }
    }
}

async fn rayscaler(
    options: &SandboxOptions,
    telemetry: Telemetry,
    out: &mut dyn Write,
) -> Result<Played, SandboxError> {
    let (mut world, start) = begin(&options.scenario).await?;
    let mut hints = vec!["in another terminal:  rayscaler status --watch".to_owned()];
    if !options.serves_admin || options.is_plain {
        hints.clear();
    }
    let door = if options.serves_kube {
        let door = Door::open(&mut world.cluster).await?;
        hints.push(door.hint());
        Some(door)
    } else {
        None
    };
    let sidecar = options.sidecar(telemetry);
    let autoscaler =
        Autoscaler::rayscaler((&mut world.cluster, Some(&world.ray)), &start, sidecar).await?;
    wait_until_ready(&mut world.cluster, &autoscaler).await?;
    let players = (&mut world, &autoscaler);
    let pace = Pace::new(options.speed);
    let played = if options.is_plain {
        let mut screen = Plain::new(out, pace);
        screen.say(&hints).map_err(io_error("write"))?;
        play(players, &options.scenario, &mut screen).await
    } else {
        let mut screen = Terminal::open(pace, hints).map_err(io_error("use the terminal"))?;
        play(players, &options.scenario, &mut screen).await
    };
    drop(door);
    played
}

async fn stock(scenario: &Scenario) -> Result<Played, SandboxError> {
    let (mut world, start) = begin(scenario).await?;
    let autoscaler = Autoscaler::stock(&mut world, &start).await?;
    wait_until_ready(&mut world.cluster, &autoscaler).await?;
    play((&mut world, &autoscaler), scenario, &mut Blind).await
}

/// Starts a cluster and waits until KubeRay's container for the autoscaler is started.
async fn begin(scenario: &Scenario) -> Result<(World, ContainerStart), SandboxError> {
    let mut world = World::start(scenario, Clock::system()).await?;
    let start = world
        .cluster
        .autoscaler_starts()
        .await
        .ok_or(SandboxError::NoAutoscaler)?;
    Ok((world, start))
}
