//! A patch that is refused for what it makes of the RayCluster is tried group by group: what one group may not become
//! is no reason to leave the others as they are.

use std::collections::BTreeSet;

use serde_json::Value;

use super::SidecarAct;
use crate::act::{ActError, Drained, GroupChange, Order, PatchOutcome, PatchPlan, Unsure};
use crate::model::{ANNOTATION_INTENT, IntentSeen, Timestamp, WorkerGroupName};

/// What was to be written at once, and was refused.
pub(super) struct Refused<'a> {
    /// The order.
    pub(super) order: &'a Order<'a>,
    /// What its drains came to.
    pub(super) drained: &'a Drained,
    /// The patch.
    pub(super) plan: PatchPlan,
    /// Why it was refused.
    pub(super) error: ActError,
    /// Whether raylets are not asked before a patch goes through.
    pub(super) has_spared: bool,
}

/// How long after the first part others are still begun: meanwhile nothing is observed. Units: milliseconds.
const PARTS_TAKE_MS: u64 = 3_000;

impl SidecarAct {
    /// Sends what was refused group by group, each with the intent as it is then, and says what became of it: it is done
    /// where any group was patched, and whatever is left is decided upon anew.
    ///
    /// Where none was, and somebody waits for a patch that goes through, one that changes nothing is sent. Told to stop,
    /// only what names pods whose raylets have accepted to end is still begun.
    pub(super) async fn patch_each(
        &mut self,
        refused: Refused<'_>,
        now: Timestamp,
    ) -> (PatchOutcome, Option<Unsure>) {
        let (order, plan) = (refused.order, &refused.plan);
        let mut seen = order.snapshot.writing.seen.clone();
        let (mut done, mut changes) = (None, Vec::new());
        let mut cannot_name: BTreeSet<WorkerGroupName> = BTreeSet::new();
        let began = self.drainer.now();
        for change in self.in_turn(plan) {
            let Some(group) = order.snapshot.group(&change.name) else {
                continue;
            };
            let mut answer = (PatchOutcome::Nothing, None);
            // Alone it has just been refused.
            if plan.groups.len() > 1 && self.is_begun(&change, (&refused, began)).await {
                let part = plan.part(group);
                let mut by_then = part.clone();
                by_then.groups.extend_from_slice(&changes);
                let intent = order.intent(refused.drained, (&by_then, now)).to_text();
                let sent = (order.snapshot, part);
                answer = self.patch(sent, (&seen, intent), now).await;
            }
            match answer {
                (PatchOutcome::Done { raycluster, .. }, _) => {
                    seen = seen_in(&raycluster);
                    changes.push(change);
                    done = Some(raycluster);
                }
                (PatchOutcome::Failed(other), unsure) if !other.is_about_content() => {
                    let failed = PatchOutcome::Failed(other);
                    self.caution.learn(&failed, true);
                    return (outcome((done, changes), failed), unsure);
                }
                _ if !change.named.is_empty() => drop(cannot_name.insert(change.name)),
                _ => {}
            }
        }
        if done.is_some() {
            self.caution.learn_refused(&changes, cannot_name);
        } else if refused.has_spared && !self.is_stopping() {
            let nothing = PatchPlan::nothing(order.snapshot);
            let intent = order.intent(refused.drained, (&nothing, now)).to_text();
            let sent = (order.snapshot, nothing);
            let (probed, _) = self.patch(sent, (&seen, intent), now).await;
            self.caution.learn(&probed, false);
            if matches!(probed, PatchOutcome::Done { .. }) {
                self.caution.learn_refused(&[], cannot_name);
            }
        }
        let failed = PatchOutcome::Failed(refused.error);
        (outcome((done, changes), failed), None)
    }

    /// Returns the parts of a patch, beginning with the one for which no time was left.
    fn in_turn(&mut self, plan: &PatchPlan) -> Vec<GroupChange> {
        let mut parts = plan.groups.clone();
        let first = self.parts_from.take();
        let first = first.and_then(|name| parts.iter().position(|part| part.name == name));
        parts.rotate_left(first.unwrap_or_default());
        parts
    }

    /// Returns whether a part is sent: in time, and while it is true that nobody works whom it names.
    async fn is_begun(
        &mut self,
        change: &GroupChange,
        (refused, began): (&Refused<'_>, Timestamp),
    ) -> bool {
        let accepted = &refused.drained.accepted;
        let has_accepted = change.named.iter().any(|pod| accepted.contains(pod));
        if self.is_stopping() {
            return has_accepted;
        }
        if self.parts_from.is_some() || self.drainer.now().millis_since(began) > PARTS_TAKE_MS {
            self.parts_from.get_or_insert_with(|| change.name.clone());
            return false;
        }
        let snapshot = refused.order.snapshot;
        !self.drainer.have_joined(snapshot, &change.named).await
    }
}

fn outcome(
    (done, changes): (Option<Value>, Vec<GroupChange>),
    failed: PatchOutcome,
) -> PatchOutcome {
    done.map_or(failed, |raycluster| PatchOutcome::Done {
        raycluster,
        changes,
    })
}

/// Returns the intent that a RayCluster carries.
fn seen_in(raycluster: &Value) -> IntentSeen {
    match raycluster["metadata"].get("annotations") {
        None | Some(Value::Null) => IntentSeen::NoAnnotations,
        Some(annotations) => match annotations.get(ANNOTATION_INTENT).and_then(Value::as_str) {
            Some(text) => IntentSeen::Text(text.to_owned()),
            None => IntentSeen::Absent,
        },
    }
}

/// Returns whether a RayCluster carries this intent.
pub(super) fn carries(raycluster: &Value, intent: &str) -> bool {
    matches!(seen_in(raycluster), IntentSeen::Text(text) if text == intent)
}
