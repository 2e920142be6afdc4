//! How fast each group has been changed lately, for the rules that limit it.
//!
//! Only our own patches that went through are counted, and drains that cannot be taken back, by [`Pace::record`]. What the RayCluster
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

/// A pod that comes so soon after a patch of ours came because of it, however slow the operator is.
/// Units: milliseconds.
const OPERATOR_MS: u64 = 120_000;

/// Most spans of a group that outlive a sidecar; they take room, and what was asked for before has come long since.
const SPANS_MAX: usize = 4;

/// From when to when a group was asked for more, by an earlier sidecar or by us.
pub(super) type Span = (Timestamp, Timestamp);

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
    /// Replicas given up because nobody used them: named, or drained although no patch could name them.
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
    /// When an earlier sidecar asked for more. It is not known for how many, and whether they were named since: no
    /// limit counts them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    launched_before: BTreeMap<WorkerGroupName, Vec<Span>>,
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
        self.launched_before.retain(|group, spans| {
            spans.retain(|(_, last_at)| *last_at >= oldest);
            !spans.is_empty() && seen.contains_key(group)
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
        if (launched, removed, named) == (0, 0, 0) {
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

    /// Takes in when an earlier sidecar asked for more.
    pub(super) fn restore_launches(&mut self, group: &WorkerGroupName, spans: Vec<Span>) {
        let known = self.launched_before.entry(group.clone()).or_default();
        known.extend(spans);
        join(known);
    }

    /// Returns whether a pod of a group came up soon after we, or a sidecar before us, had asked for more.
    #[must_use]
    pub fn is_launched(&self, group: &WorkerGroupName, created_at: Timestamp) -> bool {
        let before = self.launched_before.get(group).into_iter().flatten();
        let mut spans = before.copied().chain(spans(self.events(group)));
        spans.any(|(first_at, last_at)| {
            // Kubernetes writes whole seconds.
            created_at.plus_ms(1_000) >= first_at && created_at.millis_since(last_at) <= OPERATOR_MS
        })
    }

    /// Returns when each group was asked for more, the oldest first.
    pub(super) fn launches(&self) -> BTreeMap<&WorkerGroupName, Vec<Span>> {
        let mut launches: BTreeMap<&WorkerGroupName, Vec<Span>> = BTreeMap::new();
        for (group, before) in &self.launched_before {
            launches.entry(group).or_default().extend(before);
        }
        for (group, events) in &self.events {
            launches.entry(group).or_default().extend(spans(events));
        }
        launches.retain(|_, spans| !spans.is_empty());
        launches.values_mut().for_each(join);
        launches
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

fn spans(events: &[ScaleEvent]) -> impl Iterator<Item = Span> {
    let launched = events.iter().filter(|event| event.launched > 0);
    launched.map(|event| (event.first_at, event.at))
}

/// Makes one of those between which a pod may come at any time, and leaves the newest ones.
fn join(spans: &mut Vec<Span>) {
    spans.sort_unstable();
    spans.dedup_by(|next, span| {
        let is_close = next.0.millis_since(span.1) <= OPERATOR_MS;
        if is_close {
            span.1 = span.1.max(next.1);
        }
        is_close
    });
    spans.drain(..spans.len().saturating_sub(SPANS_MAX));
}

#[cfg(test)]
mod tests {
    use super::{EVENTS_MAX, Pace, ScaleEvent};
    use crate::model::{Timestamp, WorkerGroupName};

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

    #[test]
    fn what_was_asked_for_more_makes_a_pod_ours_after_a_restart_as_before() {
        let group = WorkerGroupName::from("g");
        let mut pace = Pace::default();
        let at = |seconds: i64| Timestamp::from_ms(seconds * 1_000);
        // The second before the pods of the first had to be there; what is named, and what comes free, is no launch.
        for (seconds, change) in [(0, event(1, 0)), (120, event(2, 0)), (900, event(3, 0))] {
            pace.record(&group, change, at(seconds));
        }
        pace.record(&group, event(0, 1), at(2_000));
        let spans = pace.launches().remove(&group).unwrap();
        assert_eq!(spans, [(at(0), at(120)), (at(900), at(900))]);
        let mut next = Pace::default();
        next.restore_launches(&group, spans);
        for (seconds, is_ours) in [
            (-2, false),
            (-1, true),
            (60, true),
            (240, true),
            (241, false),
            (898, false),
            (899, true),
            (1_020, true),
            (1_021, false),
            (2_001, false),
        ] {
            assert_eq!(pace.is_launched(&group, at(seconds)), is_ours, "{seconds}");
            assert_eq!(next.is_launched(&group, at(seconds)), is_ours, "{seconds}");
        }
        assert!(next.events(&group).is_empty(), "no limit counts them");
        assert!(!next.is_launched(&"other".into(), at(0)));
    }

    #[test]
    fn only_the_newest_launches_outlive_a_sidecar() {
        let group = WorkerGroupName::from("g");
        let mut pace = Pace::default();
        let at = |minutes: i64| Timestamp::from_ms(minutes * 60_000);
        let each = |minutes: i64| (at(minutes), at(minutes));
        pace.restore_launches(&group, (0..3).map(|it| each(it * 10)).collect());
        pace.record(&group, event(1, 0), at(40));
        pace.record(&group, event(1, 0), at(50));
        let spans = pace.launches().remove(&group).unwrap();
        assert_eq!(spans, [10, 20, 40, 50].map(each));
        // Whoever wrote them again knows of them, too.
        pace.restore_launches(&group, spans);
        let spans = pace.launches().remove(&group).unwrap();
        assert_eq!(spans, [10, 20, 40, 50].map(each));
    }
}
