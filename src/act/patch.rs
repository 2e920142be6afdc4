//! One JSON Patch for everything a pass wants to change; pure.
//!
//! # Why a JSON Patch, and why these operations
//!
//! `workerGroupSpecs` is an atomic list: a merge patch or a server-side apply would have to write
//! every group whole, pod templates included. A JSON Patch touches single fields, but addresses groups
//! by position. So each patch first tests `metadata.uid` (a cluster made anew has no business with this
//! decision) and the name at each position it touches. `resourceVersion` is not tested: every pod that
//! becomes ready changes it.
//!
//! A user may have changed `replicas` since we read it, which with KubeRay's own Role is up to six seconds ago, so
//! that a number is only written over the one that it was decided from. `workersToDelete` is written whole, so the
//! patch also tests that the list is still the one we saw.
//! Where `scaleStrategy` is absent it is written whole; where it is present, be it empty, only
//! the list inside is, since other members (`scaleGate`) belong to others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::model::{
    ANNOTATION_INTENT, ClusterSnapshot, GroupDecision, IntentSeen, Node, NodeKind, NodeStatus,
    PodName, RemovalCause, ReplicaRemoval, ScaleDecision, WorkerGroup, WorkerGroupName,
};

/// `replicas` is an int32; the API server refuses anything above.
const REPLICAS_MAX: u32 = i32::MAX.unsigned_abs();

/// Where the UID stands.
const UID: &str = "/metadata/uid";

/// Where annotations stand.
const ANNOTATIONS: &str = "/metadata/annotations";

/// Holds one patch, and what it says in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchPlan {
    /// The operations, tests first.
    pub ops: Vec<Value>,
    /// What changes, group by group.
    pub groups: Vec<GroupChange>,
}

/// Holds what a patch changes in one group.
///
/// Units: replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupChange {
    /// The group.
    pub name: WorkerGroupName,
    /// `replicas` as it was read.
    pub replicas_from: u32,
    /// `replicas` as it is to be; equal where only the list changes.
    pub replicas_to: u32,
    /// Pods that come into `workersToDelete`.
    pub named: Vec<PodName>,
    /// Pods that leave it, being gone.
    pub forgotten: Vec<PodName>,
}

impl PatchPlan {
    /// Returns a plan that changes nothing; it may still carry an intent.
    #[must_use]
    pub fn nothing(snapshot: &ClusterSnapshot) -> Self {
        Self {
            ops: vec![test(UID, json!(snapshot.uid))],
            groups: Vec::new(),
        }
    }

    /// Returns what of the plan is about one group.
    #[must_use]
    pub fn part(&self, group: &WorkerGroup) -> Self {
        let base = format!("{}/", path_of_group(group));
        let is_part = |op: &&Value| {
            let path = op["path"].as_str().unwrap_or_default();
            path == UID || path.starts_with(&base)
        };
        let changes = self.groups.iter();
        let changes = changes.filter(|change| change.name == group.name);
        Self {
            ops: self.ops.iter().filter(is_part).cloned().collect(),
            groups: changes.cloned().collect(),
        }
    }

    /// Returns the plan with an intent to be written along, on top of the one that was `seen`.
    #[must_use]
    pub fn carrying(self, seen: &IntentSeen, intent: &str) -> Self {
        let (path, after) = match seen {
            IntentSeen::NoAnnotations => {
                (ANNOTATIONS.to_owned(), json!({ANNOTATION_INTENT: intent}))
            }
            IntentSeen::Absent | IntentSeen::Text(_) => (path_of_intent(), json!(intent)),
        };
        let mut plan = self.fenced(seen);
        plan.ops.push(add(&path, after));
        plan
    }

    /// Returns the plan that is only carried out while the intent is the one that was `seen`.
    ///
    /// This test is the fence: of two sidecars that patch at the same time one fails, where both write
    /// theirs. It holds where there are no annotations too: a test for null passes for what is absent.
    #[must_use]
    pub fn fenced(mut self, seen: &IntentSeen) -> Self {
        let (path, before) = match seen {
            IntentSeen::NoAnnotations => (ANNOTATIONS.to_owned(), Value::Null),
            IntentSeen::Absent => (path_of_intent(), Value::Null),
            IntentSeen::Text(text) => (path_of_intent(), json!(text)),
        };
        self.ops.insert(1.min(self.ops.len()), test(&path, before));
        self
    }
}

/// Returns where a group stands.
fn path_of_group(group: &WorkerGroup) -> String {
    format!("/spec/workerGroupSpecs/{}", group.index)
}

/// Returns where the intent stands; `/` is written `~1` in a path.
fn path_of_intent() -> String {
    format!("{ANNOTATIONS}/{}", ANNOTATION_INTENT.replace('/', "~1"))
}

/// Returns the patch that carries out `decision`; `None` when there is nothing to write.
///
/// `accepted` has the pods that may go now. A replica is named only when all of its pods may;
/// otherwise it stays, and is added back to `replicas`, unless another one was only to come in its place.
#[must_use]
pub fn plan(
    snapshot: &ClusterSnapshot,
    decision: &ScaleDecision,
    accepted: &BTreeSet<PodName>,
) -> Option<PatchPlan> {
    plan_with(snapshot, decision, (accepted, &BTreeSet::new()))
}

/// Returns the patch where some replicas are `leaving`: they are off the number and not named yet.
#[must_use]
pub fn plan_with(
    snapshot: &ClusterSnapshot,
    decision: &ScaleDecision,
    (accepted, leaving): (&BTreeSet<PodName>, &BTreeSet<PodName>),
) -> Option<PatchPlan> {
    let mut tests = vec![test(UID, json!(snapshot.uid))];
    let mut writes = Vec::new();
    let mut groups = Vec::new();
    let permit = Permit {
        accepted,
        leaving,
        pods: pods_of(snapshot),
    };
    for decided in decision.groups.iter().filter(|group| group.is_change()) {
        let Some(group) = snapshot.group(&decided.name) else {
            continue;
        };
        let target = Target::of(group, decided, &permit);
        if target.is_change() {
            target.write(&mut tests, &mut writes);
            groups.push(target.change());
        }
    }
    tests.append(&mut writes);
    (!groups.is_empty()).then_some(PatchPlan { ops: tests, groups })
}

/// What may be named.
struct Permit<'a> {
    accepted: &'a BTreeSet<PodName>,
    leaving: &'a BTreeSet<PodName>,
    pods: BTreeMap<&'a PodName, &'a Node>,
}

impl Permit<'_> {
    /// Returns whether all pods of the replica may go, and are workers of this group: the operator
    /// deletes whatever is named, be it another cluster's.
    fn covers(&self, group: &WorkerGroup, removal: &ReplicaRemoval) -> bool {
        let is_worker = |pod| {
            let node = self.pods.get(pod);
            node.is_some_and(|node| node.kind == NodeKind::Worker && node.group == group.name)
        };
        let may_go = |pod| self.accepted.contains(pod) && is_worker(pod);
        !removal.pods.is_empty() && removal.pods.iter().all(may_go)
    }
}

/// Returns the nodes that have a pod.
fn pods_of(snapshot: &ClusterSnapshot) -> BTreeMap<&PodName, &Node> {
    let nodes = snapshot.nodes.iter();
    let with_pod = nodes.filter(|node| node.status != NodeStatus::Lost);
    with_pod.map(|node| (&node.name, node)).collect()
}

/// What one group is to become.
struct Target<'a> {
    group: &'a WorkerGroup,
    replicas: u32,
    list: Vec<PodName>,
}

impl<'a> Target<'a> {
    fn of(group: &'a WorkerGroup, decided: &GroupDecision, permit: &Permit<'_>) -> Self {
        let goes = |removal: &&ReplicaRemoval| permit.covers(group, removal);
        let (going, staying): (Vec<_>, Vec<_>) = decided.remove.iter().partition(goes);
        let leaves = |removal: &&&ReplicaRemoval| {
            let pods = &removal.pods;
            !pods.is_empty() && pods.iter().all(|pod| permit.leaving.contains(pod))
        };
        let staying = || staying.iter().filter(|it| !leaves(it));
        let stuck = staying().filter(|it| it.cause == RemovalCause::Stuck);
        // What was to come in place of one that stays would be one more in each pass.
        let unneeded = count(stuck.count()).min(decided.in_place_of_removed());
        let replicas = decided
            .replicas_to
            .saturating_add(count(staying().count()).saturating_sub(unneeded))
            .min(group.bounds.max.max(decided.replicas_to))
            .min(REPLICAS_MAX);
        // A name that is cleared while its pod is still there is a deletion that never happens.
        let forget: BTreeSet<&PodName> = decided
            .forget
            .iter()
            .filter(|pod| !permit.pods.contains_key(pod))
            .collect();
        let mut list = group.workers_to_delete.clone();
        list.retain(|pod| !forget.contains(pod));
        let mut listed: BTreeSet<PodName> = list.iter().cloned().collect();
        for pod in going.iter().flat_map(|removal| &removal.pods) {
            if listed.insert(pod.clone()) {
                list.push(pod.clone());
            }
        }
        Self {
            group,
            replicas,
            list,
        }
    }

    fn is_change(&self) -> bool {
        self.replicas != self.group.replicas || self.list_changes()
    }

    fn list_changes(&self) -> bool {
        self.list != self.group.workers_to_delete
    }

    fn change(&self) -> GroupChange {
        let only_in = |some: &[PodName], other: &[PodName]| {
            let other: BTreeSet<&PodName> = other.iter().collect();
            let missing = some.iter().filter(|pod| !other.contains(pod));
            missing.cloned().collect()
        };
        let before = &self.group.workers_to_delete;
        GroupChange {
            name: self.group.name.clone(),
            replicas_from: self.group.replicas,
            replicas_to: self.replicas,
            named: only_in(&self.list, before),
            forgotten: only_in(before, &self.list),
        }
    }

    fn write(&self, tests: &mut Vec<Value>, writes: &mut Vec<Value>) {
        let group = self.group;
        let base = path_of_group(group);
        tests.push(test(
            &format!("{base}/groupName"),
            json!(group.name.as_str()),
        ));
        if self.replicas != group.replicas {
            if group.has_replicas {
                tests.push(test(&format!("{base}/replicas"), json!(group.replicas)));
            }
            writes.push(add(&format!("{base}/replicas"), json!(self.replicas)));
        }
        if !self.list_changes() {
            return;
        }
        let strategy = format!("{base}/scaleStrategy");
        if !group.has_scale_strategy {
            // A test for null passes where the member is absent.
            tests.push(test(&strategy, Value::Null));
            writes.push(add(
                &strategy,
                json!({"workersToDelete": names(&self.list)}),
            ));
            return;
        }
        let path = format!("{strategy}/workersToDelete");
        let before = if group.has_workers_to_delete {
            json!(names(&group.workers_to_delete))
        } else {
            Value::Null
        };
        tests.push(test(&path, before));
        writes.push(add(&path, json!(names(&self.list))));
    }
}

fn count(replicas: usize) -> u32 {
    u32::try_from(replicas).unwrap_or(u32::MAX)
}

fn test(path: &str, value: Value) -> Value {
    json!({"op": "test", "path": path, "value": value})
}

/// `add` sets a member whether it is there or not; `replace` of an absent one is an error elsewhere.
fn add(path: &str, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}

fn names(pods: &[PodName]) -> Vec<&str> {
    pods.iter().map(PodName::as_str).collect()
}

#[cfg(test)]
mod tests;
