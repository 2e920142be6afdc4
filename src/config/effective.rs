//! What wins: flag, then environment, then file, then RayCluster, then default.
//!
//! Flags and environment are [`Overrides`] laid over the file's settings each time the file is read.
//! What the RayCluster may say is `Option` in [`Config`] and asked last, where it is used.

use super::{Config, HumanDuration, LogFormat, LogLevel};

/// Holds settings that did not come from the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// `ray.gcsAddress`.
    pub gcs_address: Option<String>,
    /// `scaling.dryRun`; a flag can only turn it on.
    pub dry_run: Option<bool>,
    /// `scaling.conserveGpuNodes`.
    pub conserve_gpu_nodes: Option<bool>,
    /// `poll.gcs.intervalMax`; a floor above it comes down with it.
    pub gcs_interval_max: Option<HumanDuration>,
    /// `kubernetes.requestTimeout`.
    pub request_timeout: Option<HumanDuration>,
    /// `ray.deadline`.
    pub gcs_deadline: Option<HumanDuration>,
    /// The port of `admin.bind`.
    pub metrics_port: Option<u16>,
    /// `report.monitorLog.bytesMax`.
    pub monitor_log_bytes_max: Option<u64>,
    /// `report.monitorLog.backups`.
    pub monitor_log_backups: Option<u32>,
    /// `log.level`.
    pub log_level: Option<LogLevel>,
    /// `log.format`.
    pub log_format: Option<LogFormat>,
}

impl Overrides {
    /// Returns both, `self` winning over `lower`.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            gcs_address: self.gcs_address.or(lower.gcs_address),
            dry_run: self.dry_run.or(lower.dry_run),
            conserve_gpu_nodes: self.conserve_gpu_nodes.or(lower.conserve_gpu_nodes),
            gcs_interval_max: self.gcs_interval_max.or(lower.gcs_interval_max),
            request_timeout: self.request_timeout.or(lower.request_timeout),
            gcs_deadline: self.gcs_deadline.or(lower.gcs_deadline),
            metrics_port: self.metrics_port.or(lower.metrics_port),
            monitor_log_bytes_max: self.monitor_log_bytes_max.or(lower.monitor_log_bytes_max),
            monitor_log_backups: self.monitor_log_backups.or(lower.monitor_log_backups),
            log_level: self.log_level.or(lower.log_level),
            log_format: self.log_format.or(lower.log_format),
        }
    }

    /// Returns the file's settings with these laid over them.
    #[must_use]
    pub fn apply(&self, mut config: Config) -> Config {
        if let Some(address) = &self.gcs_address {
            config.ray.gcs_address = Some(address.clone());
        }
        if let Some(interval) = self.gcs_interval_max {
            let gcs = &mut config.poll.gcs;
            gcs.interval_max = interval;
            gcs.interval_min = gcs.interval_min.min(interval);
        }
        if let Some(port) = self.metrics_port {
            config.admin.bind.set_port(port);
        }
        let monitor_log = &mut config.report.monitor_log;
        put(&mut monitor_log.bytes_max, self.monitor_log_bytes_max);
        put(&mut monitor_log.backups, self.monitor_log_backups);
        put(&mut config.scaling.dry_run, self.dry_run);
        put(
            &mut config.scaling.conserve_gpu_nodes,
            self.conserve_gpu_nodes,
        );
        put(&mut config.kubernetes.request_timeout, self.request_timeout);
        put(&mut config.ray.deadline, self.gcs_deadline);
        put(&mut config.log.level, self.log_level);
        put(&mut config.log.format, self.log_format);
        config
    }
}

fn put<T: Copy>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_environment_and_both_over_the_file() {
        let flags = Overrides {
            log_level: Some(LogLevel::Debug),
            ..Overrides::default()
        };
        let environment = Overrides {
            log_level: Some(LogLevel::Error),
            metrics_port: Some(1),
            gcs_interval_max: Some(HumanDuration::from_ms(50)),
            ..Overrides::default()
        };
        let mut file = Config::default();
        file.admin.bind = "127.0.0.1:9".parse().unwrap();
        file.log.format = LogFormat::Json;
        let config = flags.over(environment).apply(file);
        assert_eq!(config.log.level, LogLevel::Debug);
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.admin.bind.to_string(), "127.0.0.1:1");
        assert_eq!(config.poll.gcs.interval_min, HumanDuration::from_ms(50));
    }

    #[test]
    fn nothing_overridden_changes_nothing() {
        let config = Overrides::default().apply(Config::default());
        assert_eq!(config, Config::default());
    }
}
