//! Where requests wait, and what the GCS learns of them once in a while.
//!
//! A caller asks for a few leases at a time; the rest is its backlog. A lease that fits no node waits
//! at the caller's raylet, and so does the backlog; one that fits some node, but not now, waits there.
//! Callers run on the head.

use super::cluster::Cluster;
use super::raylet::{Report, Waiting};
use crate::model::{NodeId, ResourceRequest};
use std::collections::BTreeMap;

/// Leases of one shape that a caller asks for at one time.
const LEASES_AT_ONCE: u64 = 10;

/// Shapes in one raylet's load; Ray leaves out the others without a word.
const SHAPES_MAX: usize = 100;

/// What waits at each raylet.
pub(super) type ByNode = BTreeMap<NodeId, BTreeMap<ResourceRequest, Waiting>>;

impl Cluster {
    /// Returns what a raylet says of itself now.
    pub(super) fn report_of(&mut self, id: NodeId) -> Option<Report> {
        self.note_waiting();
        let raylet = self.raylets.get(&id)?;
        Some(raylet.report(listed(self.waiting.1.get(&id)), self.now))
    }

    /// Asks all raylets, as the GCS does.
    pub(super) fn pull_load(&mut self) {
        self.note_waiting();
        for (id, raylet) in &self.raylets {
            if let Some(record) = self.gcs.records.get_mut(id) {
                record.report = raylet.report(listed(self.waiting.1.get(id)), self.now);
            }
        }
    }

    /// Many raylets are asked in a row, and nothing changes in between.
    fn note_waiting(&mut self) {
        if self.waiting.0 != Some(self.revision) {
            self.waiting = (Some(self.revision), self.waiting());
        }
    }

    fn waiting(&self) -> ByNode {
        let mut waiting = ByNode::new();
        let mut raylets = self.raylets.iter();
        let Some((caller, _)) = raylets.find(|(_, raylet)| raylet.spec.is_head) else {
            return waiting;
        };
        let mut holders: BTreeMap<&ResourceRequest, Option<NodeId>> = BTreeMap::new();
        for work in self.works.values().filter(|work| work.queued > 0) {
            let able = *holders
                .entry(&work.request)
                .or_insert_with(|| self.first_that_could_hold(&work.request));
            let leases = work.queued.min(LEASES_AT_ONCE);
            let at_holder = entry(&mut waiting, able.unwrap_or(*caller), &work.request);
            if able.is_some() {
                at_holder.ready += leases;
            } else {
                at_holder.infeasible += leases;
            }
            if work.queued > leases {
                entry(&mut waiting, *caller, &work.request).backlog += work.queued - leases;
            }
        }
        waiting
    }
}

fn entry<'a>(waiting: &'a mut ByNode, node: NodeId, request: &ResourceRequest) -> &'a mut Waiting {
    let shapes = waiting.entry(node).or_default();
    shapes.entry(request.clone()).or_insert_with(|| Waiting {
        request: request.clone(),
        ready: 0,
        infeasible: 0,
        backlog: 0,
    })
}

fn listed(shapes: Option<&BTreeMap<ResourceRequest, Waiting>>) -> Vec<Waiting> {
    let shapes = shapes.into_iter().flat_map(BTreeMap::values);
    shapes.take(SHAPES_MAX).cloned().collect()
}
