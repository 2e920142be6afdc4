//! What is remembered, absorbed by hand.

use super::{History, Input, Learnt};
use crate::model::{
    ClusterSnapshot, Labels, Node, NodeKind, NodeStatus, NodeTemplate, PodName, Quantity,
    ReplicaBounds, ResourceMap, ResourceName, Timestamp, WorkerGroup,
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
        pod_ip: String::new(),
    }
}

fn group() -> WorkerGroup {
    WorkerGroup {
        surge: 0,
        has_replicas: true,
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

fn listing(replicas: u32, names: &[&str], nodes: Vec<Node>) -> ClusterSnapshot {
    let mut group = group();
    group.replicas = replicas;
    group.workers_to_delete = names.iter().map(|name| (*name).into()).collect();
    ClusterSnapshot {
        groups: vec![group],
        nodes,
        ..ClusterSnapshot::default()
    }
}

#[test]
fn a_name_that_is_not_ours_lowers_replicas_once_unless_its_writer_did() {
    let at = Timestamp::from_ms;
    let followed = |history: &History, replicas| {
        let snapshot = listing(replicas, &[], Vec::new());
        history.followed(&snapshot.groups[0])
    };
    let mut history = History::default();
    let see = |history: &mut History, snapshot: &ClusterSnapshot| {
        history.absorb(&Input::Observed(snapshot), at(1));
    };
    see(&mut history, &listing(3, &[], vec![node()]));
    let mut lowered = history.clone();
    let mut ours = history.clone();
    let mut raised = history.clone();

    see(&mut history, &listing(3, &["w1"], vec![node()]));
    assert_eq!(followed(&history, 3), 2);
    see(&mut history, &listing(3, &["w1"], vec![node()]));
    assert_eq!(followed(&history, 3), 2, "seen again it is the same order");
    let (group, from, to) = (&"cpu".into(), 3, 2);
    history.absorb(&Input::Scaled { group, from, to }, at(2));
    see(&mut history, &listing(2, &["w1"], vec![node()]));
    assert_eq!(followed(&history, 2), 2);

    see(&mut lowered, &listing(2, &["w1"], vec![node()]));
    assert_eq!(followed(&lowered, 2), 2);
    see(&mut raised, &listing(5, &["w1"], vec![node()]));
    assert_eq!(followed(&raised, 5), 5);
    ours.absorb(&Input::Named(&"w1".into()), at(2));
    see(&mut ours, &listing(3, &["w1"], vec![node()]));
    assert_eq!(followed(&ours, 3), 3);

    see(&mut lowered, &listing(3, &["w1"], vec![node()]));
    assert_eq!(followed(&lowered, 3), 3, "raised again by hand");
    let unknown = &mut History::default();
    see(unknown, &listing(3, &["w1"], vec![node()]));
    assert_eq!(followed(unknown, 3), 3, "nobody knows what it was before");
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
        since: Timestamp::default(),
        is_edited: false,
        taught_by: None,
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

#[test]
fn a_raylet_that_was_only_found_to_run_has_not_refused() {
    let mut running = node();
    running.status = NodeStatus::Running;
    let there = ClusterSnapshot {
        nodes: vec![running],
        ..ClusterSnapshot::default()
    };
    let (mut history, at) = (History::default(), Timestamp::from_ms);
    let pod = PodName::from("w1");
    history.absorb(&Input::FoundRunning(&pod), at(0));
    history.absorb(&Input::Observed(&there), at(1));
    assert_eq!(history.drain_refused_at.get(&pod), Some(&at(0)));
    assert!(history.found_running.contains(&pod));
    history.absorb(&Input::DrainRefused(&pod), at(2));
    assert_eq!(history.drain_refused_at.get(&pod), Some(&at(2)));
    assert!(history.found_running.is_empty());
    for gone in [
        Input::DrainAccepted(&pod),
        Input::Observed(&ClusterSnapshot::default()),
    ] {
        history.absorb(&Input::FoundRunning(&pod), at(3));
        history.absorb(&gone, at(4));
        assert!(history.drain_refused_at.is_empty() && history.found_running.is_empty());
    }
}
