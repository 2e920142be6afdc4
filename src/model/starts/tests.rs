//! Which starts count as failed, and what makes up for them.

use super::Starts;
use crate::model::{
    ClusterSnapshot, Labels, Node, NodeKind, NodeStatus, NodeTemplate, ReplicaBounds, ResourceMap,
    Timestamp, WorkerGroup,
};

const fn second(second: i64) -> Timestamp {
    Timestamp::from_ms(second * 1_000)
}

fn node(name: &str, created_at: i64, status: NodeStatus) -> Node {
    Node {
        raylet_address: None,
        name: name.into(),
        node_id: None,
        kind: NodeKind::Worker,
        group: "g".into(),
        replica: name.into(),
        host_index: 0,
        status,
        total: ResourceMap::new(),
        available: ResourceMap::new(),
        labels: Labels::new(),
        idle_since: None,
        created_at: Some(second(created_at)),
        waiting_reason: String::new(),
    }
}

fn snapshot(nodes: Vec<Node>) -> ClusterSnapshot {
    let group = WorkerGroup {
        surge: 0,
        has_replicas: true,
        name: "g".into(),
        index: 0,
        replicas: 0,
        bounds: ReplicaBounds { min: 0, max: 9 },
        num_of_hosts: 1,
        priority: 0,
        idle_timeout_ms: None,
        template: NodeTemplate::default(),
        workers_to_delete: Vec::new(),
        has_scale_strategy: false,
        has_workers_to_delete: false,
    };
    ClusterSnapshot {
        groups: vec![group],
        nodes,
        ..ClusterSnapshot::default()
    }
}

fn count(starts: &Starts) -> u32 {
    starts.failed.get(&"g".into()).map_or(0, |it| it.count)
}

#[test]
fn a_node_that_is_missing_in_one_reply_proves_nothing() {
    let mut starts = Starts::default();
    let see = |starts: &mut Starts, status, created_at, at| {
        let nodes = vec![node("w1", created_at, status)];
        starts.observe(&snapshot(nodes), second(at));
    };
    starts.record_failure(&"g".into(), false, second(100));
    see(&mut starts, NodeStatus::Running, 50, 110);
    see(&mut starts, NodeStatus::Starting, 50, 115);
    see(&mut starts, NodeStatus::Running, 50, 120);
    assert_eq!(count(&starts), 1, "it ran before");
    // Its replacement is made at once, and Kubernetes writes whole seconds.
    see(&mut starts, NodeStatus::Starting, 100, 125);
    see(&mut starts, NodeStatus::Running, 100, 130);
    assert_eq!(count(&starts), 0);
}
