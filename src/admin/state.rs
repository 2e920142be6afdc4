//! What the loop leaves for the admin port: pointers that are swapped, so that neither waits for the other.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use super::last_pass::LastPass;
use super::readiness::Readiness;
use super::status::{ClusterStatus, Facts, SourceProblem};
use crate::model::{ClusterSnapshot, NodeKind, NodeStatus, ScaleDecision, Timestamp};
use crate::report::Metrics;

/// Decisions that are kept: changes only, so this is hours of a busy cluster.
const HISTORY_MAX: usize = 100;

/// Large answers that are made at one time.
const RENDERS_MAX: usize = 2;

/// What large answers may hold of memory, made and not yet fetched. Units: KiB.
pub(super) const ANSWERS_KIB_MAX: u32 = 16 * 1024;

/// Tells the time; the admin port has no clock of its own.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Sets the log level; returns what is wrong with it otherwise.
pub type SetLogLevel = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Holds one decision with its moment.
#[derive(Debug, Clone, Serialize)]
pub struct Decided {
    /// When it was made.
    ///
    /// Units: milliseconds since 1970.
    pub at: Timestamp,
    /// What came of it, in a word.
    pub outcome: String,
    /// The decision.
    pub decision: Arc<ScaleDecision>,
    /// What it was made on, in numbers.
    pub summary: Summary,
}

/// Counts a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Version of the GCS state.
    pub state_version: i64,
    /// Groups that can be scaled.
    pub groups: usize,
    /// Groups that cannot.
    pub skipped_groups: usize,
    /// Workers whose raylet is alive.
    pub running: usize,
    /// Workers whose raylet has not registered.
    pub starting: usize,
    /// Workers that are going or gone.
    pub leaving: usize,
    /// Pending tasks and actors.
    pub pending_requests: u64,
    /// Pending placement groups.
    pub pending_placement_groups: usize,
    /// Why writing is paused.
    pub paused: Option<String>,
}

impl Summary {
    fn of(snapshot: &ClusterSnapshot) -> Self {
        let mut summary = Self {
            state_version: snapshot.state_version,
            groups: snapshot.groups.len(),
            skipped_groups: snapshot.skipped.len(),
            pending_placement_groups: snapshot.gangs.len(),
            paused: snapshot.paused.clone(),
            ..Self::default()
        };
        for demand in &snapshot.demands {
            summary.pending_requests = summary.pending_requests.saturating_add(demand.count);
        }
        for node in snapshot
            .nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Worker)
        {
            match node.status {
                NodeStatus::Running => summary.running += 1,
                NodeStatus::Starting => summary.starting += 1,
                _ => summary.leaving += 1,
            }
        }
        summary
    }
}

#[derive(Debug, Default)]
struct Shown {
    pass: Option<LastPass>,
    decided: Option<Decided>,
    history: VecDeque<Decided>,
    source_problems: Vec<SourceProblem>,
    config: Arc<str>,
    config_problem: Option<String>,
}

/// Names what may be asked under `/v1/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The last decision, what it was made from, and the status.
    Decision,
    /// The decisions before it.
    History,
    /// The configuration.
    Config,
}

/// Holds what the admin port shows.
pub struct AdminState {
    metrics: Metrics,
    now: Now,
    cluster: (String, String),
    readiness: Readiness,
    set_log_level: Option<SetLogLevel>,
    questions: Vec<Question>,
    shown: Mutex<Shown>,
    renders: Arc<Semaphore>,
    scrapes: Arc<Semaphore>,
    room: Arc<Semaphore>,
    listening: watch::Sender<Option<SocketAddr>>,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState").finish_non_exhaustive()
    }
}

impl AdminState {
    /// Returns a state that has nothing to show yet.
    ///
    /// The loop is given `beat_age_max_ms` for each turn before `/livez` fails.
    #[must_use]
    pub fn new(metrics: Metrics, now: Now, beat_age_max_ms: u64) -> Self {
        let readiness = Readiness::new(now(), beat_age_max_ms);
        Self {
            metrics,
            now,
            cluster: (String::new(), String::new()),
            readiness,
            set_log_level: None,
            questions: vec![Question::Decision, Question::History, Question::Config],
            shown: Mutex::default(),
            renders: Arc::new(Semaphore::new(RENDERS_MAX)),
            // A place of its own: whoever asks for large snapshots in a row delays no scrape.
            scrapes: Arc::new(Semaphore::new(1)),
            room: Arc::new(Semaphore::new(ANSWERS_KIB_MAX as usize)),
            listening: watch::Sender::new(None),
        }
    }

    /// Says which RayCluster this is about.
    #[must_use]
    pub fn of_cluster(self, namespace: &str, name: &str) -> Self {
        let cluster = (namespace.to_owned(), name.to_owned());
        Self { cluster, ..self }
    }

    /// Answers these questions and no others; without this, all.
    #[must_use]
    pub fn answer_only(self, questions: Vec<Question>) -> Self {
        Self { questions, ..self }
    }

    pub(super) fn answers(&self, question: Question) -> bool {
        self.questions.contains(&question)
    }

    /// Lets anybody who reaches the port change the log level; only if the configuration says so.
    #[must_use]
    pub fn allow_log_level(self, set: SetLogLevel) -> Self {
        Self {
            set_log_level: Some(set),
            ..self
        }
    }

    /// Says that the loop turns.
    pub fn beat(&self, now: Timestamp) {
        self.readiness.beat(now);
    }

    /// Shows which sources could not be read in the last pass.
    pub fn sources_failed(&self, problems: Vec<SourceProblem>) {
        self.shown().source_problems = problems;
    }

    /// Shows why the config file is not what is in use; `None` once it is.
    pub fn config_refused(&self, problem: Option<String>) {
        self.shown().config_problem = problem;
    }

    /// Shows a pass in which something was decided, be it that nothing is to be done.
    pub fn decided(&self, pass: LastPass) {
        if pass.snapshot.completeness.is_complete() {
            self.readiness.decided();
        }
        let decided = Decided {
            at: pass.at,
            outcome: pass.outcome.clone(),
            decision: Arc::clone(&pass.decision),
            summary: Summary::of(&pass.snapshot),
        };
        let mut shown = self.shown();
        let last = shown
            .history
            .back()
            .map(|last| (&last.decision.groups, &last.outcome));
        let is_news = last != Some((&decided.decision.groups, &decided.outcome));
        // A decision that waits for the end of a pause after a failure is told as that failure.
        let is_tried = decided.outcome != "backing_off";
        if decided.decision.is_change() && is_news && is_tried {
            shown.history.push_back(decided.clone());
            if shown.history.len() > HISTORY_MAX {
                shown.history.pop_front();
            }
        }
        shown.pass = Some(pass);
        shown.decided = Some(decided);
    }

    /// Shows the configuration in use, as JSON.
    pub fn set_config(&self, json: &str) {
        self.shown().config = Arc::from(json);
    }

    /// Returns where the port listens, once it does.
    #[must_use]
    pub fn listening(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.listening.subscribe()
    }

    pub(super) fn set_listening(&self, address: Option<SocketAddr>) {
        self.listening.send_replace(address);
    }

    /// Returns the metrics as of now, as they are scraped.
    #[must_use]
    pub fn exposition(&self) -> String {
        self.metrics.exposition(self.now())
    }

    pub(super) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.now)()
    }

    pub(super) const fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    pub(super) const fn log_level(&self) -> Option<&SetLogLevel> {
        self.set_log_level.as_ref()
    }

    pub(super) const fn renders(&self) -> &Arc<Semaphore> {
        &self.renders
    }

    /// Returns the room for large answers that nobody has fetched yet, in KiB.
    pub(super) const fn room(&self) -> &Arc<Semaphore> {
        &self.room
    }

    pub(super) const fn scrapes(&self) -> &Arc<Semaphore> {
        &self.scrapes
    }

    /// Returns what the last decision was made on.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<ClusterSnapshot>> {
        let shown = self.shown();
        shown.pass.as_ref().map(|pass| Arc::clone(&pass.snapshot))
    }

    /// Returns the last pass in which something was decided.
    #[must_use]
    pub fn last_pass(&self) -> Option<LastPass> {
        self.shown().pass.clone()
    }

    /// Returns the cluster on one page, as of now.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        let (namespace, cluster) = self.cluster.clone();
        let now = self.now();
        let facts = {
            let shown = self.shown();
            Facts {
                namespace,
                cluster,
                now,
                pass: shown.pass.clone(),
                source_problems: shown.source_problems.clone(),
                config_problem: shown.config_problem.clone(),
                last_change: shown.history.back().cloned(),
            }
        };
        ClusterStatus::of(&facts)
    }

    /// Returns the last decision.
    #[must_use]
    pub fn last_decided(&self) -> Option<Decided> {
        self.shown().decided.clone()
    }

    /// Returns the decisions that changed something, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<Decided> {
        self.shown().history.iter().cloned().collect()
    }

    pub(super) fn config(&self) -> Arc<str> {
        Arc::clone(&self.shown().config)
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
