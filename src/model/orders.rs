//! What users ask for single pods: to finish and go, or to stay.
//!
//! Source: the annotations `rayscaler.io/drain` and `rayscaler.io/protect` of each pod.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{PodName, Timestamp};

/// Says how long a pod is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// Until somebody takes the annotation off.
    ForGood,
    /// Until this moment.
    Until(Timestamp),
}

impl Protection {
    /// Returns whether it holds at `now`.
    #[must_use]
    pub fn holds(self, now: Timestamp) -> bool {
        match self {
            Self::ForGood => true,
            Self::Until(until) => now < until,
        }
    }
}

/// Holds what users ask for single pods; empty where nobody does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Orders {
    /// Pods that are to finish and go, and how long they may take; `None` for the configured time.
    ///
    /// Units: milliseconds.
    pub drain: BTreeMap<PodName, Option<u64>>,
    /// Pods that stay, whatever the rules say.
    pub protect: BTreeMap<PodName, Protection>,
}

impl Orders {
    /// Returns whether nobody asks for anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drain.is_empty() && self.protect.is_empty()
    }

    /// Returns what protects a pod at `now`; `None` when nothing does.
    ///
    /// An order to go comes before it: both are the user's words, and this one is about now.
    #[must_use]
    pub fn protection(&self, pod: &PodName, now: Timestamp) -> Option<Protection> {
        let protection = self.protect.get(pod).copied();
        protection.filter(|it| it.holds(now) && !self.drain.contains_key(pod))
    }
}
