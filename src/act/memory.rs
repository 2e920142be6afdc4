//! What is remembered of an act: what its patch changed, and what raylets have answered.
//!
//! A replica that goes as idle counts as removed as soon as one of its raylets has accepted. That cannot be taken back,
//! whatever becomes of the patch, and a limit on removals that only counted names would be met anew with each patch
//! that fails.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::paced::Paced;
use super::{Applied, GroupChange, PatchOutcome, Refusal};
use crate::model::{
    GroupDecision, History, Input, PodName, RemovalCause, ReplicaRemoval, ScaleDecision,
    ScaleEvent, Timestamp,
};

/// Has `history` remember an act.
pub(crate) fn remember_act(
    history: &mut History,
    applied: &Applied,
    decision: &ScaleDecision,
    now: Timestamp,
) {
    let changes = match &applied.patch {
        PatchOutcome::Done { changes, .. } => changes.as_slice(),
        _ => &[],
    };
    remember(history, changes, decision, now);
    // Who goes by somebody else's hand was told in the same act.
    let drained = applied.drained.iter().cloned();
    let (told, drained): (Vec<PodName>, Vec<PodName>) =
        drained.partition(|pod| decision.drains.contains(pod));
    for pod in &told {
        history.absorb(&Input::NamedTold(pod), now);
    }
    let answers = (&drained[..], &applied.leaving);
    remember_drains(history, answers, (decision, changes), now);
    for input in applied.refused.iter().filter_map(Refusal::input) {
        history.absorb(&input, now);
    }
}

/// Has `history` remember what a patch changed; before what was drained for it is remembered.
pub(crate) fn remember(
    history: &mut History,
    changes: &[GroupChange],
    decision: &ScaleDecision,
    now: Timestamp,
) {
    let decision = &*uncounted(decision, history);
    for change in changes {
        let (group, from, to) = (&change.name, change.replicas_from, change.replicas_to);
        history.absorb(&Input::Scaled { group, from, to }, now);
        let surge = decision.group(group).map_or(0, GroupDecision::surge);
        let surged = Input::Surged {
            group,
            replicas: to,
            surge,
        };
        history.absorb(&surged, now);
        for pod in &change.named {
            history.absorb(&Input::Named(pod), now);
        }
        let pace = Paced::of(change, decision);
        history.absorb(&Input::Paced(group, pace.event), now);
        if let Some(refused) = pace.gave_up {
            history.absorb(&Input::GaveUp { group, refused }, now);
        }
    }
}

/// Has `history` remember which raylets have accepted, and which may finish their work.
pub(super) fn remember_drains(
    history: &mut History,
    (accepted, leaving): (&[PodName], &BTreeMap<PodName, Timestamp>),
    (decision, changes): (&ScaleDecision, &[GroupChange]),
    now: Timestamp,
) {
    count_drained(history, accepted, (decision, changes), now);
    for pod in accepted {
        history.absorb(&Input::DrainAccepted(pod), now);
    }
    for (pod, by) in leaving {
        history.absorb(&Input::ToldToGo { pod, by: *by }, now);
    }
}

/// Returns a decision as it counts when its patch is carried out: replicas that were counted when their raylets accepted
/// are stopped ones by now.
pub(crate) fn uncounted<'a>(
    decision: &'a ScaleDecision,
    history: &History,
) -> Cow<'a, ScaleDecision> {
    let mut removals = decision.groups.iter().flat_map(|group| &group.remove);
    if !removals.any(|removal| is_counted(removal, history)) {
        return Cow::Borrowed(decision);
    }
    let mut counts = decision.clone();
    let removals = counts.groups.iter_mut().flat_map(|group| &mut group.remove);
    for removal in removals.filter(|removal| is_counted(removal, history)) {
        removal.cause = RemovalCause::Stopped;
    }
    Cow::Owned(counts)
}

fn is_counted(removal: &ReplicaRemoval, history: &History) -> bool {
    let is_idle = removal.cause == RemovalCause::Idle;
    is_idle && removal.pods.iter().any(|pod| history.ends_idle(pod))
}

/// Counts the replicas that have lost a raylet as idle just now and are not named by `changes`.
fn count_drained(
    history: &mut History,
    accepted: &[PodName],
    (decision, changes): (&ScaleDecision, &[GroupChange]),
    now: Timestamp,
) {
    if accepted.is_empty() {
        return;
    }
    let accepted: BTreeSet<&PodName> = accepted.iter().collect();
    let named: BTreeSet<&PodName> = changes.iter().flat_map(|change| &change.named).collect();
    for group in &decision.groups {
        let is_new = |removal: &&ReplicaRemoval| {
            let has_one_of = |those: &BTreeSet<&PodName>| {
                let mut pods = removal.pods.iter();
                pods.any(|pod| those.contains(pod))
            };
            let is_drained = removal.cause == RemovalCause::Idle && has_one_of(&accepted);
            is_drained && !has_one_of(&named) && !is_counted(removal, history)
        };
        let removed = group.remove.iter().filter(is_new).count();
        let event = ScaleEvent {
            removed: u32::try_from(removed).unwrap_or(u32::MAX),
            ..ScaleEvent::default()
        };
        history.absorb(&Input::Paced(&group.name, event), now);
    }
}

#[cfg(test)]
mod tests {
    use super::{remember, remember_act, uncounted};
    use crate::act::{ActError, Applied, GroupChange, PatchOutcome};
    use crate::model::{
        Finish, GroupDecision, History, PodName, RemovalCause, ReplicaRemoval, ScaleDecision,
        Timestamp, WorkerGroupName,
    };
    use crate::wire::kube_client::CallError;

    const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);

    /// Returns a decision that removes these replicas, of pods of these names.
    fn removing(replicas: &[&[&str]], cause: RemovalCause) -> ScaleDecision {
        let removal = |pods: &&[&str]| ReplicaRemoval {
            replica: pods[0].into(),
            pods: pods.iter().map(|pod| (*pod).into()).collect(),
            cause,
            idle_ms: 61_000,
            finish: Finish::default(),
        };
        let count = u32::try_from(replicas.len()).unwrap();
        ScaleDecision {
            groups: vec![GroupDecision {
                name: "g".into(),
                replicas_from: 9,
                replicas_to: 9 - count,
                remove: replicas.iter().map(removal).collect(),
                forget: Vec::new(),
                reasons: Vec::new(),
            }],
            ..ScaleDecision::default()
        }
    }

    fn naming(pods: &[&str]) -> Vec<GroupChange> {
        vec![GroupChange {
            name: "g".into(),
            replicas_from: 9,
            replicas_to: 8,
            named: pods.iter().map(|pod| (*pod).into()).collect(),
            forgotten: Vec::new(),
        }]
    }

    fn accepted(pods: &[&str], patch: PatchOutcome) -> Applied {
        Applied {
            drained: pods.iter().map(|pod| PodName::from(*pod)).collect(),
            patch,
            ..Applied::default()
        }
    }

    fn failed() -> PatchOutcome {
        PatchOutcome::Failed(ActError {
            namespace: "n".to_owned(),
            name: "c".to_owned(),
            source: CallError::Timeout,
        })
    }

    fn done(changes: Vec<GroupChange>) -> PatchOutcome {
        let raycluster = serde_json::Value::Null;
        PatchOutcome::Done {
            raycluster,
            changes,
        }
    }

    /// Returns how many replicas count as removed because nobody used them.
    fn removed(history: &History) -> u32 {
        let events = history.pace.events(&WorkerGroupName::from("g"));
        events.iter().map(|event| event.removed).sum()
    }

    #[test]
    fn an_accepted_drain_counts_once_whatever_becomes_of_its_patch() {
        let idle = removing(&[&["a"], &["b"], &["c"]], RemovalCause::Idle);
        let mut history = History::default();
        let applied = accepted(&["a", "b"], failed());
        remember_act(&mut history, &applied, &idle, NOW);
        assert_eq!(removed(&history), 2);
        assert!(history.scaled_down_at.is_empty(), "nothing was patched");
        // They are asked and accept once more, and are named as idle or as stopped.
        remember_act(&mut history, &applied, &idle, NOW.plus_ms(100));
        assert_eq!(removed(&history), 2);
        for (cause, pod) in [(RemovalCause::Stopped, "a"), (RemovalCause::Idle, "b")] {
            let decision = removing(&[&[pod]], cause);
            let applied = accepted(&[], done(naming(&[pod])));
            remember_act(&mut history, &applied, &decision, NOW.plus_ms(200));
            assert_eq!(removed(&history), 2, "{pod}");
        }
        let applied = accepted(&["c"], done(naming(&["c"])));
        remember_act(&mut history, &applied, &idle, NOW.plus_ms(300));
        assert_eq!(removed(&history), 3);
    }

    #[test]
    fn a_replica_of_several_hosts_counts_with_the_first_that_accepts() {
        let idle = removing(&[&["r-0", "r-1"]], RemovalCause::Idle);
        let mut history = History::default();
        for (host, patch) in [
            ("r-0", PatchOutcome::Nothing),
            ("r-1", done(naming(&["r-0", "r-1"]))),
        ] {
            remember_act(&mut history, &accepted(&[host], patch), &idle, NOW);
            assert_eq!(removed(&history), 1, "{host}");
        }
    }

    #[test]
    fn a_patch_that_was_carried_out_unseen_counts_no_second_time() {
        let idle = removing(&[&["a"]], RemovalCause::Idle);
        let mut history = History::default();
        remember_act(&mut history, &accepted(&["a"], failed()), &idle, NOW);
        let counts = uncounted(&idle, &history).into_owned();
        // Its pod is gone, and with it what was known of its drain.
        history.drained_at.clear();
        remember(&mut history, &naming(&["a"]), &counts, NOW);
        assert_eq!(removed(&history), 1);
        assert!(history.named_by_us.contains(&"a".into()));
    }

    #[test]
    fn who_goes_by_another_hand_is_told_and_not_taken_for_drained() {
        let decision = ScaleDecision {
            drains: vec!["told".into()],
            ..removing(&[&["a"]], RemovalCause::Idle)
        };
        let mut history = History::default();
        let applied = accepted(&["a", "told"], done(naming(&["a"])));
        remember_act(&mut history, &applied, &decision, NOW);
        let drained: Vec<&PodName> = history.drained_at.keys().collect();
        assert_eq!(drained, [&"a".into()]);
        let told: Vec<&PodName> = history.named_told_at.keys().collect();
        assert_eq!(told, [&"told".into()]);
    }

    #[test]
    fn who_goes_by_an_order_is_not_counted_as_idle() {
        let ordered = removing(&[&["a"]], RemovalCause::Ordered);
        let mut history = History::default();
        let mut applied = accepted(&["a"], failed());
        applied.leaving.insert("a".into(), NOW.plus_ms(30_000));
        remember_act(&mut history, &applied, &ordered, NOW);
        assert_eq!(removed(&history), 0);
        assert!(!history.ends_idle(&"a".into()));
    }
}
