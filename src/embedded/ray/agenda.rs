//! What will happen by itself, and when.

use super::work::RunId;
use crate::model::{NodeId, Timestamp};
use std::collections::BTreeSet;

/// Something that happens at a moment; in this order when at the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A task has run its time.
    RunEnds(RunId),
    /// The processes of a node that got SIGTERM have waited long enough for its work.
    PatienceEnds(NodeId),
    /// The GCS gives up a raylet that answers no health check.
    HealthChecksFailed(NodeId),
    /// The GCS asks all raylets for their load.
    LoadPull,
}

/// Holds the events to come.
#[derive(Debug, Default)]
pub(super) struct Agenda(BTreeSet<(Timestamp, Event)>);

impl Agenda {
    pub(super) fn add(&mut self, at: Timestamp, event: Event) {
        self.0.insert((at, event));
    }

    /// Takes the next event that is due.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<(Timestamp, Event)> {
        let first = *self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.remove(&first);
        Some(first)
    }

    /// Returns when something happens next.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }
}
