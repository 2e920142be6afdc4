//! Events outside the pass: calls over the network, the configuration, the process.
//!
//! One struct per event; it alone writes the log line and the metric, so the two cannot disagree.

use tracing::{debug, error, info, trace, warn};

use super::catalogue::MetricId;
use super::metrics::{Metrics, sample};
use crate::model::Timestamp;

/// Says that something happened.
pub trait Event {
    /// Writes the log line and the metric.
    fn emit(&self, metrics: &Metrics);
}

/// The program started.
#[derive(Debug, Clone, Copy)]
pub struct Started<'a> {
    /// Our version.
    pub version: &'a str,
    /// Whether nothing is written on purpose.
    pub is_dry_run: bool,
    /// When.
    pub at: Timestamp,
}

impl Event for Started<'_> {
    fn emit(&self, metrics: &Metrics) {
        for source in ["gcs", "pods", "raycluster"] {
            metrics.source_is_waited_for(source, self.at);
        }
        metrics.set(MetricId::BuildInfo, &[self.version], 1.0);
        metrics.set(MetricId::DryRun, &[], f64::from(u8::from(self.is_dry_run)));
        info!(version = self.version, dry_run = self.is_dry_run, "started");
    }
}

/// A call to the Kubernetes API ended.
#[derive(Debug, Clone, Copy)]
pub struct ApiCalled<'a> {
    /// `get`, `list`, `watch`, `patch`, `create`.
    pub verb: &'a str,
    /// The HTTP status; `none` when there was no answer.
    pub status: &'a str,
}

impl Event for ApiCalled<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.add(MetricId::ApiCalls, &[self.verb, self.status], 1);
        debug!(verb = self.verb, status = self.status, "api call");
    }
}

/// The GCS was told that a node is gone or going, or could not be.
#[derive(Debug, Clone, Copy)]
pub struct DepartureTold<'a> {
    /// The worker group.
    pub group: &'a str,
    /// The pod.
    pub pod: &'a str,
    /// `gone` or `leaving`.
    pub kind: &'a str,
    /// `told`, `still_there`, `refused`, `failed`.
    pub outcome: &'a str,
    /// What was answered; empty when it was told.
    pub detail: &'a str,
}

impl Event for DepartureTold<'_> {
    fn emit(&self, metrics: &Metrics) {
        let labels = [self.group, self.kind, self.outcome];
        metrics.add(MetricId::DeparturesTold, &labels, 1);
        let Self {
            group,
            pod,
            kind,
            outcome,
            detail,
        } = *self;
        if outcome == "told" {
            info!(group, pod, kind, "told ray that a node is lost");
        } else {
            warn!(
                group,
                pod, kind, outcome, detail, "ray not told that a node is lost"
            );
        }
    }
}

/// A step of resizing a pod in place ended.
#[derive(Debug, Clone, Copy)]
pub struct PodResized<'a> {
    /// The group.
    pub group: &'a str,
    /// The pod.
    pub pod: &'a str,
    /// `ask` or `tell`.
    pub step: &'a str,
    /// `done`, `stale`, `refused`, `not_allowed`, `failed`.
    pub outcome: &'a str,
    /// What was answered; empty when it was done.
    pub detail: &'a str,
}

impl Event for PodResized<'_> {
    fn emit(&self, metrics: &Metrics) {
        let labels = [self.group, self.step, self.outcome];
        metrics.add(MetricId::PodResizes, &labels, 1);
        let Self {
            group,
            pod,
            step,
            outcome,
            detail,
        } = *self;
        match outcome {
            "done" => info!(group, pod, step, "pod resized in place"),
            // The pod changed meanwhile, which the next pass sees.
            "stale" => trace!(group, pod, step, "pod changed before it was resized"),
            _ => warn!(group, pod, step, outcome, detail, "pod not resized"),
        }
    }
}

/// The cluster was, or was to be, ended since nobody uses it.
#[derive(Debug, Clone, Copy)]
pub struct ClusterEnded<'a> {
    /// `suspend` or `delete`.
    pub policy: &'a str,
    /// `done`, `stale`, `refused`, `failed`.
    pub outcome: &'a str,
    /// What was answered; empty when it was done.
    pub detail: &'a str,
}

impl Event for ClusterEnded<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Self {
            policy,
            outcome,
            detail,
        } = *self;
        metrics.add(MetricId::IdleTerminations, &[policy, outcome], 1);
        match outcome {
            "done" => warn!(policy, "nobody uses the cluster, it ends"),
            "stale" => info!(
                policy,
                "idle cluster was used or changed just now, it stays"
            ),
            _ => warn!(policy, outcome, detail, "idle cluster not ended"),
        }
    }
}

/// A call to the GCS ended.
#[derive(Debug, Clone, Copy)]
pub struct GcsCalled<'a> {
    /// The method's short name.
    pub method: &'a str,
    /// `ok`, or the kind of error: `unreachable`, `timeout`, ...
    pub status: &'a str,
}

impl Event for GcsCalled<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.add(MetricId::GcsCalls, &[self.method, self.status], 1);
        trace!(method = self.method, status = self.status, "gcs call");
    }
}

/// Calls to raylets ended; they come in bunches of one kind.
#[derive(Debug, Clone, Copy)]
pub struct RayletsCalled<'a> {
    /// The method's short name.
    pub method: &'a str,
    /// The gRPC code as a word.
    pub status: &'a str,
    /// How many calls.
    pub count: u64,
}

impl Event for RayletsCalled<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.add(
            MetricId::RayletCalls,
            &[self.method, self.status],
            self.count,
        );
        debug!(
            method = self.method,
            status = self.status,
            count = self.count,
            "raylet calls"
        );
    }
}

/// A source was found to be right.
#[derive(Debug, Clone, Copy)]
pub struct SourceRead {
    /// `gcs`, `pods`, `raycluster`, `raylets`.
    pub source: &'static str,
    /// When.
    pub at: Timestamp,
}

impl Event for SourceRead {
    fn emit(&self, metrics: &Metrics) {
        metrics.source_was_right(self.source, self.at);
    }
}

/// A source could not be read.
#[derive(Debug, Clone, Copy)]
pub struct SourceFailed<'a> {
    /// `gcs`, `pods`, `raycluster`, `raylets`.
    pub source: &'a str,
    /// A stable word.
    pub cause: &'a str,
    /// The chain of errors.
    pub error: &'a str,
    /// Whether the same failure was told before: then it is counted and not logged again.
    pub is_repeated: bool,
}

impl Event for SourceFailed<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.add(MetricId::SourceErrors, &[self.source, self.cause], 1);
        if self.source == "raycluster" {
            metrics.add(MetricId::StockResetExceptions, &[], 1);
        }
        if self.is_repeated {
            debug!(
                source = self.source,
                cause = self.cause,
                error = self.error,
                "source cannot be read"
            );
        } else {
            warn!(
                source = self.source,
                cause = self.cause,
                error = self.error,
                "source cannot be read"
            );
        }
    }
}

/// Raylets stopped answering, or all of them answer again.
#[derive(Debug, Clone, Copy)]
pub struct RayletsSilent {
    /// How many do not answer; 0 when it is over.
    pub count: usize,
}

impl Event for RayletsSilent {
    fn emit(&self, metrics: &Metrics) {
        if self.count == 0 {
            info!("raylets answer again");
            return;
        }
        metrics.add(MetricId::SourceErrors, &["raylets", "silent"], 1);
        warn!(
            count = self.count,
            "raylets do not answer, going on with the gcs alone for them"
        );
    }
}

/// The GCS is another cluster now.
#[derive(Debug, Clone, Copy)]
pub struct GcsReplaced<'a> {
    /// The session that it serves now.
    pub session_name: &'a str,
}

impl Event for GcsReplaced<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.add(MetricId::GcsReplaced, &[], 1);
        metrics.set_session(self.session_name);
        warn!(
            session_name = self.session_name,
            "the gcs is another cluster now"
        );
    }
}

/// A pass ended early.
#[derive(Debug, Clone, Copy)]
pub struct PassFailed<'a> {
    /// The part that failed.
    pub phase: super::pass::Phase,
    /// A stable word.
    pub cause: &'a str,
    /// The chain of errors.
    pub error: &'a str,
    /// Whether the same failure was told before: then it is counted and not logged again.
    pub is_repeated: bool,
}

impl Event for PassFailed<'_> {
    fn emit(&self, metrics: &Metrics) {
        let phase = self.phase.as_str();
        metrics.add(MetricId::PassErrors, &[phase, self.cause], 1);
        metrics.add(MetricId::StockUpdateLoopExceptions, &[], 1);
        if self.is_repeated {
            debug!(phase, cause = self.cause, error = self.error, "pass failed");
        } else {
            error!(phase, cause = self.cause, error = self.error, "pass failed");
        }
    }
}

/// A configuration was read, or refused.
#[derive(Debug, Clone, Copy)]
pub struct ConfigRead<'a> {
    /// What is wrong with it, one problem a line; `None` when it is in use now.
    pub problems: Option<&'a str>,
    /// Where it came from.
    pub path: &'a str,
    /// Which settings are in use now.
    pub in_use: &'a str,
}

impl Event for ConfigRead<'_> {
    fn emit(&self, metrics: &Metrics) {
        if let Some(problems) = self.problems {
            metrics.add(MetricId::ConfigReloads, &["refused"], 1);
            metrics.add(MetricId::StockConfigValidationExceptions, &[], 1);
            let in_use = self.in_use;
            error!(path = self.path, problems, in_use, "configuration refused");
        } else {
            metrics.add(MetricId::ConfigReloads, &["ok"], 1);
            info!(path = self.path, "configuration in use");
        }
    }
}

/// The working process was started again by its parent.
#[derive(Debug, Clone, Copy)]
pub struct ChildRestarted<'a> {
    /// How the last one ended: `exit`, `panic`, `signal`, `killed`, ...
    pub cause: &'a str,
    /// How often that happened since the parent started.
    pub count: u64,
}

impl Event for ChildRestarted<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.add(MetricId::ChildRestarts, &[self.cause], self.count);
        if self.count > 0 {
            warn!(cause = self.cause, count = self.count, "started again");
        }
    }
}

/// The Role was asked what it allows.
#[derive(Debug, Clone, Copy)]
pub struct PermissionsChecked<'a> {
    /// Verb and resource of everything that would be used and is not allowed.
    pub missing: &'a [(String, String)],
}

impl Event for PermissionsChecked<'_> {
    fn emit(&self, metrics: &Metrics) {
        let missing = self.missing.iter();
        let samples = missing.map(|(verb, resource)| ([verb.as_str(), resource.as_str()], 1.0));
        metrics.replace(MetricId::RbacMissing, &samples.collect());
        for (verb, resource) in self.missing {
            warn!(
                verb,
                resource, "the role does not allow this; going on without"
            );
        }
    }
}

/// A report could not be delivered.
#[derive(Debug, Clone, Copy)]
pub struct ReportFailed<'a> {
    /// `gcs_state`, `gcs_kv`, `kubernetes_events`, `event_log`.
    pub target: &'a str,
    /// The chain of errors.
    pub error: &'a str,
    /// Whether the same failure was told before: then it is counted and not logged again.
    pub is_repeated: bool,
}

impl Event for ReportFailed<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.add(MetricId::ReportErrors, &[self.target], 1);
        if self.is_repeated {
            debug!(
                target_name = self.target,
                error = self.error,
                "report not delivered"
            );
        } else {
            warn!(
                target_name = self.target,
                error = self.error,
                "report not delivered"
            );
        }
    }
}

/// Writing was paused, or goes on.
#[derive(Debug, Clone, Copy)]
pub struct PauseChanged<'a> {
    /// Why it is paused; `None` when it is not.
    pub reason: Option<&'a str>,
    /// Whether the line was written before.
    pub is_repeated: bool,
}

impl Event for PauseChanged<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.set(
            MetricId::Paused,
            &[],
            sample(u64::from(self.reason.is_some())),
        );
        match self.reason {
            _ if self.is_repeated => {}
            Some(reason) => warn!(reason, "writing is paused"),
            None => info!("writing goes on"),
        }
    }
}
