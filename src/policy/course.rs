//! Where a decision begins, and where the work budget ends it.
//!
//! # Why
//!
//! A decision that is cut short each time would look at the same first part of the demand each time, and
//! the rest would never be served. So the next one begins where this one stopped. What was launched
//! meanwhile is on its way for what has been looked at, and takes nothing else; otherwise each part
//! would find the nodes of the part before. When the end is reached, the next decision begins at the start.
//!
//! Placement groups come one by one, in their order; tasks are one step, since they are counted and not
//! gone through. A decision that did not get past its first step leaves that one out the next time.

use std::collections::BTreeMap;

use crate::model::{GangRequest, NextDemand, Resume, Unserved};

use super::{Plan, PolicyContext};

/// Holds where a decision begins and where it stops.
#[derive(Debug, Default)]
pub(super) struct Course {
    began: Option<Resume>,
    stopped: Option<NextDemand>,
    /// Whether demand before the beginning was left out.
    pub(super) leaves_out: bool,
    /// Replicas launched for demand, by position of the group.
    launched: BTreeMap<usize, u32>,
}

impl Plan {
    /// Begins where the last decision stopped.
    pub(super) fn resume(&mut self, ctx: PolicyContext<'_>) {
        // In Ray's order there is no place to go on from.
        let Some(resume) = ctx
            .history
            .resume
            .as_ref()
            .filter(|_| self.pool.corrections().order)
        else {
            return;
        };
        for (name, replicas) in &resume.launched {
            if let Some(at) = self.index.get(name) {
                self.pool.reserve(*at, *replicas);
            }
        }
        self.course.began = Some(resume.clone());
    }

    /// Leaves a placement group out that an earlier decision has looked at; returns whether it has.
    pub(super) fn leave_out(
        &mut self,
        gang: &GangRequest,
        told: impl FnOnce() -> Unserved,
    ) -> bool {
        let began = self.course.began.as_ref();
        if !began.is_some_and(|began| began.next.is_after(gang)) {
            return false;
        }
        self.course.leaves_out = true;
        // It may need what is idle.
        self.may_remove = false;
        self.unserved(told());
        true
    }

    /// Notes that the budget has ended at `at`; `then` is what comes after it.
    pub(super) fn stop_at(&mut self, at: NextDemand, then: Option<NextDemand>) {
        if self.course.stopped.is_some() || !self.pool.corrections().order {
            return;
        }
        let began = self.course.began.as_ref();
        let is_stuck = began.is_some_and(|began| began.next == at);
        self.course.stopped = if is_stuck { then } else { Some(at) };
    }

    pub(super) fn note_launch(&mut self, group: usize, replicas: u32) {
        let sum = self.course.launched.entry(group).or_default();
        *sum = sum.saturating_add(replicas);
    }

    /// Returns what the next decision has to know.
    pub(super) fn next_resume(&mut self) -> Option<Resume> {
        let course = std::mem::take(&mut self.course);
        let next = course.stopped?;
        let mut launched = course.began.map_or_else(BTreeMap::new, |it| it.launched);
        for (at, replicas) in course.launched {
            let (Some(name), Some(group)) = (self.names.get(at), self.groups.get(at)) else {
                continue;
            };
            let sum = launched.entry(name.clone()).or_default();
            *sum = sum.saturating_add(replicas.min(group.launched));
        }
        Some(Resume { next, launched })
    }
}
