//! Pods and raylets, one node each.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ray_state::{RayNode, RayNodeStatus};
use super::{JoinInput, replicas};
use crate::model::{
    Labels, Node, NodeKind, NodeStatus, PodName, Problem, ReplicaName, ResourceMap, Timestamp,
    WorkerGroupName,
};
use crate::wire::pod::{ContainerState, PodFacts};
use crate::wire::raycluster::RayCluster;

/// Returns the nodes of a snapshot.
pub(super) fn join_nodes(input: &JoinInput<'_>, problems: &mut Vec<Problem>) -> Vec<Node> {
    let raylets = Raylets::by_instance(&input.ray.nodes);
    let pods = own_pods(input);
    let listed = Listed::of(input.raycluster, &pods);
    let hosts = replicas::HostCounts::of(input.raycluster);
    let mut nodes = Vec::with_capacity(pods.len());
    let mut names = BTreeSet::new();
    let none = Raylets::default();
    for pod in pods {
        if pod.group.is_empty() && pod.node_type == "worker" {
            problems.push(problem(
                "pod_without_group",
                &pod.name,
                "a label ray.io/group",
            ));
            continue;
        }
        let seen = raylets.get(pod.name.as_str()).unwrap_or(&none);
        report(pod, seen, problems);
        names.insert(pod.name.as_str());
        nodes.push(node_of_pod(
            pod,
            seen,
            status(pod, seen, listed.has(pod)),
            input,
        ));
    }
    let labelled: BTreeSet<&str> = input
        .pods
        .iter()
        .filter(|pod| pod.replica_name.is_some())
        .map(|pod| pod.name.as_str())
        .collect();
    replicas::group_unlabelled(&mut nodes, &hosts, &labelled, problems);
    replicas::report_shared_indices(input, problems);
    let lost = input.ray.nodes.iter().filter(|node| node.status.is_alive());
    let lost = lost.filter(|node| !names.contains(node.instance_id.as_str()));
    nodes.extend(lost.map(lost_node));
    nodes
}

/// Returns the pods of this cluster's head and workers.
pub(super) fn own_pods<'a>(input: &JoinInput<'a>) -> Vec<&'a PodFacts> {
    let cluster = input.raycluster.metadata.name.as_str();
    let is_ours = |pod: &&PodFacts| {
        let is_node = matches!(pod.node_type.as_str(), "head" | "worker");
        is_node && (pod.cluster.is_empty() || pod.cluster == cluster)
    };
    input.pods.iter().copied().filter(is_ours).collect()
}

/// Holds the raylets that have called themselves by one pod's name.
#[derive(Debug, Default)]
struct Raylets<'a> {
    /// The one that is alive, or whose status we do not know.
    current: Option<&'a RayNode>,
    /// How many are alive: one, but for raylets whose death the GCS has not noticed.
    alive_count: usize,
    /// How many have died.
    dead_count: usize,
}

impl<'a> Raylets<'a> {
    fn by_instance(nodes: &'a [RayNode]) -> BTreeMap<&'a str, Self> {
        let mut all: BTreeMap<&str, Self> = BTreeMap::new();
        for node in nodes.iter().filter(|node| !node.instance_id.is_empty()) {
            let raylets = all.entry(node.instance_id.as_str()).or_default();
            match node.status {
                RayNodeStatus::Dead => raylets.dead_count += 1,
                _ => {
                    raylets.alive_count += usize::from(node.status.is_alive());
                    raylets.current = raylets.current.into_iter().chain([node]).min_by_key(rank);
                }
            }
        }
        all
    }
}

/// Orders raylets of one pod: a raylet that is gone without a word looks idle ever longer.
fn rank(node: &&RayNode) -> (bool, u64, crate::model::NodeId) {
    (!node.status.is_alive(), node.idle_ms, node.node_id)
}

/// Holds the pods that `workersToDelete` dooms, in any group.
#[derive(Debug, Default)]
struct Listed<'a> {
    /// Names in lists of single-host groups: the operator deletes any pod of that name.
    anywhere: BTreeSet<&'a str>,
    /// Names in lists of multi-host groups: the operator looks at that group only.
    in_group: BTreeSet<(&'a str, &'a str)>,
    /// Replicas of which one host is named: the operator deletes them whole.
    replicas: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Listed<'a> {
    fn of(raycluster: &'a RayCluster, pods: &[&'a PodFacts]) -> Self {
        let mut listed = Self::default();
        for group in raycluster.spec.worker_groups.iter().flatten() {
            let name = group.group_name.as_str();
            for pod in group.workers_to_delete.iter().flatten() {
                if group.num_of_hosts > 1 {
                    listed.in_group.insert((name, pod.as_str()));
                } else {
                    listed.anywhere.insert(pod.as_str());
                }
            }
        }
        for pod in pods {
            let replica = pod.replica_name.as_deref();
            if let Some(replica) =
                replica.filter(|_| listed.in_group.contains(&(&pod.group, &pod.name)))
            {
                listed.replicas.insert((&pod.group, replica));
            }
        }
        listed
    }

    fn has(&self, pod: &PodFacts) -> bool {
        let group = pod.group.as_str();
        let replica = pod.replica_name.as_deref().unwrap_or_default();
        self.anywhere.contains(pod.name.as_str())
            || self.in_group.contains(&(group, pod.name.as_str()))
            || self.replicas.contains(&(group, replica))
    }
}

/// Returns what can be expected of a pod and its raylet.
fn status(pod: &PodFacts, raylets: &Raylets<'_>, is_listed: bool) -> NodeStatus {
    // The operator deletes what has ended and makes it anew: nobody else has to make up for it.
    if pod.is_terminating() && (is_listed || !pod.has_ended()) {
        return NodeStatus::Terminating;
    }
    if is_listed {
        return NodeStatus::Deleting;
    }
    if pod.has_ended() {
        return NodeStatus::Failed;
    }
    match raylets.current.map(|node| node.status) {
        Some(RayNodeStatus::Draining) => NodeStatus::Draining,
        Some(_) => NodeStatus::Running,
        None if is_stopped(pod, raylets.dead_count) => NodeStatus::Stopped,
        None => NodeStatus::Starting,
    }
}

/// Returns whether the raylet of a running container is gone for good.
///
/// A container registers one raylet each time it starts. As many dead ones as starts means that
/// the last one is among them; fewer mean that the container was restarted in place and its new
/// raylet is on its way.
fn is_stopped(pod: &PodFacts, dead_count: usize) -> bool {
    let container = pod
        .ray_container
        .as_ref()
        .filter(|container| matches!(container.state, ContainerState::Running { .. }));
    let starts = container.map(|container| u64::from(container.restart_count) + 1);
    starts.is_some_and(|starts| u64::try_from(dead_count).unwrap_or(u64::MAX) >= starts)
}

fn node_of_pod(
    pod: &PodFacts,
    raylets: &Raylets<'_>,
    status: NodeStatus,
    input: &JoinInput<'_>,
) -> Node {
    let is_head = pod.node_type == "head";
    let raylet = raylets.current;
    let is_known = raylet.is_some_and(|node| node.status != RayNodeStatus::Unknown);
    let idle =
        raylet.filter(|node| status == NodeStatus::Running && node.status == RayNodeStatus::Idle);
    Node {
        name: PodName::from(pod.name.as_str()),
        node_id: raylet.map(|node| node.node_id),
        raylet_address: raylet.and_then(|node| node.raylet_address.clone()),
        kind: if is_head {
            NodeKind::Head
        } else {
            NodeKind::Worker
        },
        group: WorkerGroupName::from(if is_head {
            WorkerGroupName::HEAD
        } else {
            &pod.group
        }),
        replica: ReplicaName::from(pod.replica_name.as_deref().unwrap_or(&pod.name)),
        host_index: pod.host_index.unwrap_or(0),
        status,
        total: raylet.map_or_else(ResourceMap::new, |node| node.total.clone()),
        // Nothing is known to be free on a node whose status means nothing to us.
        available: raylet
            .filter(|_| is_known)
            .map_or_else(ResourceMap::new, |node| node.available.clone()),
        labels: raylet.map_or_else(Labels::new, |node| node.labels.clone()),
        idle_since: idle.map(|node| input.ray.received_at.minus_ms(node.idle_ms)),
        created_at: Some(Timestamp::from_ms(pod.created_at_ms.unwrap_or(0))),
        waiting_reason: match status {
            NodeStatus::Starting | NodeStatus::Failed => waiting_reason(pod),
            _ => String::new(),
        },
        pod_ip: match status {
            NodeStatus::Starting | NodeStatus::Stopped => pod.pod_ip.clone(),
            _ => String::new(),
        },
    }
}

/// So many starts without a raylet that stays are a crash loop, also while the container just runs.
const CRASHES: u32 = 5;

/// Returns why a pod does not run, the earliest obstacle first.
fn waiting_reason(pod: &PodFacts) -> String {
    let container = pod.ray_container.as_ref().map(|container| &container.state);
    let of_container = match container {
        Some(ContainerState::Waiting { reason } | ContainerState::Terminated { reason, .. }) => {
            reason
        }
        _ => "",
    };
    let restarts = pod.ray_container.as_ref().map_or(0, |it| it.restart_count);
    let crashing = if restarts >= CRASHES && of_container.is_empty() {
        "CrashLoopBackOff"
    } else {
        ""
    };
    let gated = if pod.scheduling_gates.is_empty() {
        ""
    } else {
        "SchedulingGated"
    };
    let reasons = [
        &pod.reason,
        pod.unscheduled_reason.as_str(),
        gated,
        &pod.init_waiting_reason,
        of_container,
        crashing,
    ];
    reasons
        .into_iter()
        .find(|reason| !reason.is_empty())
        .unwrap_or_default()
        .to_owned()
}

/// Returns the node of a raylet without a pod.
///
/// A raylet that KubeRay did not start has no instance id; its address names it.
fn lost_node(node: &RayNode) -> Node {
    let is_head = node.is_head || node.group == WorkerGroupName::HEAD;
    let name = if node.instance_id.is_empty() {
        &node.ip_address
    } else {
        &node.instance_id
    };
    Node {
        name: PodName::from(name.as_str()),
        node_id: Some(node.node_id),
        raylet_address: node.raylet_address.clone(),
        kind: if is_head {
            NodeKind::Head
        } else {
            NodeKind::Worker
        },
        group: WorkerGroupName::from(if is_head {
            WorkerGroupName::HEAD
        } else {
            &node.group
        }),
        replica: ReplicaName::from(name.as_str()),
        host_index: 0,
        status: NodeStatus::Lost,
        total: node.total.clone(),
        available: node.available.clone(),
        labels: node.labels.clone(),
        idle_since: None,
        created_at: None,
        waiting_reason: String::new(),
        pod_ip: String::new(),
    }
}

fn report(pod: &PodFacts, raylets: &Raylets<'_>, problems: &mut Vec<Problem>) {
    if raylets.alive_count > 1 {
        problems.push(problem(
            "two_raylets",
            &pod.name,
            "one raylet alive; the one idle for the shortest time is taken",
        ));
    }
    let is_unknown = |node: &RayNode| node.status == RayNodeStatus::Unknown;
    if raylets.current.is_some_and(is_unknown) {
        problems.push(problem(
            "unknown_node_status",
            &pod.name,
            "a node status of Ray 2.60 or before; it is neither used nor removed",
        ));
    }
}

fn problem(code: &str, pod: &str, accepted: &str) -> Problem {
    Problem {
        code: code.to_owned(),
        detail: format!("pod `{pod}`; accepted: {accepted}"),
    }
}
