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

/// What the first look at the config file found.
pub(super) enum FirstConfig {
    /// Settings; without a file there is nothing to look at later.
    Accepted(Option<Reloader>, Config),
    /// Nothing that could be used.
    Refused(ReloadError),
}

impl FirstConfig {
    /// Returns the settings, or defaults where there are none.
    pub(super) fn config(&self) -> Config {
        match self {
            Self::Accepted(_, config) => config.clone(),
            Self::Refused(_) => Config::default(),
        }
    }
}

/// Reads the config file, if there is one.
pub(super) fn read(options: &RunOptions, policies: &dyn PolicyCatalog) -> FirstConfig {
    let Some(path) = &options.config_path else {
        return FirstConfig::Accepted(None, Config::default());
    };
    match Reloader::open(path.clone(), policies) {
        Ok((reloader, config)) => FirstConfig::Accepted(Some(reloader), config),
        Err(refused) => FirstConfig::Refused(refused),
    }
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
            FirstConfig::Accepted(reloader, config) => return (reloader, config),
            FirstConfig::Refused(refused) => refused,
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
                FirstConfig::Accepted(reloader, config) => break (reloader, config),
                FirstConfig::Refused(refused) => refused,
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
