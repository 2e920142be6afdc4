//! What became of the removals of a decision.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Input, PodName, ReplicaRemoval, Timestamp};

/// What is said of a raylet for whose answer no time was left.
pub(super) const TOO_LATE: &str = "nobody waits for its answer any longer in this pass";

/// Holds a replica that stays because of one of its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The pod.
    pub pod: PodName,
    /// A stable word: `busy_now`, `refused`, `no_answer`, `stale`, `not_running`, `not_stopped`, `has_registered`.
    pub code: &'static str,
    /// What Ray said.
    pub message: String,
}

impl Refusal {
    /// Returns what is to be remembered of it: where nobody was asked, nobody has refused.
    ///
    /// A host that has registered unseen may have work, and is to be left alone for a while as if it had said so.
    pub(crate) fn input(&self) -> Option<Input<'_>> {
        match self.code {
            "stale" | "not_running" => None,
            "has_registered" | "not_stopped" => Some(Input::FoundRunning(&self.pod)),
            _ => Some(Input::DrainRefused(&self.pod)),
        }
    }
}

/// Holds what became of the removals of a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// Pods that may go: their raylets have accepted, are gone already, or are not asked.
    pub may_go: BTreeSet<PodName>,
    /// Pods whose raylets have accepted just now.
    pub accepted: Vec<PodName>,
    /// Pods that keep their replica.
    pub refused: Vec<Refusal>,
    /// Pods that must go and have work, and until when they may finish it.
    pub leaving: BTreeMap<PodName, Timestamp>,
    /// Replicas for which no time was left: nobody was asked.
    pub not_asked: usize,
}

impl Drained {
    /// Returns what becomes of a replica for which no time was left: one that was told before goes when its time is up.
    pub(super) fn of_unasked(removal: &ReplicaRemoval, now: Timestamp) -> Self {
        let mut outcome = Self::default();
        let pods = removal.pods.iter().cloned();
        match removal.finish.by.filter(|_| removal.cause.takes_work()) {
            None => outcome.not_asked = 1,
            Some(by) if now < by => outcome.leaving = pods.map(|pod| (pod, by)).collect(),
            Some(_) => outcome.may_go = pods.collect(),
        }
        outcome
    }

    /// Takes in what became of one more replica.
    pub(super) fn take_in(&mut self, one: Self) {
        self.may_go.extend(one.may_go);
        self.accepted.extend(one.accepted);
        self.refused.extend(one.refused);
        self.leaving.extend(one.leaving);
        self.not_asked = self.not_asked.saturating_add(one.not_asked);
    }

    /// Takes in what came of telling nodes that go by somebody else's hand.
    pub(super) fn take_told(&mut self, told: Self) {
        self.accepted.extend(told.accepted);
        self.refused.extend(told.refused);
    }
}

/// Returns that none of these pods' raylets has answered.
pub(super) fn unanswered(pods: &[PodName]) -> Drained {
    let refused = pods.iter();
    let refused = refused.map(|pod| refusal(pod, "no_answer", TOO_LATE.to_owned()));
    Drained {
        refused: refused.collect(),
        ..Drained::default()
    }
}

/// Returns a refusal in these words.
pub(super) fn refusal(pod: &PodName, code: &'static str, message: String) -> Refusal {
    Refusal {
        pod: pod.clone(),
        code,
        message,
    }
}

/// Returns that a replica stays because of this pod.
pub(super) fn refused(pod: &PodName, code: &'static str, message: String) -> Drained {
    Drained {
        refused: vec![refusal(pod, code, message)],
        ..Drained::default()
    }
}
