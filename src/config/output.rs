//! What the sidecar says: the sections `report`, `admin` and `log`.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::HumanDuration;

/// What is told to Ray, its drivers and Kubernetes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Report {
    /// Longest time between two reports to the GCS; changes are sent at once.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "10m"))]
    pub interval: HumanDuration,
    /// Whether Events are written on the RayCluster, where the Role allows it.
    pub kubernetes_events: bool,
    /// Whether drivers are told, through the head's event log.
    pub driver_events: bool,
    /// The log file beside Ray's own logs.
    pub monitor_log: MonitorLog,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            interval: HumanDuration::from_secs(30),
            kubernetes_events: true,
            driver_events: true,
            monitor_log: MonitorLog::default(),
        }
    }
}

/// The file `monitor.log` in the head's log folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MonitorLog {
    /// Whether it is written.
    pub enabled: bool,
    /// Size at which it is rotated, in bytes.
    #[schemars(range(min = 65_536))]
    pub bytes_max: u64,
    /// Rotated files that are kept.
    #[schemars(range(min = 0, max = 1000))]
    pub backups: u32,
}

impl Default for MonitorLog {
    fn default() -> Self {
        // Ray rotates its own logs at these.
        Self {
            enabled: true,
            bytes_max: 512 * 1024 * 1024,
            backups: 5,
        }
    }
}

/// The port for metrics and health.
///
/// The head pod's network namespace is shared with user code, so nothing there changes anything
/// unless it is asked for here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port of `/livez`, `/readyz`, `/metrics` and the questions below.
    #[schemars(with = "String", extend("x-format" = "socket-address"))]
    pub bind: SocketAddr,
    /// What may be asked under `/v1/`.
    pub questions: Vec<Question>,
    /// Whether `PUT /v1/log-level` changes the log level.
    pub log_level_change: bool,
}

/// Stock's port, which the usual PodMonitor scrapes.
pub const METRICS_PORT: u16 = 44217;

impl Default for Admin {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, METRICS_PORT)),
            questions: vec![Question::Decision, Question::History, Question::Config],
            log_level_change: false,
        }
    }
}

/// Something that may be asked over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Question {
    /// The last decision with its reasons.
    Decision,
    /// What the engine remembers.
    History,
    /// The settings in force.
    Config,
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// Least important lines that are written.
    pub level: LogLevel,
    /// Form of a line.
    pub format: LogFormat,
}

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something needs attention.
    Warn,
    /// Every change, once.
    #[default]
    Info,
    /// Every pass.
    Debug,
    /// Every call.
    Trace,
}

impl LogLevel {
    /// Returns the level of this name, in any case and in Python's words too.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "error" | "critical" | "fatal" => Some(Self::Error),
            "warn" | "warning" => Some(Self::Warn),
            "info" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}
