//! Which starts count as failed, and what makes up for them.

use super::{FailedStart, Starts};
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
        pod_ip: String::new(),
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

fn ended(name: &str, (created_at, ended_at): (i64, i64)) -> FailedStart {
    FailedStart {
        ended_at: second(ended_at),
        pod: name.into(),
        group: "g".into(),
        created_at: second(created_at),
    }
}

fn snapshot(nodes: Vec<Node>, failed_starts: Vec<FailedStart>) -> ClusterSnapshot {
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
        failed_starts,
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
        starts.observe(&snapshot(nodes, Vec::new()), (second(at), None));
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

#[test]
fn pods_that_end_without_having_joined_count_once_an_attempt() {
    let mut starts = Starts::default();
    let see = |starts: &mut Starts, failed: &[FailedStart], at| {
        starts.observe(&snapshot(Vec::new(), failed.to_vec()), (second(at), None));
    };
    let mut failed = vec![ended("a", (10, 20)), ended("b", (10, 21))];
    see(&mut starts, &failed, 22);
    see(&mut starts, &failed, 23);
    assert_eq!(count(&starts), 1, "they were made together");
    assert!(starts.failed[&"g".into()].ended);
    failed.push(ended("c", (22, 30)));
    see(&mut starts, &failed, 31);
    assert_eq!(count(&starts), 2, "made anew");
    // One that joins closes the breaker, and what has been counted is not counted again.
    let nodes = vec![node("d", 32, NodeStatus::Starting)];
    starts.observe(&snapshot(nodes, failed.clone()), (second(40), None));
    let nodes = vec![node("d", 32, NodeStatus::Running)];
    starts.observe(&snapshot(nodes, failed.clone()), (second(45), None));
    assert_eq!(count(&starts), 0);
    see(&mut starts, &failed, 46);
    assert_eq!(count(&starts), 0);
    see(&mut starts, &[], 90);
    assert!(starts.counted.is_empty());
}

#[test]
fn pods_that_were_made_together_are_one_attempt_though_the_api_servers_clock_is_ahead() {
    let mut starts = Starts::default();
    let mut see = |failed: &[FailedStart], at| {
        let seen = snapshot(Vec::new(), failed.to_vec());
        starts.observe(&seen, (second(at), None));
        count(&starts)
    };
    let ahead = |made_at: i64| made_at + 500;
    let mut failed = vec![ended("a", (ahead(10), 20)), ended("b", (ahead(10), 20))];
    assert_eq!(see(&failed, 20), 1);
    failed.push(ended("c", (ahead(10), 23)));
    assert_eq!(see(&failed, 23), 1, "they were made together");
    failed.push(ended("d", (ahead(20), 30)));
    assert_eq!(see(&failed, 30), 2, "made anew");
}

#[test]
fn pods_that_end_while_there_is_no_gcs_are_not_to_blame() {
    let mut starts = Starts::default();
    let back_at = Some(second(50));
    let failed = [ended("a", (10, 60)), ended("b", (45, 70))];
    let seen = snapshot(Vec::new(), failed.to_vec());
    starts.observe(&seen, (second(75), back_at));
    assert_eq!(count(&starts), 0);
    let seen = snapshot(Vec::new(), vec![ended("c", (55, 80))]);
    starts.observe(&seen, (second(85), back_at));
    assert_eq!(count(&starts), 1);
}
