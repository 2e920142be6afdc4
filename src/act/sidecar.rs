//! The order of one act: drain, then patch with whoever may go.

mod parts;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::caution::Caution;
use super::drain::Drainer;
use super::drained::{Drained, unanswered};
use super::intent_keeper::IntentKeeper;
use super::kube::KubeAct;
use super::resize::{ResizeOrder, resize_orders};
use parts::Refused;

use super::{
    ActError, Applied, DryRun, GroupChange, Order, PatchOutcome, PatchPlan, Unsure, patch,
};
use crate::model::{
    ClusterSnapshot, Departure, IntentSeen, PodName, ReplicaRemoval, ScaleDecision,
    TerminationPolicy, Timestamp, WorkerGroupName,
};

/// Says whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// To Kubernetes and Ray.
    Write,
    /// Nothing at all: patches are recorded, raylets are not drained.
    DryRun,
}

/// Healthy raylets answer in 5 ms; demand does not wait for the others.
const GROWTH_WAITS: Duration = Duration::from_millis(200);

/// What is seen and wanted meanwhile waits, however many raylets do not answer; a little more than one drain may take
/// (2 s), so that where the GCS takes that long to say who lives drains are still sent.
const DRAINS_TAKE: Duration = Duration::from_millis(2_200);

/// Whoever goes by somebody else's hand is told on the side: nothing waits for the answer for longer.
const TELLING_TAKES: Duration = Duration::from_millis(200);

/// What is told where a patch went through and its annotation did not.
const TAKEN_OUT: &str = "something takes the annotation out of patches that are accepted";

/// Drains and patches.
#[derive(Debug)]
pub struct SidecarAct {
    drainer: Drainer,
    kube: KubeAct,
    intent: IntentKeeper,
    caution: Caution,
    /// The group whose part of a refused patch is sent first the next time; `None` for the first one.
    parts_from: Option<WorkerGroupName>,
    dry_run: DryRun,
    mode: watch::Receiver<WriteMode>,
    stopping: watch::Receiver<bool>,
    herald: Option<mpsc::Sender<Vec<Departure>>>,
    resizer: Option<mpsc::Sender<Vec<ResizeOrder>>>,
    terminator: Option<mpsc::Sender<(TerminationPolicy, String)>>,
}

impl SidecarAct {
    /// Returns hands that have done nothing.
    #[must_use]
    pub fn new(
        drainer: Drainer,
        kube: KubeAct,
        (mode, stopping): (watch::Receiver<WriteMode>, watch::Receiver<bool>),
    ) -> Self {
        Self {
            drainer: drainer.stopped_by(stopping.clone()),
            kube,
            intent: IntentKeeper::default(),
            caution: Caution::default(),
            parts_from: None,
            dry_run: DryRun::default(),
            mode,
            stopping,
            herald: None,
            resizer: None,
            terminator: None,
        }
    }

    /// Returns what tells why the last patch went without the intent; `None` where it did not.
    #[must_use]
    pub fn intent_refused(&self) -> watch::Receiver<Option<String>> {
        self.intent.refused()
    }

    /// Returns hands that let somebody end the cluster: what is to be done, to which UID.
    #[must_use]
    pub fn ended_by(mut self, terminator: mpsc::Sender<(TerminationPolicy, String)>) -> Self {
        self.terminator = Some(terminator);
        self
    }

    /// Has the cluster ended if that was decided; does not wait for it.
    pub fn end(&self, order: &Order<'_>) {
        if *self.mode.borrow() == WriteMode::DryRun || self.is_stopping() {
            return;
        }
        let (policy, uid) = (order.decision.termination, &order.snapshot.uid);
        if let Some((policy, terminator)) = policy.zip(self.terminator.as_ref()) {
            // What does not come through now is decided again.
            drop(terminator.try_send((policy, uid.clone())));
        }
    }

    /// Returns hands that let somebody resize pods.
    #[must_use]
    pub fn resized_by(mut self, resizer: mpsc::Sender<Vec<ResizeOrder>>) -> Self {
        self.resizer = Some(resizer);
        self
    }

    /// Has pods resized; does not wait for it.
    pub fn resize(&self, order: &Order<'_>) {
        if *self.mode.borrow() == WriteMode::DryRun || self.is_stopping() {
            return;
        }
        let orders = resize_orders(order.snapshot, order.decision);
        if let Some(resizer) = self.resizer.as_ref().filter(|_| !orders.is_empty()) {
            // What does not come through now is decided again.
            drop(resizer.try_send(orders));
        }
    }

    /// Returns hands that let somebody tell the GCS of nodes that left.
    #[must_use]
    pub fn told_by(mut self, herald: mpsc::Sender<Vec<Departure>>) -> Self {
        self.herald = Some(herald);
        self
    }

    /// Has the GCS told; does not wait for it.
    pub fn tell(&self, notices: &[Departure]) {
        if *self.mode.borrow() == WriteMode::DryRun || self.is_stopping() {
            return;
        }
        if let Some(herald) = &self.herald {
            // Whoever is not told now is told later: the node is still there then.
            drop(herald.try_send(notices.to_vec()));
        }
    }

    /// Does what a decision says, and says in the same patch what was meant by it.
    pub async fn act(&mut self, order: &Order<'_>, now: Timestamp) -> Applied {
        let Order {
            snapshot, decision, ..
        } = *order;
        if *self.mode.borrow() == WriteMode::DryRun {
            return self.pretend(snapshot, decision);
        }
        if self.is_stopping() {
            return Applied::default();
        }
        let told = self.drainer.tell(snapshot, &decision.drains);
        let told = tokio::time::timeout(TELLING_TAKES, told);
        let (asked, spared) = self.caution.spare(order);
        let (mut drained, told) = tokio::join!(self.drain(snapshot, &asked), told);
        // An accepted drain cannot be taken back, so its pod is still named; nothing else is written.
        let ends = self
            .is_stopping()
            .then(|| ends_only(snapshot, decision, &drained.accepted));
        if ends.as_ref().is_some_and(|ends| !ends.is_change()) {
            return Applied::default();
        }
        let decision = ends.as_ref().unwrap_or(decision);
        let leaving = drained.leaving.keys().cloned().collect();
        let permits = (&drained.may_go, &leaving);
        let plan = patch::plan_with(snapshot, decision, permits).or_else(|| {
            // Who is spared waits for a patch that goes through; an operator that waits sees a new intent.
            let nudges = decision.nudge && !self.intent.is_left_out(now);
            let must_write = snapshot.writing.must_claim() || nudges || spared > 0;
            must_write.then(|| PatchPlan::nothing(snapshot))
        });
        let (patch, unsure) = match plan {
            None => (PatchOutcome::Nothing, None),
            Some(plan) => {
                let act = (plan, &drained, spared > 0);
                Box::pin(self.write(order, act, now)).await
            }
        };
        if matches!(patch, PatchOutcome::Done { .. }) {
            drained.not_asked = drained.not_asked.saturating_add(spared);
        }
        drained.take_told(told.unwrap_or_else(|_| unanswered(&decision.drains)));
        Applied {
            drained: drained.accepted,
            refused: drained.refused,
            leaving: drained.leaving,
            not_asked: drained.not_asked,
            patch,
            unsure,
        }
    }

    /// Writes what is to be written: at once, or where that is refused what of it is accepted.
    async fn write(
        &mut self,
        order: &Order<'_>,
        (plan, drained, has_spared): (PatchPlan, &Drained, bool),
        now: Timestamp,
    ) -> (PatchOutcome, Option<Unsure>) {
        let intent = order.intent(drained, (&plan, now)).to_text();
        let texts = (&order.snapshot.writing.seen, intent);
        let sent = (order.snapshot, plan.clone());
        let (patch, unsure) = self.patch(sent, texts, now).await;
        self.caution.learn(&patch, !plan.groups.is_empty());
        let can_do_less = plan.groups.len() > 1 || (has_spared && !plan.groups.is_empty());
        match patch {
            PatchOutcome::Failed(error) if error.is_about_content() && can_do_less => {
                let refused = Refused {
                    order,
                    drained,
                    plan,
                    error,
                    has_spared,
                };
                Box::pin(self.patch_each(refused, now)).await
            }
            patch => (patch, unsure),
        }
    }

    /// Sends a patch with the intent, and without it where nobody takes it so; gives it back where nobody knows
    /// whether it was carried out, and the intent will tell.
    async fn patch(
        &mut self,
        (snapshot, plan): (&ClusterSnapshot, PatchPlan),
        (seen, intent): (&IntentSeen, String),
        now: Timestamp,
    ) -> (PatchOutcome, Option<Unsure>) {
        let bare = plan.clone().fenced(seen);
        if self.intent.is_left_out(now) {
            if plan.groups.is_empty() && !self.caution.is_on() {
                // It would have said nothing but the intent.
                return (PatchOutcome::Nothing, None);
            }
            let answer = self.kube.patch(&bare).await;
            return (outcome(answer, bare.groups), None);
        }
        let whole = plan.carrying(seen, &intent);
        let refused = match self.kube.patch(&whole).await {
            Err(error) if error.is_about_content() => error,
            answer => {
                match &answer {
                    Ok(raycluster) if parts::carries(raycluster, &intent) => {
                        self.intent.was_written();
                    }
                    Ok(_) => self.intent.was_refused(TAKEN_OUT.to_owned(), now),
                    Err(_) => {}
                }
                let is_unsure = answer.as_ref().is_err_and(ActError::may_be_done);
                let changes = whole.groups.clone();
                let unsure = is_unsure.then_some(Unsure { intent, changes });
                return (outcome(answer, whole.groups), unsure);
            }
        };
        // Nothing of it was written. Whatever else is wrong is wrong without the intent, too.
        let named: Vec<PodName> = bare.groups.iter().flat_map(|it| it.named.clone()).collect();
        if self.drainer.have_joined(snapshot, &named).await {
            return (PatchOutcome::Failed(refused), None);
        }
        let answer = self.kube.patch(&bare).await;
        if answer.is_ok() {
            self.intent.was_refused(refused.source.to_string(), now);
        }
        (outcome(answer, bare.groups), None)
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Drains, and lets neither growth nor the next pass wait for raylets that do not answer.
    ///
    /// A drain that was accepted meanwhile and whose answer was not awaited is seen in the next
    /// observation: a pod that runs without its raylet is released.
    async fn drain(&self, snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Drained {
        let mut groups = decision.groups.iter();
        let grows = groups.any(|group| group.replicas_to > group.replicas_from);
        let within = if grows { GROWTH_WAITS } else { DRAINS_TAKE };
        let drains = self.drainer.drain_within(snapshot, decision, Some(within));
        Box::pin(drains).await
    }

    /// Records the patch that would be sent if every raylet agreed.
    fn pretend(&mut self, snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Applied {
        let removals = decision.groups.iter().flat_map(|group| &group.remove);
        let may_go: BTreeSet<PodName> = removals
            .flat_map(|removal| &removal.pods)
            .cloned()
            .collect();
        let patch = match patch::plan(snapshot, decision, &may_go) {
            None => PatchOutcome::Nothing,
            Some(plan) => {
                self.dry_run.record(&plan);
                PatchOutcome::Recorded(plan.groups)
            }
        };
        Applied {
            patch,
            ..Applied::default()
        }
    }
}

fn outcome(answer: Result<Value, ActError>, changes: Vec<GroupChange>) -> PatchOutcome {
    match answer {
        Ok(raycluster) => PatchOutcome::Done {
            raycluster,
            changes,
        },
        Err(error) => PatchOutcome::Failed(error),
    }
}

/// Returns what is left of a decision for whoever has to stop: the ends of replicas that have accepted
/// their drain.
fn ends_only(
    snapshot: &ClusterSnapshot,
    decision: &ScaleDecision,
    accepted: &[PodName],
) -> ScaleDecision {
    let mut ends = decision.clone();
    for group in &mut ends.groups {
        group.forget.clear();
        let has_accepted =
            |removal: &ReplicaRemoval| removal.pods.iter().any(|pod| accepted.contains(pod));
        group.remove.retain(has_accepted);
        let live = snapshot.replicas_of(&group.name);
        let live = live.iter().filter(|replica| replica.is_live()).count();
        let left = live.saturating_sub(group.remove.len());
        // Below its minimum no group is written.
        let least = snapshot.group(&group.name).map_or(0, |it| it.bounds.min);
        let most = u32::try_from(left).unwrap_or(u32::MAX).max(least);
        if group.remove.is_empty() {
            group.replicas_to = group.replicas_from;
            group.reasons.clear();
        } else {
            group.replicas_to = group.replicas_to.min(most);
        }
    }
    ends
}
