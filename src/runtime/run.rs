//! `rayscaler run`: settings, log and signals around the work, until SIGTERM.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tracing::{error, info, warn};

use super::first_config::{self, Waiting};
use super::network::Network;
use super::options::RunOptions;
use super::reload::{ReloadOutcome, Reloader};
use super::shutdown::{Shutdown, TaskEnded, Tasks};
use super::sidecar::{Builder, admin_state};
use super::telemetry::Telemetry;
use crate::admin::AdminState;
use crate::clock::Clock;
use crate::config::{Config, PolicyCatalog};
use crate::model::Timestamp;
use crate::report::Metrics;
use crate::report::events::{ConfigRead, Event as _};

/// How often the config file is looked at; a ConfigMap takes a minute to arrive anyway.
pub(super) const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// A patch takes milliseconds; one that hangs must not hold up the end of the pod.
const FINISH_WITHIN: Duration = Duration::from_millis(1_500);

/// What the last passes had to tell takes milliseconds as well; both together stay under the two seconds after which
/// the parent ends us.
const REPORT_WITHIN: Duration = Duration::from_millis(300);

/// Says why `run` ended before it was told to.
#[derive(Debug, Error)]
pub enum RunError {
    /// The log cannot be started.
    #[error("cannot start the log")]
    Log(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The settings make no sense together, or a file they name cannot be read.
    #[error("cannot start: {0}")]
    Settings(String),
    /// A task that runs beside the loop is gone; the parent starts everything anew.
    #[error("the task `{0}` ended")]
    TaskEnded(&'static str),
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
    let clock = Clock::system();
    let read = first_config::read(options, policies);
    let log = options.overrides.apply(first_config::settings(&read)).log;
    let telemetry = Telemetry::start(log, clock.clone())?;
    let (trigger, shutdown) = Shutdown::new();
    // From here on: whoever reads that we start may tell us to stop.
    let signals = trigger.pull_on_signal().map_err(RunError::Runtime)?;
    tokio::pin!(signals);
    greet(options);
    let metrics = Metrics::new();
    let waiting = Waiting {
        options,
        policies,
        clock: &clock,
        metrics: &metrics,
        telemetry: &telemetry,
    };
    let accepted = waiting.until_accepted(read);
    let Some((mut reloader, file)) = unless_told(&mut signals, accepted).await else {
        return Ok(());
    };
    let config = options.overrides.apply(file);
    telemetry.set(config.log);
    let admin = admin_state((options, &config), (&metrics, &clock, &telemetry));
    let builder = Builder {
        options,
        config: &config,
        telemetry: telemetry.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
        network: Network::default(),
        admin: Arc::clone(&admin),
        serves_admin: true,
    };
    let built = Box::pin(builder.build());
    let Some(sidecar) = unless_told(&mut signals, built).await else {
        return Ok(());
    };
    let sidecar = sidecar.map_err(RunError::Settings)?;
    let (mut controller, mut tasks, settings) = sidecar.split();
    let mut work = Box::pin(controller.run(shutdown.requested()));
    let mut timer = tokio::time::interval(RELOAD_EVERY);
    loop {
        tokio::select! {
            biased;
            signal = &mut signals => {
                // The loop finishes a patch in flight and returns.
                if tokio::time::timeout(FINISH_WITHIN, &mut work).await.is_err() {
                    warn!("the patch in flight was not finished in time");
                }
                // Without the loop nobody writes any more, and the courier ends once all is delivered.
                drop(work);
                drop(controller);
                reported(&mut tasks).await;
                info!(signal, "stopping");
                return Ok(());
            }
            () = &mut work => return Ok(()),
            Some(TaskEnded { name, panic }) = tasks.next_ended() => {
                error!(task = name, panic = panic.unwrap_or_default(), "a task ended, starting anew");
                return Err(RunError::TaskEnded(name));
            }
            _ = timer.tick() => {
                if let Some(changed) = look(reloader.as_mut(), (options, policies), (&metrics, &admin), clock.now()) {
                    telemetry.set(changed.log);
                    settings.apply(&changed);
                }
            }
        }
    }
}

/// Waits until the last reports are delivered, for a while.
async fn reported(tasks: &mut Tasks) {
    if !tasks.ends_within("courier", REPORT_WITHIN).await {
        warn!("the last reports were not delivered in time");
    }
}

/// Waits for something; `None` when a signal says stop first.
async fn unless_told<T>(
    signals: &mut (impl Future<Output = &'static str> + Unpin),
    something: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        signal = signals => {
            info!(signal, "stopping");
            None
        }
        done = something => Some(done),
    }
}

fn greet(options: &RunOptions) {
    info!(
        cluster = options.cluster_name,
        namespace = options.cluster_namespace,
        restarts = options.lineage.total(),
        last_ended_by = options.lineage.last().map(super::supervisor::Cause::as_str),
        "starting"
    );
    for notice in &options.notices {
        warn!(variable = notice.variable, "{}", notice.detail);
    }
    for remark in &options.remarks {
        info!(remark, "part of the start command that is not run");
    }
}

fn look(
    reloader: Option<&mut Reloader>,
    (options, policies): (&RunOptions, &dyn PolicyCatalog),
    (metrics, admin): (&Metrics, &AdminState),
    now: Timestamp,
) -> Option<Config> {
    let reloader = reloader?;
    let outcome = reloader.poll(policies);
    let path = reloader.path().display().to_string();
    if reloader.is_in_force() {
        metrics.source_was_right("config", now);
        admin.config_refused(None);
    }
    match outcome {
        ReloadOutcome::Unchanged => None,
        ReloadOutcome::Changed(config) => {
            ConfigRead {
                problems: None,
                path: &path,
                in_use: "this one",
            }
            .emit(metrics);
            Some(options.overrides.apply(*config))
        }
        ReloadOutcome::Refused(refused) => {
            let problems = refused.to_string();
            ConfigRead {
                problems: Some(&problems),
                path: &path,
                in_use: "the last good one",
            }
            .emit(metrics);
            admin.config_refused(Some(problems));
            None
        }
    }
}
