//! Everything one decision may look at.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    ClusterConstraint, Departure, FailedStart, GangRequest, IdleTermination, Node, NodeKind,
    NodeStatus, Orders, PodName, ReplicaName, Resizing, ResourceDemand, SkippedGroup, Timestamp,
    WorkerGroup, WorkerGroupName, Writing,
};

/// Says how fast groups may grow.
///
/// Source: `autoscalerOptions.upscalingMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpscalingMode {
    /// As fast as demand asks (`Default`, `Aggressive`, absent).
    #[default]
    Unlimited,
    /// Starting nodes of a group at most as many as run, at least one replica.
    Conservative,
}

/// Holds when each source was last known to be right.
///
/// Shape: `None` when it has never been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Completeness {
    /// Last good reply of the GCS, by our own clock.
    pub gcs_at: Option<Timestamp>,
    /// Last moment at which the pod watch was in step.
    pub pods_at: Option<Timestamp>,
    /// Last good read of the RayCluster.
    pub raycluster_at: Option<Timestamp>,
}

impl Completeness {
    /// Returns whether every source is at most `age_max_ms` old.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp, age_max_ms: u64) -> bool {
        [self.gcs_at, self.pods_at, self.raycluster_at]
            .iter()
            .all(|at| at.is_some_and(|at| now.millis_since(at) <= age_max_ms))
    }

    /// Returns whether every source has been read at least once.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.gcs_at.is_some() && self.pods_at.is_some() && self.raycluster_at.is_some()
    }
}

/// Holds something in the input that could not be used, and what was done instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// A stable word.
    pub code: String,
    /// Path, value, and what would be accepted.
    pub detail: String,
}

/// Holds all facts for one decision.
///
/// Shape: `groups` in the order of the RayCluster (ties go to the earlier); `nodes` sorted by
/// (group, replica, host, name), head and lost nodes included; `demands` and `gangs` sorted, without
/// zero counts and without shapes inside a placement group.
/// Source: the GCS's `ClusterResourceState`, the raylets' own load, the pods, the RayCluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClusterSnapshot {
    /// `metadata.uid` of the RayCluster; every patch is guarded by it.
    pub uid: String,
    /// Version of the GCS state this was made from; counts calls, not changes.
    pub state_version: i64,
    /// Groups that can be scaled.
    pub groups: Vec<WorkerGroup>,
    /// Groups that cannot.
    pub skipped: Vec<SkippedGroup>,
    /// Nodes and pods.
    pub nodes: Vec<Node>,
    /// Pending tasks and actors.
    pub demands: Vec<ResourceDemand>,
    /// Pending placement groups.
    pub gangs: Vec<GangRequest>,
    /// The lower bound of `request_resources`.
    pub constraint: Option<ClusterConstraint>,
    /// `autoscalerOptions.idleTimeoutSeconds`; `None` when the RayCluster does not say.
    ///
    /// Units: milliseconds.
    pub idle_timeout_ms: Option<u64>,
    /// How fast groups may grow.
    pub upscaling_mode: UpscalingMode,
    /// Whether `spec.suspend` is set: nothing is scaled.
    pub is_suspended: bool,
    /// Whether the RayCluster has a deletion timestamp: nothing is scaled.
    pub is_deleting: bool,
    /// Why writing is paused by the RayCluster's annotation; `None` when it is not.
    pub paused: Option<String>,
    /// Why the operator could not make pods, while it cannot; `None` when it can.
    ///
    /// Source: the message of the condition `ReplicaFailure`.
    #[serde(default)]
    pub replica_failure: Option<String>,
    /// Why the RayCluster cannot be read now though the API server answers: it is gone, or we may
    /// not; `None` when it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Which rules the decision broke that was made of these facts before; then nothing is removed. `None`
    /// where none has been made, or a sound one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distrusted: Option<String>,
    /// Groups that such a decision, made without removals, still got wrong: they are left as they are.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub set_aside: BTreeSet<WorkerGroupName>,
    /// Pods that can be resized in place.
    #[serde(default)]
    pub resizing: Resizing,
    /// What becomes of the cluster when nobody uses it; `None` when nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination: Option<IdleTermination>,
    /// Nodes whose pods are gone or going, which Ray does not know, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departures: Vec<Departure>,
    /// Workers whose Ray container is given something else than the template of their group gives now, or whose raylet
    /// has registered something else than their group says.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub outdated: BTreeSet<PodName>,
    /// Pods that are being deleted and that the operator deletes of its own accord, with their group: it is locked
    /// until they are gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taken_down: BTreeMap<PodName, WorkerGroupName>,
    /// Pods that ended lately before a raylet of theirs had registered, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_starts: Vec<FailedStart>,
    /// Who may write.
    #[serde(default)]
    pub writing: Writing,
    /// What users ask for single pods.
    #[serde(default, skip_serializing_if = "Orders::is_empty")]
    pub orders: Orders,
    /// Age of each source.
    pub completeness: Completeness,
    /// Input that could not be used.
    pub problems: Vec<Problem>,
}

/// Groups the nodes of one replica.
#[derive(Debug, Clone)]
pub struct Replica<'a> {
    /// Its name.
    pub name: &'a ReplicaName,
    /// Its pods, by host.
    pub hosts: Vec<&'a Node>,
}

impl Replica<'_> {
    /// Returns whether the operator counts this replica and nobody has asked for its deletion.
    ///
    /// One host that is going takes the whole replica with it.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.hosts.is_empty() && self.hosts.iter().all(|host| host.status.is_live())
    }
}

impl ClusterSnapshot {
    /// Returns the group of this name.
    #[must_use]
    pub fn group(&self, name: &WorkerGroupName) -> Option<&WorkerGroup> {
        self.groups.iter().find(|group| group.name == *name)
    }

    /// Returns whether the head's raylet is alive; until then nothing is scaled.
    #[must_use]
    pub fn is_head_running(&self) -> bool {
        self.nodes
            .iter()
            .any(|node| node.kind == NodeKind::Head && node.status == NodeStatus::Running)
    }

    /// Returns the replicas of a group that have at least one pod, in the order of their names.
    #[must_use]
    pub fn replicas_of(&self, group: &WorkerGroupName) -> Vec<Replica<'_>> {
        let mut replicas: Vec<Replica<'_>> = Vec::new();
        let hosts = self.nodes.iter().filter(|node| {
            node.kind == NodeKind::Worker && node.group == *group && node.status != NodeStatus::Lost
        });
        for host in hosts {
            match replicas
                .last_mut()
                .filter(|replica| *replica.name == host.replica)
            {
                Some(replica) => replica.hosts.push(host),
                None => replicas.push(Replica {
                    name: &host.replica,
                    hosts: vec![host],
                }),
            }
        }
        replicas
    }

    /// Puts nodes, demands and gangs into their order; whoever builds a snapshot calls this last.
    pub fn sort(&mut self) {
        self.nodes.sort_by(|a, b| {
            (
                a.kind,
                &a.group,
                &a.replica,
                a.host_index,
                &a.name,
                a.node_id,
            )
                .cmp(&(
                    b.kind,
                    &b.group,
                    &b.replica,
                    b.host_index,
                    &b.name,
                    b.node_id,
                ))
        });
        self.demands.sort();
        self.gangs.sort();
        self.skipped.sort_by_key(|group| group.index);
        self.problems.sort();
        self.problems.dedup();
    }
}
