//! The state of a Ray cluster, which changes when it is told what time it is and what is asked of it.

use super::agenda::{Agenda, Event};
use super::demand::ByNode;
use super::gcs::{Death, Gcs};
use super::ids::{Ids, PlacementGroupId};
use super::placement_group::{Group, PlacementGroupState, resources_of_bundle};
use super::raylet::{Cause, Drain, Ended, NodeSpec, Raylet};
use super::work::{Run, RunId, Work, WorkId};
use super::{Incarnation, Settings};
use crate::embedded::news;
use crate::model::{NodeId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Holds the GCS, the raylets and all work.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) settings: Settings,
    pub(super) ids: Ids,
    pub(super) now: Timestamp,
    pub(super) gcs: Gcs,
    /// Which GCS serves; connections end when it changes.
    pub(super) incarnation: news::Sender<Incarnation>,
    pub(super) raylets: BTreeMap<NodeId, Raylet>,
    pub(super) works: BTreeMap<WorkId, Work>,
    pub(super) runs: BTreeMap<RunId, Run>,
    pub(super) groups: BTreeMap<PlacementGroupId, Group>,
    /// Numbers given to whatever is counted.
    pub(super) numbers: u64,
    /// Counts changes, for those who wait for one.
    pub(super) revision: u64,
    pub(super) agenda: Agenda,
    /// What waits where, and as of which revision.
    pub(super) waiting: (Option<u64>, ByNode),
    is_settled: bool,
    sessions: u64,
}

impl Cluster {
    pub(super) fn new(settings: Settings, now: Timestamp) -> Self {
        let mut ids = Ids::new(settings.seed);
        let gcs = Gcs::new(&mut ids, settings.session_name.clone(), &settings);
        let mut agenda = Agenda::default();
        agenda.add(now.plus_ms(settings.load_pull_ms), Event::LoadPull);
        Self {
            settings,
            ids,
            now,
            gcs,
            incarnation: news::Sender::new(Some(0)),
            raylets: BTreeMap::new(),
            works: BTreeMap::new(),
            runs: BTreeMap::new(),
            groups: BTreeMap::new(),
            numbers: 0,
            revision: 0,
            agenda,
            waiting: (None, ByNode::new()),
            is_settled: true,
            sessions: 0,
        }
    }

    /// Lets happen what happens until `now`.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some((at, event)) = self.agenda.take_due(now) {
            self.now = self.now.max(at);
            self.happen(event, now);
            self.settle();
        }
        self.now = self.now.max(now);
    }

    fn happen(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::RunEnds(run) => self.end_run(run),
            Event::PatienceEnds(id) => {
                if self.raylets.contains_key(&id) {
                    self.leave(id);
                }
            }
            Event::HealthChecksFailed(id) => {
                if self.gcs.is_up && self.gcs.believes_in(id) && !self.raylets.contains_key(&id) {
                    let message = "health check failed due to missing too many heartbeats";
                    self.declare_dead(id, Cause::Unexpected, message);
                }
            }
            Event::LoadPull => {
                if self.gcs.is_up {
                    self.pull_load();
                }
                // Nothing changes before the next event: pulls in between would bring the same.
                let period = self.settings.load_pull_ms.max(1);
                let until = self.agenda.next_at().map_or(now, |at| at.min(now));
                let pulls = (until.millis_since(self.now) / period).max(1);
                let next = self.now.plus_ms(pulls.saturating_mul(period));
                self.agenda.add(next, Event::LoadPull);
            }
        }
    }

    /// Returns when something happens next.
    pub(super) fn next_event_at(&self) -> Timestamp {
        self.agenda.next_at().unwrap_or(self.now)
    }

    /// Says that something changed which others may have waited for.
    pub(super) const fn unsettle(&mut self) {
        self.is_settled = false;
    }

    /// Places what can be placed, and ends what drains and has nothing to do.
    pub(super) fn settle(&mut self) {
        while !self.is_settled {
            self.is_settled = true;
            self.revision += 1;
            if self.gcs.is_up {
                self.place_groups();
            }
            self.place_works();
            let is_over = |raylet: &Raylet| raylet.drain.is_some() && raylet.is_idle();
            let over = self.raylets.iter().filter(|(_, raylet)| is_over(raylet));
            for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.leave(id);
            }
        }
    }

    /// Returns the next number.
    pub(super) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Starts a raylet, which joins once there is a GCS.
    pub(super) fn start_node(&mut self, spec: NodeSpec) -> NodeId {
        let id = self.ids.node();
        let number = self.number();
        let raylet = Raylet::new(id, Arc::new(spec), (number, self.now));
        if self.gcs.is_up {
            self.gcs.register(id, &raylet, self.now);
        }
        self.raylets.insert(id, raylet);
        self.unsettle();
        id
    }

    /// Tells a raylet to end when it is idle, unless it was told before.
    ///
    /// The deadline is only passed on: Ray leaves it to others to end a node that still has work then.
    pub(super) fn drain(&mut self, id: NodeId, drain: Drain) {
        if let Some(raylet) = self.raylets.get_mut(&id) {
            raylet.drain.get_or_insert(drain);
            self.unsettle();
        }
    }

    /// Has a node's processes drain it, and end with its raylet or after `patience_ms`.
    pub(super) fn terminate(&mut self, id: NodeId, patience_ms: u64) {
        let deadline = self.now.plus_ms(patience_ms);
        let drain = Drain {
            cause: Cause::Preempted,
            message: "Node received SIGTERM; draining before shutdown.".to_owned(),
            deadline: Some(deadline),
        };
        self.drain(id, drain);
        self.agenda.add(deadline, Event::PatienceEnds(id));
    }

    /// Ends a raylet that says goodbye.
    fn leave(&mut self, id: NodeId) {
        let drain = self
            .raylets
            .get(&id)
            .and_then(|raylet| raylet.drain.clone());
        let (cause, message) = drain.map_or((Cause::Expected, String::new()), |drain| {
            (drain.cause, drain.message)
        });
        self.end_raylet(id, Ended::Gracefully);
        self.declare_dead(id, cause, &message);
    }

    /// Ends a raylet without a word: the GCS finds out by its health checks.
    pub(super) fn crash(&mut self, id: NodeId) {
        self.end_raylet(id, Ended::Crashed);
        self.expect_missed_checks(id);
    }

    fn expect_missed_checks(&mut self, id: NodeId) {
        let Some(record) = self.gcs.records.get(&id) else {
            return;
        };
        let period = self.settings.health_check_period_ms.max(1);
        let since_check = self.now.millis_since(record.registered_at) % period;
        let failures = u64::from(self.settings.health_check_failures);
        let missed = failures.saturating_mul(period).saturating_sub(since_check);
        self.agenda
            .add(self.now.plus_ms(missed), Event::HealthChecksFailed(id));
    }

    fn end_raylet(&mut self, id: NodeId, ended: Ended) {
        if let Some(raylet) = self.raylets.remove(&id) {
            raylet.ended.send(Some(ended));
            self.unsettle();
        }
    }

    /// Has the GCS know that a node is dead; its work is lost, and it ends itself if it lives.
    pub(super) fn declare_dead(&mut self, id: NodeId, cause: Cause, message: &str) {
        let Some(record) = self.gcs.records.get_mut(&id) else {
            return;
        };
        if record.death.is_some() {
            return;
        }
        record.death = Some(Death {
            at: self.now,
            cause,
            message: message.to_owned(),
        });
        self.end_raylet(id, Ended::Crashed);
        let lost = self.runs.iter().filter(|(_, run)| run.node == id);
        for run in lost.map(|(run, _)| *run).collect::<Vec<_>>() {
            self.lose_run(run);
        }
        for group in self.groups.values_mut() {
            for node in group.nodes.iter_mut().filter(|node| **node == Some(id)) {
                *node = None;
                group.state = PlacementGroupState::Rescheduling;
            }
        }
        self.unsettle();
    }

    /// Forgets work that is done, and all but the last `dead_max` dead nodes.
    pub(super) fn forget_done(&mut self, dead_max: usize) {
        self.works.retain(|_, work| work.queued + work.running > 0);
        let records = self.gcs.records.iter();
        let dead = records.filter_map(|(id, record)| Some((record.death.as_ref()?.at, *id)));
        let mut dead: Vec<_> = dead.collect();
        dead.sort();
        for (_, id) in dead.iter().rev().skip(dead_max) {
            self.gcs.records.remove(id);
        }
    }

    /// Gives a bundle's resources back to its node.
    pub(super) fn release_bundle(&mut self, id: PlacementGroupId, at: usize) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let node = group.nodes.get_mut(at).and_then(Option::take);
        let bundle = group.spec.bundles.get(at);
        let raylet = node.and_then(|node| self.raylets.get_mut(&node));
        if let (Some(raylet), Some(bundle)) = (raylet, bundle) {
            raylet.shrink(&resources_of_bundle(id, at, &bundle.resources));
            raylet.give_back(&bundle.resources, self.now);
        }
    }

    /// Ends the GCS; raylets run on.
    pub(super) fn stop_gcs(&mut self) {
        self.gcs.stop();
        self.incarnation.send(None);
        self.revision += 1;
    }

    /// Starts the GCS again: with what it kept in Redis, or as another cluster, whose nodes have to be new ones.
    pub(super) fn start_gcs(&mut self, keeps: bool) {
        self.sessions += 1;
        if keeps {
            self.gcs.is_up = true;
            self.welcome_back();
        } else {
            self.begin_anew();
        }
        let sessions = self.sessions;
        self.incarnation.send(Some(sessions));
        self.unsettle();
    }

    fn welcome_back(&mut self) {
        for (id, raylet) in &self.raylets {
            self.gcs.register(*id, raylet, self.now);
        }
        let lost = self.gcs.alive().map(|(id, _)| id);
        for id in lost
            .filter(|id| !self.raylets.contains_key(id))
            .collect::<Vec<_>>()
        {
            self.expect_missed_checks(id);
        }
    }

    fn begin_anew(&mut self) {
        let head = self.raylets.values().find(|raylet| raylet.spec.is_head);
        let head = head.map(|raylet| NodeSpec::clone(&raylet.spec));
        for id in self.raylets.keys().copied().collect::<Vec<_>>() {
            self.end_raylet(id, Ended::Crashed);
        }
        self.works.clear();
        self.runs.clear();
        self.groups.clear();
        let session_name = format!("{}_{}", self.settings.session_name, self.sessions);
        self.gcs = Gcs::new(&mut self.ids, session_name, &self.settings);
        if let Some(head) = head {
            self.start_node(head);
        }
    }
}
