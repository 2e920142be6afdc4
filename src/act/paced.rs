//! What a patch did to one group, in the terms of the rules that limit how fast groups change.

use std::collections::BTreeSet;

use super::GroupChange;
use crate::model::{
    LEAVING, PODS_END, PODS_REFUSED, PodName, RECYCLED, Reason, RemovalCause, ScaleDecision,
    ScaleEvent,
};

/// Growth that nobody limits: what the RayCluster itself asks for, what is there already, and what
/// takes the place of a pod that does not come up.
const FREE: [&str; 5] = ["minimum", "maximum", "replicas_repaired", RECYCLED, LEAVING];

/// The policy that gives up what does not come up.
const RECYCLE: &str = "recycle";

/// Holds what a patch did to one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paced {
    /// How it was changed.
    pub(super) event: ScaleEvent,
    /// Whether pods were given up because they do not come up, and if so, whether because Kubernetes
    /// refused to make them.
    pub(super) gave_up: Option<bool>,
}

impl Paced {
    pub(super) fn of(change: &GroupChange, decision: &ScaleDecision) -> Self {
        let pods: BTreeSet<&PodName> = change.named.iter().collect();
        let decided = decision.group(&change.name);
        let removals = decided.into_iter().flat_map(|group| &group.remove);
        let gone: Vec<RemovalCause> = removals
            .filter(|removal| removal.pods.iter().any(|pod| pods.contains(pod)))
            .map(|removal| removal.cause)
            .collect();
        let count = |is_counted: fn(RemovalCause) -> bool| {
            let counted = gone.iter().filter(|cause| is_counted(**cause));
            u32::try_from(counted.count()).unwrap_or(u32::MAX)
        };
        let named = count(|_| true);
        let grown = change
            .replicas_to
            .saturating_add(named)
            .saturating_sub(change.replicas_from);
        let reasons = || decided.into_iter().flat_map(|group| &group.reasons);
        let is_refused = reasons().any(|reason| reason.code == PODS_REFUSED);
        // What ended was counted when it ended.
        let is_called_back = reasons().any(|reason| reason.code == PODS_END);
        // Where hosts are gone the others are not given up for how they start.
        let is_given_up = reasons().any(|it| it.policy == RECYCLE && it.to < it.from);
        let is_half = is_given_up && count(|cause| cause == RemovalCause::HalfStarted) > 0;
        let is_stuck = is_half || count(|cause| cause == RemovalCause::Stuck) > 0;
        let is_stuck = is_stuck && !is_called_back;
        let is_free = |reason: &&Reason| FREE.contains(&reason.code.as_str());
        // One that stays is not replaced.
        let replaced = count(|cause| cause == RemovalCause::Stuck);
        let free = reasons().filter(is_free).fold(0_u32, |sum, reason| {
            let grown = reason.to.saturating_sub(reason.from);
            let most = if reason.code == RECYCLED {
                replaced
            } else {
                u32::MAX
            };
            sum.saturating_add(grown.min(most))
        });
        Self {
            event: ScaleEvent {
                launched: grown.saturating_sub(free),
                removed: count(|cause| cause == RemovalCause::Idle),
                named,
                ..ScaleEvent::default()
            },
            gave_up: (is_refused || is_stuck).then_some(is_refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::GroupChange;
    use super::Paced;
    use crate::model::{
        Finish, GroupDecision, Reason, RemovalCause, ReplicaRemoval, ScaleDecision, ScaleEvent,
    };

    fn removal(pod: &str, cause: RemovalCause) -> ReplicaRemoval {
        ReplicaRemoval {
            replica: pod.into(),
            pods: vec![pod.into()],
            cause,
            idle_ms: 0,
            finish: Finish::default(),
        }
    }

    #[test]
    fn growth_beside_removals_is_counted_and_refused_removals_and_repairs_are_not() {
        let change = GroupChange {
            name: "g".into(),
            replicas_from: 5,
            replicas_to: 8,
            named: vec!["a".into(), "b".into(), "c".into()],
            forgotten: Vec::new(),
        };
        let remove = vec![
            removal("a", RemovalCause::Idle),
            removal("b", RemovalCause::Stuck),
            removal("c", RemovalCause::AboveMax),
            removal("refused", RemovalCause::Idle),
        ];
        let repaired = Reason {
            policy: "engine".into(),
            code: "replicas_repaired".into(),
            from: 5,
            to: 7,
            detail: String::new(),
        };
        let decision = ScaleDecision {
            groups: vec![GroupDecision {
                name: "g".into(),
                replicas_from: 5,
                replicas_to: 7,
                remove,
                forget: Vec::new(),
                reasons: vec![repaired],
            }],
            ..ScaleDecision::default()
        };
        let event = ScaleEvent {
            launched: 4,
            removed: 1,
            named: 3,
            ..ScaleEvent::default()
        };
        let expected = Paced {
            event,
            gave_up: Some(false),
        };
        assert_eq!(Paced::of(&change, &decision), expected);
    }

    fn reason(policy: &str, code: &str, (from, to): (u32, u32)) -> Reason {
        Reason {
            policy: policy.to_owned(),
            code: code.to_owned(),
            from,
            to,
            detail: String::new(),
        }
    }

    /// Returns what a patch of a group of three did that names these pods.
    fn paced(remove: Vec<ReplicaRemoval>, reasons: Vec<Reason>, named: &[&str], to: u32) -> Paced {
        let change = GroupChange {
            name: "g".into(),
            replicas_from: 3,
            replicas_to: to,
            named: named.iter().map(|pod| (*pod).into()).collect(),
            forgotten: Vec::new(),
        };
        let decision = ScaleDecision {
            groups: vec![GroupDecision {
                name: "g".into(),
                replicas_from: 3,
                replicas_to: reasons.last().map_or(3, |reason| reason.to),
                remove,
                forget: Vec::new(),
                reasons,
            }],
            ..ScaleDecision::default()
        };
        Paced::of(&change, &decision)
    }

    #[test]
    fn only_what_comes_in_place_of_a_stuck_pod_that_goes_is_free() {
        let stuck = ["a", "b", "c"].map(|pod| removal(pod, RemovalCause::Stuck));
        let reasons = vec![
            reason("recycle", "unregistered", (3, 0)),
            reason("recycle", "recycled", (0, 3)),
            reason("demand", "tasks", (3, 5)),
        ];
        for named in [&["a", "b"][..], &["c"], &["a", "b", "c"]] {
            let paced = paced(stuck.to_vec(), reasons.clone(), named, 5);
            assert_eq!(paced.event.launched, 2, "{named:?}");
            assert_eq!(paced.gave_up, Some(false), "{named:?}");
        }
    }

    #[test]
    fn a_replica_of_which_a_host_is_gone_is_no_failed_start() {
        let half = vec![removal("a", RemovalCause::HalfStarted)];
        for (policy, gave_up) in [("recycle", Some(false)), ("stopped", None)] {
            let reasons = vec![reason(policy, "x", (3, 2))];
            let paced = paced(half.clone(), reasons, &["a"], 2);
            assert_eq!(paced.gave_up, gave_up, "{policy}");
        }
    }
}
