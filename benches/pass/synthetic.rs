//! A large cluster as its sources show it: a GCS reply, a RayCluster and pods.

use std::collections::BTreeMap;

use rayscaler::wire::gcs::ray::rpc;
use rayscaler::wire::gcs::ray::rpc::autoscaler as wire;
use rayscaler::wire::pod::PodFacts;
use rayscaler::wire::raycluster::RayCluster;
use serde_json::{Value, json};

/// Worker groups of every cluster; the last has no work and is idle.
const GROUPS: usize = 20;
const GIB: f64 = 1_073_741_824.0;

/// Says how much of everything there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Worker nodes, each with its pod.
    pub(crate) nodes: usize,
    /// Distinct shapes of pending tasks.
    pub(crate) shapes: usize,
    /// Pending tasks of each shape.
    pub(crate) tasks_per_shape: i64,
    /// Pending placement groups of four bundles.
    pub(crate) gangs: usize,
}

/// Returns the name of the group of a node.
fn group(index: usize) -> String {
    format!("workers-{}", index % GROUPS)
}

fn pod_name(index: usize) -> String {
    format!("large-{}-worker-{index:05}", group(index))
}

fn cpus(group_index: usize) -> f64 {
    [8.0, 16.0, 32.0, 64.0][group_index % 4]
}

/// Returns what the GCS answers: of every group a third busy, a third half free, a third empty but for the last group, which is idle.
pub(crate) fn reply(size: Size) -> wire::GetClusterResourceStateReply {
    let nodes = (0..size.nodes).map(node);
    let tasks = (0..size.shapes).map(|shape| wire::ResourceRequestByCount {
        request: Some(wire::ResourceRequest {
            resources_bundle: amounts(&[
                ("CPU", 1.0 + to_f64(shape % 16)),
                ("memory", to_f64(shape + 1) * GIB / 8.0),
            ]),
            label_selectors: vec![rpc::LabelSelector::default()],
            ..Default::default()
        }),
        count: size.tasks_per_shape,
    });
    let state = wire::ClusterResourceState {
        cluster_resource_state_version: 1,
        cluster_session_name: "session".to_owned(),
        node_states: std::iter::once(head()).chain(nodes).collect(),
        pending_resource_requests: tasks.collect(),
        pending_gang_resource_requests: (0..size.gangs).map(gang).collect(),
        ..Default::default()
    };
    wire::GetClusterResourceStateReply {
        cluster_resource_state: Some(state),
    }
}

fn head() -> wire::NodeState {
    let total_resources = amounts(&[
        ("memory", 8.0 * GIB),
        ("node:__internal_head__", 1.0),
        ("node:10.9.0.1", 1.0),
    ]);
    wire::NodeState {
        node_id: vec![0xff; 28],
        instance_id: "large-head".to_owned(),
        ray_node_type_name: "headgroup".to_owned(),
        available_resources: total_resources.clone(),
        total_resources,
        status: wire::NodeStatus::Running.into(),
        ..Default::default()
    }
}

fn node(index: usize) -> wire::NodeState {
    let cpu = cpus(index % GROUPS);
    let ip = format!(
        "10.{}.{}.{}",
        index / 62_500,
        index / 250 % 250,
        index % 250
    );
    let own = format!("node:{ip}");
    let mut node_id = vec![7; 28];
    node_id[..8].copy_from_slice(&u64::try_from(index).unwrap().to_be_bytes());
    let total = [
        ("CPU", cpu),
        ("memory", cpu * 4.0 * GIB),
        ("object_store_memory", cpu * GIB),
        (own.as_str(), 1.0),
    ];
    let is_idle = index % GROUPS == GROUPS - 1;
    let free = if is_idle {
        1.0
    } else {
        [0.0, 0.5, 1.0][index / GROUPS % 3]
    };
    let mut available = amounts(&total);
    available.insert("CPU".to_owned(), cpu * free);
    available.insert("memory".to_owned(), cpu * 4.0 * GIB * free);
    available.retain(|_, amount| *amount > 0.0);
    let hex: String = node_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let zone = format!("zone-{}", index % 3);
    let labels = [
        ("ray.io/node-id", hex.as_str()),
        ("ray.io/node-group", &group(index)),
        ("ray.io/availability-zone", &zone),
        ("ray.io/availability-region", "region-1"),
        ("ray.io/market-type", "on-demand"),
        ("ray.io/accelerator-type", "none"),
        ("kubernetes.io/hostname", &format!("{own}.compute.internal")),
        ("team", "training"),
    ];
    let activity: &[&str] = if is_idle {
        &[]
    } else {
        &[
            "Busy workers on node.",
            "Resource: CPU currently in use.",
            "Resource: memory currently in use.",
        ]
    };
    wire::NodeState {
        node_id,
        instance_id: pod_name(index),
        ray_node_type_name: group(index),
        available_resources: available,
        total_resources: amounts(&total),
        status: if is_idle {
            wire::NodeStatus::Idle
        } else {
            wire::NodeStatus::Running
        }
        .into(),
        idle_duration_ms: if is_idle { 600_000 } else { 0 },
        node_ip_address: ip,
        node_activity: activity.iter().map(|text| (*text).to_owned()).collect(),
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Default::default()
    }
}

fn gang(index: usize) -> wire::GangResourceRequest {
    let id = format!("{index:036x}");
    let strategy = ["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"][index % 4];
    let constraint = wire::PlacementConstraint {
        anti_affinity: (strategy == "STRICT_SPREAD").then(|| wire::AntiAffinityConstraint {
            label_name: format!("_PG_{id}"),
            label_value: String::new(),
        }),
        affinity: (strategy == "STRICT_PACK").then(|| wire::AffinityConstraint {
            label_name: format!("_PG_{id}"),
            label_value: String::new(),
        }),
    };
    let is_strict = strategy.starts_with("STRICT");
    let bundle = wire::ResourceRequest {
        resources_bundle: amounts(&[("CPU", 1.0 + to_f64(index % 5))]),
        placement_constraints: vec![constraint; usize::from(is_strict)],
        ..Default::default()
    };
    let bundles = vec![bundle; 4];
    wire::GangResourceRequest {
        requests: bundles.clone(),
        details: format!("{id}:{strategy}|PENDING"),
        bundle_selectors: vec![wire::BundleSelector {
            resource_requests: bundles,
            locality_requirement: None,
        }],
    }
}

fn amounts(list: &[(&str, f64)]) -> BTreeMap<String, f64> {
    list.iter()
        .map(|(name, amount)| ((*name).to_owned(), *amount))
        .collect()
}

fn to_f64(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

/// Returns the RayCluster: twenty groups with room for twice the nodes.
pub(crate) fn raycluster(size: Size) -> RayCluster {
    let template = |cpu: f64| {
        let limits = json!({"cpu": cpu.to_string(), "memory": format!("{}Gi", cpu * 4.0)});
        json!({"spec": {"containers": [{"name": "ray", "resources": {"limits": limits}}]}})
    };
    let groups = (0..GROUPS).map(|index| {
        let nodes = (0..size.nodes).filter(|node| node % GROUPS == index).count();
        json!({
            "groupName": group(index), "replicas": nodes, "minReplicas": 0, "maxReplicas": nodes * 2,
            "scaleStrategy": {}, "template": template(cpus(index)),
        })
    });
    let cluster = json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster",
        "metadata": {"name": "large", "namespace": "default", "uid": "8a5f"},
        "spec": {
            "enableInTreeAutoscaling": true,
            "autoscalerOptions": {"idleTimeoutSeconds": 60},
            "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": template(2.0)},
            "workerGroupSpecs": groups.collect::<Vec<Value>>(),
        },
    });
    RayCluster::from_value(&cluster).unwrap()
}

/// Returns the pods of all nodes, head included.
pub(crate) fn pods(size: Size) -> Vec<PodFacts> {
    let head = pod("large-head", "head", "headgroup");
    let workers = (0..size.nodes).map(|index| pod(&pod_name(index), "worker", &group(index)));
    std::iter::once(head).chain(workers).collect()
}

fn pod(name: &str, node_type: &str, group: &str) -> PodFacts {
    let labels =
        json!({"ray.io/cluster": "large", "ray.io/node-type": node_type, "ray.io/group": group});
    let container =
        json!({"name": "ray", "restartCount": 0, "ready": true, "state": {"running": {}}});
    PodFacts::from_value(&json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-11-25T08:00:00Z", "labels": labels},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "ray"}]},
        "status": {"phase": "Running", "containerStatuses": [container]},
    }))
    .unwrap()
}
