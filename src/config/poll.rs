//! How often the sidecar asks: the sections `poll`, `kubernetes` and `ray`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::HumanDuration;

/// How often each source is asked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Poll {
    /// The GCS: demand and nodes.
    pub gcs: GcsPoll,
    /// The raylets: demand at its source, a second before the GCS knows of it.
    pub raylets: RayletPoll,
    /// The RayCluster, where the Role allows no watch.
    pub ray_cluster: RayClusterPoll,
}

/// How often the GCS is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GcsPoll {
    /// Shortest time between two questions.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "1m"))]
    pub interval_min: HumanDuration,
    /// Longest time between two questions, however slow the GCS is.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub interval_max: HumanDuration,
    /// Share of the time that may be spent asking, in percent.
    #[schemars(range(min = 0.01, max = 100))]
    pub budget_percent: f64,
}

impl Default for GcsPoll {
    fn default() -> Self {
        Self {
            interval_min: HumanDuration::from_ms(100),
            interval_max: HumanDuration::from_secs(5),
            budget_percent: 1.0,
        }
    }
}

/// How often raylets are asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RayletPoll {
    /// Whether raylets are asked for demand; they are asked before a drain in any case.
    pub enabled: bool,
    /// Share of the time that may be spent asking, in percent.
    #[schemars(range(min = 0.01, max = 100))]
    pub budget_percent: f64,
    /// Longest wait for one raylet's answer.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "10s"))]
    pub deadline: HumanDuration,
}

impl Default for RayletPoll {
    fn default() -> Self {
        Self {
            enabled: true,
            budget_percent: 1.0,
            deadline: HumanDuration::from_ms(250),
        }
    }
}

/// How often the RayCluster is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RayClusterPoll {
    /// Time between two reads while the cluster changes.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "1m"))]
    pub interval_min: HumanDuration,
    /// Time between two reads while nothing changes.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "10m"))]
    pub interval_max: HumanDuration,
}

impl Default for RayClusterPoll {
    fn default() -> Self {
        Self {
            interval_min: HumanDuration::from_secs(1),
            // 10 reads a minute leave room for the watch of the pods under 15 requests a minute.
            interval_max: HumanDuration::from_secs(6),
        }
    }
}

/// How the Kubernetes API is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Longest wait for one answer of the API server.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "10m"))]
    pub request_timeout: HumanDuration,
    /// Whether the RayCluster is watched where the Role allows it, instead of read in turn.
    pub watch_ray_cluster: bool,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            request_timeout: HumanDuration::from_secs(10),
            watch_ray_cluster: true,
        }
    }
}

/// How Ray is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ray {
    /// `HOST:PORT` of the GCS; unset: 127.0.0.1 with the port of the RayCluster's `rayStartParams`.
    pub gcs_address: Option<String>,
    /// Longest wait for one answer of the GCS.
    #[schemars(extend("x-minimum" = "100ms", "x-maximum" = "5m"))]
    pub deadline: HumanDuration,
    /// Time that a busy node gets to finish when a lowered `maxReplicas` takes it.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub drain_deadline: HumanDuration,
    /// Whether the GCS is told of nodes whose pods are gone or being deleted by somebody else.
    pub tell_lost_nodes: bool,
}

impl Default for Ray {
    fn default() -> Self {
        Self {
            gcs_address: None,
            deadline: HumanDuration::from_secs(5),
            drain_deadline: HumanDuration::from_secs(30),
            tell_lost_nodes: true,
        }
    }
}
