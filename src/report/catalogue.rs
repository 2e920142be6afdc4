//! Every metric: its name, kind, labels and meaning, in one list.
//!
//! Why one list: the registry is built from it, so nothing can be exported that is not in it, and
//! `tests/metrics_catalogue/main.rs` holds a copy, so that a rename shows up in review.
//!
//! # Why the stock names are all here
//!
//! Dashboards and alerts were written against the stock autoscaler's names, some of which its second
//! version registers and never moves. Each of them is kept and tells the truth: what KubeRay does in
//! place of a node updater is counted, and what cannot happen on Kubernetes stays at 0 and says so.

use super::metrics::Buckets;

/// Says how a metric moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram(Buckets),
}

impl MetricKind {
    /// Returns the kind's name in the exposition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// Describes one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricInfo {
    /// The name, with unit and `_total`.
    pub name: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// Its labels, without `SessionName`, which every stock metric carries besides.
    pub labels: &'static [&'static str],
    /// What it says.
    pub meaning: &'static str,
}

impl MetricInfo {
    /// Returns whether this is one of the stock autoscaler's names.
    #[must_use]
    pub fn is_stock(&self) -> bool {
        self.name.starts_with("autoscaler_")
    }
}

macro_rules! metrics {
    ($($id:ident = $kind:expr, $name:literal [$($label:literal),*] $meaning:literal;)*) => {
        /// Names a metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum MetricId {
            $(#[doc = $meaning] $id,)*
        }

        impl MetricId {
            /// Every metric, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$id),*];

            /// Returns what the metric is.
            #[must_use]
            pub const fn info(self) -> MetricInfo {
                match self {
                    $(Self::$id => MetricInfo {
                        name: $name,
                        kind: $kind,
                        labels: &[$($label),*],
                        meaning: $meaning,
                    },)*
                }
            }
        }
    };
}

use MetricKind::{Counter, Gauge, Histogram};

metrics! {
    StockActiveNodes = Gauge, "autoscaler_active_nodes" ["NodeType"] "Nodes with a live raylet, the head included";
    StockPendingNodes = Gauge, "autoscaler_pending_nodes" ["NodeType"] "Nodes asked for whose raylet has not registered";
    StockRecentlyFailedNodes = Gauge, "autoscaler_recently_failed_nodes" ["NodeType"] "Nodes that failed in the last hour";
    StockClusterResources = Gauge, "autoscaler_cluster_resources" ["resource"] "Resources of all nodes with a live raylet";
    StockPendingResources = Gauge, "autoscaler_pending_resources" ["resource"] "Resources of all nodes asked for whose raylet has not registered";
    StockRunningWorkers = Gauge, "autoscaler_running_workers_nodes" [] "Workers with a live raylet";
    StockUpdatingNodes = Gauge, "autoscaler_updating_nodes" [] "Nodes being updated in place; always 0, KubeRay replaces pods";
    StockRecoveringNodes = Gauge, "autoscaler_recovering_nodes" [] "Nodes being recovered in place; always 0, KubeRay replaces pods";
    StockStartedNodes = Counter, "autoscaler_started_nodes_total" [] "Workers whose raylet registered";
    StockStoppedNodes = Counter, "autoscaler_stopped_nodes_total" [] "Workers whose pod is gone";
    StockFailedCreateNodes = Counter, "autoscaler_failed_create_nodes_total" [] "Workers whose pod ended before its raylet registered";
    StockFailedUpdates = Counter, "autoscaler_failed_updates_total" [] "Updates in place that failed; always 0, KubeRay replaces pods";
    StockSuccessfulUpdates = Counter, "autoscaler_successful_updates_total" [] "Updates in place; always 0, KubeRay replaces pods";
    StockFailedRecoveries = Counter, "autoscaler_failed_recoveries_total" [] "Recoveries in place that failed; always 0, KubeRay replaces pods";
    StockSuccessfulRecoveries = Counter, "autoscaler_successful_recoveries_total" [] "Recoveries in place; always 0, KubeRay replaces pods";
    StockUpdateLoopExceptions = Counter, "autoscaler_update_loop_exceptions_total" [] "Passes that failed";
    StockNodeLaunchExceptions = Counter, "autoscaler_node_launch_exceptions_total" [] "Patches for more replicas that failed";
    StockResetExceptions = Counter, "autoscaler_reset_exceptions_total" [] "Reads of the RayCluster that failed";
    StockConfigValidationExceptions = Counter, "autoscaler_config_validation_exceptions_total" [] "Configurations that were refused";
    StockDrainNodeExceptions = Counter, "autoscaler_drain_node_exceptions_total" [] "Drain calls that failed; a refusal is not a failure";
    StockUpdateTime = Histogram(Buckets::StockUpdate), "autoscaler_update_time_seconds" [] "Time of a whole pass";
    StockCreateNodeTime = Histogram(Buckets::StockNode), "autoscaler_worker_create_node_time_seconds" [] "Time of the patch that asked for a worker, once per worker";
    StockUpdateNodeTime = Histogram(Buckets::StockNode), "autoscaler_worker_update_time_seconds" [] "Time from a worker's pod to its raylet";

    BuildInfo = Gauge, "rayscaler_build_info" ["version"] "1, with the version that runs";
    PassDuration = Histogram(Buckets::Pass), "rayscaler_pass_duration_seconds" ["phase"] "Time of one phase of a pass";
    PassErrors = Counter, "rayscaler_pass_errors_total" ["phase", "cause"] "Passes that failed, by phase and cause";
    LastPassAge = Gauge, "rayscaler_last_pass_age_seconds" [] "Time since the last pass ended";
    SourceAge = Gauge, "rayscaler_source_age_seconds" ["source"] "Time since a source was last known to be right, or since the start";
    SourceErrors = Counter, "rayscaler_source_errors_total" ["source", "cause"] "Reads of a source that failed";
    GcsReplaced = Counter, "rayscaler_gcs_replaced_total" [] "Times the GCS was found to be another cluster";
    Demand = Gauge, "rayscaler_demand_requests" ["class", "shape"] "Pending requests, by origin and scarcest resource";
    Unserved = Gauge, "rayscaler_unserved_requests" ["class", "code"] "Pending requests that this pass does not serve, by reason";
    ReplicasDesired = Gauge, "rayscaler_replicas_desired" ["group"] "Replicas decided";
    ReplicasRequested = Gauge, "rayscaler_replicas_requested" ["group"] "Replicas in the RayCluster";
    ReplicasObserved = Gauge, "rayscaler_replicas_observed" ["group"] "Replicas whose pods are there and stay";
    ReplicasMax = Gauge, "rayscaler_replicas_max" ["group"] "Most replicas allowed";
    Nodes = Gauge, "rayscaler_nodes" ["group", "status"] "Nodes, by what can be expected of them";
    PodsWaiting = Gauge, "rayscaler_pods_waiting" ["group", "reason"] "Pods that do not run yet, by Kubernetes' reason";
    GroupsSkipped = Gauge, "rayscaler_groups_skipped" ["code"] "Groups that cannot be scaled";
    InputProblems = Gauge, "rayscaler_input_problems" ["code"] "Input that could not be used";
    Decisions = Counter, "rayscaler_decisions_total" ["group", "policy", "code"] "Changes decided, by reason; repeated decisions count once";
    DecisionsCut = Counter, "rayscaler_decisions_cut_total" [] "Decisions that the work budget ended early, one for each pass";
    Holds = Gauge, "rayscaler_holds" ["code"] "What is left alone on purpose now";
    HoldsStarted = Counter, "rayscaler_holds_total" ["code"] "Times something began to be left alone";
    IdleKept = Gauge, "rayscaler_idle_kept_nodes" ["group", "code"] "Idle nodes that stay, by reason";
    IdleKeptGpus = Gauge, "rayscaler_idle_kept_gpus" ["code"] "GPUs of idle nodes that stay, by reason";
    ReplicasAdded = Counter, "rayscaler_replicas_added_total" ["group"] "Replicas asked for";
    ReplicasRemoved = Counter, "rayscaler_replicas_removed_total" ["group", "cause"] "Replicas named for removal";
    Drains = Counter, "rayscaler_drains_total" ["group", "outcome"] "Answers of raylets told to drain";
    DeparturesTold = Counter, "rayscaler_departures_told_total" ["group", "kind", "outcome"] "Nodes with a lost or leaving pod of which Ray was told";
    PodResizes = Counter, "rayscaler_pod_resizes_total" ["group", "step", "outcome"] "Steps of resizing pods in place: asking Kubernetes, telling the raylet";
    IdleTerminations = Counter, "rayscaler_idle_terminations_total" ["policy", "outcome"] "Attempts to end the cluster since nobody uses it";
    DemandToPatch = Histogram(Buckets::Capacity), "rayscaler_demand_to_patch_seconds" ["group"] "Time from demand to the patch that serves it";
    DemandToPod = Histogram(Buckets::Capacity), "rayscaler_demand_to_pod_seconds" ["group"] "Time from demand to each pod that serves it";
    DemandToNode = Histogram(Buckets::Capacity), "rayscaler_demand_to_node_seconds" ["group"] "Time from demand to each Ray node that serves it";
    ApiCalls = Counter, "rayscaler_api_calls_total" ["verb", "status"] "Calls to the Kubernetes API";
    GcsCalls = Counter, "rayscaler_gcs_calls_total" ["method", "status"] "Calls to the GCS";
    RayletCalls = Counter, "rayscaler_raylet_calls_total" ["method", "status"] "Calls to raylets";
    InvariantViolations = Counter, "rayscaler_invariant_violations_total" ["id"] "Decisions that broke an invariant and were not applied";
    ConfigReloads = Counter, "rayscaler_config_reloads_total" ["result"] "Configurations read";
    ChildRestarts = Counter, "rayscaler_child_restarts_total" ["cause"] "Times the working process was started again";
    Mode = Gauge, "rayscaler_mode" ["mode"] "1 for the mode that scaling is in, 0 for the others";
    DryRun = Gauge, "rayscaler_dry_run" [] "1 while nothing is written on purpose";
    Paused = Gauge, "rayscaler_paused" [] "1 while writing is paused";
    RbacMissing = Gauge, "rayscaler_rbac_missing" ["verb", "resource"] "1 for each verb that the Role lacks and that would be used";
    ReportErrors = Counter, "rayscaler_report_errors_total" ["target"] "Reports that could not be delivered";
    LabelSetsDropped = Counter, "rayscaler_label_sets_dropped_total" ["metric"] "Samples dropped because a metric has too many label sets";
}

/// Label sets that stand at 0 from the start: of counters whose very first event has to be seen.
///
/// Prometheus sees no increase in a series that begins with 1, so an alert on the increase of such
/// a counter would miss the one event that it is for.
pub(super) const FROM_THE_START: &[(MetricId, &[&str])] = &[
    (
        MetricId::InvariantViolations,
        &[
            "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12",
        ],
    ),
    (MetricId::ConfigReloads, &["ok", "refused"]),
];

/// Returns every metric.
#[must_use]
pub fn catalogue() -> Vec<MetricInfo> {
    MetricId::ALL.iter().map(|id| id.info()).collect()
}
