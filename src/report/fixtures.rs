//! Clusters for the tests of this module tree: name only what a test is about.

use super::pass::{Acted, Outcome, PassReport, Scaled};
use crate::model::{
    ClusterSnapshot, Completeness, GroupDecision, History, Node, NodeId, NodeKind, NodeStatus,
    NodeTemplate, PodName, Quantity, Reason, ReplicaBounds, ReplicaName, ResourceDemand,
    ResourceMap, ResourceName, ResourceRequest, ScaleDecision, Timestamp, WorkerGroup,
    WorkerGroupName,
};

pub(super) fn at(ms: u64) -> Timestamp {
    Timestamp::default().plus_ms(ms)
}

pub(super) fn resources(entries: &[(&str, i64)]) -> ResourceMap {
    let entries = entries.iter();
    entries
        .map(|(name, amount)| (ResourceName::from(*name), Quantity::from_whole(*amount)))
        .collect()
}

pub(super) fn demand(entries: &[(&str, i64)], count: u64) -> ResourceDemand {
    let request = ResourceRequest::of(resources(entries));
    ResourceDemand { request, count }
}

pub(super) fn group(name: &str, replicas: u32) -> WorkerGroup {
    WorkerGroup {
        surge: 0,
        has_replicas: true,
        name: WorkerGroupName::from(name),
        index: 0,
        replicas,
        bounds: ReplicaBounds { min: 0, max: 100 },
        num_of_hosts: 1,
        priority: 0,
        idle_timeout_ms: None,
        template: NodeTemplate {
            resources: resources(&[("CPU", 4)]),
            ..NodeTemplate::default()
        },
        workers_to_delete: Vec::new(),
        has_scale_strategy: false,
        has_workers_to_delete: false,
    }
}

pub(super) fn node(name: &str, group: &str, status: NodeStatus) -> Node {
    let is_up = matches!(status, NodeStatus::Running | NodeStatus::Draining);
    let kind = if group == WorkerGroupName::HEAD {
        NodeKind::Head
    } else {
        NodeKind::Worker
    };
    Node {
        name: PodName::from(name),
        raylet_address: None,
        node_id: is_up.then(|| NodeId::from_bytes(&[7; 28]).unwrap()),
        kind,
        group: WorkerGroupName::from(group),
        replica: ReplicaName::from(name),
        host_index: 0,
        status,
        total: if is_up {
            resources(&[("CPU", 4), ("node:10.0.0.1", 1)])
        } else {
            ResourceMap::new()
        },
        available: ResourceMap::new(),
        labels: crate::model::Labels::new(),
        idle_since: None,
        created_at: Some(Timestamp::default()),
        waiting_reason: String::new(),
        pod_ip: String::new(),
    }
}

pub(super) fn snapshot(groups: Vec<WorkerGroup>, mut nodes: Vec<Node>) -> ClusterSnapshot {
    nodes.push(node("head", WorkerGroupName::HEAD, NodeStatus::Running));
    let now = Some(Timestamp::default());
    let mut snapshot = ClusterSnapshot {
        groups,
        nodes,
        completeness: Completeness {
            gcs_at: now,
            pods_at: now,
            raycluster_at: now,
        },
        ..ClusterSnapshot::default()
    };
    snapshot.sort();
    snapshot
}

pub(super) fn grow(name: &str, from: u32, to: u32) -> ScaleDecision {
    let reason = Reason {
        policy: "demand".to_owned(),
        code: "tasks".to_owned(),
        from,
        to,
        detail: String::new(),
    };
    ScaleDecision {
        groups: vec![GroupDecision {
            name: WorkerGroupName::from(name),
            replicas_from: from,
            replicas_to: to,
            remove: Vec::new(),
            forget: Vec::new(),
            reasons: vec![reason],
        }],
        ..ScaleDecision::default()
    }
}

pub(super) fn patched(name: &str, from: u32, to: u32) -> Acted {
    let scaled = Scaled {
        group: WorkerGroupName::from(name),
        from,
        to,
        removed: Vec::new(),
    };
    Acted {
        outcome: Outcome::Patched,
        scaled: vec![scaled],
        ..Acted::default()
    }
}

/// Owns what a report borrows.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) snapshot: ClusterSnapshot,
    pub(super) decision: ScaleDecision,
    pub(super) history: History,
    pub(super) acted: Acted,
}

impl Pass {
    pub(super) fn of(snapshot: ClusterSnapshot) -> Self {
        Self {
            snapshot,
            ..Self::default()
        }
    }

    pub(super) fn with(self, decision: ScaleDecision, acted: Acted) -> Self {
        Self {
            decision,
            acted,
            ..self
        }
    }

    pub(super) fn report(&self) -> PassReport<'_> {
        PassReport {
            observed_at: Timestamp::default(),
            snapshot: &self.snapshot,
            decision: &self.decision,
            history: &self.history,
            acted: &self.acted,
            phases: &[],
            session_name: "session_1",
            is_dry_run: false,
        }
    }
}

/// Collects log lines.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Lines {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns a subscriber and what it writes.
pub(super) fn captured() -> (Lines, impl tracing::Subscriber + Send + Sync) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (lines, subscriber)
}
