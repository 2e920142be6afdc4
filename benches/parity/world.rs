//! A case as a snapshot, and the engine that decides it.
//!
//! Rows of Ray's instance table become nodes: `QUEUED` and `REQUESTED` are replicas that were asked
//! for, `ALLOCATED` and `RAY_INSTALLING` are starting pods (the younger the less advanced),
//! `RAY_STOP_REQUESTED` is a running node that accepted its drain. Rows that Ray's scheduler does
//! not look at are left out.

use std::collections::{BTreeMap, BTreeSet};

use rayscaler::engine::{Engine, Profile};
use rayscaler::model::{
    ClusterSnapshot, Completeness, History, Labels, Node, NodeId, NodeKind, NodeStatus,
    NodeTemplate, PodName, PodResize, PodSize, Quantity, ReplicaBounds, ReplicaName, ResizeState,
    Resizing, ResourceMap, ResourceName, Timestamp, WorkerGroup, WorkerGroupName,
};
use rayscaler::observe::convert::{lenient_amounts, ray_state};
use rayscaler::policy::Registry;
use rayscaler::wire::gcs::ray::rpc::autoscaler as wire;
use serde_json::json;

use super::case::{Case, IpprStatus, NodeType, Row, hex};

/// Longer than any idle time: Ray's "no timeout".
const FOR_EVER: &str = "1000000days";

/// Holds a case as a snapshot, with what leads back to the case.
pub(crate) struct World {
    pub(crate) snapshot: ClusterSnapshot,
    /// The rows by the names of their nodes.
    pub(crate) rows: BTreeMap<PodName, Row>,
    /// Position of each demand among the requests of the reply.
    pub(crate) demands: Vec<usize>,
    /// Position of each gang among those of the reply.
    pub(crate) gangs: Vec<usize>,
}

/// Returns the sidecar's engine with the profile `ray` and the limits of a case.
pub(crate) fn engine(case: &Case) -> Engine {
    let config = &case.config;
    let heads = case
        .rows()
        .iter()
        .filter(|row| row.kind == "HEAD" && row.status == "RAY_RUNNING")
        .count();
    let workers_max = config
        .max_num_nodes
        .map(|max| max.saturating_sub(u64::try_from(heads).unwrap()));
    let names = config.cloud_resource_availabilities.keys();
    let names: BTreeSet<&String> = names
        .chain(config.recoverable_resource_availabilities.keys())
        .collect();
    let of = |map: &BTreeMap<String, f64>, name: &str| map.get(name).copied().unwrap_or(1.0);
    let fixed: BTreeMap<&String, serde_json::Value> = names
        .into_iter()
        .map(|name| {
            let recoverable = of(&config.recoverable_resource_availabilities, name);
            let lasting = of(&config.cloud_resource_availabilities, name);
            (
                name,
                json!({"recoverable": recoverable, "lasting": lasting}),
            )
        })
        .collect();
    let pending_idle = config
        .pending_idle_timeout_s
        .map(|seconds| format!("{}ms", ms(seconds)));
    let settings = [
        ("maximum", json!({"nodes_max": workers_max})),
        ("group_availability", json!({"fixed": fixed})),
        (
            "pending_idle",
            json!({"timeout": pending_idle, "ours_only": false}),
        ),
        ("idle", json!({"timeout": FOR_EVER})),
    ];
    let mut chain = Profile::Ray.chain();
    for (name, settings) in settings {
        chain
            .iter_mut()
            .find(|entry| entry.name == name)
            .unwrap()
            .settings = settings;
    }
    Engine::new(&chain, &Registry::default())
        .unwrap()
        .with_profile(Profile::Ray)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a test"
)]
pub(crate) fn ms(seconds: f64) -> u64 {
    (seconds * 1000.0).floor() as u64
}

impl World {
    /// Returns the snapshot of a case; drains that were accepted are remembered.
    pub(crate) fn of(case: &Case, now: Timestamp, history: &mut History) -> Self {
        let states: BTreeMap<String, &wire::NodeState> = case
            .state
            .node_states
            .iter()
            .map(|node| (hex(&node.node_id), node))
            .collect();
        let types = case.config.node_types.iter();
        let types: BTreeMap<&str, &NodeType> = types.map(|of| (of.name.as_str(), of)).collect();
        let mut rows = BTreeMap::new();
        let mut nodes = Vec::new();
        for (at, row) in case.rows().into_iter().enumerate() {
            let state = states.get(&row.node).copied();
            let Some(mut node) = node(&row, state, types.get(row.node_type.as_str()).copied(), now)
            else {
                continue;
            };
            if rows.contains_key(&node.name) {
                node.name = PodName::from(format!("{}#{at}", row.id).as_str());
                node.replica = ReplicaName::from(node.name.as_str());
            }
            if row.status == "RAY_STOP_REQUESTED" {
                history.drained_at.insert(node.name.clone(), now);
            }
            rows.insert(node.name.clone(), row);
            nodes.push(node);
        }
        let (demands, gangs) = (demands(case), gangs(case));
        let constraint = ray_state(&case.state, now).constraint;
        let fresh = Some(now);
        let snapshot = ClusterSnapshot {
            groups: groups(case, &nodes),
            resizing: resizing(case, &rows),
            demands: demands.iter().map(|(_, demand)| demand.clone()).collect(),
            gangs: gangs.iter().map(|(_, gang)| gang.clone()).collect(),
            nodes,
            constraint,
            idle_timeout_ms: case.config.idle_timeout_s.map(ms),
            completeness: Completeness {
                gcs_at: fresh,
                pods_at: fresh,
                raycluster_at: fresh,
            },
            ..ClusterSnapshot::default()
        };
        Self {
            snapshot,
            rows,
            demands: demands.into_iter().map(|(at, _)| at).collect(),
            gangs: gangs.into_iter().map(|(at, _)| at).collect(),
        }
    }
}

fn node(
    row: &Row,
    state: Option<&wire::NodeState>,
    of: Option<&NodeType>,
    now: Timestamp,
) -> Option<Node> {
    let (status, age) = match row.status.as_str() {
        "RAY_RUNNING" => (NodeStatus::Running, 3),
        "RAY_STOP_REQUESTED" => (NodeStatus::Running, 3),
        "QUEUED" => (NodeStatus::Queued, 0),
        "REQUESTED" => (NodeStatus::Requested, 0),
        "ALLOCATED" => (NodeStatus::Starting, 1),
        "RAY_INSTALLING" => (NodeStatus::Starting, 2),
        _ => return None,
    };
    let is_head = row.kind == "HEAD";
    let mut node = Node {
        name: PodName::from(row.id.as_str()),
        node_id: None,
        raylet_address: None,
        kind: if is_head {
            NodeKind::Head
        } else {
            NodeKind::Worker
        },
        group: WorkerGroupName::from(if is_head {
            WorkerGroupName::HEAD
        } else {
            &row.node_type
        }),
        replica: ReplicaName::from(row.id.as_str()),
        host_index: 0,
        status,
        total: ResourceMap::new(),
        available: ResourceMap::new(),
        labels: Labels::new(),
        idle_since: None,
        created_at: Some(now.minus_ms(age)),
        waiting_reason: String::new(),
        pod_ip: String::new(),
    };
    if row.status == "RAY_RUNNING" {
        let state = state?;
        node.node_id = NodeId::from_bytes(&state.node_id);
        node.total = lenient_amounts(&state.total_resources);
        node.available = lenient_amounts(&state.available_resources);
        node.labels.extend(state.labels.clone());
        node.labels.extend(state.dynamic_labels.clone());
        let idle = u64::try_from(state.idle_duration_ms).unwrap_or(0);
        node.idle_since = (idle > 0).then(|| now.minus_ms(idle));
    } else {
        node.total = amounts(&of?.resources);
        node.available = node.total.clone();
    }
    Some(node)
}

fn amounts(of: &BTreeMap<String, f64>) -> ResourceMap {
    of.iter()
        .map(|(name, value)| (ResourceName::from(name.as_str()), quantity(*value)))
        .collect()
}

fn quantity(value: f64) -> Quantity {
    Quantity::from_f64(value).unwrap()
}

fn groups(case: &Case, nodes: &[Node]) -> Vec<WorkerGroup> {
    let workers = case
        .config
        .node_types
        .iter()
        .filter(|of| of.name != case.config.head_node_type);
    let group = |(index, of): (usize, &NodeType)| {
        let name = WorkerGroupName::from(of.name.as_str());
        let live = nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Worker && node.group == name);
        WorkerGroup {
            surge: 0,
            has_replicas: true,
            index,
            replicas: u32::try_from(live.count()).unwrap(),
            bounds: ReplicaBounds {
                min: of.min,
                max: of.max.max(of.min),
            },
            num_of_hosts: 1,
            priority: of.priority,
            idle_timeout_ms: of.idle_timeout_s.map(ms),
            template: NodeTemplate {
                resources: amounts(&of.resources),
                host_zero_resources: ResourceMap::new(),
                labels: of.labels.clone().into(),
            },
            workers_to_delete: Vec::new(),
            has_scale_strategy: false,
            has_workers_to_delete: false,
            name,
        }
    };
    workers.enumerate().map(group).collect()
}

fn resizing(case: &Case, rows: &BTreeMap<PodName, Row>) -> Resizing {
    let Some(ippr) = &case.config.ippr else {
        return Resizing::default();
    };
    let size = |cpu, memory| PodSize {
        cpu: quantity(cpu),
        memory: quantity(memory),
    };
    let groups = ippr.groups.iter();
    let groups = groups.map(|(name, of)| {
        (
            WorkerGroupName::from(name.as_str()),
            size(of.max_cpu, of.max_memory),
        )
    });
    let mut pods = BTreeMap::new();
    for (name, row) in rows {
        let status = ippr
            .statuses
            .iter()
            .find(|status| status.cloud_instance_id == row.cloud_id);
        let (Some(status), Some(limits)) = (status, ippr.groups.get(&row.node_type)) else {
            continue;
        };
        let own = ippr.groups.get(&status.group).unwrap_or(limits);
        let max_cpu = status.suggested_max_cpu.unwrap_or(own.max_cpu);
        let max_memory = status.suggested_max_memory.unwrap_or(own.max_memory);
        let pod = PodResize {
            current: size(status.current_cpu, status.current_memory),
            desired: size(status.desired_cpu, status.desired_memory),
            max: size(max_cpu, max_memory),
            state: resize_state(status),
            basis: None,
        };
        pods.insert(name.clone(), pod);
    }
    Resizing {
        groups: groups.collect(),
        pods,
    }
}

fn resize_state(status: &IpprStatus) -> ResizeState {
    match (status.resizing_at, status.k8s_resize_status.as_deref()) {
        (Some(_), _) => ResizeState::Asked,
        (None, Some("new")) => ResizeState::Decided,
        _ if status.last_failed_at.is_some() => ResizeState::Failed,
        (None, Some(_)) => ResizeState::Unsettled,
        (None, None) => ResizeState::Settled,
    }
}

/// Returns the demands that can be read, each alone, so that its position is known.
fn demands(case: &Case) -> Vec<(usize, rayscaler::model::ResourceDemand)> {
    let requests = case.state.pending_resource_requests.iter().enumerate();
    let read = requests.filter_map(|(at, request)| {
        let alone = wire::ClusterResourceState {
            pending_resource_requests: vec![request.clone()],
            ..Default::default()
        };
        let demands = ray_state(&alone, Timestamp::default()).demands;
        demands.into_iter().next().map(|demand| (at, demand))
    });
    read.collect()
}

fn gangs(case: &Case) -> Vec<(usize, rayscaler::model::GangRequest)> {
    let gangs = case.state.pending_gang_resource_requests.iter().enumerate();
    let read = gangs.filter_map(|(at, gang)| {
        let mut gang = gang.clone();
        if !["PACK", "SPREAD"]
            .iter()
            .any(|strategy| gang.details.contains(strategy))
        {
            // Ray goes by the constraints and not by the text; so does the text that is put here.
            let bundles = gang.requests.iter().chain(
                gang.bundle_selectors
                    .iter()
                    .flat_map(|of| &of.resource_requests),
            );
            let mut constraints = bundles.flat_map(|bundle| &bundle.placement_constraints);
            let is_packed = constraints.any(|constraint| constraint.affinity.is_some());
            gang.details = format!(
                "{at}:{}|PENDING",
                if is_packed { "STRICT_PACK" } else { "PACK" }
            );
        }
        let alone = wire::ClusterResourceState {
            pending_gang_resource_requests: vec![gang],
            ..Default::default()
        };
        let gangs = ray_state(&alone, Timestamp::default()).gangs;
        gangs.into_iter().next().map(|gang| (at, gang))
    });
    read.collect()
}
