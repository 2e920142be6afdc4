//! The config file at the start, where no last good one could stay in use: it is waited for.
//!
//! # Why not begin without it
//!
//! Defaults would scale a cluster that somebody wanted held, paused or limited. So nothing is decided, but
//! whoever asks is told why: the admin port is served, with every mistake on it, and the file is read again
//! each second. (2026-11)

use std::sync::Arc;

use super::options::RunOptions;
use super::reload::{ReloadError, Reloader};
use super::run::RELOAD_EVERY;
use super::shutdown::Tasks;
use super::sidecar::admin_state;
use super::telemetry::Telemetry;
use crate::admin::{self, AdminState};
use crate::clock::Clock;
use crate::config::{Config, PolicyCatalog};
use crate::report::Metrics;
use crate::report::events::{ConfigRead, Event as _};

/// What a look at the config file finds at the start; without a file there is nothing to look at later.
pub(super) type FirstConfig = Result<(Option<Reloader>, Config), ReloadError>;

/// Reads the config file, if there is one.
pub(super) fn read(options: &RunOptions, policies: &dyn PolicyCatalog) -> FirstConfig {
    let Some(path) = &options.config_path else {
        return Ok((None, Config::default()));
    };
    let (reloader, config) = Reloader::open(path.clone(), policies)?;
    Ok((Some(reloader), config))
}

/// Returns what was read, or defaults.
pub(super) fn settings(read: &FirstConfig) -> Config {
    let config = read.as_ref().map(|(_, config)| config.clone());
    config.unwrap_or_default()
}

/// Holds what waiting for a config file takes.
pub(super) struct Waiting<'a> {
    /// What the sidecar was started with.
    pub(super) options: &'a RunOptions,
    /// What a chain may name.
    pub(super) policies: &'a dyn PolicyCatalog,
    /// Tells the time.
    pub(super) clock: &'a Clock,
    /// The metrics.
    pub(super) metrics: &'a Metrics,
    /// The log.
    pub(super) telemetry: &'a Telemetry,
}

impl Waiting<'_> {
    /// Waits until there is a config file that can be used, and shows meanwhile what is wrong with it.
    pub(super) async fn until_accepted(&self, first: FirstConfig) -> (Option<Reloader>, Config) {
        let mut refused = match first {
            Ok(accepted) => return accepted,
            Err(refused) => refused,
        };
        self.metrics
            .source_is_waited_for("config", self.clock.now());
        let config = self.options.overrides.apply(Config::default());
        let parts = (self.metrics, self.clock, self.telemetry);
        let admin = admin_state((self.options, &config), parts);
        let mut tasks = Tasks::default();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        tasks.spawn(
            "admin",
            admin::run(config.admin.bind, Arc::clone(&admin), stopped),
        );
        let mut told = String::new();
        let mut timer = tokio::time::interval(RELOAD_EVERY);
        let accepted = loop {
            timer.tick().await;
            let problems = refused.to_string();
            if problems != told {
                self.tell(&problems, &admin);
                told = problems;
            }
            admin.beat(self.clock.now());
            refused = match read(self.options, self.policies) {
                Ok(accepted) => break accepted,
                Err(refused) => refused,
            };
        };
        // The port is the sidecar's now.
        stop.send_replace(true);
        tasks.end_within(RELOAD_EVERY).await;
        ConfigRead {
            problems: None,
            path: &self.path(),
            in_use: "this one",
        }
        .emit(self.metrics);
        accepted
    }

    fn path(&self) -> String {
        let path = self.options.config_path.as_deref();
        path.map_or_else(String::new, |path| path.display().to_string())
    }

    fn tell(&self, problems: &str, admin: &AdminState) {
        ConfigRead {
            problems: Some(problems),
            path: &self.path(),
            in_use: "none: nothing is decided until the file is accepted",
        }
        .emit(self.metrics);
        admin.config_refused(Some(problems.to_owned()));
    }
}
