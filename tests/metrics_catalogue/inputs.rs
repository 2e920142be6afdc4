//! The cluster and the decision that the scenario is made of.

use std::time::Duration;

use rayscaler::model::{
    ClusterSnapshot, Completeness, GroupDecision, Hold, KeptIdle, Labels, Node, NodeId, NodeKind,
    NodeStatus, NodeTemplate, Problem, Quantity, Reason, RemovalCause, ReplicaBounds,
    ReplicaRemoval, ResourceMap, ResourceName, ScaleDecision, SkippedGroup, Timestamp, Unserved,
    WorkerGroup,
};
use rayscaler::report::{Acted, DrainAnswer, DrainOutcome, Outcome, Scaled};

pub(super) fn at(ms: u64) -> Timestamp {
    Timestamp::default().plus_ms(ms)
}

pub(super) fn resources(entries: &[(&str, i64)]) -> ResourceMap {
    let entries = entries.iter();
    entries
        .map(|(name, amount)| (ResourceName::from(*name), Quantity::from_whole(*amount)))
        .collect()
}

pub(super) fn cluster(replicas: u32, nodes: Vec<Node>) -> ClusterSnapshot {
    let group = WorkerGroup {
        surge: 0,
        has_replicas: true,
        name: "g".into(),
        index: 0,
        replicas,
        bounds: ReplicaBounds { min: 0, max: 9 },
        num_of_hosts: 1,
        priority: 0,
        idle_timeout_ms: None,
        template: NodeTemplate {
            resources: resources(&[("GPU", 4)]),
            ..NodeTemplate::default()
        },
        workers_to_delete: vec![],
        has_scale_strategy: false,
        has_workers_to_delete: false,
    };
    let skipped = SkippedGroup {
        name: "s".into(),
        index: 1,
        code: "no_hosts".to_owned(),
        detail: String::new(),
    };
    let mut snapshot = ClusterSnapshot {
        groups: vec![group],
        skipped: vec![skipped],
        nodes,
        problems: vec![Problem {
            code: "bad_label".to_owned(),
            detail: String::new(),
        }],
        completeness: Completeness {
            gcs_at: Some(at(0)),
            pods_at: Some(at(0)),
            raycluster_at: Some(at(0)),
        },
        ..ClusterSnapshot::default()
    };
    snapshot.sort();
    snapshot
}

pub(super) fn node(name: &str, status: NodeStatus) -> Node {
    let is_up = status == NodeStatus::Running;
    Node {
        raylet_address: None,
        name: name.into(),
        node_id: is_up.then(|| NodeId::from_bytes(&[1; 28]).unwrap()),
        kind: NodeKind::Worker,
        group: "g".into(),
        replica: name.into(),
        host_index: 0,
        status,
        total: if is_up {
            resources(&[("GPU", 4)])
        } else {
            ResourceMap::new()
        },
        available: ResourceMap::new(),
        labels: Labels::new(),
        idle_since: None,
        created_at: Some(at(0)),
        waiting_reason: "Unschedulable".to_owned(),
        pod_ip: String::new(),
    }
}

pub(super) fn decision() -> ScaleDecision {
    let reason = Reason {
        policy: "demand".to_owned(),
        code: "tasks".to_owned(),
        from: 1,
        to: 2,
        detail: String::new(),
    };
    ScaleDecision {
        groups: vec![GroupDecision {
            name: "g".into(),
            replicas_from: 1,
            replicas_to: 2,
            remove: vec![],
            forget: vec![],
            reasons: vec![reason],
        }],
        unserved: vec![Unserved {
            what: "{GPU: 1}".to_owned(),
            class: "tasks".to_owned(),
            position: 0,
            count: 1,
            code: "at_maximum".to_owned(),
            detail: String::new(),
        }],
        kept_idle: vec![KeptIdle {
            pod: "new".into(),
            group: "g".into(),
            code: "minimum".to_owned(),
            idle_ms: 5,
        }],
        holds: vec![Hold {
            group: None,
            code: "paused".to_owned(),
            detail: String::new(),
        }],
        is_cut: true,
        ..ScaleDecision::default()
    }
}

pub(super) fn patched() -> Acted {
    let removal = ReplicaRemoval {
        replica: "r".into(),
        pods: vec!["r".into()],
        cause: RemovalCause::Idle,
        idle_ms: 9,
        finish: rayscaler::model::Finish::default(),
    };
    let answer = |outcome| DrainAnswer {
        group: "g".into(),
        pod: "r".into(),
        outcome,
    };
    Acted {
        replaced: Vec::new(),
        outcome: Outcome::Patched,
        scaled: vec![Scaled {
            group: "g".into(),
            from: 1,
            to: 2,
            removed: vec![removal],
        }],
        drains: vec![
            answer(DrainOutcome::Accepted),
            answer(DrainOutcome::Failed("e".to_owned())),
        ],
        patch_duration: Duration::from_millis(8),
    }
}
