//! How fast each group has been changed lately, for the rules that limit it.
//!
//! Only our own patches that went through are counted, by [`Pace::record`]. What the RayCluster
//! asked for when it was last looked at is kept besides: within one decision, which is repeated
//! until it is stable, the difference is what this very decision has asked for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ClusterSnapshot, Timestamp, WorkerGroupName};

/// No rule looks back further. Units: milliseconds.
const KEPT_MS: u64 = 3_600_000;

/// Changes so close to each other are one entry: a pass takes place ten times a second.
const SAME_MS: u64 = 1_000;

/// Most entries of a group; the two oldest become one, so that they count for longer rather than not at all.
const EVENTS_MAX: usize = 256;

/// Holds what was asked for in one group at about one time.
///
/// Units: replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScaleEvent {
    /// The first change.
    pub first_at: Timestamp,
    /// The last one; the entry counts until this has left the window.
    pub at: Timestamp,
    /// Replicas asked for in addition.
    pub launched: u32,
    /// Replicas named because nobody used them.
    pub removed: u32,
    /// Replicas named for any reason.
    pub named: u32,
}

/// Holds what a group was to become, as far as later decisions ask.
///
/// Units: replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recommendation {
    /// The last moment at which it was one of these.
    pub at: Timestamp,
    /// The fewest.
    pub min: u32,
    /// The most.
    pub max: u32,
}

/// Holds how fast groups have been changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    events: BTreeMap<WorkerGroupName, Vec<ScaleEvent>>,
    replicas_seen: BTreeMap<WorkerGroupName, u32>,
    pub(super) recommended: BTreeMap<WorkerGroupName, Vec<Recommendation>>,
}

impl Pace {
    /// Takes in what the RayCluster asks for now.
    pub(super) fn observe(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        let seen = snapshot.groups.iter();
        self.replicas_seen = seen
            .map(|group| (group.name.clone(), group.replicas))
            .collect();
        let (seen, oldest) = (&self.replicas_seen, at.minus_ms(KEPT_MS));
        self.events.retain(|group, events| {
            events.retain(|event| event.at >= oldest);
            !events.is_empty() && seen.contains_key(group)
        });
        self.recommended.retain(|group, _| seen.contains_key(group));
    }

    /// Takes in that a group was changed by us.
    pub(super) fn record(&mut self, group: &WorkerGroupName, change: ScaleEvent, at: Timestamp) {
        let ScaleEvent {
            launched,
            removed,
            named,
            ..
        } = change;
        if launched == 0 && named == 0 {
            return;
        }
        let events = self.events.entry(group.clone()).or_default();
        let same = events.last_mut().filter(|event| {
            at.millis_since(event.first_at) < SAME_MS
                && (event.launched == 0) == (launched == 0)
                && (event.removed == 0) == (removed == 0)
        });
        if let Some(event) = same {
            event.at = event.at.max(at);
            event.launched = event.launched.saturating_add(launched);
            event.removed = event.removed.saturating_add(removed);
            event.named = event.named.saturating_add(named);
            return;
        }
        events.push(ScaleEvent {
            first_at: at,
            at,
            ..change
        });
        if events.len() > EVENTS_MAX {
            let oldest = events.remove(0);
            if let Some(event) = events.first_mut() {
                event.first_at = oldest.first_at;
                event.launched = event.launched.saturating_add(oldest.launched);
                event.removed = event.removed.saturating_add(oldest.removed);
                event.named = event.named.saturating_add(oldest.named);
            }
        }
    }

    /// Returns what was asked for in a group, the oldest first.
    #[must_use]
    pub fn events(&self, group: &WorkerGroupName) -> &[ScaleEvent] {
        self.events.get(group).map_or(&[], Vec::as_slice)
    }

    /// Returns what was asked for, by group.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&WorkerGroupName, &[ScaleEvent])> {
        self.events
            .iter()
            .map(|(group, events)| (group, events.as_slice()))
    }

    /// Returns what the RayCluster asked for when it was last looked at; `None` for a new group.
    #[must_use]
    pub fn replicas_seen(&self, group: &WorkerGroupName) -> Option<u32> {
        self.replicas_seen.get(group).copied()
    }

    /// Returns what a group was to become, the oldest first.
    #[must_use]
    pub fn recommended(&self, group: &WorkerGroupName) -> &[Recommendation] {
        self.recommended.get(group).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENTS_MAX, Pace, ScaleEvent};
    use crate::model::Timestamp;

    fn event(launched: u32, removed: u32) -> ScaleEvent {
        ScaleEvent {
            launched,
            removed,
            named: removed,
            ..ScaleEvent::default()
        }
    }

    #[test]
    fn nothing_is_lost_when_there_are_too_many_entries() {
        let mut pace = Pace::default();
        let group = "g".into();
        let count = i64::try_from(EVENTS_MAX).unwrap() + 44;
        for at in 0..count {
            pace.record(&group, event(2, 0), Timestamp::from_ms(at * 1_000));
            pace.record(&group, event(1, 0), Timestamp::from_ms(at * 1_000 + 999));
        }
        let events = pace.events(&group);
        assert_eq!(events.len(), EVENTS_MAX);
        let sum: u32 = events.iter().map(|event| event.launched).sum();
        assert_eq!(i64::from(sum), 3 * count);
        assert!(events.is_sorted_by_key(|event| event.at));
        assert_eq!(events[0].first_at, Timestamp::from_ms(0));
    }

    #[test]
    fn growing_and_shrinking_stay_apart() {
        let mut pace = Pace::default();
        let group = "g".into();
        pace.record(&group, event(1, 0), Timestamp::from_ms(0));
        pace.record(&group, event(0, 1), Timestamp::from_ms(1));
        pace.record(&group, event(0, 0), Timestamp::from_ms(2));
        assert_eq!(pace.events(&group).len(), 2);
    }
}
