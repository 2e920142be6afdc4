//! What the engine remembers between passes; all of it can be lost without harm.
//!
//! Only [`History::absorb`] changes it, and times are recorded when something succeeded, not when
//! it was decided: a patch that failed starts no cool-down.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    ClusterSnapshot, Departure, DepartureKind, Intent, NodeId, NodeKind, NodeStatus, NodeTemplate,
    OperatorWaits, PodName, Problem, ResourceMap, ScaleDecision, Timestamp, WorkerGroupName,
};

/// How long a drained raylet may still be reported as running: the GCS hears of it within a second.
const DRAINED_RUNS_ON_MS: u64 = 10_000;

/// How long a pod may take to start before its group counts as hard to get, as in Ray.
const START_MAX_MS: u64 = 3_600_000;

/// Says what happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<'a> {
    /// A snapshot was made.
    Observed(&'a ClusterSnapshot),
    /// A raylet accepted its drain.
    DrainAccepted(&'a PodName),
    /// A raylet refused, or did not answer.
    DrainRefused(&'a PodName),
    /// The RayCluster was patched: the group now has that many replicas.
    Scaled {
        /// The group.
        group: &'a WorkerGroupName,
        /// Replicas before.
        from: u32,
        /// Replicas after.
        to: u32,
    },
    /// A decision was made.
    Decided(&'a ScaleDecision),
    /// An earlier sidecar left word of what it knew.
    Restored(&'a Intent),
    /// Ray is being told that a node is gone or going.
    Told(&'a Departure),
    /// The GCS is a different cluster now: nothing known about its nodes holds.
    GcsReplaced,
}

/// Holds what a registered node of a group really had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learnt {
    /// The template this corrects; when the RayCluster's changes, the correction is void.
    pub derived: NodeTemplate,
    /// Registered totals, without what belongs to one node (`node:<ip>`) or one placement group.
    pub resources: ResourceMap,
}

/// Holds replicas that were asked for and are not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What `replicas` was set to.
    pub replicas: u32,
    /// When.
    pub at: Timestamp,
}

/// Holds what the engine remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// When the raylet in a pod accepted its drain.
    pub drained_at: BTreeMap<PodName, Timestamp>,
    /// When the raylet in a pod last refused its drain.
    pub drain_refused_at: BTreeMap<PodName, Timestamp>,
    /// Since when a pod has had no raylet although one had registered.
    pub stopped_since: BTreeMap<PodName, Timestamp>,
    /// Since when a name without a pod has stood in `workersToDelete`.
    pub listed_without_pod_since: BTreeMap<PodName, Timestamp>,
    /// Names that stood in `workersToDelete` while their pod was there: once it is gone, the
    /// operator has acted and the name may go at once.
    #[serde(default)]
    pub named_seen: BTreeSet<PodName>,
    /// What was asked for and is not there yet.
    #[serde(default)]
    pub asked: BTreeMap<WorkerGroupName, Asked>,
    /// When a group was last scaled up.
    pub scaled_up_at: BTreeMap<WorkerGroupName, Timestamp>,
    /// When a group was last scaled down.
    pub scaled_down_at: BTreeMap<WorkerGroupName, Timestamp>,
    /// What nodes of a group really had.
    pub learnt: BTreeMap<WorkerGroupName, Learnt>,
    /// When a pod of a group was last found to have started for too long.
    #[serde(default)]
    pub start_failed_at: BTreeMap<WorkerGroupName, Timestamp>,
    /// Since when at least one, two, ... starting replicas of a group have had nothing to serve.
    #[serde(default)]
    pub unneeded_since: BTreeMap<WorkerGroupName, Vec<Timestamp>>,
    /// What the operator has been waited for.
    #[serde(default)]
    pub operator: OperatorWaits,
    /// When Ray was last told that a node is gone.
    #[serde(default)]
    pub gone_told_at: BTreeMap<NodeId, Timestamp>,
    /// When Ray was last told that a node is about to go.
    #[serde(default)]
    pub leaving_told_at: BTreeMap<NodeId, Timestamp>,
    /// When the GCS was last found to be another cluster.
    pub gcs_replaced_at: Option<Timestamp>,
}

impl History {
    /// Takes in what happened at `at`.
    pub fn absorb(&mut self, input: &Input<'_>, at: Timestamp) {
        match input {
            Input::Observed(snapshot) => self.observe(snapshot, at),
            Input::DrainAccepted(pod) => {
                self.drained_at.insert((*pod).clone(), at);
                self.drain_refused_at.remove(*pod);
            }
            Input::DrainRefused(pod) => {
                self.drain_refused_at.insert((*pod).clone(), at);
            }
            Input::Scaled { group, from, to } => {
                let asked = Asked { replicas: *to, at };
                if to > from {
                    self.asked.insert((*group).clone(), asked);
                } else {
                    self.asked.remove(*group);
                }
                let map = if to > from {
                    &mut self.scaled_up_at
                } else {
                    &mut self.scaled_down_at
                };
                if to != from {
                    map.insert((*group).clone(), at);
                }
            }
            Input::Decided(decision) => {
                self.unneeded_since.clone_from(&decision.unneeded_since);
            }
            Input::Restored(intent) => intent.restore_to(self, at),
            Input::Told(departure) => {
                let told_at = match departure.kind {
                    DepartureKind::Gone => &mut self.gone_told_at,
                    DepartureKind::Leaving { .. } => &mut self.leaving_told_at,
                };
                told_at.insert(departure.node_id, at);
            }
            Input::GcsReplaced => {
                *self = Self {
                    gcs_replaced_at: Some(at),
                    learnt: std::mem::take(&mut self.learnt),
                    // Pods are made and counted whatever becomes of the GCS.
                    asked: std::mem::take(&mut self.asked),
                    ..Self::default()
                };
            }
        }
    }

    /// Returns what a new node of a group will offer: what its nodes really had, else what was derived.
    #[must_use]
    pub fn template(&self, group: &WorkerGroupName, derived: &NodeTemplate) -> NodeTemplate {
        match self
            .learnt
            .get(group)
            .filter(|learnt| learnt.derived == *derived)
        {
            Some(learnt) => NodeTemplate {
                resources: learnt.resources.clone(),
                ..derived.clone()
            },
            None => derived.clone(),
        }
    }

    /// Returns when Ray was last told of this.
    #[must_use]
    pub fn told_at(&self, departure: &Departure) -> Option<Timestamp> {
        let told_at = match departure.kind {
            DepartureKind::Gone => &self.gone_told_at,
            DepartureKind::Leaving { .. } => &self.leaving_told_at,
        };
        told_at.get(&departure.node_id).copied()
    }

    /// Returns where nodes differ from what the RayCluster promises; what they have is used.
    #[must_use]
    pub fn differences(&self) -> Vec<Problem> {
        let differing = self.learnt.iter().flat_map(|(group, learnt)| {
            let promised = learnt.derived.resources.iter();
            let differing = promised.filter(|(name, amount)| learnt.resources.get(name.as_str()) != *amount);
            differing.map(move |(name, amount)| Problem {
                code: "nodes_differ".to_owned(),
                detail: format!(
                    "group {group}: its nodes have {name} {}, its spec promises {amount}; going by the nodes",
                    learnt.resources.get(name.as_str()),
                ),
            })
        });
        differing.collect()
    }

    fn observe(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        let pods: BTreeMap<&PodName, NodeStatus> = snapshot
            .nodes
            .iter()
            .filter(|node| node.status != NodeStatus::Lost)
            .map(|node| (&node.name, node.status))
            .collect();
        for memory in [&mut self.drained_at, &mut self.drain_refused_at] {
            memory.retain(|pod, _| pods.contains_key(pod));
        }
        // A raylet that accepted its drain is gone or draining within a second or two; one that still
        // runs long after is another one, in a container that was restarted in place.
        self.drained_at.retain(|pod, drained_at| {
            let is_running = pods.get(pod) == Some(&NodeStatus::Running);
            !(is_running && at.millis_since(*drained_at) > DRAINED_RUNS_ON_MS)
        });
        self.stopped_since
            .retain(|pod, _| pods.get(pod) == Some(&NodeStatus::Stopped));
        for (pod, _) in pods
            .iter()
            .filter(|(_, status)| **status == NodeStatus::Stopped)
        {
            self.stopped_since.entry((*pod).clone()).or_insert(at);
        }
        let listed = snapshot
            .groups
            .iter()
            .flat_map(|group| &group.workers_to_delete);
        let (present, absent): (BTreeSet<&PodName>, BTreeSet<&PodName>) =
            listed.partition(|pod| pods.contains_key(pod));
        self.named_seen
            .retain(|pod| present.contains(pod) || absent.contains(pod));
        self.named_seen.extend(present.into_iter().cloned());
        self.listed_without_pod_since
            .retain(|pod, _| absent.contains(&pod));
        for pod in absent {
            self.listed_without_pod_since
                .entry(pod.clone())
                .or_insert(at);
        }
        self.operator.observe(snapshot, &self.named_seen, at);
        let departing: BTreeSet<NodeId> = snapshot.departures.iter().map(|it| it.node_id).collect();
        self.gone_told_at.retain(|id, _| departing.contains(id));
        self.leaving_told_at.retain(|id, _| departing.contains(id));
        self.asked.retain(|name, asked| {
            let still = snapshot.group(name).map(|group| group.replicas);
            let live = || {
                let replicas = snapshot.replicas_of(name);
                replicas.iter().filter(|replica| replica.is_live()).count()
            };
            // Somebody has lowered it since, or it is there.
            still.is_some_and(|replicas| replicas >= asked.replicas)
                && u32::try_from(live()).unwrap_or(u32::MAX) < asked.replicas
        });
        self.learn(snapshot);
        self.observe_starts(snapshot, at);
        let is_known = |name: &WorkerGroupName| snapshot.group(name).is_some();
        self.scaled_up_at.retain(|name, _| is_known(name));
        self.scaled_down_at.retain(|name, _| is_known(name));
        self.learnt.retain(|name, _| is_known(name));
        self.start_failed_at.retain(|name, _| is_known(name));
    }

    /// Marks groups whose pods do not come, and takes the mark off when a later one runs.
    fn observe_starts(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        for node in snapshot
            .nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Worker)
        {
            let Some(created_at) = node.created_at else {
                continue;
            };
            match node.status {
                NodeStatus::Starting if at.millis_since(created_at) > START_MAX_MS => {
                    self.start_failed_at.entry(node.group.clone()).or_insert(at);
                }
                NodeStatus::Running => {
                    let failed = self.start_failed_at.get(&node.group);
                    if failed.is_some_and(|failed| created_at > failed.minus_ms(START_MAX_MS)) {
                        self.start_failed_at.remove(&node.group);
                    }
                }
                _ => {}
            }
        }
    }

    fn learn(&mut self, snapshot: &ClusterSnapshot) {
        for group in &snapshot.groups {
            if self
                .learnt
                .get(&group.name)
                .is_some_and(|learnt| learnt.derived == group.template)
            {
                continue;
            }
            let registered = snapshot.nodes.iter().find(|node| {
                node.kind == NodeKind::Worker
                    && node.group == group.name
                    && node.status == NodeStatus::Running
                    // A raylet that could not be read teaches nothing.
                    && !node.total.is_empty()
            });
            if let Some(node) = registered {
                let resources = node
                    .total
                    .iter()
                    .filter(|(name, _)| belongs_to_the_group(name.as_str()));
                let resources = resources
                    .map(|(name, amount)| (name.clone(), amount))
                    .collect();
                let derived = group.template.clone();
                self.learnt
                    .insert(group.name.clone(), Learnt { derived, resources });
            }
        }
    }
}

/// Returns whether every node of a group has this resource, not only the node that registered it.
fn belongs_to_the_group(name: &str) -> bool {
    let is_of_a_placement_group = name.contains("_group_");
    let is_of_host_zero = name.starts_with("TPU-") && name.ends_with("-head");
    !(name.starts_with("node:") || is_of_a_placement_group || is_of_host_zero)
}

#[cfg(test)]
mod tests {
    use super::{History, Input, Learnt};
    use crate::model::{
        ClusterSnapshot, Labels, Node, NodeKind, NodeStatus, NodeTemplate, Quantity, ReplicaBounds,
        ResourceMap, ResourceName, Timestamp, WorkerGroup,
    };

    fn node() -> Node {
        Node {
            raylet_address: None,
            name: "w1".into(),
            node_id: None,
            kind: NodeKind::Worker,
            group: "cpu".into(),
            replica: "w1".into(),
            host_index: 0,
            status: NodeStatus::Deleting,
            total: ResourceMap::new(),
            available: ResourceMap::new(),
            labels: Labels::new(),
            idle_since: None,
            created_at: None,
            waiting_reason: String::new(),
        }
    }

    fn group() -> WorkerGroup {
        WorkerGroup {
            name: "cpu".into(),
            index: 0,
            replicas: 0,
            bounds: ReplicaBounds { min: 0, max: 1 },
            num_of_hosts: 1,
            priority: 0,
            idle_timeout_ms: None,
            template: NodeTemplate::default(),
            workers_to_delete: vec!["w1".into(), "strange".into()],
            has_scale_strategy: true,
            has_workers_to_delete: true,
        }
    }

    #[test]
    fn names_whose_pods_were_seen_are_told_from_strange_ones() {
        let mut history = History::default();
        let mut snapshot = ClusterSnapshot {
            groups: vec![group()],
            nodes: vec![node()],
            ..ClusterSnapshot::default()
        };
        history.absorb(&Input::Observed(&snapshot), Timestamp::from_ms(1));
        snapshot.nodes.clear();
        history.absorb(&Input::Observed(&snapshot), Timestamp::from_ms(2));
        assert!(history.named_seen.iter().eq(["w1".into()].iter()));
        let since = history.listed_without_pod_since.get(&"strange".into());
        assert_eq!(since, Some(&Timestamp::from_ms(1)));
        if let Some(group) = snapshot.groups.first_mut() {
            group.workers_to_delete.clear();
        }
        history.absorb(&Input::Observed(&snapshot), Timestamp::from_ms(3));
        assert!(history.named_seen.is_empty());
    }

    #[test]
    fn a_node_that_differs_from_its_spec_is_told_and_believed() {
        let of = |cpus| -> ResourceMap {
            [(ResourceName::from("CPU"), Quantity::from_whole(cpus))]
                .into_iter()
                .collect()
        };
        let derived = NodeTemplate {
            resources: of(4),
            ..NodeTemplate::default()
        };
        let mut history = History::default();
        assert!(history.differences().is_empty());
        let learnt = Learnt {
            derived: derived.clone(),
            resources: of(2),
        };
        history.learnt.insert("small".into(), learnt);
        assert_eq!(history.template(&"small".into(), &derived).resources, of(2));
        let told = history.differences();
        assert_eq!(
            told[0].detail,
            "group small: its nodes have CPU 2, its spec promises 4; going by the nodes"
        );
    }

    #[test]
    fn a_raylet_that_runs_long_after_its_drain_is_another_one() {
        let mut running = node();
        running.status = NodeStatus::Running;
        let snapshot = ClusterSnapshot {
            nodes: vec![running],
            ..ClusterSnapshot::default()
        };
        let mut history = History::default();
        let at = Timestamp::from_ms;
        history.absorb(&Input::DrainAccepted(&"w1".into()), at(0));
        history.absorb(&Input::Observed(&snapshot), at(2_000));
        assert!(history.drained_at.contains_key(&"w1".into()));
        history.absorb(&Input::Observed(&snapshot), at(10_001));
        assert!(history.drained_at.is_empty());
    }
}
