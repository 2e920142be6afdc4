//! Fixtures of the tests of the join.

mod cluster_facts;
mod node_facts;

use serde_json::{Value, json};

use super::{JoinInput, join};
use crate::model::{
    ClusterSnapshot, Completeness, Node, NodeId, Quantity, ResourceMap, ResourceName, Timestamp,
};
use crate::observe::ray_state::{RayNode, RayNodeStatus, RayState};
use crate::wire::pod::PodFacts;
use crate::wire::raycluster::RayCluster;

fn cluster(groups: &Value) -> Value {
    json!({"metadata": {"name": "c", "uid": "u"}, "spec": {"enableInTreeAutoscaling": true,
        "headGroupSpec": {"template": {"spec": {"containers": [{"name": "ray"}]}}}, "workerGroupSpecs": groups}})
}

fn group(name: &str, hosts: u32, workers_to_delete: &Value) -> Value {
    json!({"groupName": name, "numOfHosts": hosts, "scaleStrategy": {"workersToDelete": workers_to_delete},
        "template": {"spec": {"containers": [{"name": "ray", "resources": {"limits": {"cpu": 1}}}]}}})
}

/// A running worker of group `g`, changed by `edits` (JSON pointer, value).
fn pod(name: &str, edits: &[(&str, Value)]) -> PodFacts {
    let mut pod = json!({
        "metadata": {"name": name, "creationTimestamp": "1970-01-01T00:01:00Z",
            "labels": {"ray.io/cluster": "c", "ray.io/node-type": "worker", "ray.io/group": "g"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "ray"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "ray", "restartCount": 0, "state": {"running": {}}}]}});
    for (pointer, value) in edits {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/");
        pod.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    PodFacts::from_value(&pod).unwrap()
}

fn cpus(count: i64) -> ResourceMap {
    [(ResourceName::from("CPU"), Quantity::from_whole(count))]
        .into_iter()
        .collect()
}

fn raylet(instance_id: &str, id: u8, status: RayNodeStatus) -> RayNode {
    RayNode {
        node_id: NodeId::from_bytes(&[id; 28]).unwrap(),
        instance_id: instance_id.to_owned(),
        group: "g".to_owned(),
        ip_address: "10.0.0.1".to_owned(),
        raylet_address: None,
        status,
        is_head: false,
        total: cpus(4),
        available: cpus(1),
        labels: [("zone".to_owned(), "z".to_owned())].into_iter().collect(),
        idle_ms: if status == RayNodeStatus::Idle {
            3_000
        } else {
            0
        },
    }
}

fn snapshot(cluster: &Value, pods: &[PodFacts], nodes: &[RayNode]) -> ClusterSnapshot {
    let ray = RayState {
        received_at: Timestamp::from_ms(10_000),
        nodes: nodes.to_vec(),
        ..RayState::default()
    };
    join(&JoinInput {
        ray: &ray,
        raycluster: &RayCluster::from_value(cluster).unwrap(),
        pods: &pods.iter().collect::<Vec<_>>(),
        completeness: Completeness::default(),
    })
}

fn only(pods: &[PodFacts], nodes: &[RayNode]) -> Node {
    let snapshot = snapshot(&cluster(&json!([group("g", 1, &json!([]))])), pods, nodes);
    assert_eq!(snapshot.nodes.len(), 1, "{:?}", snapshot.nodes);
    snapshot.nodes[0].clone()
}

fn codes(snapshot: &ClusterSnapshot) -> Vec<&str> {
    snapshot
        .problems
        .iter()
        .map(|problem| problem.code.as_str())
        .collect()
}
