//! How long placement groups wait for nodes that were planned for them.
//!
//! A group for which nodes are planned keeps those that run from going idle. Where the rest does not
//! come, two groups could hold half of what each needs for ever. So a group of which no further bundle
//! finds a running node for `incomplete_after` lets go: nothing is planned for it during a pause, which
//! grows and differs from group to group. One goes at a time, the one with the least; what it leaves
//! may be all that the others wait for, so that their time starts again.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::model::{GangRequest, GangWait, Timestamp, Unserved};

use super::{HumanDuration, Plan, PolicyContext};

/// The word for a group that has let go.
const CODE: &str = "incomplete";

/// Says how long a group may wait, and how long nothing is planned for it then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) incomplete_after: Option<HumanDuration>,
    /// The first time; doubled each time.
    pub(super) pause: HumanDuration,
    pub(super) pause_max: HumanDuration,
}

impl Patience {
    /// Returns until when a group is left alone that lets go now for the `tries`-th time: longer by up
    /// to a half, so that those that let go together do not come back together.
    fn pause_until(&self, id: &str, tries: u32, now: Timestamp) -> Timestamp {
        let doubled = 1_u64
            .checked_shl(tries.saturating_sub(1))
            .unwrap_or(u64::MAX);
        let pause = self.pause.as_ms().saturating_mul(doubled);
        let pause = pause.min(self.pause_max.as_ms());
        let jitter = pause / 2 / 1_000 * (hash(id, tries) % 1_000);
        now.plus_ms(pause.saturating_add(jitter))
    }
}

/// Returns the id of a placement group.
pub(super) fn id(gang: &GangRequest) -> &str {
    gang.details.split(':').next().unwrap_or_default()
}

/// Returns a number that looks random (FNV-1a); the same for the same input.
fn hash(id: &str, tries: u32) -> u64 {
    let bytes = id.bytes().chain(tries.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Holds what is known of the placement groups of one decision, and what is to be remembered.
pub(super) struct Waits<'a> {
    known: &'a BTreeMap<String, GangWait>,
    /// The group that lets go in this decision.
    gives_way: Option<(String, GangWait)>,
    /// Whether the others begin to wait anew.
    begins_anew: bool,
    new: Vec<(String, GangWait)>,
}

impl<'a> Waits<'a> {
    pub(super) fn of<'b>(
        ctx: PolicyContext<'a>,
        patience: Patience,
        gangs: impl Iterator<Item = &'b GangRequest>,
    ) -> Self {
        let known = &ctx.history.gang_waits;
        let mut waits = Self {
            known,
            gives_way: None,
            begins_anew: false,
            new: Vec::new(),
        };
        let Some(after) = patience.incomplete_after.filter(|_| !known.is_empty()) else {
            return waits;
        };
        let is_over = |wait: &&GangWait| {
            wait.paused_until.is_none() && ctx.now.millis_since(wait.since) >= after.as_ms()
        };
        let over = gangs.filter_map(|gang| {
            let wait = known.get(id(gang)).filter(is_over)?;
            Some((wait.ready, Reverse(id(gang)), wait))
        });
        if let Some((_, Reverse(id), wait)) = over.min_by_key(|(ready, id, _)| (*ready, *id)) {
            let tries = wait.tries.saturating_add(1);
            let paused = GangWait {
                tries,
                paused_until: Some(patience.pause_until(id, tries, ctx.now)),
                ..wait.clone()
            };
            waits.gives_way = Some((id.to_owned(), paused));
            waits.begins_anew = true;
        }
        waits
    }

    fn known(&self, id: &str) -> Option<&GangWait> {
        let gives_way = self.gives_way.as_ref().filter(|(other, _)| other == id);
        gives_way
            .map(|(_, wait)| wait)
            .or_else(|| self.known.get(id))
    }

    /// Returns until when nothing is planned for a group.
    pub(super) fn paused_until(&self, gang: &GangRequest, now: Timestamp) -> Option<Timestamp> {
        let until = self.known(id(gang))?.paused_until;
        until.filter(|until| *until > now)
    }

    /// Returns what is said of a group for which nothing is planned.
    pub(super) fn pause(
        &self,
        gang: &GangRequest,
        (what, class, position): (String, &str, usize),
    ) -> Unserved {
        let wait = self.known(id(gang)).cloned().unwrap_or_default();
        let (ready, all, tries) = (wait.ready, gang.bundle_count, wait.tries);
        Unserved {
            what,
            class: class.to_owned(),
            position,
            count: 1,
            code: CODE.to_owned(),
            detail: format!(
                "only {ready} of {all} bundles had a running node for too long (time {tries}); planned again after a pause"
            ),
        }
    }

    /// Keeps what is known of a group.
    pub(super) fn keep(&mut self, gang: &GangRequest) {
        let id = id(gang);
        if let Some(wait) = self.known(id).cloned() {
            self.new.push((id.to_owned(), wait));
        }
    }

    /// Takes in that every bundle of a group has a place, `ready` of them on nodes that run.
    pub(super) fn planned(&mut self, gang: &GangRequest, ready: u64, now: Timestamp) {
        let id = id(gang);
        let mut wait = self.known(id).cloned().unwrap_or(GangWait {
            since: now,
            ready,
            ..GangWait::default()
        });
        if wait.paused_until.take().is_some() || self.begins_anew || ready > wait.ready {
            (wait.since, wait.ready) = (now, ready);
        }
        self.new.push((id.to_owned(), wait));
    }

    /// Takes in that a group has no place: it holds nothing; how often it has let go still counts.
    pub(super) fn refused(&mut self, gang: &GangRequest) {
        let id = id(gang);
        if let Some(wait) = self.known(id).filter(|wait| wait.tries > 0).cloned() {
            let wait = GangWait {
                paused_until: Some(wait.since),
                ..wait
            };
            self.new.push((id.to_owned(), wait));
        }
    }

    pub(super) fn remember(self, plan: &mut Plan) {
        plan.remember_gangs(self.new.into_iter().collect());
    }
}
