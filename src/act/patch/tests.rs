//! Patches as they are sent, operation by operation.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{PatchPlan, plan};
use crate::model::{
    ClusterSnapshot, GroupDecision, Node, NodeKind, NodeStatus, NodeTemplate, PodName, Reason,
    RemovalCause, ReplicaBounds, ReplicaName, ReplicaRemoval, ResourceMap, ScaleDecision,
    WorkerGroup, WorkerGroupName,
};

fn group(index: usize, name: &str, replicas: u32) -> WorkerGroup {
    WorkerGroup {
        surge: 0,
        has_replicas: true,
        name: name.into(),
        index,
        replicas,
        bounds: ReplicaBounds { min: 0, max: 10 },
        num_of_hosts: 1,
        priority: 0,
        idle_timeout_ms: None,
        template: NodeTemplate::default(),
        workers_to_delete: Vec::new(),
        has_scale_strategy: false,
        has_workers_to_delete: false,
    }
}

/// A group whose list is there.
fn listed(mut group: WorkerGroup, names: &[&str]) -> WorkerGroup {
    group.workers_to_delete = pods(names);
    group.has_scale_strategy = true;
    group.has_workers_to_delete = true;
    group
}

fn pods(names: &[&str]) -> Vec<PodName> {
    names.iter().map(|name| PodName::from(*name)).collect()
}

fn node(group: &str, name: &str, status: NodeStatus) -> Node {
    Node {
        name: name.into(),
        raylet_address: None,
        node_id: None,
        kind: if group == WorkerGroupName::HEAD {
            NodeKind::Head
        } else {
            NodeKind::Worker
        },
        group: group.into(),
        replica: ReplicaName::from(name),
        host_index: 0,
        status,
        total: ResourceMap::new(),
        available: ResourceMap::new(),
        labels: Default::default(),
        idle_since: None,
        created_at: None,
        waiting_reason: String::new(),
        pod_ip: String::new(),
    }
}

fn snapshot(groups: Vec<WorkerGroup>, nodes: &[(&str, &str)]) -> ClusterSnapshot {
    let nodes = nodes.iter();
    ClusterSnapshot {
        uid: "u-1".to_owned(),
        groups,
        nodes: nodes
            .map(|(group, name)| node(group, name, NodeStatus::Running))
            .collect(),
        ..ClusterSnapshot::default()
    }
}

fn decided(group: &WorkerGroup, to: u32, remove: &[&[&str]]) -> GroupDecision {
    let removal = |names: &&[&str]| ReplicaRemoval {
        replica: ReplicaName::from(names.first().copied().unwrap_or("none")),
        pods: pods(names),
        cause: RemovalCause::Idle,
        idle_ms: 1,
        finish: crate::model::Finish::default(),
    };
    GroupDecision {
        name: group.name.clone(),
        replicas_from: group.replicas,
        replicas_to: to,
        remove: remove.iter().map(removal).collect(),
        forget: Vec::new(),
        reasons: Vec::new(),
    }
}

fn plan_of(
    snapshot: &ClusterSnapshot,
    groups: Vec<GroupDecision>,
    accepted: &[&str],
) -> Option<PatchPlan> {
    let decision = ScaleDecision {
        groups,
        ..ScaleDecision::default()
    };
    let accepted: BTreeSet<PodName> = pods(accepted).into_iter().collect();
    plan(snapshot, &decision, &accepted)
}

/// The operations as `op path value`, without `/spec/workerGroupSpecs`.
fn lines(plan: &PatchPlan) -> Vec<String> {
    let text = |op: &Value| {
        let path = op["path"].as_str().unwrap();
        let path = path.trim_start_matches("/spec/workerGroupSpecs");
        format!("{} {path} {}", op["op"].as_str().unwrap(), op["value"])
    };
    plan.ops.iter().map(text).collect()
}

#[test]
fn nothing_to_do_is_no_patch() {
    let at = snapshot(vec![group(0, "a", 2)], &[]);
    assert_eq!(
        plan_of(&at, vec![decided(&at.groups[0], 2, &[])], &[]),
        None
    );
    assert_eq!(plan_of(&at, Vec::new(), &[]), None);
    let stranger = decided(&group(0, "gone", 1), 5, &[]);
    assert_eq!(plan_of(&at, vec![stranger], &[]), None);
}

#[test]
fn growth_and_victims_of_all_groups_go_together_behind_their_tests() {
    let groups = vec![
        group(0, "a", 1),
        listed(group(1, "b", 3), &["b-old"]),
        group(2, "c", 1),
    ];
    let at = snapshot(groups, &[("b", "b-1"), ("b", "b-2")]);
    let decisions = vec![
        decided(&at.groups[0], 4, &[]),
        decided(&at.groups[1], 5, &[&["b-1"]]),
        decided(&at.groups[2], 1, &[]),
    ];
    let plan = plan_of(&at, decisions, &["b-1"]).unwrap();
    assert_eq!(
        lines(&plan),
        [
            r#"test /metadata/uid "u-1""#,
            r#"test /0/groupName "a""#,
            "test /0/replicas 1",
            r#"test /1/groupName "b""#,
            "test /1/replicas 3",
            r#"test /1/scaleStrategy/workersToDelete ["b-old"]"#,
            "add /0/replicas 4",
            "add /1/replicas 5",
            r#"add /1/scaleStrategy/workersToDelete ["b-old","b-1"]"#,
        ]
    );
    assert_eq!(plan.groups.len(), 2);
    assert_eq!(plan.groups[1].named, pods(&["b-1"]));
    assert_eq!(
        (plan.groups[1].replicas_from, plan.groups[1].replicas_to),
        (3, 5)
    );
}

#[test]
fn a_number_is_tested_only_where_it_is_written_and_stands_there_word_for_word() {
    let mut odd = group(0, "a", 0);
    odd.has_replicas = false;
    let groups = vec![odd, listed(group(1, "b", 3), &["b-old"])];
    let at = snapshot(groups, &[("b", "b-1")]);
    let decisions = vec![
        decided(&at.groups[0], 4, &[]),
        decided(&at.groups[1], 3, &[&["b-1"]]),
    ];
    let plan = plan_of(&at, decisions, &["b-1"]).unwrap();
    let lines = lines(&plan);
    let of_replicas = lines.iter().filter(|line| line.contains("/replicas"));
    assert_eq!(of_replicas.collect::<Vec<_>>(), ["add /0/replicas 4"]);
}

#[test]
fn an_absent_strategy_is_written_whole_and_a_present_one_only_inside() {
    let mut empty = group(1, "b", 2);
    empty.has_scale_strategy = true;
    let groups = vec![group(0, "a", 2), empty, listed(group(2, "c", 2), &[])];
    let at = snapshot(groups, &[("a", "a-1"), ("b", "b-1"), ("c", "c-1")]);
    let decisions = vec![
        decided(&at.groups[0], 1, &[&["a-1"]]),
        decided(&at.groups[1], 1, &[&["b-1"]]),
        decided(&at.groups[2], 1, &[&["c-1"]]),
    ];
    let plan = plan_of(&at, decisions, &["a-1", "b-1", "c-1"]).unwrap();
    let lines = lines(&plan);
    let of = |group: &str| -> Vec<&String> {
        let lines = lines.iter();
        lines
            .filter(|line| line.contains(group) && line.contains("scaleStrategy"))
            .collect()
    };
    assert_eq!(
        of(" /0/"),
        [
            "test /0/scaleStrategy null",
            r#"add /0/scaleStrategy {"workersToDelete":["a-1"]}"#
        ]
    );
    assert_eq!(
        of(" /1/"),
        [
            "test /1/scaleStrategy/workersToDelete null",
            r#"add /1/scaleStrategy/workersToDelete ["b-1"]"#
        ]
    );
    assert_eq!(
        of(" /2/"),
        [
            "test /2/scaleStrategy/workersToDelete []",
            r#"add /2/scaleStrategy/workersToDelete ["c-1"]"#
        ]
    );
}

#[test]
fn a_refused_removal_adds_its_replica_back_within_the_maximum() {
    let mut a = group(0, "a", 3);
    let nodes = [("a", "a-1"), ("a", "a-2"), ("a", "a-3")];
    let victims: [&[&str]; 2] = [&["a-1"], &["a-2"]];
    let at = snapshot(vec![a.clone()], &nodes);
    let one = plan_of(&at, vec![decided(&a, 1, &victims)], &["a-2"]).unwrap();
    assert!(lines(&one).contains(&"add /0/replicas 2".to_owned()));
    assert_eq!(one.groups[0].named, pods(&["a-2"]));
    assert_eq!(plan_of(&at, vec![decided(&a, 1, &victims)], &[]), None);

    a.bounds.max = 4;
    let at = snapshot(vec![a.clone()], &nodes);
    let grown = plan_of(&at, vec![decided(&a, 4, &victims)], &[]).unwrap();
    assert!(lines(&grown).contains(&"add /0/replicas 4".to_owned()));
}

#[test]
fn a_replica_goes_only_when_all_of_its_hosts_may() {
    let a = group(0, "a", 2);
    let at = snapshot(vec![a.clone()], &[("a", "a-1"), ("a", "a-2")]);
    let victims: [&[&str]; 1] = [&["a-1", "a-2"]];
    let half = plan_of(&at, vec![decided(&a, 1, &victims)], &["a-1"]);
    assert_eq!(half, None);
    let whole = plan_of(&at, vec![decided(&a, 1, &victims)], &["a-1", "a-2"]).unwrap();
    assert_eq!(whole.groups[0].named, pods(&["a-1", "a-2"]));
}

#[test]
fn only_workers_of_the_group_are_ever_named() {
    let a = group(0, "a", 2);
    let mut at = snapshot(
        vec![a.clone(), group(1, "b", 1)],
        &[("headgroup", "head"), ("b", "b-1")],
    );
    at.nodes.push(node("a", "a-lost", NodeStatus::Lost));
    for stranger in ["head", "b-1", "a-lost", "database-0"] {
        let decision = decided(&a, 1, &[&[stranger]]);
        assert_eq!(
            plan_of(&at, vec![decision], &[stranger]),
            None,
            "{stranger}"
        );
    }
    assert_eq!(plan_of(&at, vec![decided(&a, 1, &[&[]])], &[]), None);
}

#[test]
fn names_are_forgotten_when_their_pods_are_gone_and_not_before() {
    let a = listed(group(0, "a", 1), &["a-gone", "a-going", "a-kept"]);
    let mut at = snapshot(vec![a.clone()], &[]);
    at.nodes.push(node("a", "a-going", NodeStatus::Terminating));
    let mut decision = decided(&a, 1, &[]);
    decision.forget = pods(&["a-gone", "a-going"]);
    let some = plan_of(&at, vec![decision.clone()], &[]).unwrap();
    assert_eq!(
        lines(&some).last().unwrap(),
        r#"add /0/scaleStrategy/workersToDelete ["a-going","a-kept"]"#
    );
    assert!(!lines(&some).iter().any(|line| line.contains("replicas")));
    assert_eq!(some.groups[0].forgotten, pods(&["a-gone"]));
    decision.forget = pods(&["a-going"]);
    assert_eq!(plan_of(&at, vec![decision], &[]), None);
}

#[test]
fn a_name_stands_once_and_replicas_stay_an_int32() {
    let a = listed(group(0, "a", 3), &["a-1"]);
    let at = snapshot(vec![a.clone()], &[("a", "a-1"), ("a", "a-2")]);
    let again = decided(&a, 1, &[&["a-1"], &["a-2"]]);
    let plan = plan_of(&at, vec![again], &["a-1", "a-2"]).unwrap();
    assert_eq!(plan.ops.last().unwrap()["value"], json!(["a-1", "a-2"]));
    let huge = plan_of(&at, vec![decided(&a, u32::MAX, &[])], &[]).unwrap();
    assert_eq!(huge.groups[0].replicas_to, 2_147_483_647);
}

#[test]
fn ten_thousand_victims_keep_their_order() {
    let names: Vec<String> = (0..10_000).map(|n| format!("a-{n:05}")).collect();
    let texts: Vec<&str> = names.iter().map(String::as_str).collect();
    let nodes: Vec<(&str, &str)> = texts.iter().map(|name| ("a", *name)).collect();
    let mut a = group(0, "a", 10_000);
    a.bounds.max = 10_000;
    let at = snapshot(vec![a.clone()], &nodes);
    let victims: Vec<&[&str]> = texts.chunks(1).collect();
    let plan = plan_of(&at, vec![decided(&a, 0, &victims)], &texts).unwrap();
    assert_eq!(plan.groups[0].named, pods(&texts));
    assert_eq!(plan.ops.len(), 6);
}

/// A group of three stuck replicas in whose place others are asked for, and what else its reasons say.
fn stuck(code: &str, more: &[(&str, u32)]) -> (ClusterSnapshot, GroupDecision) {
    let pods = ["a-1", "a-2", "a-3"];
    let at = snapshot(vec![group(0, "a", 3)], &pods.map(|pod| ("a", pod)));
    let mut decided = decided(&at.groups[0], 3, &[&pods[..1], &pods[1..2], &pods[2..]]);
    for removal in &mut decided.remove {
        removal.cause = RemovalCause::Stuck;
    }
    for (code, to) in [("unregistered", 0), (code, 3)].iter().chain(more) {
        let from = decided.reasons.last().map_or(3, |reason| reason.to);
        decided.reasons.push(Reason {
            policy: "recycle".to_owned(),
            code: (*code).to_owned(),
            from,
            to: *to,
            detail: String::new(),
        });
        decided.replicas_to = *to;
    }
    (at, decided)
}

#[test]
fn a_stuck_replica_that_stays_is_not_replaced() {
    for code in ["recycled", "minimum"] {
        let (at, decided) = stuck(code, &[]);
        assert_eq!(plan_of(&at, vec![decided.clone()], &[]), None, "{code}");
        let part = plan_of(&at, vec![decided], &["a-1", "a-3"]).unwrap();
        assert_eq!(part.groups[0].named, pods(&["a-1", "a-3"]), "{code}");
        assert_eq!(part.groups[0].replicas_to, 3, "{code}");
    }
    // What is launched for other reasons comes beside what stays.
    let (at, decided) = stuck("recycled", &[("tasks", 5)]);
    let grown = plan_of(&at, vec![decided], &["a-2"]).unwrap();
    assert_eq!(grown.groups[0].replicas_to, 5);
    let (at, decided) = stuck("tasks", &[]);
    let grown = plan_of(&at, vec![decided], &["a-2"]).unwrap();
    assert_eq!(grown.groups[0].replicas_to, 5);
}

#[test]
fn no_group_gets_a_number_below_its_stuck_replicas_that_stay() {
    for left in 0..3 {
        let (at, decided) = stuck("recycled", &[("growth_slice", left)]);
        for may_go in [&[][..], &["a-1"], &["a-1", "a-3"]] {
            let plan = plan_of(&at, vec![decided.clone()], may_go);
            let number = plan.map_or(3, |plan| plan.groups[0].replicas_to);
            let staying = 3 - u32::try_from(may_go.len()).unwrap();
            assert!(number >= staying, "{left}, {may_go:?}: {number}");
        }
    }
}
