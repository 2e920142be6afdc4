//! The stock sidecar's environment variables: what each does here.
//!
//! Somebody who replaces the stock sidecar keeps these in `autoscalerOptions.env`. Each is honoured
//! or, when it is set and cannot be, named in a warning.

use std::time::Duration;

use super::{HumanDuration, LogLevel, Overrides};

/// Says what a variable of the stock sidecar does here.
#[derive(Debug, Clone, Copy)]
pub enum Effect {
    /// Sets something that the config file can set as well.
    Setting {
        /// The key of the config file.
        key: &'static str,
        /// Puts a value into the overrides; an error says what is accepted.
        set: fn(&str, &mut Overrides) -> Result<(), String>,
    },
    /// Read where it is used, at every connection: credentials rotate.
    Connection,
    /// Does nothing; the text says why.
    None(&'static str),
}

/// Holds one variable.
#[derive(Debug, Clone, Copy)]
pub struct StockVariable {
    /// Its name.
    pub name: &'static str,
    /// What it does here.
    pub effect: Effect,
}

/// Holds a variable that is set and does not do what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its name.
    pub variable: &'static str,
    /// What to know about it.
    pub detail: String,
}

/// Holds what the environment says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// Settings that it overrides.
    pub overrides: Overrides,
    /// Warnings, by name.
    pub notices: Vec<Notice>,
}

impl Environment {
    /// Returns what the variables found by `lookup` say.
    #[must_use]
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut environment = Self::default();
        for variable in STOCK_VARIABLES {
            let Some(value) = lookup(variable.name).filter(|value| !value.is_empty()) else {
                continue;
            };
            let detail = match variable.effect {
                Effect::Connection => continue,
                Effect::None(why) => why.to_owned(),
                Effect::Setting { key, set } => match set(&value, &mut environment.overrides) {
                    Ok(()) => continue,
                    Err(accepted) => {
                        format!("`{value}` is not used, {key} stays; accepted: {accepted}")
                    }
                },
            };
            environment.notices.push(Notice {
                variable: variable.name,
                detail,
            });
        }
        let api_version = lookup("KUBERAY_CRD_VER").filter(|version| version != "v1");
        if let Some(version) = api_version.filter(|version| !version.is_empty()) {
            environment.notices.push(Notice {
                variable: "KUBERAY_CRD_VER",
                detail: format!("`{version}` is not used; only ray.io/v1 is spoken"),
            });
        }
        environment
    }
}

const fn setting(
    name: &'static str,
    key: &'static str,
    set: fn(&str, &mut Overrides) -> Result<(), String>,
) -> StockVariable {
    let effect = Effect::Setting { key, set };
    StockVariable { name, effect }
}

const fn connection(name: &'static str) -> StockVariable {
    let effect = Effect::Connection;
    StockVariable { name, effect }
}

const fn unused(name: &'static str, why: &'static str) -> StockVariable {
    let effect = Effect::None(why);
    StockVariable { name, effect }
}

const NO_ROWS: &str = "does nothing here: no request is kept between passes that could time out, \
                       each pass starts from what is really there";
const NEVER_ENDS: &str = "does nothing here: this sidecar waits for the GCS without limit";

/// All variables that the stock sidecar reads.
pub const STOCK_VARIABLES: &[StockVariable] = &[
    setting(
        "AUTOSCALER_UPDATE_INTERVAL_S",
        "poll.gcs.intervalMax",
        interval,
    ),
    setting("AUTOSCALER_METRIC_PORT", "admin.bind", metrics_port),
    setting(
        "AUTOSCALER_CONSERVE_GPU_NODES",
        "scaling.conserveGpuNodes",
        conserve_gpu,
    ),
    setting(
        "KUBERAY_REQUEST_TIMEOUT_S",
        "kubernetes.requestTimeout",
        request_timeout,
    ),
    setting("RAY_py_gcs_connect_timeout_s", "ray.deadline", gcs_deadline),
    setting("RAY_LOGGER_LEVEL", "log.level", log_level),
    setting(
        "RAY_ROTATION_MAX_BYTES",
        "report.monitorLog.bytesMax",
        rotation_bytes,
    ),
    setting(
        "RAY_ROTATION_BACKUP_COUNT",
        "report.monitorLog.backups",
        rotation_backups,
    ),
    connection("RAY_HEAD_POD_NAME"),
    connection("KUBERAY_CRD_VER"),
    connection("KUBERNETES_SERVICE_HOST"),
    connection("KUBERNETES_SERVICE_PORT_HTTPS"),
    connection("RAY_KUBERAY_CLIENT_CERT_PATH"),
    connection("RAY_KUBERAY_CLIENT_KEY_PATH"),
    connection("RAY_KUBERAY_CA_CERT_PATH"),
    connection("RAY_AUTH_MODE"),
    connection("RAY_AUTH_TOKEN"),
    connection("RAY_AUTH_TOKEN_PATH"),
    connection("RAY_ENABLE_K8S_TOKEN_AUTH"),
    connection("RAY_USE_TLS"),
    connection("RAY_TLS_SERVER_CERT"),
    connection("RAY_TLS_SERVER_KEY"),
    connection("RAY_TLS_CA_CERT"),
    unused(
        "AUTOSCALER_MAX_CONCURRENT_LAUNCHES",
        "does nothing here: all replicas that are needed are asked for in one patch",
    ),
    unused("RAY_AUTOSCALER_RECONCILE_REQUEST_STATUS_TIMEOUT_S", NO_ROWS),
    unused(
        "RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S",
        NO_ROWS,
    ),
    unused(
        "RAY_AUTOSCALER_RECONCILE_RAY_INSTALL_STATUS_TIMEOUT_S",
        NO_ROWS,
    ),
    unused(
        "RAY_AUTOSCALER_RECONCILE_TERMINATING_STATUS_TIMEOUT_S",
        NO_ROWS,
    ),
    unused(
        "RAY_AUTOSCALER_RECONCILE_RAY_STOP_REQUESTED_STATUS_TIMEOUT_S",
        NO_ROWS,
    ),
    unused(
        "RAY_AUTOSCALER_RECONCILE_TRANSIENT_STATUS_WARN_INTERVAL_S",
        NO_ROWS,
    ),
    unused(
        "RAY_AUTOSCALER_RECONCILE_MAX_NUM_RETRY_REQUEST_TO_ALLOCATE",
        NO_ROWS,
    ),
    unused("RAY_AUTOSCALER_AVAILABILITY_RECOVERY_S", NO_ROWS),
    unused("RAY_AUTOSCALER_PENDING_NODE_IDLE_TIMEOUT_S", NO_ROWS),
    unused("RAY_gcs_rpc_server_reconnect_timeout_s", NEVER_ENDS),
    unused("RAY_NUM_REDIS_GET_RETRIES", NEVER_ENDS),
    unused("AUTOSCALER_MAX_NUM_FAILURES", NEVER_ENDS),
];

fn seconds(value: &str) -> Option<HumanDuration> {
    let seconds: f64 = value.trim().parse().ok()?;
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    let ms = u64::try_from(duration.as_millis()).ok()?;
    (ms > 0).then(|| HumanDuration::from_ms(ms))
}

fn interval(value: &str, overrides: &mut Overrides) -> Result<(), String> {
    // 0 meant "without a pause"; ours has a floor for that. `inf` meant never.
    overrides.gcs_interval_max = match value.trim() {
        "0" => Some(HumanDuration::from_ms(100)),
        value => Some(seconds(value).ok_or("a number of seconds")?),
    };
    Ok(())
}

fn metrics_port(value: &str, overrides: &mut Overrides) -> Result<(), String> {
    let port = value.trim().parse().ok().filter(|port| *port > 0);
    overrides.metrics_port = Some(port.ok_or("a port")?);
    Ok(())
}

fn conserve_gpu(value: &str, overrides: &mut Overrides) -> Result<(), String> {
    overrides.conserve_gpu_nodes = match value.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => return Err("0 or 1".to_owned()),
    };
    Ok(())
}

fn request_timeout(value: &str, overrides: &mut Overrides) -> Result<(), String> {
    overrides.request_timeout = Some(seconds(value).ok_or("a number of seconds above 0")?);
    Ok(())
}

fn gcs_deadline(value: &str, overrides: &mut Overrides) -> Result<(), String> {
    overrides.gcs_deadline = Some(seconds(value).ok_or("a number of seconds above 0")?);
    Ok(())
}

fn log_level(value: &str, overrides: &mut Overrides) -> Result<(), String> {
    let level = LogLevel::from_name(value.trim());
    overrides.log_level = Some(level.ok_or("error, warning, info, debug or trace")?);
    Ok(())
}

fn rotation_bytes(value: &str, overrides: &mut Overrides) -> Result<(), String> {
    let bytes = value.trim().parse().ok().filter(|bytes| *bytes > 0);
    overrides.monitor_log_bytes_max = Some(bytes.ok_or("a number of bytes above 0")?);
    Ok(())
}

fn rotation_backups(value: &str, overrides: &mut Overrides) -> Result<(), String> {
    overrides.monitor_log_backups = Some(value.trim().parse().map_err(|_| "a number of files")?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Environment {
        Environment::read(&|name| {
            let found = set.iter().find(|(set, _)| *set == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_can_be_honoured_is() {
        let environment = read(&[
            ("AUTOSCALER_UPDATE_INTERVAL_S", "1"),
            ("AUTOSCALER_METRIC_PORT", "4000"),
            ("AUTOSCALER_CONSERVE_GPU_NODES", "0"),
            ("KUBERAY_REQUEST_TIMEOUT_S", "60"),
            ("RAY_py_gcs_connect_timeout_s", "2.5"),
            ("RAY_LOGGER_LEVEL", "WARNING"),
            ("RAY_ROTATION_MAX_BYTES", "1000"),
            ("RAY_ROTATION_BACKUP_COUNT", "0"),
            ("RAY_AUTH_TOKEN", "secret"),
            ("KUBERAY_CRD_VER", "v1"),
        ]);
        assert_eq!(environment.notices, []);
        let expected = Overrides {
            gcs_interval_max: Some(HumanDuration::from_secs(1)),
            metrics_port: Some(4000),
            conserve_gpu_nodes: Some(false),
            request_timeout: Some(HumanDuration::from_secs(60)),
            gcs_deadline: Some(HumanDuration::from_ms(2500)),
            log_level: Some(LogLevel::Warn),
            monitor_log_bytes_max: Some(1000),
            monitor_log_backups: Some(0),
            ..Overrides::default()
        };
        assert_eq!(environment.overrides, expected);
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        let environment = read(&[
            ("AUTOSCALER_UPDATE_INTERVAL_S", "inf"),
            ("AUTOSCALER_METRIC_PORT", "0"),
            ("RAY_LOGGER_LEVEL", "loud"),
            ("AUTOSCALER_MAX_CONCURRENT_LAUNCHES", "10"),
            ("KUBERAY_CRD_VER", "v1alpha1"),
        ]);
        let named: Vec<&str> = environment.notices.iter().map(|n| n.variable).collect();
        assert_eq!(
            named,
            [
                "AUTOSCALER_UPDATE_INTERVAL_S",
                "AUTOSCALER_METRIC_PORT",
                "RAY_LOGGER_LEVEL",
                "AUTOSCALER_MAX_CONCURRENT_LAUNCHES",
                "KUBERAY_CRD_VER",
            ]
        );
        assert_eq!(
            environment.notices[2].detail,
            "`loud` is not used, log.level stays; accepted: error, warning, info, debug or trace"
        );
        assert_eq!(environment.overrides, Overrides::default());
    }

    #[test]
    fn an_empty_variable_is_an_unset_one() {
        assert_eq!(
            read(&[("AUTOSCALER_METRIC_PORT", "")]),
            Environment::default()
        );
    }

    #[test]
    fn each_variable_is_listed_once_and_each_key_exists() {
        let schema = crate::config::schema();
        for (index, variable) in STOCK_VARIABLES.iter().enumerate() {
            let earlier = &STOCK_VARIABLES[..index];
            assert!(earlier.iter().all(|other| other.name != variable.name));
            if let Effect::Setting { key, .. } = variable.effect {
                let pointer = format!("/properties/{}", key.replace('.', "/properties/"));
                assert!(schema.pointer(&pointer).is_some(), "{key}");
            }
        }
    }
}
