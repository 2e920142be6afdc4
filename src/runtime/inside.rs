//! The sidecar inside another program, which gives it network and clock: the sandbox, later the simulator.

use std::sync::Arc;

use tracing::error;

use super::network::Network;
use super::options::RunOptions;
use super::run::RunError;
use super::shutdown::{Shutdown, TaskEnded};
use super::sidecar::{Builder, admin_state};
use super::telemetry::Telemetry;
use crate::admin::AdminState;
use crate::clock::Clock;
use crate::config::Config;
use crate::report::Metrics;

/// Holds what a sidecar is given by the program around it.
#[derive(Debug)]
pub struct InsideParts {
    /// What it is started with.
    pub options: RunOptions,
    /// The config in force; it is not read again.
    pub config: Config,
    /// The log.
    pub telemetry: Telemetry,
    /// Tells the time.
    pub clock: Clock,
    /// How the others are reached.
    pub network: Network,
    /// Whether the admin port is served.
    pub serves_admin: bool,
}

/// A sidecar that does not own its process.
#[derive(Debug)]
pub struct Inside {
    parts: InsideParts,
    metrics: Metrics,
    admin: Arc<AdminState>,
}

impl Inside {
    /// Returns a sidecar that has not started.
    #[must_use]
    pub fn new(parts: InsideParts) -> Self {
        let metrics = Metrics::new();
        let settings = (&parts.options, &parts.config);
        let admin = admin_state(settings, (&metrics, &parts.clock, &parts.telemetry));
        Self {
            parts,
            metrics,
            admin,
        }
    }

    /// Returns what the admin port shows, served or not.
    #[must_use]
    pub fn admin(&self) -> Arc<AdminState> {
        Arc::clone(&self.admin)
    }

    /// Returns the metrics.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Runs until the end is told.
    ///
    /// # Errors
    ///
    /// Settings that make no sense, and a task beside the loop that ended.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let parts = self.parts;
        let builder = Builder {
            options: &parts.options,
            config: &parts.config,
            telemetry: parts.telemetry.clone(),
            clock: parts.clock.clone(),
            metrics: self.metrics,
            shutdown: shutdown.clone(),
            network: parts.network.clone(),
            admin: self.admin,
            serves_admin: parts.serves_admin,
        };
        let sidecar = tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            sidecar = builder.build() => sidecar.map_err(RunError::Settings)?,
        };
        let (mut controller, mut tasks, _settings) = sidecar.split();
        tokio::select! {
            biased;
            () = controller.run(shutdown.requested()) => Ok(()),
            Some(ended) = tasks.next_ended() => {
                let TaskEnded { name, panic } = ended;
                error!(task = name, panic = panic.unwrap_or_default(), "a task ended");
                Err(RunError::TaskEnded(name))
            }
        }
    }
}
