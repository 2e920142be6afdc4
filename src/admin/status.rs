//! The cluster on one page: small at any number of nodes, made when somebody asks.
//!
//! Everything here comes from the last pass; nothing is counted beside it, so that it cannot
//! disagree with the decision it explains. The field names are what `rayscaler status --json` prints
//! and `GET /v1/status` answers: fields are added, never renamed.

mod demand;
mod groups;
mod waiting;

use serde::{Deserialize, Serialize};

use super::last_pass::LastPass;
use super::state::Decided;
use crate::model::{RemovalCause, ScalingMode, Timestamp};

pub use demand::{DemandStatus, ResourceUsage};
pub use groups::{GroupStatus, NodeCounts};
pub use waiting::{Waiting, WaitingKind};

/// Most shapes of demand, and most things waited for, that are listed: what one screen can hold twice.
const LISTED_MAX: usize = 50;

/// Shows a cluster and its autoscaler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Version of rayscaler.
    pub version: String,
    /// Namespace of the RayCluster.
    pub namespace: String,
    /// Name of the RayCluster.
    pub cluster: String,
    /// The moment of this answer; ages are counted back from it.
    ///
    /// Units: milliseconds since 1970.
    pub now: Timestamp,
    /// Why the config file is not what is in use; `None` where it is, and without a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_problem: Option<String>,
    /// Whether anything is written; `None` before the first decision.
    pub mode: Option<Mode>,
    /// How far scaling goes in view of what is known; `None` before the first decision.
    #[serde(default)]
    pub scaling: Option<ScalingMode>,
    /// How long it has been so; `None` before the first decision.
    ///
    /// Units: milliseconds.
    #[serde(default)]
    pub scaling_for_ms: Option<u64>,
    /// Why writing is paused; `None` when it is not.
    pub paused: Option<String>,
    /// How long ago the last decision was made; `None` before the first.
    ///
    /// Units: milliseconds.
    pub decided_ago_ms: Option<u64>,
    /// What came of it, in a word; `None` before the first.
    pub outcome: Option<String>,
    /// Why writing failed or is paused; empty when it did not and is not.
    pub outcome_detail: String,
    /// Whether the head's raylet is alive; without it nothing is decided.
    pub is_head_running: bool,
    /// The sources.
    pub sources: Vec<SourceStatus>,
    /// The worker groups, in the order of the RayCluster; those that cannot be scaled too.
    pub groups: Vec<GroupStatus>,
    /// What running nodes have and use, by resource.
    pub usage: Vec<ResourceUsage>,
    /// What Ray waits for, by shape; the largest counts first.
    pub demand: Vec<DemandStatus>,
    /// Shapes of demand that are not listed.
    pub demand_more: usize,
    /// What is being waited for, and why.
    pub waiting: Vec<Waiting>,
    /// Things waited for that are not listed.
    pub waiting_more: usize,
    /// The last decision that changed anything.
    pub last_change: Option<Change>,
}

/// Says whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Decisions are written.
    Writing,
    /// Nothing is written: a dry run.
    DryRun,
    /// Nothing is written until somebody lifts the pause.
    Paused,
}

/// Shows one source of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// `gcs`, `pods` or `raycluster`.
    pub source: String,
    /// How long ago it was last known to be right; `None` when it has never been read.
    ///
    /// Units: milliseconds.
    pub age_ms: Option<u64>,
    /// Why it cannot be read now; `None` when it can.
    pub error: Option<String>,
}

/// Says why a source could not be read in the last pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProblem {
    /// `gcs`, `pods` or `raycluster`.
    pub source: String,
    /// The whole chain of causes.
    pub message: String,
}

/// Shows a decision that changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// How long ago it was made.
    ///
    /// Units: milliseconds.
    pub ago_ms: u64,
    /// What came of it, in a word.
    pub outcome: String,
    /// The groups it changed.
    pub groups: Vec<GroupChange>,
}

/// Shows the change of one group.
///
/// Units: replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupChange {
    /// The group.
    pub name: String,
    /// Before.
    pub from: u32,
    /// After.
    pub to: u32,
    /// Replicas that were to go, by cause.
    pub removed: Vec<Removed>,
    /// Names taken out of `workersToDelete`, as their pods were gone.
    pub forgotten: usize,
    /// Why, a line each.
    pub reasons: Vec<String>,
}

/// Counts replicas that went for one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Why they went.
    pub cause: RemovalCause,
    /// How many.
    pub replicas: usize,
}

/// Holds what a status is made of.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) namespace: String,
    pub(super) cluster: String,
    pub(super) now: Timestamp,
    pub(super) pass: Option<LastPass>,
    pub(super) source_problems: Vec<SourceProblem>,
    pub(super) config_problem: Option<String>,
    pub(super) last_change: Option<Decided>,
}

impl ClusterStatus {
    pub(super) fn of(facts: &Facts) -> Self {
        let mut status = Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            namespace: facts.namespace.clone(),
            cluster: facts.cluster.clone(),
            now: facts.now,
            config_problem: facts.config_problem.clone(),
            mode: None,
            scaling: None,
            scaling_for_ms: None,
            paused: None,
            decided_ago_ms: None,
            outcome: None,
            outcome_detail: String::new(),
            is_head_running: false,
            sources: sources(facts),
            groups: Vec::new(),
            usage: Vec::new(),
            demand: Vec::new(),
            demand_more: 0,
            waiting: Vec::new(),
            waiting_more: 0,
            last_change: facts
                .last_change
                .as_ref()
                .map(|decided| change(decided, facts.now)),
        };
        if let Some(pass) = &facts.pass {
            status.add_pass(pass, facts.now);
        }
        status
    }

    fn add_pass(&mut self, pass: &LastPass, now: Timestamp) {
        let snapshot = &pass.snapshot;
        self.paused.clone_from(&snapshot.paused);
        self.mode = Some(match (&self.paused, pass.is_dry_run) {
            (Some(_), _) => Mode::Paused,
            (None, true) => Mode::DryRun,
            (None, false) => Mode::Writing,
        });
        self.scaling = Some(pass.decision.mode);
        let since = pass.memory.recovery.mode;
        let since = since.filter(|(mode, _)| *mode == pass.decision.mode);
        self.scaling_for_ms = since.map(|(_, at)| now.millis_since(at));
        self.decided_ago_ms = Some(now.millis_since(pass.at));
        self.outcome = Some(pass.outcome.clone());
        self.outcome_detail.clone_from(&pass.outcome_detail);
        self.is_head_running = snapshot.is_head_running();
        self.groups = groups::groups(pass);
        self.usage = demand::usage(snapshot);
        (self.demand, self.demand_more) = first(demand::demand(snapshot));
        (self.waiting, self.waiting_more) = first(waiting::waiting(pass, &self.groups, now));
    }
}

/// Returns the first entries, and how many there are besides.
fn first<T>(mut entries: Vec<T>) -> (Vec<T>, usize) {
    let more = entries.len().saturating_sub(LISTED_MAX);
    entries.truncate(LISTED_MAX);
    (entries, more)
}

fn sources(facts: &Facts) -> Vec<SourceStatus> {
    let known = facts.pass.as_ref().map(|pass| pass.snapshot.completeness);
    let known = known.unwrap_or_default();
    let sources = [
        ("gcs", known.gcs_at),
        ("pods", known.pods_at),
        ("raycluster", known.raycluster_at),
    ];
    let status = |(source, at): (&str, Option<Timestamp>)| {
        let problem = facts.source_problems.iter().find(|it| it.source == source);
        SourceStatus {
            source: source.to_owned(),
            age_ms: at.map(|at| facts.now.millis_since(at)),
            error: problem.map(|it| it.message.clone()),
        }
    };
    sources.into_iter().map(status).collect()
}

fn change(decided: &Decided, now: Timestamp) -> Change {
    let changed = decided.decision.groups.iter().filter(|it| it.is_change());
    let groups = changed.map(|group| {
        let mut removed: Vec<Removed> = Vec::new();
        for removal in &group.remove {
            match removed.iter_mut().find(|it| it.cause == removal.cause) {
                Some(known) => known.replicas += 1,
                None => removed.push(Removed {
                    cause: removal.cause,
                    replicas: 1,
                }),
            }
        }
        let reasons = group.reasons.iter().map(|reason| {
            let head = format!("{} -> {} by {}", reason.from, reason.to, reason.policy);
            match reason.detail.as_str() {
                "" => format!("{head}, {}", reason.code),
                detail => format!("{head}, {}: {detail}", reason.code),
            }
        });
        GroupChange {
            name: group.name.to_string(),
            from: group.replicas_from,
            to: group.replicas_to,
            removed,
            forgotten: group.forget.len(),
            reasons: reasons.collect(),
        }
    });
    Change {
        ago_ms: now.millis_since(decided.at),
        outcome: decided.outcome.clone(),
        groups: groups.collect(),
    }
}
