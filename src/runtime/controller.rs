//! The loop: the only place where observe, engine, act and report meet.
//!
//! Each pass starts from what is observed now. A patch that succeeded means "asked", no more: the
//! object the API server returned is adopted as the newest observation, and the next pass decides
//! from that. Nothing here retries; a failed act only says how long to keep quiet, and then the
//! next pass decides afresh.
//!
//! # Why generic
//!
//! The loop gets its clock, its sources and its hands from outside, so that it can be run whole
//! under virtual time against stand-ins (tokio's paused clock moves [`Clock`] as well).

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Notify;

use super::audit::{Audit, Checked};
use super::quiet::Quiet;
use super::unsure::UnsurePatches;
use super::work_budget::{WorkBudget, next_check_at};
use crate::act::{Applied, Order, PatchOutcome, remember_act};
use crate::clock::Clock;
use crate::config::{self, Config, Scaling};
use crate::engine::invariants::Violation;
use crate::engine::{Engine, is_doubtful};
use crate::model::{
    ClusterSnapshot, Departure, History, Input, Intent, IntentSeen, ScaleDecision, ScalingMode,
    Timestamp, Writing,
};
use crate::observe::Observed;
use crate::policy::{PolicyContext, Registry};

/// Gives the loop what is there.
pub trait Observe {
    /// Waits for news, or until `wake_at`, and returns everything known then; can be cancelled.
    fn next(&mut self, wake_at: Option<Timestamp>) -> impl Future<Output = Observed>;

    /// Takes in what a patch taught: the object it returned, or (`None`) that ours is out of date.
    ///
    /// A second method, because the stock Role cannot watch the RayCluster: without it the loop
    /// would act again on the state from before its own patch.
    fn adopt(&mut self, raycluster: Option<&serde_json::Value>);

    /// Has everything read anew soon: what is seen and what happens do not agree. Asked again and again while
    /// that lasts, so it must be bounded, and must not wait.
    fn doubt(&mut self);
}

/// Does what was decided.
pub trait Act {
    /// Drains and patches; everything that happened is in the answer, failures included.
    fn act(&mut self, order: &Order<'_>, now: Timestamp) -> impl Future<Output = Applied>;

    /// Has Ray told of nodes that are gone or about to go; must not wait.
    ///
    /// A second method, because Ray is told also where nothing may or need be patched.
    fn tell(&mut self, notices: &[Departure]);

    /// Has pods resized in place; must not wait, so that no other write waits for it.
    fn resize(&mut self, _order: &Order<'_>) {}

    /// Has the whole cluster ended, if that was decided; must not wait.
    fn end(&mut self, _order: &Order<'_>) {}
}

/// Holds everything about one pass, for reports.
#[derive(Debug)]
pub struct Pass<'a> {
    /// What was there.
    pub observed: &'a Observed,
    /// What was decided; `None` until everything has been read once.
    pub decided: Option<Decided<'a>>,
    /// What was done; `None` when nothing was to be done or writing was held back.
    pub applied: Option<&'a Applied>,
    /// When the pass began.
    pub started_at: Timestamp,
    /// When everything was done.
    pub ended_at: Timestamp,
    /// How long each phase took.
    pub took: PhaseTimes,
}

/// Holds a decision and what it was made from.
#[derive(Debug, Clone, Copy)]
pub struct Decided<'a> {
    /// The facts.
    pub snapshot: &'a ClusterSnapshot,
    /// The answer.
    pub decision: &'a ScaleDecision,
    /// What the engine remembered.
    pub history: &'a History,
    /// Invariants that what was decided first would have broken; `decision` removes nothing then, or breaks
    /// them, too, and is held.
    pub violations: &'a [Violation],
    /// Why nothing is written although something was decided; `None` when writing is free.
    pub write_hold: Option<WriteHold>,
}

/// Holds how long the phases of a pass took.
///
/// Units: milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PhaseTimes {
    /// Deciding and checking.
    pub decide_ms: f64,
    /// Draining and patching.
    pub act_ms: f64,
}

/// Receives every pass.
pub trait Report {
    /// Takes in one pass and returns when it wants another, though nothing else happens; must not wait.
    fn pass(&mut self, pass: &Pass<'_>) -> Option<Timestamp>;
}

/// Says why nothing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteHold {
    /// Paused by annotation or configuration.
    Paused,
    /// The last act failed; quiet until then.
    BackingOff(Timestamp),
    /// The decision broke an invariant, and so did the one without removals.
    Invariant,
    /// The sidecar of another head pod writes.
    Fenced,
}

impl WriteHold {
    /// Returns the stable word for logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::BackingOff(_) => "backing_off",
            Self::Invariant => "invariant",
            Self::Fenced => "fenced",
        }
    }
}

/// Holds what can change while the loop runs.
#[derive(Debug, Clone)]
pub struct ControllerSettings {
    /// The policies, built.
    pub engine: Arc<Engine>,
    /// What the configuration says in place of the RayCluster.
    pub scaling: Scaling,
}

impl ControllerSettings {
    /// Returns the settings that a config asks for.
    ///
    /// Errors: the mistakes in its policies, a line each.
    pub fn of(config: &Config) -> Result<Self, String> {
        let engine = config::engine(config, &Registry::default()).map_err(|errors| {
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        })?;
        Ok(Self {
            engine: Arc::new(engine),
            scaling: config.scaling.clone(),
        })
    }
}

/// Runs the loop.
#[derive(Debug)]
pub struct Controller<O, A, R> {
    observe: O,
    act: A,
    report: R,
    clock: Clock,
    settings: tokio::sync::watch::Receiver<ControllerSettings>,
    may_write: Arc<Notify>,
    history: History,
    inherited: Option<String>,
    quiet: Quiet,
    wake_at: Option<Timestamp>,
    work_budget: WorkBudget,
    unsure: UnsurePatches,
    audit: Audit,
}

/// How often the loop turns when nothing happens, so that ages and health stay current.
const HEARTBEAT_MS: u64 = 5_000;

impl<O: Observe, A: Act, R: Report> Controller<O, A, R> {
    /// Returns a loop that has not turned yet.
    pub fn new(
        (observe, act, report): (O, A, R),
        clock: Clock,
        settings: tokio::sync::watch::Receiver<ControllerSettings>,
    ) -> Self {
        Self {
            observe,
            act,
            report,
            clock,
            settings,
            may_write: Arc::default(),
            history: History::default(),
            inherited: None,
            quiet: Quiet::default(),
            wake_at: None,
            work_budget: WorkBudget::default(),
            unsure: UnsurePatches::default(),
            audit: Audit::default(),
        }
    }

    /// Returns a loop that tries at once what was refused when it is told that we may write again.
    #[must_use]
    pub fn retried_on(mut self, may_write: Arc<Notify>) -> Self {
        self.may_write = may_write;
        self
    }

    /// Turns until `shutdown` is ready; a patch in flight is finished first.
    pub async fn run(&mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        loop {
            let heartbeat = self.clock.now().plus_ms(HEARTBEAT_MS);
            let wake_at = self.wake_at.map_or(heartbeat, |at| at.min(heartbeat));
            let observed = tokio::select! {
                biased;
                () = &mut shutdown => return,
                Ok(()) = self.settings.changed() => None,
                () = self.may_write.notified() => {
                    self.quiet.lift();
                    None
                }
                observed = self.observe.next(Some(wake_at)) => Some(observed),
            };
            if let Some(observed) = observed {
                self.pass(observed).await;
            } else {
                // Through the same door, so that the end is heard of while sources are read.
                self.wake_at = Some(self.clock.now());
            }
        }
    }

    /// Returns what the loop remembers.
    pub fn history(&self) -> &History {
        &self.history
    }

    async fn pass(&mut self, mut observed: Observed) {
        let started_at = self.clock.now();
        if observed.is_gcs_replaced {
            self.history.absorb(&Input::GcsReplaced, started_at);
        } else if observed.is_gcs_restarted {
            self.history.absorb(&Input::GcsRestarted, started_at);
        }
        let settings = self.settings.borrow_and_update().clone();
        if let Some(snapshot) = &mut observed.snapshot {
            settings.scaling.apply_to(snapshot);
            self.take_in(snapshot, started_at);
        }
        let Some(snapshot) = &observed.snapshot else {
            let took = PhaseTimes::default();
            let pass = Pass {
                observed: &observed,
                decided: None,
                applied: None,
                started_at,
                ended_at: started_at,
                took,
            };
            self.wake_at = self.report.pass(&pass);
            return;
        };
        let before_decide = self.clock.precise_ms();
        let checked = self.decide(&settings.engine, snapshot, started_at);
        let (decision, own) = (checked.decision, checked.snapshot);
        let snapshot = own.as_deref().unwrap_or(snapshot);
        let before_act = self.clock.precise_ms();
        let seen = (snapshot, &decision);
        let write_hold = self.write_hold(seen, &settings, checked.is_sound, started_at);
        let remembered = self.history.clone();
        let order = Order {
            snapshot,
            decision: &decision,
            history: &remembered,
        };
        self.hand_over(&order, write_hold, started_at);
        let applied = self.carry_out(&order, write_hold, started_at).await;
        let took = PhaseTimes {
            decide_ms: before_act - before_decide,
            act_ms: self.clock.precise_ms() - before_act,
        };
        let decided = Decided {
            snapshot,
            decision: &decision,
            history: &remembered,
            violations: &checked.violations,
            write_hold,
        };
        let (decided, applied) = (Some(decided), applied.as_ref());
        let report_at = self.report.pass(&Pass {
            observed: &observed,
            decided,
            applied,
            started_at,
            ended_at: self.clock.now(),
            took,
        });
        let quiet_until = self.quiet.until(&decision, started_at);
        let next_check_at = next_check_at(&decision, write_hold);
        let left_at = applied.and_then(|it| goes_on_at(it, self.clock.now()));
        self.wake_at = [next_check_at, quiet_until, report_at, left_at]
            .into_iter()
            .flatten()
            .min();
    }

    fn take_in(&mut self, snapshot: &mut ClusterSnapshot, at: Timestamp) {
        if snapshot.completeness.pods_at.is_none() {
            // Without a list of pods, all that is remembered of them would be taken for gone.
            return;
        }
        self.unsure
            .settle(&snapshot.writing.seen, &mut self.history);
        self.inherit(&snapshot.writing, at);
        self.history.absorb(&Input::Observed(snapshot), at);
        snapshot.problems.extend(self.history.differences());
    }

    /// Decides within the work budget, and checks what was decided.
    fn decide(&mut self, engine: &Engine, snapshot: &ClusterSnapshot, at: Timestamp) -> Checked {
        let began_ms = self.clock.precise_ms();
        let steps = self.work_budget.steps();
        let decision = engine.decide_within(snapshot, &self.history, at, steps);
        let took_ms = self.clock.precise_ms() - began_ms;
        self.work_budget.learn(decision.steps, took_ms);
        let ctx = PolicyContext {
            snapshot,
            history: &self.history,
            now: at,
        };
        let checked = self.audit.checked(engine, ctx, decision, steps);
        let decided = Input::Decided(&checked.decision);
        self.history.absorb(&decided, at);
        if checked.decision.holds.iter().any(is_doubtful) {
            self.observe.doubt();
        }
        checked
    }

    /// Writes what is to be written, if it may be.
    async fn carry_out(
        &mut self,
        order: &Order<'_>,
        hold: Option<WriteHold>,
        now: Timestamp,
    ) -> Option<Applied> {
        // Where nothing at all is to be written, no claim is, either.
        let is_frozen = order.decision.mode == ScalingMode::Frozen;
        let must_claim = order.snapshot.writing.must_claim() && !is_frozen;
        if !order.decision.is_work() && !must_claim {
            // Nothing is left to write: whatever failed has been settled.
            self.quiet.end();
            return None;
        }
        if hold.is_some() {
            return None;
        }
        let applied = self.act.act(order, now).await;
        self.learn(&applied, order.decision);
        Some(applied)
    }

    /// Takes over what an earlier sidecar left: at the start, and what another head's has written since.
    fn inherit(&mut self, writing: &Writing, now: Timestamp) {
        let is_first = self.inherited.is_none();
        let known = self.inherited.get_or_insert_default();
        let IntentSeen::Text(text) = &writing.seen else {
            return;
        };
        // Where ours is refused the old one stays, and is taken over once all the same.
        if !is_first && (!writing.is_inherited || known == text) {
            return;
        }
        known.clone_from(text);
        // What cannot be read is named where it is read.
        if let Ok(intent) = Intent::parse(text) {
            self.history.absorb(&Input::Restored(&intent), now);
        }
    }

    /// Has done what the loop does not wait for, unless nothing may be done at all.
    fn hand_over(&mut self, order: &Order<'_>, hold: Option<WriteHold>, now: Timestamp) {
        // A patch that failed says nothing about other writes.
        if !matches!(hold, None | Some(WriteHold::BackingOff(_))) {
            return;
        }
        let notices = &order.decision.notices;
        if !notices.is_empty() {
            self.act.tell(notices);
        }
        for notice in notices {
            self.history.absorb(&Input::Told(notice), now);
        }
        self.act.resize(order);
        if hold.is_none() {
            self.act.end(order);
        }
    }

    fn write_hold(
        &self,
        (snapshot, decision): (&ClusterSnapshot, &ScaleDecision),
        settings: &ControllerSettings,
        is_sound: bool,
        now: Timestamp,
    ) -> Option<WriteHold> {
        if !is_sound {
            return Some(WriteHold::Invariant);
        }
        if snapshot.writing.fenced.is_some() {
            return Some(WriteHold::Fenced);
        }
        if settings.scaling.paused || snapshot.paused.is_some() {
            return Some(WriteHold::Paused);
        }
        self.quiet.until(decision, now).map(WriteHold::BackingOff)
    }

    fn learn(&mut self, applied: &Applied, decision: &ScaleDecision) {
        let now = self.clock.now();
        remember_act(&mut self.history, applied, decision, now);
        match &applied.patch {
            PatchOutcome::Nothing | PatchOutcome::Recorded(_) => {}
            PatchOutcome::Done { raycluster, .. } => {
                self.unsure.clear();
                self.observe.adopt(Some(raycluster));
                self.quiet.end();
            }
            PatchOutcome::Failed(error) => {
                self.observe.adopt(None);
                self.quiet.begin(error, decision, now);
            }
        }
        // Of a patch that was sent in parts the last one may be unsure.
        if let Some(patch) = &applied.unsure {
            self.unsure.add(patch, (decision, &self.history), now);
        }
    }
}

/// Returns when an act goes on that has left something: the time of whoever may finish its work ends, or nobody was
/// asked for lack of time.
fn goes_on_at(applied: &Applied, now: Timestamp) -> Option<Timestamp> {
    let left_at = (applied.not_asked > 0).then_some(now);
    applied.leaving.values().copied().chain(left_at).min()
}
