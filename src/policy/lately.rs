//! What was asked for lately, this very decision included.
//!
//! A decision is repeated until it is stable. What its earlier rounds asked for is in no history yet:
//! it shows as a number above the one last seen, and as names that nobody has seen in the list. Both
//! count as asked for now, so that a limit holds for the decision as a whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{NodeStatus, ReplicaName, ScaleEvent, Timestamp, WorkerGroup, WorkerGroupName};

use super::PolicyContext;

/// Holds what was asked for lately in each group.
#[derive(Debug, Default)]
pub(super) struct Lately {
    groups: BTreeMap<WorkerGroupName, Vec<ScaleEvent>>,
}

impl Lately {
    pub(super) fn of(ctx: PolicyContext<'_>) -> Self {
        let named = named_now(ctx);
        let mut groups = BTreeMap::new();
        for group in &ctx.snapshot.groups {
            let mut events = ctx.history.pace.events(&group.name).to_vec();
            let removed = named.get(&group.name).map_or(0, BTreeSet::len);
            let removed = u32::try_from(removed).unwrap_or(u32::MAX);
            let launched = launched_now(ctx, group, removed);
            if (launched, removed) != (0, 0) {
                events.push(ScaleEvent {
                    first_at: ctx.now,
                    at: ctx.now,
                    launched,
                    removed,
                    named: removed,
                });
            }
            if !events.is_empty() {
                groups.insert(group.name.clone(), events);
            }
        }
        Self { groups }
    }

    /// Returns what was asked for within `window_ms` before now, the oldest first.
    pub(super) fn within(
        &self,
        group: &WorkerGroupName,
        now: Timestamp,
        window_ms: u64,
    ) -> impl Iterator<Item = &ScaleEvent> {
        let events = self.groups.get(group).map_or(&[][..], Vec::as_slice);
        events
            .iter()
            .filter(move |event| now.millis_since(event.at) < window_ms)
    }

    /// Returns how many replicas were asked for and named within `window_ms` before now.
    pub(super) fn sums(
        &self,
        group: &WorkerGroupName,
        now: Timestamp,
        window_ms: u64,
    ) -> (u32, u32) {
        let events = self.within(group, now, window_ms);
        events.fold((0, 0), |(launched, removed): (u32, u32), event| {
            (
                launched.saturating_add(event.launched),
                removed.saturating_add(event.removed),
            )
        })
    }

    /// Returns when the first of what counts now leaves the window; a full window from now where
    /// nothing counts yet.
    pub(super) fn next_change(
        &self,
        group: &WorkerGroupName,
        now: Timestamp,
        window_ms: u64,
    ) -> Timestamp {
        let first = self
            .within(group, now, window_ms)
            .map(|event| event.at)
            .min();
        first.unwrap_or(now).plus_ms(window_ms).max(now.plus_ms(1))
    }
}

/// Returns the replicas whose names came into the list by an earlier round of this decision.
pub(super) fn named_now(
    ctx: PolicyContext<'_>,
) -> BTreeMap<&WorkerGroupName, BTreeSet<&ReplicaName>> {
    let mut named: BTreeMap<&WorkerGroupName, BTreeSet<&ReplicaName>> = BTreeMap::new();
    for node in &ctx.snapshot.nodes {
        if node.status == NodeStatus::Deleting && !ctx.history.named_seen.contains(&node.name) {
            named.entry(&node.group).or_default().insert(&node.replica);
        }
    }
    named
}

fn launched_now(ctx: PolicyContext<'_>, group: &WorkerGroup, named: u32) -> u32 {
    let seen = ctx.history.pace.replicas_seen(&group.name);
    seen.map_or(0, |seen| {
        group.replicas.saturating_add(named).saturating_sub(seen)
    })
}
