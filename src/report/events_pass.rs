//! Events of one pass: what was decided, what was done, what is left alone.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::catalogue::MetricId;
use super::events::Event;
use super::latency::{Mark, Measured};
use super::metrics::Metrics;
use super::node_watch::NodeChange;
use super::pass::{DrainAnswer, DrainOutcome, Outcome, Phase, Scaled};
use crate::model::{
    GroupDecision, Hold, Problem, Reason, RemovalCause, ScalingMode, SkippedGroup, Timestamp,
    Unserved,
};

/// A pass ended.
#[derive(Debug)]
pub(super) struct PassEnded<'a> {
    pub(super) phases: &'a [(Phase, Duration)],
    pub(super) at: Timestamp,
}

impl Event for PassEnded<'_> {
    fn emit(&self, metrics: &Metrics) {
        for (phase, duration) in self.phases {
            metrics.observe(MetricId::PassDuration, &[phase.as_str()], *duration);
        }
        let whole = self.phases.iter().map(|(_, duration)| *duration).sum();
        metrics.observe(MetricId::StockUpdateTime, &[], whole);
        metrics.pass_ended(self.at);
        debug!(duration = ?whole, "pass ended");
    }
}

/// A group's number was decided upon; told once per change.
#[derive(Debug)]
pub(super) struct GroupDecided<'a> {
    pub(super) group: &'a GroupDecision,
    pub(super) outcome: &'a Outcome,
    pub(super) scaled: Option<&'a Scaled>,
}

impl Event for GroupDecided<'_> {
    fn emit(&self, metrics: &Metrics) {
        let group = self.group.name.as_str();
        for reason in &self.group.reasons {
            metrics.add(
                MetricId::Decisions,
                &[group, &reason.policy, &reason.code],
                1,
            );
        }
        let (from, to) = self.scaled.map_or(
            (self.group.replicas_from, self.group.replicas_to),
            |scaled| (scaled.from, scaled.to),
        );
        let remove = removed_pods(self.scaled.map_or(&self.group.remove, |it| &it.removed));
        let reasons = reasons_text(&self.group.reasons);
        let outcome = self.outcome.as_str();
        match self.outcome {
            Outcome::Failed { detail, .. } => {
                warn!(group, from, to, remove, reasons, outcome, error = %detail, "scale decision");
            }
            Outcome::Violated(ids) => {
                error!(
                    group,
                    from,
                    to,
                    remove,
                    reasons,
                    outcome,
                    invariants = ids.join(" "),
                    "scale decision"
                );
            }
            _ => info!(group, from, to, remove, reasons, outcome, "scale decision"),
        }
    }
}

/// The RayCluster was patched for a group.
#[derive(Debug)]
pub(super) struct GroupScaled<'a> {
    pub(super) scaled: &'a Scaled,
    pub(super) pods: u64,
    pub(super) patch_duration: Duration,
}

impl Event for GroupScaled<'_> {
    fn emit(&self, metrics: &Metrics) {
        let group = self.scaled.group.as_str();
        let added = self.scaled.to.saturating_sub(self.scaled.from);
        if added > 0 {
            metrics.add(MetricId::ReplicasAdded, &[group], u64::from(added));
            // As many observations as workers, as the name promises, and no more than a histogram
            // of one patch can bear.
            for _ in 0..self.pods.min(1_000) {
                metrics.observe(MetricId::StockCreateNodeTime, &[], self.patch_duration);
            }
        }
        for removal in &self.scaled.removed {
            let labels = [group, cause_label(removal.cause)];
            metrics.add(MetricId::ReplicasRemoved, &labels, 1);
        }
    }
}

/// The decision could not be written.
#[derive(Debug)]
pub(super) struct ActFailed<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) replaced: &'a [String],
    pub(super) would_grow: bool,
}

impl Event for ActFailed<'_> {
    fn emit(&self, metrics: &Metrics) {
        count_violations(self.replaced, metrics);
        match self.outcome {
            Outcome::Failed { cause, .. } => {
                metrics.add(MetricId::PassErrors, &[Phase::Act.as_str(), cause], 1);
                metrics.add(MetricId::StockUpdateLoopExceptions, &[], 1);
                if self.would_grow {
                    metrics.add(MetricId::StockNodeLaunchExceptions, &[], 1);
                }
            }
            Outcome::Violated(ids) => count_violations(ids, metrics),
            Outcome::Nothing | Outcome::Patched | Outcome::DryRun | Outcome::Paused(_) => {}
        }
    }
}

fn count_violations(ids: &[String], metrics: &Metrics) {
    for id in ids {
        metrics.add(MetricId::InvariantViolations, &[id], 1);
    }
}

/// A raylet answered that it will drain, or not; counted each time.
#[derive(Debug)]
pub(super) struct DrainAnswered<'a>(pub(super) &'a DrainAnswer);

impl Event for DrainAnswered<'_> {
    fn emit(&self, metrics: &Metrics) {
        let labels = [self.0.group.as_str(), self.0.outcome.as_str()];
        metrics.add(MetricId::Drains, &labels, 1);
        if matches!(self.0.outcome, DrainOutcome::Failed(_)) {
            metrics.add(MetricId::StockDrainNodeExceptions, &[], 1);
        }
    }
}

/// What a raylet answered is news.
#[derive(Debug)]
pub(super) struct DrainTold<'a>(pub(super) &'a DrainAnswer);

impl Event for DrainTold<'_> {
    fn emit(&self, _metrics: &Metrics) {
        let (group, pod) = (self.0.group.as_str(), self.0.pod.as_str());
        match &self.0.outcome {
            DrainOutcome::Accepted => info!(group, pod, "drain accepted"),
            DrainOutcome::Refused(reason) => {
                info!(group, pod, reason, "drain refused, the node stays");
            }
            DrainOutcome::Failed(error) => warn!(group, pod, error, "drain failed, the node stays"),
        }
    }
}

/// Scaling goes further or less far from now on; why is told by what is held.
#[derive(Debug)]
pub(super) struct ModeChanged {
    pub(super) from: ScalingMode,
    pub(super) to: ScalingMode,
}

impl Event for ModeChanged {
    fn emit(&self, _metrics: &Metrics) {
        let (from, to) = (self.from.as_str(), self.to.as_str());
        if self.to.is_normal() {
            info!(from, to, "mode changed");
        } else {
            warn!(from, to, "mode changed");
        }
    }
}

/// The operator waits out a back-off after refused pods, and was made to look again.
#[derive(Debug)]
pub(super) struct OperatorCalled;

impl Event for OperatorCalled {
    fn emit(&self, _metrics: &Metrics) {
        info!(
            "the RayCluster's annotation is written anew: an operator that waits after refused pods tries again"
        );
    }
}

/// Something is left alone on purpose from now on.
#[derive(Debug)]
pub(super) struct HoldBegan<'a>(pub(super) &'a Hold);

impl Event for HoldBegan<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.add(MetricId::HoldsStarted, &[&self.0.code], 1);
        let group = self.0.group.as_ref().map_or("*", |group| group.as_str());
        warn!(group, code = self.0.code, detail = self.0.detail, "held");
    }
}

/// Something is no longer left alone.
#[derive(Debug)]
pub(super) struct HoldEnded<'a> {
    pub(super) group: &'a str,
    pub(super) code: &'a str,
}

impl Event for HoldEnded<'_> {
    fn emit(&self, _metrics: &Metrics) {
        info!(group = self.group, code = self.code, "no longer held");
    }
}

/// Demand is not served from now on; the gauge of it is set with the others of the pass.
#[derive(Debug)]
pub(super) struct DemandUnserved<'a>(pub(super) &'a Unserved);

impl Event for DemandUnserved<'_> {
    fn emit(&self, _metrics: &Metrics) {
        let Unserved {
            what,
            count,
            code,
            detail,
            ..
        } = self.0;
        warn!(demand = what, count, code, detail, "demand is not served");
    }
}

/// A group cannot be scaled from now on.
#[derive(Debug)]
pub(super) struct GroupSkipped<'a>(pub(super) &'a SkippedGroup);

impl Event for GroupSkipped<'_> {
    fn emit(&self, _metrics: &Metrics) {
        let group = self.0.name.as_str();
        warn!(
            group,
            index = self.0.index,
            code = self.0.code,
            detail = self.0.detail,
            "group cannot be scaled"
        );
    }
}

/// Some input cannot be used from now on.
#[derive(Debug)]
pub(super) struct InputRefused<'a>(pub(super) &'a Problem);

impl Event for InputRefused<'_> {
    fn emit(&self, _metrics: &Metrics) {
        warn!(
            code = self.0.code,
            detail = self.0.detail,
            "input cannot be used"
        );
    }
}

/// More changes of one kind than lines are written for.
#[derive(Debug)]
pub(super) struct LinesOmitted {
    pub(super) kind: &'static str,
    pub(super) count: usize,
}

impl Event for LinesOmitted {
    fn emit(&self, _metrics: &Metrics) {
        warn!(
            kind = self.kind,
            count = self.count,
            "more of the same, not listed"
        );
    }
}

impl Event for NodeChange {
    fn emit(&self, metrics: &Metrics) {
        match self {
            Self::Appeared { pod, group } => debug!(%pod, %group, "pod appeared"),
            Self::Started { pod, group, after } => {
                metrics.add(MetricId::StockStartedNodes, &[], 1);
                if let Some(after) = after {
                    metrics.observe(MetricId::StockUpdateNodeTime, &[], *after);
                }
                info!(%pod, %group, after = ?after.unwrap_or_default(), "node started");
            }
            Self::Failed {
                pod,
                group,
                had_started,
                reason,
            } => {
                if !had_started {
                    metrics.add(MetricId::StockFailedCreateNodes, &[], 1);
                }
                warn!(%pod, %group, had_started, reason, "pod ended by itself");
            }
            Self::Gone { pod, group } => {
                metrics.add(MetricId::StockStoppedNodes, &[], 1);
                info!(%pod, %group, "pod gone");
            }
        }
    }
}

impl Event for Measured {
    fn emit(&self, metrics: &Metrics) {
        let id = match self.mark {
            Mark::Patch => MetricId::DemandToPatch,
            Mark::Pod => MetricId::DemandToPod,
            Mark::Node => MetricId::DemandToNode,
        };
        metrics.observe(id, &[self.group.as_str()], self.after);
        debug!(group = %self.group, mark = ?self.mark, after = ?self.after, "demand served");
    }
}

/// Returns a removal's cause as a label.
pub(super) const fn cause_label(cause: RemovalCause) -> &'static str {
    match cause {
        RemovalCause::Idle => "idle",
        RemovalCause::AboveMax => "above_max",
        RemovalCause::AboveTotal => "above_total",
        RemovalCause::Stopped => "stopped",
        RemovalCause::Ordered => "ordered",
        RemovalCause::Withdrawn => "withdrawn",
        RemovalCause::Stuck => "stuck",
        RemovalCause::HalfStarted => "half_started",
    }
}

/// Returns reasons in one line: `demand/tasks 0→2; guard/at_maximum 2→1 (maxReplicas 1)`.
pub(super) fn reasons_text(reasons: &[Reason]) -> String {
    let one = |reason: &Reason| {
        let Reason {
            policy,
            code,
            from,
            to,
            detail,
        } = reason;
        let detail = if detail.is_empty() {
            String::new()
        } else {
            format!(" ({detail})")
        };
        format!("{policy}/{code} {from}→{to}{detail}")
    };
    reasons.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn removed_pods(removals: &[crate::model::ReplicaRemoval]) -> String {
    /// Names in a log line; a mass removal is a number to people, and the names are on the admin port.
    const NAMES_MAX: usize = 20;
    let names = removals.iter().flat_map(|removal| &removal.pods);
    let mut text: Vec<&str> = names
        .clone()
        .take(NAMES_MAX)
        .map(|pod| pod.as_str())
        .collect();
    let more = names.count().saturating_sub(NAMES_MAX);
    let more = format!("and {more} more");
    if !more.starts_with("and 0 ") {
        text.push(&more);
    }
    text.join(" ")
}
