//! Hands every pass to the reports, and what they want sent to the courier.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::controller::{Pass, Report, WriteHold};
use super::courier::{Delivery, Letter};
use super::telemetry::Telemetry;
use crate::act::{Applied, PatchOutcome, Refusal, WriteMode};
use crate::admin::{AdminState, LastPass, SourceProblem};
use crate::config::MonitorLog as MonitorLogSettings;
use crate::model::{ClusterSnapshot, ScaleDecision, Timestamp, WorkerGroupName};
use crate::observe::SourceError;
use crate::report::event_log::{EventIds, EventLog, EventSource};
use crate::report::events::{Event, GcsReplaced, RayletsSilent, SourceFailed, SourceRead};
use crate::report::monitor_log::{MonitorLog, log_dir};
use crate::report::{
    Acted, DrainAnswer, DrainOutcome, Metrics, Outcome, PassReport, Phase, Report as Reports,
    Rotation, Scaled,
};

/// How often the log files are looked at: has the head a new session, was one moved away.
const RECHECK_MS: u64 = 5_000;

/// Holds where and who we are, as reports tell it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Name of the host, which is the pod's.
    pub hostname: String,
    /// Our process.
    pub pid: u32,
    /// Where ids of driver events start.
    pub seed: u64,
}

/// Holds what the reports are built from.
#[derive(Debug)]
pub struct ReportingParts {
    /// The reports.
    pub reports: Reports,
    /// The metrics they write.
    pub metrics: Metrics,
    /// What the admin port shows.
    pub admin: Arc<AdminState>,
    /// The log.
    pub telemetry: Telemetry,
    /// To the courier.
    pub letters: mpsc::Sender<Letter>,
    /// From the courier.
    pub deliveries: mpsc::Receiver<Delivery>,
    /// Whether anything is written.
    pub mode: watch::Receiver<WriteMode>,
    /// The file beside Ray's own logs.
    pub monitor_log: MonitorLogSettings,
    /// Whether drivers are told what happens.
    pub may_tell_drivers: bool,
    /// Who we are.
    pub identity: Identity,
}

/// Reports every pass.
#[derive(Debug)]
pub struct Reporting {
    parts: ReportingParts,
    told_errors: Vec<SourceError>,
    temp_dir: String,
    monitor_log: Option<MonitorLog>,
    rechecked_at: Timestamp,
    /// Whether the GCS has told how many reports it has had.
    is_continued: bool,
    is_greeted: bool,
    has_silent_raylets: bool,
    /// Why the last write failed; empty since it did not.
    last_failure: String,
}

impl Reporting {
    /// Returns a reporter that has told nothing.
    #[must_use]
    pub fn new(parts: ReportingParts) -> Self {
        Self {
            parts,
            told_errors: Vec::new(),
            temp_dir: String::new(),
            monitor_log: None,
            rechecked_at: Timestamp::default(),
            is_continued: false,
            is_greeted: false,
            has_silent_raylets: false,
            last_failure: String::new(),
        }
    }

    fn is_dry_run(&self) -> bool {
        *self.parts.mode.borrow() == WriteMode::DryRun
    }

    fn follow_sources(&mut self, pass: &Pass<'_>) {
        let metrics = &self.parts.metrics;
        if let Some(snapshot) = &pass.observed.snapshot {
            let known = &snapshot.completeness;
            let sources = [
                ("gcs", known.gcs_at),
                ("pods", known.pods_at),
                ("raycluster", known.raycluster_at),
            ];
            for (source, at) in sources
                .into_iter()
                .filter_map(|(source, at)| Some((source, at?)))
            {
                SourceRead { source, at }.emit(metrics);
            }
        }
        for error in &pass.observed.errors {
            let is_repeated = self.told_errors.contains(error);
            let (source, cause) = (error.source, error.kind);
            SourceFailed {
                source,
                cause,
                error: &error.message,
                is_repeated,
            }
            .emit(metrics);
        }
        let problem = |error: &SourceError| SourceProblem {
            source: error.source.to_owned(),
            message: error.message.clone(),
        };
        let problems = pass.observed.errors.iter().map(problem);
        self.parts.admin.sources_failed(problems.collect());
        self.told_errors.clone_from(&pass.observed.errors);
        let count = pass.observed.ray.raylets_silent;
        if (count > 0) != self.has_silent_raylets {
            self.has_silent_raylets = count > 0;
            RayletsSilent { count }.emit(metrics);
        }
        if pass.observed.is_gcs_replaced {
            GcsReplaced {
                session_name: &pass.observed.session_name,
            }
            .emit(metrics);
        }
        if pass.observed.is_gcs_replaced || pass.observed.is_gcs_restarted {
            self.is_continued = false;
            self.is_greeted = false;
        }
    }

    /// Moves the log files to where the head keeps its logs.
    fn follow_logs(&mut self, pass: &Pass<'_>) {
        let temp_dir = &pass.observed.ray.head_temp_dir;
        if !self.is_dry_run() && !temp_dir.is_empty() && *temp_dir != self.temp_dir {
            self.temp_dir.clone_from(temp_dir);
            let folder = log_dir(Path::new(temp_dir));
            let identity = &self.parts.identity;
            let source = EventSource {
                hostname: identity.hostname.clone(),
                pid: identity.pid,
            };
            let event_log = self
                .parts
                .may_tell_drivers
                .then(|| EventLog::new(&folder, source, EventIds::new(identity.seed)));
            let settings = &self.parts.monitor_log;
            let rotation = Rotation {
                bytes_max: settings.bytes_max,
                backup_count: settings.backups,
            };
            let monitor_log = settings.enabled.then(|| MonitorLog::new(&folder, rotation));
            if let Some(log) = &monitor_log {
                self.parts.telemetry.attach(Box::new(log.clone()));
            }
            self.monitor_log.clone_from(&monitor_log);
            self.parts.reports.set_logs(event_log, monitor_log);
        }
        if pass.started_at.millis_since(self.rechecked_at) >= RECHECK_MS {
            self.rechecked_at = pass.started_at;
            if let Some(error) = self.monitor_log.as_ref().and_then(MonitorLog::recheck) {
                // Through the log itself: standard output always works.
                tracing::debug!(error, "monitor.log cannot be written");
            }
        }
    }

    /// Returns what came of a decision, and why nothing did; a failure is told until it is over.
    fn told_outcome(
        &mut self,
        outcome: &Outcome,
        (hold, fenced): (Option<WriteHold>, Option<String>),
    ) -> (String, String) {
        if let Some(hold @ WriteHold::Fenced) = hold {
            return (hold.code().to_owned(), fenced.unwrap_or_default());
        }
        if let Some(hold @ WriteHold::BackingOff(_)) = hold {
            return (hold.code().to_owned(), self.last_failure.clone());
        }
        let detail = match outcome {
            Outcome::Failed { detail, .. } => detail.clone(),
            Outcome::Paused(why) => why.clone(),
            Outcome::Violated(ids) => format!("it would break {}", ids.join(", ")),
            Outcome::Nothing | Outcome::Patched | Outcome::DryRun => String::new(),
        };
        self.last_failure.clone_from(&detail);
        (outcome.as_str().to_owned(), detail)
    }

    fn take_deliveries(&mut self) {
        while let Ok(delivery) = self.parts.deliveries.try_recv() {
            match delivery {
                Delivery::Continue { version } => {
                    self.parts.reports.gcs_restarted(version);
                    self.is_continued = true;
                }
                Delivery::NotGreeted => self.is_greeted = false,
                Delivery::StateDelivered(at) => self.parts.reports.state_delivered(at),
                Delivery::StateFailed => self.parts.reports.state_failed(),
                Delivery::V1StatusFailed => self.parts.reports.v1_status_failed(),
            }
        }
    }

    fn send(&mut self, outbox: crate::report::Outbox) {
        if let Some(state) = outbox.autoscaling_state {
            let is_sent =
                self.is_continued && self.parts.letters.try_send(Letter::State(state)).is_ok();
            if !is_sent {
                self.parts.reports.state_failed();
            }
        }
        if let Some(status) = outbox.v1_status
            && self
                .parts
                .letters
                .try_send(Letter::V1Status(status))
                .is_err()
        {
            self.parts.reports.v1_status_failed();
        }
        if !outbox.kube_events.is_empty() {
            // Events are a courtesy: when the courier is behind, the oldest news are enough.
            drop(
                self.parts
                    .letters
                    .try_send(Letter::KubeEvents(outbox.kube_events)),
            );
        }
    }
}

impl Report for Reporting {
    fn pass(&mut self, pass: &Pass<'_>) -> Option<Timestamp> {
        self.parts.admin.beat(pass.started_at);
        self.take_deliveries();
        self.follow_sources(pass);
        self.follow_logs(pass);
        let decided = pass.decided.as_ref()?;
        let is_dry_run = self.is_dry_run();
        let is_known = decided.snapshot.completeness.gcs_at.is_some();
        if is_known && !is_dry_run && !self.is_greeted {
            let head_ip = pass.observed.ray.head_ip.clone();
            self.is_greeted = self
                .parts
                .letters
                .try_send(Letter::Hello { head_ip })
                .is_ok();
        }
        self.parts
            .reports
            .set_v1(pass.observed.ray.is_v2 == Some(false));
        let acted = acted(pass, decided.snapshot, decided.decision);
        let milliseconds = |ms: f64| Duration::from_secs_f64((ms / 1000.0).max(0.0));
        let phases = [
            (Phase::Decide, milliseconds(pass.took.decide_ms)),
            (Phase::Act, milliseconds(pass.took.act_ms)),
        ];
        let outbox = self.parts.reports.pass(
            &PassReport {
                snapshot: decided.snapshot,
                decision: decided.decision,
                history: decided.history,
                acted: &acted,
                observed_at: pass.observed.at,
                phases: &phases,
                session_name: &pass.observed.session_name,
                is_dry_run,
            },
            pass.ended_at,
        );
        let wake_at = outbox.next_at;
        self.send(outbox);
        let (outcome, outcome_detail) = self.told_outcome(
            &acted.outcome,
            (decided.write_hold, decided.snapshot.writing.fenced.clone()),
        );
        self.parts.admin.decided(LastPass {
            at: pass.started_at,
            outcome,
            outcome_detail,
            is_dry_run,
            snapshot: Arc::new(decided.snapshot.clone()),
            decision: Arc::new(decided.decision.clone()),
            memory: Arc::new(decided.history.clone()),
        });
        wake_at
    }
}

fn acted(pass: &Pass<'_>, snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Acted {
    let held = pass
        .decided
        .as_ref()
        .and_then(|decided| Some((decided.write_hold?, decided.violations)));
    let mut acted = Acted {
        patch_duration: Duration::from_secs_f64(pass.took.act_ms.max(0.0) / 1000.0),
        ..Acted::default()
    };
    acted.outcome = match (held, pass.applied) {
        (Some((WriteHold::Paused, _)), _) => Outcome::Paused(
            snapshot
                .paused
                .clone()
                .unwrap_or_else(|| "configuration".to_owned()),
        ),
        (Some((WriteHold::Invariant, violations)), _) => Outcome::Violated(
            violations
                .iter()
                .map(|violation| violation.id.to_string())
                .collect(),
        ),
        (Some((WriteHold::BackingOff(_) | WriteHold::Fenced, _)), _) | (None, None) => {
            Outcome::Nothing
        }
        (None, Some(applied)) => outcome(applied),
    };
    let decided = pass.decided.as_ref();
    let replaced = decided.filter(|it| it.write_hold != Some(WriteHold::Invariant));
    let broken = replaced.into_iter().flat_map(|it| it.violations);
    acted.replaced = broken.map(|violation| violation.id.to_string()).collect();
    let Some(applied) = pass.applied else {
        return acted;
    };
    acted.scaled = match &applied.patch {
        PatchOutcome::Done { changes, .. } => changes
            .iter()
            .map(|change| scaled(change, decision))
            .collect(),
        _ => Vec::new(),
    };
    let accepted = applied.drained.iter().map(|pod| DrainAnswer {
        group: group_of(snapshot, pod),
        pod: pod.clone(),
        outcome: DrainOutcome::Accepted,
    });
    let refused = applied.refused.iter().map(|refusal| DrainAnswer {
        group: group_of(snapshot, &refusal.pod),
        pod: refusal.pod.clone(),
        outcome: refusal_outcome(refusal),
    });
    acted.drains = accepted.chain(refused).collect();
    acted
}

fn outcome(applied: &Applied) -> Outcome {
    match &applied.patch {
        PatchOutcome::Nothing => Outcome::Nothing,
        PatchOutcome::Recorded(_) => Outcome::DryRun,
        PatchOutcome::Done { .. } => Outcome::Patched,
        PatchOutcome::Failed(error) => {
            let detail = SourceError::new("act", error.kind(), error).message;
            Outcome::Failed {
                cause: error.kind(),
                detail,
            }
        }
    }
}

fn scaled(change: &crate::act::GroupChange, decision: &ScaleDecision) -> Scaled {
    let removals = decision
        .group(&change.name)
        .map(|group| group.remove.as_slice())
        .unwrap_or_default();
    let is_named = |pod| change.named.contains(pod);
    Scaled {
        group: change.name.clone(),
        from: change.replicas_from,
        to: change.replicas_to,
        removed: removals
            .iter()
            .filter(|removal| removal.pods.iter().any(is_named))
            .cloned()
            .collect(),
    }
}

fn refusal_outcome(refusal: &Refusal) -> DrainOutcome {
    let text = format!("{}: {}", refusal.code, refusal.message);
    match refusal.code {
        "no_answer" => DrainOutcome::Failed(text),
        _ => DrainOutcome::Refused(text),
    }
}

fn group_of(snapshot: &ClusterSnapshot, pod: &crate::model::PodName) -> WorkerGroupName {
    let node = snapshot.nodes.iter().find(|node| node.name == *pod);
    node.map_or_else(|| WorkerGroupName::from(""), |node| node.group.clone())
}
