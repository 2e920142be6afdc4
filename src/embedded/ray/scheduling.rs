//! Who gets what: work finds nodes, and gives back what it took.
//!
//! Ray's own rules, as far as an autoscaler can see them: a request goes to a node that fits now, the
//! most wanted selector first; work without a GPU avoids nodes that have one; up to half of what a
//! node has, nodes count as equally free, and the caller's comes first; above, the freer one.

use super::agenda::Event;
use super::cluster::Cluster;
use super::ids::PlacementGroupId;
use super::placement_group::{
    Group, PlacementGroup, PlacementGroupState, Room, resources_in_group, resources_of_bundle,
};
use super::raylet::{Raylet, holds};
use super::work::{Actor, Run, RunId, SchedulingStrategy, Tasks, Work, WorkId};
use crate::model::{NodeId, Quantity, ResourceMap, ResourceRequest};
use std::collections::{BTreeMap, BTreeSet};

/// Up to so much of a node's scarcest resource, nodes count as equally free; in 1/1000.
const SPREAD_THRESHOLD: i128 = 500;

/// Which selector it meets, whether its GPUs would lie idle, how much of it is used, whether it is not the
/// caller's, and how young it is.
type Rank = (usize, bool, i128, bool, u64);

/// How many of some work run on each node.
type Runs = BTreeMap<NodeId, i128>;

impl Cluster {
    /// Takes tasks.
    pub(super) fn submit_tasks(&mut self, mut tasks: Tasks) -> WorkId {
        if let Some(group) = tasks.placement_group {
            tasks.resources = resources_in_group(group, &tasks.resources);
        }
        self.submit(Work::of_tasks(tasks, self.now))
    }

    /// Takes an actor.
    pub(super) fn create_actor(&mut self, mut actor: Actor) -> WorkId {
        if let Some(group) = actor.placement_group {
            actor.resources = resources_in_group(group, &actor.resources);
        }
        self.submit(Work::of_actor(actor, self.now))
    }

    fn submit(&mut self, work: Work) -> WorkId {
        let id = WorkId(self.number());
        self.works.insert(id, work);
        self.unsettle();
        id
    }

    /// Ends work, whether it waits or runs.
    pub(super) fn cancel(&mut self, id: WorkId) {
        let Some(work) = self.works.get_mut(&id) else {
            return;
        };
        work.queued = 0;
        work.duration_ms = None;
        // What runs on a node whose end nobody has heard of yet must not start again when they do.
        work.restarts = false;
        let runs = self.runs.iter().filter(|(_, run)| run.work == id);
        for run in runs.map(|(run, _)| *run).collect::<Vec<_>>() {
            self.end_run(run);
        }
        self.unsettle();
    }

    /// Takes a placement group.
    pub(super) fn create_placement_group(&mut self, spec: PlacementGroup) -> PlacementGroupId {
        let id = PlacementGroupId(self.ids.bytes());
        self.groups.insert(id, Group::new(spec, self.now));
        self.unsettle();
        id
    }

    /// Removes a placement group, and ends what runs inside.
    pub(super) fn remove_placement_group(&mut self, id: PlacementGroupId) {
        let inside = self
            .works
            .iter()
            .filter(|(_, work)| work.placement_group == Some(id));
        for work in inside.map(|(work, _)| *work).collect::<Vec<_>>() {
            self.cancel(work);
        }
        let bundles = self.groups.get(&id).map_or(0, |group| group.nodes.len());
        for at in 0..bundles {
            self.release_bundle(id, at);
        }
        self.groups.remove(&id);
        self.unsettle();
    }

    /// Returns the raylets that take new work.
    pub(super) fn open_raylets(&self) -> impl Iterator<Item = (NodeId, &Raylet)> {
        let open = self
            .raylets
            .iter()
            .filter(|(id, raylet)| raylet.takes_work() && self.gcs.believes_in(**id));
        open.map(|(id, raylet)| (*id, raylet))
    }

    pub(super) fn place_groups(&mut self) {
        let waiting = self
            .groups
            .iter()
            .filter(|(_, group)| group.state != PlacementGroupState::Created);
        let mut waiting: Vec<_> = waiting
            .map(|(id, group)| (group.submitted_at, *id))
            .collect();
        waiting.sort_unstable();
        for (_, id) in waiting {
            let rooms = self.open_raylets().map(|(node, raylet)| Room {
                node,
                number: raylet.number,
                labels: &raylet.labels,
                available: raylet.available.clone(),
            });
            let plan = self
                .groups
                .get(&id)
                .and_then(|group| group.plan(rooms.collect()));
            if let Some(plan) = plan {
                self.commit(id, &plan);
            }
        }
    }

    fn commit(&mut self, id: PlacementGroupId, plan: &BTreeMap<usize, NodeId>) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        for (at, node) in plan {
            let (Some(raylet), Some(bundle)) =
                (self.raylets.get_mut(node), group.spec.bundles.get(*at))
            else {
                continue;
            };
            raylet.take(&bundle.resources, self.now);
            raylet.extend(&resources_of_bundle(id, *at, &bundle.resources));
            if let Some(place) = group.nodes.get_mut(*at) {
                *place = Some(*node);
            }
        }
        group.state = PlacementGroupState::Created;
        group.placed_at.get_or_insert(self.now);
        self.unsettle();
    }

    /// Places tasks and actors; nothing is given back meanwhile, so what did not fit once is not tried again.
    pub(super) fn place_works(&mut self) {
        let mut unplaced = BTreeSet::new();
        let waiting = self.works.iter().filter(|(_, work)| work.queued > 0);
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(work) = self.works.get(&id) else {
                continue;
            };
            if unplaced.contains(&work.request) {
                continue;
            }
            let request = work.request.clone();
            let mut runs = match work.strategy {
                SchedulingStrategy::Default => Runs::new(),
                SchedulingStrategy::Spread => self.runs_by_node(id),
            };
            let open = self.open_raylets().map(|(node, _)| node);
            let ranked = open.filter_map(|node| self.rank(id, node, &runs));
            let mut ranked: BTreeSet<(Rank, NodeId)> = ranked.collect();
            while self.works.get(&id).is_some_and(|work| work.queued > 0) {
                let Some((_, node)) = ranked.pop_first() else {
                    unplaced.insert(request);
                    break;
                };
                self.start_run(id, node);
                *runs.entry(node).or_default() += 1;
                ranked.extend(self.rank(id, node, &runs));
            }
        }
    }

    /// Returns how well a node suits work, the best first; `None` when it does not fit now.
    fn rank(&self, id: WorkId, node: NodeId, runs: &Runs) -> Option<(Rank, NodeId)> {
        let work = self.works.get(&id)?;
        let raylet = self.raylets.get(&node)?;
        if !holds(&raylet.available, &work.request.resources) {
            return None;
        }
        let selector = work.request.matching_selector(&raylet.labels)?;
        let used = match work.strategy {
            SchedulingStrategy::Default => raylet.utilization().max(SPREAD_THRESHOLD),
            SchedulingStrategy::Spread => runs.get(&node).copied().unwrap_or(0),
        };
        let has_gpu = !raylet.total.get("GPU").is_zero();
        let wastes_gpu = has_gpu && work.request.resources.get("GPU").is_zero();
        let rank = (
            selector,
            wastes_gpu,
            used,
            !raylet.spec.is_head,
            raylet.number,
        );
        Some((rank, node))
    }

    fn runs_by_node(&self, work: WorkId) -> Runs {
        let mut runs = Runs::new();
        for run in self.runs.values().filter(|run| run.work == work) {
            *runs.entry(run.node).or_default() += 1;
        }
        runs
    }

    fn start_run(&mut self, id: WorkId, node: NodeId) {
        let run = RunId(self.number());
        let (Some(work), Some(raylet)) = (self.works.get_mut(&id), self.raylets.get_mut(&node))
        else {
            return;
        };
        raylet.take(&work.request.resources, self.now);
        work.queued = work.queued.saturating_sub(1);
        work.running += 1;
        if work.queued == 0 {
            work.placed_at.get_or_insert(self.now);
        }
        if let Some(duration) = work.duration_ms {
            self.agenda
                .add(self.now.plus_ms(duration), Event::RunEnds(run));
        }
        self.runs.insert(run, Run { work: id, node });
    }

    /// Ends a task or actor, unless its node is gone and only nobody knows yet.
    pub(super) fn end_run(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id).copied() else {
            return;
        };
        let (Some(raylet), Some(work)) = (
            self.raylets.get_mut(&run.node),
            self.works.get_mut(&run.work),
        ) else {
            return;
        };
        raylet.give_back(&work.request.resources, self.now);
        work.running = work.running.saturating_sub(1);
        work.done += 1;
        self.runs.remove(&id);
        self.unsettle();
    }

    /// Notes that a task or actor went down with its node.
    pub(super) fn lose_run(&mut self, id: RunId) {
        let Some(run) = self.runs.remove(&id) else {
            return;
        };
        if let Some(work) = self.works.get_mut(&run.work) {
            work.running = work.running.saturating_sub(1);
            if work.restarts {
                work.queued += 1;
            }
        }
    }

    /// Returns whether some node could hold a request if it were empty.
    pub(super) fn first_that_could_hold(&self, request: &ResourceRequest) -> Option<NodeId> {
        let suits = |raylet: &Raylet| {
            raylet.could_hold(&request.resources)
                && request.matching_selector(&raylet.labels).is_some()
        };
        let able = self.open_raylets().filter(|(_, raylet)| suits(raylet));
        able.min_by_key(|(_, raylet)| (!raylet.spec.is_head, raylet.number))
            .map(|(id, _)| id)
    }

    /// Notes what `request_resources` asks for.
    pub(super) fn request_resources(&mut self, bundles: &[(ResourceMap, u64)]) {
        let mut counts = BTreeMap::new();
        for (resources, count) in bundles {
            *counts.entry(resources.clone()).or_default() += count;
        }
        self.gcs.constraint = Some(counts);
        if self.settings.autoscaler_v2 {
            return;
        }
        let one_by_one = bundles.iter().flat_map(|(resources, count)| {
            let bundle: BTreeMap<&str, serde_json::Value> = resources
                .iter()
                .map(|(name, amount)| (name.as_str(), as_python_writes(amount)))
                .collect();
            (0..*count).map(move |_| bundle.clone())
        });
        // A map of text and finite numbers is JSON.
        let json = serde_json::to_vec(&one_by_one.collect::<Vec<_>>()).unwrap_or_default();
        let key = (Vec::new(), b"autoscaler_resource_request".to_vec());
        self.gcs.kv.insert(key, json);
    }
}

/// A user writes `{"CPU": 1}`, and Python keeps it so.
fn as_python_writes(amount: Quantity) -> serde_json::Value {
    if amount.units() % Quantity::SCALE == 0 {
        (amount.units() / Quantity::SCALE).into()
    } else {
        amount.as_f64().into()
    }
}
