//! `rayscaler run`: settings, log and signals around the work, until SIGTERM.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tracing::{error, info, warn};

use super::options::RunOptions;
use super::reload::{ReloadError, ReloadOutcome, Reloader};
use super::shutdown::Shutdown;
use super::telemetry::{Telemetry, chain};
use crate::clock::Clock;
use crate::config::{Config, PolicyCatalog};

/// How often the config file is looked at; a ConfigMap takes a minute to arrive anyway.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Says why `run` ended before it was told to.
#[derive(Debug, Error)]
pub enum RunError {
    /// The config file is not used, and there is no last good one.
    #[error(transparent)]
    Config(#[from] ReloadError),
    /// The log cannot be started.
    #[error("cannot start the log")]
    Log(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// Runtime or signals cannot be set up.
    #[error("cannot set up the runtime")]
    Runtime(#[source] io::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
///
/// Only what fails at the start; later failures are logged, counted and tried again.
pub fn run(options: &RunOptions, policies: &dyn PolicyCatalog) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    runtime.block_on(serve(options, policies))
}

async fn serve(options: &RunOptions, policies: &dyn PolicyCatalog) -> Result<(), RunError> {
    let (mut reloader, file) = match &options.config_path {
        Some(path) => {
            let (reloader, config) = Reloader::open(path.clone(), policies)?;
            (Some(reloader), config)
        }
        None => (None, Config::default()),
    };
    let mut config = options.overrides.apply(file);
    let telemetry = Telemetry::start(config.log, Clock::system())?;
    greet(options);
    let (trigger, shutdown) = Shutdown::new();
    let signals = trigger.pull_on_signal();
    tokio::pin!(signals);
    let mut timer = tokio::time::interval(RELOAD_EVERY);
    while !shutdown.is_requested() {
        tokio::select! {
            biased;
            signal = &mut signals => {
                let signal = signal.map_err(RunError::Runtime)?;
                info!(signal, "stopping");
            }
            _ = timer.tick() => {
                if let Some(changed) = look(reloader.as_mut(), policies) {
                    config = options.overrides.apply(changed);
                    telemetry.set(config.log);
                }
            }
        }
    }
    Ok(())
}

fn greet(options: &RunOptions) {
    info!(
        version = env!("CARGO_PKG_VERSION"),
        cluster = options.cluster_name,
        namespace = options.cluster_namespace,
        restarts = options.lineage.total(),
        last_ended_by = options.lineage.last().map(super::supervisor::Cause::as_str),
        "started"
    );
    for notice in &options.notices {
        let (variable, detail) = (notice.variable, &notice.detail);
        warn!(variable, detail, "environment variable without effect");
    }
    for remark in &options.remarks {
        info!(remark, "part of the start command that is not run");
    }
}

fn look(reloader: Option<&mut Reloader>, policies: &dyn PolicyCatalog) -> Option<Config> {
    match reloader?.poll(policies) {
        ReloadOutcome::Unchanged => None,
        ReloadOutcome::Changed(config) => {
            info!("config file read again");
            Some(*config)
        }
        ReloadOutcome::Refused(refused) => {
            let error = chain(&refused);
            error!(error, "config file not used, the last good one stays");
            None
        }
    }
}
