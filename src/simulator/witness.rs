//! Sees every write of the sidecar at the API server, and knows how things are at that moment.
//!
//! # Why apart from the engine's own checks
//!
//! Those judge a decision by what was observed. This judges what arrives by what is true: the
//! raylets' own state, and the object in the store before and after.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::trace::Trace;
use crate::clock::Clock;
use crate::embedded::ray::{HeadView, NodeCondition, NodeView, RayHead};
use crate::model::Timestamp;

/// How long after a change of its bounds a group may still be written within the old ones: a write in
/// flight, kept on its way, is no older. Units: milliseconds.
const BOUNDS_STAND_MS: u64 = 15_000;

/// How long demand that is over may still be served: the GCS can be that far behind. Units: milliseconds.
const DEMAND_STANDS_MS: u64 = 60_000;

/// How long after it was asked to stay a pod may still be named: the decision may be as old. Units: milliseconds.
const PROTECTION_TAKES_MS: u64 = 15_000;

/// So many of the last sizes are kept, for whoever plays by hand.
const SIZES_MAX: usize = 100;

/// A write of the RayCluster.
pub(super) struct Write<'a> {
    /// Which head the sidecar is in.
    pub(super) head: u64,
    pub(super) patch: &'a Value,
    pub(super) status: u16,
    pub(super) before: &'a Value,
    pub(super) after: &'a Value,
}

/// Judges the sidecar's writes.
pub(super) struct Witness {
    ray: RayHead,
    clock: Clock,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    problems: Vec<String>,
    writes: u64,
    /// The last head whose sidecar has written, and when it did for the first time.
    last_head: Option<(u64, Timestamp)>,
    sizes: VecDeque<(String, u64)>,
    lowered: BTreeSet<String>,
    ordered: BTreeSet<String>,
    protected: BTreeMap<String, Timestamp>,
    bounds_changed_at: BTreeMap<String, Timestamp>,
    demand: VecDeque<(Timestamp, u64)>,
    checks_launches: bool,
    checks_protection: bool,
}

impl Witness {
    pub(super) fn new(ray: RayHead, clock: Clock, trace: Arc<Trace>) -> Self {
        let state = Mutex::default();
        Self {
            ray,
            clock,
            trace,
            state,
        }
    }

    /// Has it judge, or not, whether more is launched than anybody asked for.
    pub(super) fn check_launches(&self, checks: bool) {
        self.state().checks_launches = checks;
    }

    /// Has it judge, or not, whether pods are left alone that are to stay.
    pub(super) fn check_protection(&self, checks: bool) {
        self.state().checks_protection = checks;
    }

    /// Notes that a user wants a pod to stay.
    pub(super) fn on_protected(&self, pod: &str) {
        let now = self.clock.now();
        self.state().protected.insert(pod.to_owned(), now);
    }

    /// Notes that no pod needs to stay any more; returns those that had to.
    pub(super) fn unprotect_all(&self) -> Vec<String> {
        let protected = std::mem::take(&mut self.state().protected);
        protected.into_keys().collect()
    }

    /// Notes that a user has set a group's bounds.
    pub(super) fn on_bounds(&self, group: &str, is_lowered: bool) {
        let now = self.clock.now();
        let mut state = self.state();
        state.bounds_changed_at.insert(group.to_owned(), now);
        if is_lowered {
            state.lowered.insert(group.to_owned());
        }
    }

    /// Notes that a user wants a pod gone.
    pub(super) fn on_order(&self, pod: &str) {
        self.state().ordered.insert(pod.to_owned());
    }

    /// Notes how much there is to do now.
    pub(super) fn note_demand(&self) {
        let units = units(&self.ray.view());
        let now = self.clock.now();
        let mut state = self.state();
        state.demand.push_back((now, units));
        let is_over = |at: &Timestamp| now.millis_since(*at) > DEMAND_STANDS_MS;
        while state.demand.front().is_some_and(|(at, _)| is_over(at)) {
            state.demand.pop_front();
        }
    }

    /// Adds something that must not be.
    pub(super) fn object(&self, problem: String) {
        self.trace.say(&format!("WRONG {problem}"));
        self.state().problems.push(problem);
    }

    /// Returns the first thing that must not be.
    pub(super) fn problem(&self) -> Option<String> {
        self.state().problems.first().cloned()
    }

    /// Returns how many writes have changed something.
    pub(super) fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Returns the last head whose sidecar has written, and when it did for the first time.
    pub(super) fn last_head(&self) -> Option<(u64, Timestamp)> {
        self.state().last_head
    }

    /// Returns what `replicas` of a group were last set to, the oldest first.
    pub(super) fn sizes(&self, group: &str) -> Vec<u64> {
        let state = self.state();
        let sizes = state.sizes.iter().filter(|(name, _)| name == group);
        sizes.map(|(_, size)| *size).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call of the API server.
    pub(super) fn on_call(&self, called: &str, status: u16) {
        self.trace.say(&format!("{called} {status}"));
    }

    /// Judges a write.
    pub(super) fn on_write(&self, write: &Write<'_>) {
        if write.status >= 300 {
            self.trace.say(&format!("patch refused {}", write.status));
            return;
        }
        self.note_demand();
        self.state().writes += 1;
        for problem in addressing(write)
            .into_iter()
            .chain(self.on_head(write.head))
        {
            self.object(problem);
        }
        let (before, after) = (groups(write.before), groups(write.after));
        if names(&before) != names(&after) || rest(write.before) != rest(write.after) {
            self.object("a patch changes more than replicas and workersToDelete".to_owned());
            return;
        }
        let view = self.ray.view();
        for (before, after) in before.iter().zip(&after) {
            self.on_group(before, after, &view);
        }
    }

    /// Notes whose sidecar writes; returns what is wrong when that was replaced by one that has written.
    fn on_head(&self, head: u64) -> Option<String> {
        let now = self.clock.now();
        let mut state = self.state();
        let (last, since) = *state.last_head.get_or_insert((head, now));
        if last < head {
            state.last_head = Some((head, now));
        }
        let ms = now.millis_since(since);
        (head < last).then(|| format!("head {head} writes {ms} ms after its successor {last}"))
    }

    fn on_group(&self, before: &Value, after: &Value, view: &HeadView) {
        let name = text(before, "groupName");
        let (from, to) = (number(before, "replicas"), number(after, "replicas"));
        let (listed, lists) = (list(before), list(after));
        let named: Vec<&String> = lists.iter().filter(|pod| !listed.contains(*pod)).collect();
        if (from, &listed) == (to, &lists) {
            return;
        }
        self.trace
            .say(&format!("patch {name} {from} -> {to} {named:?}"));
        if from != to {
            let mut state = self.state();
            if state.sizes.len() >= SIZES_MAX {
                state.sizes.pop_front();
            }
            state.sizes.push_back((name.clone(), to));
            drop(state);
            self.check_bounds(&name, after, to);
        }
        if to > from {
            self.check_launch(before, (from, to), view);
        }
        for pod in named {
            self.check_named(&name, pod, view);
        }
    }

    fn check_bounds(&self, name: &str, after: &Value, to: u64) {
        let now = self.clock.now();
        let changed_at = self.state().bounds_changed_at.get(name).copied();
        let is_new = changed_at.is_some_and(|at| now.millis_since(at) < BOUNDS_STAND_MS);
        let (min, max) = (number(after, "minReplicas"), number(after, "maxReplicas"));
        if !is_new && !(min..=max).contains(&to) {
            self.object(format!("{name}: {to} replicas, bounds are {min} to {max}"));
        }
    }

    /// Nothing asks for more nodes than there are things to do.
    fn check_launch(&self, before: &Value, (from, to): (u64, u64), view: &HeadView) {
        let state = self.state();
        let most = state.demand.iter().map(|(_, units)| *units).max();
        let (checks, most) = (state.checks_launches, most.unwrap_or(0));
        drop(state);
        let name = text(before, "groupName");
        let gone = view.nodes.iter().filter(|node| {
            let is_gone = matches!(
                node.condition,
                NodeCondition::Draining | NodeCondition::Lost
            );
            node.group == name && is_gone
        });
        let gone = u64::try_from(gone.count()).unwrap_or(u64::MAX);
        let allowed = number(before, "minReplicas")
            .saturating_add(most)
            .saturating_add(gone)
            .max(from);
        if checks && to > allowed {
            self.object(format!(
                "{name}: {from} -> {to} replicas, though {most} things at most are to do"
            ));
        }
    }

    fn check_named(&self, group: &str, pod: &str, view: &HeadView) {
        let state = self.state();
        let is_ordered = state.ordered.contains(pod);
        let is_fine = is_ordered || state.lowered.contains(group);
        let protected_at = state.protected.get(pod).filter(|_| !is_ordered);
        let has_seen = |at: &Timestamp| self.clock.now().millis_since(*at) > PROTECTION_TAKES_MS;
        let is_protected = state.checks_protection && protected_at.is_some_and(has_seen);
        drop(state);
        let nodes = view.nodes.iter().filter(|node| node.pod == *pod);
        for node in nodes {
            if node.group != *group || node.is_head {
                self.object(format!("{group}: names {pod} of {}", node.group));
            }
            let is_alive = matches!(node.condition, NodeCondition::Busy | NodeCondition::Idle);
            if is_protected && is_alive {
                self.object(format!("{group}: names {pod}, which is to stay"));
            }
            if !is_fine && has_work(node) {
                self.object(format!("{group}: names {pod}, which has work"));
            }
        }
    }
}

/// Returns whether something runs on a node, or is placed there.
pub(super) fn has_work(node: &NodeView) -> bool {
    match node.condition {
        NodeCondition::Busy => true,
        NodeCondition::Draining => node.total != node.available,
        NodeCondition::Idle | NodeCondition::Lost | NodeCondition::Dead => false,
    }
}

/// Returns how many things want a place at most, each of which needs one node at most.
fn units(view: &HeadView) -> u64 {
    let works = view.works.iter().map(|work| work.queued + work.running);
    let bundles = view.placement_groups.iter();
    let bundles = bundles.map(|group| u64::try_from(group.nodes.len()).unwrap_or(0));
    let constraint = view.constraint.iter().map(|(_, count)| *count);
    works.chain(bundles).chain(constraint).sum()
}

/// Returns what is wrong with the way a patch names groups.
fn addressing(write: &Write<'_>) -> Vec<String> {
    const GROUPS: &str = "/spec/workerGroupSpecs/";
    let none = Vec::new();
    let before = groups(write.before);
    let mut tested = BTreeSet::new();
    let mut problems = Vec::new();
    for operation in write.patch.as_array().unwrap_or(&none) {
        let path = operation["path"].as_str().unwrap_or_default();
        let Some((index, member)) = path
            .strip_prefix(GROUPS)
            .and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        if operation["op"] == "test" && member == "groupName" {
            let group = index.parse().ok().and_then(|at: usize| before.get(at));
            if group.map(|group| text(group, "groupName")).as_deref() != operation["value"].as_str()
            {
                problems.push(format!("tests {path} for a name that is not there"));
            }
            tested.insert(index.to_owned());
        } else if operation["op"] != "test" && !tested.contains(index) {
            problems.push(format!("writes {path} without a test of the group's name"));
        }
    }
    problems
}

/// Returns the worker groups of a RayCluster.
pub(super) fn groups(raycluster: &Value) -> Vec<Value> {
    let groups = raycluster["spec"]["workerGroupSpecs"].as_array();
    groups.cloned().unwrap_or_default()
}

fn names(groups: &[Value]) -> Vec<String> {
    groups
        .iter()
        .map(|group| text(group, "groupName"))
        .collect()
}

/// Returns a text member, empty where it is absent.
pub(super) fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_default().to_owned()
}

/// Returns a number member, 0 where it is absent.
pub(super) fn number(value: &Value, member: &str) -> u64 {
    value[member].as_u64().unwrap_or(0)
}

/// Returns what stands in `workersToDelete`.
pub(super) fn list(group: &Value) -> Vec<String> {
    let list = group["scaleStrategy"]["workersToDelete"].as_array();
    let names = list.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

/// Returns spec and foreign annotations, without what is the sidecar's to write.
fn rest(raycluster: &Value) -> Value {
    let mut spec = raycluster["spec"].clone();
    for group in spec["workerGroupSpecs"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        let Some(group) = group.as_object_mut() else {
            continue;
        };
        group.remove("replicas");
        if let Some(strategy) = group
            .get_mut("scaleStrategy")
            .and_then(Value::as_object_mut)
        {
            strategy.remove("workersToDelete");
        }
        if group
            .get("scaleStrategy")
            .is_some_and(|strategy| *strategy == json!({}))
        {
            group.remove("scaleStrategy");
        }
    }
    let annotations = raycluster["metadata"]["annotations"].as_object().cloned();
    let mut annotations = annotations.unwrap_or_default();
    annotations.retain(|key, _| !key.starts_with("rayscaler"));
    json!({"spec": spec, "annotations": annotations})
}
