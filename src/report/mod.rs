//! Tells what happened: metrics, log lines, Ray, drivers, Kubernetes.
//!
//! The loop hands over one [`PassReport`] a pass. What is a file is written here; what travels over
//! the network comes back as an [`Outbox`] for the loop to send, so that everything in between is
//! arithmetic on values and takes `now` as an argument.

pub mod catalogue;
mod changes;
mod drain_watch;
mod driver_text;
pub mod event_log;
pub mod events;
mod events_pass;
mod failures;
#[cfg(test)]
mod fixtures;
mod gauges;
mod gcs_state;
pub mod kube_events;
pub mod kv;
mod latency;
pub mod metrics;
pub mod monitor_log;
mod node_watch;
mod pacer;
pub mod pass;
mod proven;
mod rotating_file;
mod to_wire;
mod v1_status;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

pub use catalogue::catalogue;
pub use driver_text::{DriverMessage, Severity};
pub use metrics::Metrics;
pub use pacer::ReportPacer;
pub use pass::{Acted, DrainAnswer, DrainOutcome, Outcome, PassReport, Phase, Scaled};
pub use rotating_file::Rotation;

use crate::model::{ClusterSnapshot, Timestamp};
use crate::wire::gcs::ray::rpc::autoscaler::AutoscalingState;
use event_log::EventLog;
use events::Event;
use kube_events::{EventTarget, KubeEvents};
use monitor_log::MonitorLog;
use pacer::Pacer;

/// The first autoscaler writes its status every 5 s, and its readers show the time of it.
const V1_STATUS_INTERVAL_MS: u64 = 5_000;

/// Says where to report.
#[derive(Debug, Default)]
pub struct ReportOptions {
    /// Whether the cluster's drivers and `ray status` speak the first autoscaler's protocol
    /// (KV `__autoscaler_v2_enabled` is not `1`).
    pub is_v1: bool,
    /// Longest time between two reports to the GCS; `None` takes the default. Units: milliseconds.
    pub interval_ms: Option<u64>,
    /// Our process.
    pub pid: u32,
    /// What carries messages to drivers; `None` without a log folder.
    pub event_log: Option<EventLog>,
    /// The log in Ray's folder; `None` without one.
    pub monitor_log: Option<MonitorLog>,
    /// The RayCluster, where its Role allows to create events; `None` elsewhere.
    pub event_target: Option<EventTarget>,
}

/// Holds what the loop has to send.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outbox {
    /// For `ReportAutoscalingState`; tell [`Report::state_delivered`] or [`Report::state_failed`].
    pub autoscaling_state: Option<AutoscalingState>,
    /// For the GCS's key-value store, see [`kv::v1_status`]; tell [`Report::v1_status_failed`].
    pub v1_status: Option<String>,
    /// For [`kube_events::create`].
    pub kube_events: Vec<Value>,
    /// When a change that was held back has to be reported, though nothing else happens.
    pub next_at: Option<Timestamp>,
}

/// Remembers what was reported.
#[derive(Debug)]
pub struct Report {
    metrics: Metrics,
    options: ReportOptions,
    nodes: node_watch::NodeWatch,
    latency: latency::Latency,
    failures: failures::Failures,
    changes: changes::Changes,
    drains: drain_watch::DrainWatch,
    driver_text: driver_text::DriverText,
    kube_events: Option<KubeEvents>,
    proven: proven::Proven,
    pacer: ReportPacer,
    v1_pacer: Pacer<Map<String, Value>>,
    is_paused: Option<String>,
    is_event_log_failing: bool,
}

impl Report {
    /// Returns a reporter that has told nothing yet.
    #[must_use]
    pub fn new(metrics: Metrics, mut options: ReportOptions) -> Self {
        let kube_events = options.event_target.take().map(KubeEvents::new);
        let pacer = options
            .interval_ms
            .map_or_else(ReportPacer::default, ReportPacer::every);
        Self {
            metrics,
            options,
            nodes: node_watch::NodeWatch::default(),
            latency: latency::Latency::default(),
            failures: failures::Failures::default(),
            changes: changes::Changes::default(),
            drains: drain_watch::DrainWatch::default(),
            driver_text: driver_text::DriverText::default(),
            kube_events,
            proven: proven::Proven::default(),
            pacer,
            v1_pacer: Pacer::new(V1_STATUS_INTERVAL_MS),
            is_paused: None,
            is_event_log_failing: false,
        }
    }

    /// Tells what came of one pass and returns what is to be sent.
    ///
    /// In a dry run nothing is returned and drivers are told nothing: it may run beside another autoscaler.
    pub fn pass(&mut self, pass: &PassReport<'_>, now: Timestamp) -> Outbox {
        self.metrics.set_session(pass.session_name);
        let nodes = self.nodes.update(pass.snapshot, pass.observed_at);
        self.failures.pass(pass, &nodes, now);
        self.emit(pass, &nodes, now);
        let messages = self.driver_text.pass(pass);
        if pass.is_dry_run {
            return Outbox::default();
        }
        self.tell_drivers(&messages, now);
        let kube_events = self.kube_events.as_mut();
        let (told, look_again) = self.proven.pass(pass);
        let state = gcs_state::autoscaling_state(pass, &self.failures, &told);
        Outbox {
            kube_events: kube_events.map_or_else(Vec::new, |it| it.pass(pass, &messages, now)),
            autoscaling_state: self.pacer.due(state, now),
            v1_status: self.v1_status(pass, now),
            next_at: self
                .pacer
                .waiting_until()
                .into_iter()
                .chain(self.v1_pacer.waiting_until())
                .chain(look_again)
                .min(),
        }
    }

    /// Says that the GCS is new or was away: its number of our reports (`GetClusterStatus`) is continued, and all is told again.
    pub fn gcs_restarted(&mut self, state_version: i64) {
        self.pacer.continue_above(state_version);
        self.v1_pacer.forget();
    }

    /// Says whether the cluster speaks the first autoscaler's protocol, which a new GCS may change.
    pub const fn set_v1(&mut self, is_v1: bool) {
        self.options.is_v1 = is_v1;
    }

    /// Changes where drivers are told and the log is written, once the head's log folder is known.
    pub fn set_logs(&mut self, event_log: Option<EventLog>, monitor_log: Option<MonitorLog>) {
        self.options.event_log = event_log;
        self.options.monitor_log = monitor_log;
    }

    /// Says that the GCS took the report.
    pub fn state_delivered(&mut self, at: Timestamp) {
        self.pacer.delivered(at);
    }

    /// Says that the GCS did not take the report.
    pub fn state_failed(&mut self) {
        self.pacer.failed();
    }

    /// Says that the GCS did not take the first autoscaler's status.
    pub fn v1_status_failed(&mut self) {
        self.v1_pacer.forget();
    }

    fn emit(&mut self, pass: &PassReport<'_>, nodes: &[node_watch::NodeChange], now: Timestamp) {
        let metrics = &self.metrics;
        for change in nodes {
            change.emit(metrics);
        }
        for measured in self.latency.pass(pass, nodes, now) {
            measured.emit(metrics);
        }
        for scaled in &pass.acted.scaled {
            let added = scaled.to.saturating_sub(scaled.from);
            let pods = pass
                .snapshot
                .group(&scaled.group)
                .map_or(0, |it| it.pods_of(added));
            let patch_duration = pass.acted.patch_duration;
            events_pass::GroupScaled {
                scaled,
                pods,
                patch_duration,
            }
            .emit(metrics);
        }
        self.drains.pass(&pass.acted.drains, metrics, now);
        let would_grow = pass
            .decision
            .groups
            .iter()
            .any(|it| it.replicas_to > it.replicas_from);
        let outcome = &pass.acted.outcome;
        events_pass::ActFailed {
            outcome,
            replaced: &pass.acted.replaced,
            would_grow,
        }
        .emit(metrics);
        self.changes.pass(pass, metrics);
        gauges::Decided {
            snapshot: pass.snapshot,
            decision: pass.decision,
            history: pass.history,
            failures: &self.failures,
            is_dry_run: pass.is_dry_run,
        }
        .emit(metrics);
        let groups: BTreeSet<&str> = group_names(pass.snapshot).collect();
        metrics.retain_groups(|name| groups.contains(name));
        events_pass::PassEnded {
            phases: pass.phases,
            at: now,
        }
        .emit(metrics);
        self.tell_pause(pass);
    }

    fn tell_pause(&mut self, pass: &PassReport<'_>) {
        let reason = match &pass.acted.outcome {
            Outcome::Paused(reason) => Some(reason),
            _ => pass.snapshot.paused.as_ref(),
        };
        let is_repeated = self.is_paused.as_ref() == reason;
        let event = events::PauseChanged {
            reason: reason.map(String::as_str),
            is_repeated,
        };
        event.emit(&self.metrics);
        self.is_paused = reason.cloned();
    }

    fn tell_drivers(&mut self, messages: &[DriverMessage], now: Timestamp) {
        if let Some(log) = self
            .options
            .monitor_log
            .as_ref()
            .filter(|_| self.options.is_v1)
        {
            for message in messages.iter().filter(|it| it.severity >= Severity::Info) {
                log.write_event_summary(now, &message.text);
            }
        }
        let Some(log) = self.options.event_log.as_mut() else {
            return;
        };
        match log.append(messages, now) {
            Err(error) => {
                let event = events::ReportFailed {
                    target: "event_log",
                    error: &error.to_string(),
                    is_repeated: self.is_event_log_failing,
                };
                event.emit(&self.metrics);
                self.is_event_log_failing = true;
            }
            Ok(()) => self.is_event_log_failing &= messages.is_empty(),
        }
    }

    fn v1_status(&mut self, pass: &PassReport<'_>, now: Timestamp) -> Option<String> {
        if !self.options.is_v1 {
            return None;
        }
        let status = v1_status::status(pass, &self.failures, self.options.pid);
        if !self.v1_pacer.is_due(&status, now) {
            return None;
        }
        self.v1_pacer.delivered(status.clone(), now);
        Some(v1_status::text(status, now))
    }
}

/// Returns the groups that anything can be said of; names may stand twice.
fn group_names(snapshot: &ClusterSnapshot) -> impl Iterator<Item = &str> {
    let groups = snapshot.groups.iter().map(|it| it.name.as_str());
    let skipped = snapshot.skipped.iter().map(|it| it.name.as_str());
    let of_nodes = snapshot.nodes.iter().map(|it| it.group.as_str());
    groups.chain(skipped).chain(of_nodes)
}

#[cfg(test)]
mod tests {
    use super::event_log::{EventIds, EventLog, EventSource};
    use super::fixtures::{Pass, at, captured, demand, group, grow, node, patched, snapshot};
    use super::monitor_log::MonitorLog;
    use super::{Metrics, Outbox, Report, ReportOptions, Rotation};
    use crate::model::NodeStatus::Running;

    fn scaling() -> Pass {
        let mut pass = Pass::of(snapshot(vec![group("g", 0)], vec![]));
        pass.snapshot.demands.push(demand(&[("CPU", 1)], 1));
        pass.with(grow("g", 0, 1), patched("g", 0, 1))
    }

    fn in_dir(dir: &std::path::Path, is_v1: bool) -> Report {
        let source = EventSource {
            hostname: "head".to_owned(),
            pid: 1,
        };
        let options = ReportOptions {
            is_v1,
            event_log: Some(EventLog::new(dir, source, EventIds::new(3))),
            monitor_log: Some(MonitorLog::new(dir, Rotation::default())),
            ..ReportOptions::default()
        };
        Report::new(Metrics::new(), options)
    }

    fn read(dir: &std::path::Path, name: &str) -> String {
        std::fs::read_to_string(dir.join(name)).unwrap_or_default()
    }

    #[test]
    fn with_v2_drivers_are_told_through_the_event_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = in_dir(dir.path(), false);
        let outbox = report.pass(&scaling().report(), at(0));
        assert!(outbox.autoscaling_state.is_some() && outbox.v1_status.is_none());
        assert_eq!(read(dir.path(), "monitor.log"), "");
        let events = read(dir.path(), "events/event_AUTOSCALER.log");
        assert!(events.contains("Adding 1 node(s) of type g.") && events.lines().count() == 2);
    }

    #[test]
    fn with_v1_drivers_are_told_through_monitor_log_and_the_status_is_put() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = in_dir(dir.path(), true);
        let outbox = report.pass(&scaling().report(), at(0));
        assert!(
            outbox
                .v1_status
                .unwrap()
                .contains("\"pending_launches\":{\"g\":1}")
        );
        let log = read(dir.path(), "monitor.log");
        assert!(
            log.contains(" -- :event_summary:Adding 1 node(s) of type g.\n"),
            "{log}"
        );
        assert!(
            report
                .pass(&scaling().report(), at(300))
                .v1_status
                .is_none()
        );
        report.v1_status_failed();
        assert!(
            report
                .pass(&scaling().report(), at(600))
                .v1_status
                .is_some()
        );
    }

    #[test]
    fn a_dry_run_tells_nobody_but_metrics_and_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = in_dir(dir.path(), true);
        let pass = scaling();
        let mut dry = pass.report();
        dry.is_dry_run = true;
        assert_eq!(report.pass(&dry, at(0)), Outbox::default());
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
        assert!(
            report
                .metrics
                .exposition(at(0))
                .contains("rayscaler_dry_run 1")
        );
    }

    #[test]
    fn an_idle_day_writes_no_line() {
        let (lines, subscriber) = captured();
        tracing::subscriber::with_default(subscriber, || {
            let mut report = Report::new(Metrics::new(), ReportOptions::default());
            let nodes = vec![node("a", "g", Running)];
            let pass = Pass::of(snapshot(vec![group("g", 1)], nodes));
            let mut sent = 0;
            for minute in 0..24 * 60 {
                let outbox = report.pass(&pass.report(), at(minute * 60_000));
                sent += u32::from(outbox.autoscaling_state.is_some());
                report.state_delivered(at(minute * 60_000));
            }
            assert_eq!(sent, 24 * 60);
        });
        assert_eq!(lines.text(), "");
    }

    #[test]
    fn a_change_is_one_line() {
        let (lines, subscriber) = captured();
        tracing::subscriber::with_default(subscriber, || {
            let mut report = Report::new(Metrics::new(), ReportOptions::default());
            report.pass(&scaling().report(), at(0));
        });
        let text = lines.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("scale decision group=\"g\" from=0 to=1"),
            "{text}"
        );
        assert!(
            text.contains("demand/tasks 0→1") && text.contains("outcome=\"patched\""),
            "{text}"
        );
    }

    #[test]
    fn what_is_said_of_a_group_goes_with_it() {
        let mut report = Report::new(Metrics::new(), ReportOptions::default());
        report.pass(&scaling().report(), at(0));
        let text = report.metrics.exposition(at(0));
        assert!(
            text.contains("rayscaler_replicas_added_total{group=\"g\"} 1"),
            "{text}"
        );
        report.pass(
            &Pass::of(snapshot(vec![group("h", 0)], vec![])).report(),
            at(1),
        );
        let text = report.metrics.exposition(at(1));
        assert!(!text.contains("\"g\""), "{text}");
    }

    #[test]
    fn a_decision_in_place_of_one_that_breaks_a_rule_is_counted_as_that_one() {
        let mut pass = scaling();
        pass.acted.replaced = vec!["I9".to_owned()];
        let metrics = Metrics::new();
        Report::new(metrics.clone(), ReportOptions::default()).pass(&pass.report(), at(0));
        let text = metrics.exposition(at(0));
        let counted = "rayscaler_invariant_violations_total{id=\"I9\"";
        let counted = text.lines().find(|line| line.starts_with(counted));
        assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{text}");
    }
}
