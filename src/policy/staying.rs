//! What keeps a replica although a rule would let it go: protection, and a second look.

use crate::model::{Hold, PodName, Protection, Timestamp};
use crate::placement::ReplicaState;

use super::{Plan, PolicyContext};

/// Shortest wait for the next look: as often as the GCS is asked at the most. Units: milliseconds.
const LOOK_MIN_MS: u64 = 100;

/// Longest wait for it; the GCS of a large cluster is asked every 5 s. Units: milliseconds.
const LOOK_MAX_MS: u64 = 2_000;

/// Returns what protects a replica now; one protected host protects all.
pub(super) fn protection(ctx: PolicyContext<'_>, replica: &ReplicaState) -> Option<Protection> {
    let orders = &ctx.snapshot.orders;
    if orders.protect.is_empty() {
        return None;
    }
    let nodes = || replica.nodes(ctx.snapshot);
    if nodes().any(|node| orders.drain.contains_key(&node.name)) {
        return None;
    }
    let all = nodes().filter_map(|node| orders.protection(&node.name, ctx.now));
    all.max_by_key(|protection| match protection {
        Protection::ForGood => (1, Timestamp::default()),
        Protection::Until(until) => (0, *until),
    })
}

impl Plan {
    /// Returns whether a replica that is idle for long enough was found so before, in an earlier
    /// reply of the GCS; notes it for the next time.
    pub(super) fn is_seen_twice(&mut self, ctx: PolicyContext<'_>, pods: &[PodName]) -> bool {
        let Some(reply_at) = ctx.snapshot.completeness.gcs_at.filter(|_| self.confirms) else {
            return true;
        };
        let seen = |pod: &PodName| ctx.history.removable.get(pod).copied();
        let first: Vec<Option<Timestamp>> = pods.iter().map(seen).collect();
        for (pod, seen) in pods.iter().zip(&first) {
            let at = seen.unwrap_or(reply_at);
            self.decision.removable.insert(pod.clone(), at);
        }
        let latest = first.iter().copied().collect::<Option<Vec<_>>>();
        let latest = latest.and_then(|all| all.into_iter().max());
        if latest.is_some_and(|at| at < reply_at) {
            return true;
        }
        // A reply that says nothing new wakes nobody.
        let waited_ms = latest.map_or(0, |at| ctx.now.millis_since(at));
        let pause_ms = waited_ms.clamp(LOOK_MIN_MS, LOOK_MAX_MS);
        self.recheck_at(ctx.now.plus_ms(pause_ms));
        false
    }

    /// Returns the word for why a replica that a rule lets go could not be given up.
    pub(super) fn stay_code(&self, ctx: PolicyContext<'_>, replica: &ReplicaState) -> &'static str {
        if self.is_cut() {
            "work_budget"
        } else if !self.may_remove() {
            "stale"
        } else if protection(ctx, replica).is_some() {
            "protected"
        } else {
            "seen_once"
        }
    }

    /// Has removals of idle replicas wait until two replies of the GCS agree.
    pub(crate) fn confirm_removals(&mut self) {
        self.confirms = true;
    }

    /// Lets groups keep their protected replicas above a maximum, and says so.
    pub(super) fn keep_protected(&mut self, ctx: PolicyContext<'_>) {
        if ctx.snapshot.orders.protect.is_empty() {
            return;
        }
        let mut holds = Vec::new();
        for (name, group) in self.names.iter().zip(&mut self.groups) {
            let live = group.live.iter();
            let protected = live.filter_map(|replica| protection(ctx, replica)).count();
            let protected = u32::try_from(protected).unwrap_or(u32::MAX);
            let max = group.bounds.max;
            if protected > max {
                group.bounds.max = protected;
                holds.push(Hold {
                    group: Some(name.clone()),
                    code: "protected".to_owned(),
                    detail: format!("{protected} replicas are protected, maxReplicas is {max}"),
                });
            }
        }
        holds.into_iter().for_each(|hold| self.hold(hold));
    }
}
