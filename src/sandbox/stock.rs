//! The loop of Ray's own autoscaler 2.60, played on the same scenario for comparison.
//!
//! What it does, from its observed behaviour: it looks every 5 s, at the demand that the GCS last pulled. What it
//! wants to launch it queues, and keeps at most 10 pods asked for and not yet seen; what is queued stays
//! queued when the demand goes. While a pod that is named in any `workersToDelete` is still listed, it
//! launches and removes nothing. An idle worker is drained in one turn and named in the next.
//!
//! Which groups it grows and who is idle is decided by our own engine with the profile `ray`, which chooses as Ray does.
//! The time that a decision takes counts as nothing on both sides.
//! Left out, each of which would make it slower: its start, time-outs, failed launches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::engine::{ChainEntry, Engine, Profile};
use crate::model::{
    ClusterSnapshot, Completeness, History, Input, NodeKind, NodeStatus, RemovalCause,
    ScaleDecision, WorkerGroupName,
};
use crate::observe::convert;
use crate::observe::join::{JoinInput, join};
use crate::policy::Registry;
use crate::wire::gcs::GcsClient;
use crate::wire::gcs::ray::rpc::autoscaler::{DrainNodeReason, DrainNodeRequest};
use crate::wire::kube_client::KubeClient;
use crate::wire::pod::PodFacts;
use crate::wire::raycluster::RayCluster;

/// `AUTOSCALER_UPDATE_INTERVAL_S`.
const INTERVAL: Duration = Duration::from_secs(5);

/// `AUTOSCALER_MAX_CONCURRENT_LAUNCHES`. Units: pods.
const LAUNCHES_MAX: u64 = 10;

/// Plays the loop until it is dropped.
pub(super) struct StockAutoscaler {
    /// The API server.
    pub(super) kube: KubeClient,
    /// The GCS.
    pub(super) gcs: GcsClient,
    /// Tells the time.
    pub(super) clock: Clock,
    /// Path of the RayCluster in the API.
    pub(super) raycluster_path: String,
    /// Path of its pods.
    pub(super) pods_path: String,
}

impl StockAutoscaler {
    /// Turns for ever; tells `is_ready` after the first turn that saw everything.
    pub(super) async fn run(self, is_ready: impl Fn() + Send) {
        let engine = engine();
        let mut memory = Memory::default();
        loop {
            // As in the original a failed turn is forgotten, and the next one comes as usual.
            if let Some(snapshot) = self.observe().await {
                is_ready();
                self.turn(&engine, &snapshot, &mut memory).await;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn observe(&self) -> Option<ClusterSnapshot> {
        let state = self.gcs.get_cluster_resource_state().await.ok()?;
        let raycluster: Value = self.kube.get(&self.raycluster_path).await.ok()?;
        let pods: Value = self.kube.get(&self.pods_path).await.ok()?;
        let now = self.clock.now();
        let raycluster = RayCluster::from_value(&raycluster).ok()?;
        let items = pods.get("items")?.as_array()?;
        let pods: Vec<PodFacts> = items
            .iter()
            .filter_map(|pod| PodFacts::from_value(pod).ok())
            .collect();
        let snapshot = join(&JoinInput {
            ray: &convert::ray_state(&state.cluster_resource_state?, now),
            raycluster: &raycluster,
            pods: &pods.iter().collect::<Vec<_>>(),
            completeness: Completeness {
                gcs_at: Some(now),
                pods_at: Some(now),
                raycluster_at: Some(now),
            },
        });
        snapshot.is_head_running().then_some(snapshot)
    }

    async fn turn(&self, engine: &Engine, snapshot: &ClusterSnapshot, memory: &mut Memory) {
        let now = self.clock.now();
        memory.history.absorb(&Input::Observed(snapshot), now);
        let planned = memory.with_queue(snapshot);
        let decision = engine.decide(&planned, &memory.history, now);
        let moves = memory.moves(snapshot, &decision);
        for node_id in moves.drains {
            let request = DrainNodeRequest {
                node_id,
                reason: DrainNodeReason::IdleTermination.into(),
                reason_message: "idle".to_owned(),
                ..DrainNodeRequest::default()
            };
            // A refusal leaves the node as it is; the next turn looks again.
            drop(self.gcs.drain_node(request).await);
        }
        if moves.patch.is_empty() {
            return;
        }
        let Ok(body) = serde_json::to_vec(&moves.patch) else {
            return;
        };
        let content = ("application/json-patch+json", body);
        let patched: Result<Value, _> = self
            .kube
            .send(Method::PATCH, &self.raycluster_path, content)
            .await;
        drop(patched);
    }
}

/// Returns an engine that, like the original, gives up a worker in the first turn after its raylet has ended.
fn engine() -> Engine {
    let mut chain = ChainEntry::defaults();
    for entry in chain.iter_mut().filter(|entry| entry.name == "stopped") {
        entry.settings = json!({"grace": "0s", "refused_pause": "0s"});
    }
    // The default settings always build, and so do these; a test holds that.
    let engine = Engine::new(&chain, &Registry::default()).unwrap_or_default();
    engine.with_profile(Profile::Ray)
}

/// What the original keeps in its table.
#[derive(Debug, Default)]
struct Memory {
    history: History,
    /// Replicas that wait for their turn to be asked for.
    queued: BTreeMap<WorkerGroupName, u32>,
}

/// What one turn does.
#[derive(Debug, Default, PartialEq)]
struct Moves {
    drains: Vec<Vec<u8>>,
    patch: Vec<Value>,
}

impl Memory {
    /// Returns the snapshot in which what is queued counts as asked for, as it absorbs demand.
    fn with_queue(&self, snapshot: &ClusterSnapshot) -> ClusterSnapshot {
        let mut planned = snapshot.clone();
        for group in &mut planned.groups {
            let queued = self.queued.get(&group.name).copied().unwrap_or(0);
            group.replicas = group.replicas.saturating_add(queued);
        }
        planned
    }

    fn moves(&mut self, snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Moves {
        let mut moves = Moves::default();
        let pods: BTreeSet<&str> = snapshot
            .nodes
            .iter()
            .filter(|node| node.status != NodeStatus::Lost)
            .map(|node| node.name.as_str())
            .collect();
        let is_locked = snapshot
            .groups
            .iter()
            .flat_map(|group| &group.workers_to_delete)
            .any(|name| pods.contains(name.as_str()));
        let mut requested: u64 = snapshot
            .groups
            .iter()
            .map(|group| unseen(snapshot, group))
            .sum();
        for group in &snapshot.groups {
            let Some(wish) = decision.group(&group.name) else {
                continue;
            };
            let leaving = u32::try_from(wish.remove.len()).unwrap_or(u32::MAX);
            let growth = wish
                .replicas_to
                .saturating_add(leaving)
                .saturating_sub(wish.replicas_from);
            let queued = self.queued.entry(group.name.clone()).or_default();
            *queued = queued.saturating_add(growth);
            let mut named = Vec::new();
            for removal in &wish.remove {
                if removal.cause == RemovalCause::Idle {
                    moves.drains.extend(node_ids(snapshot, &removal.pods));
                } else {
                    named.extend(removal.pods.iter().map(|pod| pod.as_str().to_owned()));
                }
            }
            if is_locked {
                // The launch is refused; the demand is seen again next time.
                *queued = 0;
                continue;
            }
            let hosts = u64::from(group.num_of_hosts.max(1));
            let room = LAUNCHES_MAX.saturating_sub(requested) / hosts;
            let launched = (*queued).min(u32::try_from(room).unwrap_or(u32::MAX));
            *queued = queued.saturating_sub(launched);
            requested = requested.saturating_add(u64::from(launched) * hosts);
            let gone = u32::try_from(
                wish.remove
                    .iter()
                    .filter(|r| r.cause != RemovalCause::Idle)
                    .count(),
            );
            let replicas = group
                .replicas
                .saturating_add(launched)
                .saturating_sub(gone.unwrap_or(0))
                .max(group.bounds.min);
            moves
                .patch
                .extend(patch(group.index, (group.replicas, replicas), named, group));
        }
        moves
    }
}

/// Returns the pods that were asked for and are not there.
fn unseen(snapshot: &ClusterSnapshot, group: &crate::model::WorkerGroup) -> u64 {
    let there = snapshot.nodes.iter().filter(|node| {
        node.kind == NodeKind::Worker && node.group == group.name && node.status.is_live()
    });
    let there = u64::try_from(there.count()).unwrap_or(u64::MAX);
    group.pods_of(group.replicas).saturating_sub(there)
}

fn node_ids(snapshot: &ClusterSnapshot, pods: &[crate::model::PodName]) -> Vec<Vec<u8>> {
    let nodes = snapshot
        .nodes
        .iter()
        .filter(|node| pods.contains(&node.name));
    nodes
        .filter_map(|node| Some(node.node_id?.as_bytes().to_vec()))
        .collect()
}

fn patch(
    index: usize,
    (from, to): (u32, u32),
    named: Vec<String>,
    group: &crate::model::WorkerGroup,
) -> Vec<Value> {
    let path = format!("/spec/workerGroupSpecs/{index}");
    let mut operations = Vec::new();
    if from != to {
        operations.push(json!({"op": "replace", "path": format!("{path}/replicas"), "value": to}));
    }
    let is_finished = named.is_empty() && !group.workers_to_delete.is_empty();
    if !named.is_empty() || (is_finished && from != to) {
        let list = json!({"workersToDelete": named});
        operations
            .push(json!({"op": "add", "path": format!("{path}/scaleStrategy"), "value": list}));
    }
    operations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupDecision, PodName, ReplicaBounds, ReplicaRemoval, WorkerGroup};

    fn group(replicas: u32, named: &[&str]) -> WorkerGroup {
        WorkerGroup {
            surge: 0,
            has_replicas: true,
            name: WorkerGroupName::from("g"),
            index: 0,
            replicas,
            bounds: ReplicaBounds { min: 0, max: 100 },
            num_of_hosts: 1,
            priority: 0,
            idle_timeout_ms: None,
            template: crate::model::NodeTemplate::default(),
            workers_to_delete: named.iter().map(|name| PodName::from(*name)).collect(),
            has_scale_strategy: false,
            has_workers_to_delete: false,
        }
    }

    fn snapshot(replicas: u32, named: &[&str]) -> ClusterSnapshot {
        ClusterSnapshot {
            groups: vec![group(replicas, named)],
            ..ClusterSnapshot::default()
        }
    }

    fn wish(from: u32, to: u32, remove: Vec<ReplicaRemoval>) -> ScaleDecision {
        ScaleDecision {
            groups: vec![GroupDecision {
                name: WorkerGroupName::from("g"),
                replicas_from: from,
                replicas_to: to,
                remove,
                forget: Vec::new(),
                reasons: Vec::new(),
            }],
            ..ScaleDecision::default()
        }
    }

    fn replicas(moves: &Moves) -> Vec<&Value> {
        moves
            .patch
            .iter()
            .map(|operation| &operation["value"])
            .collect()
    }

    #[test]
    fn the_engine_takes_its_settings() {
        assert_eq!(engine().chain().count(), Engine::default().chain().count());
    }

    #[test]
    fn ten_pods_are_asked_for_at_a_time_and_the_rest_waits_in_the_queue() {
        let mut memory = Memory::default();
        let moves = memory.moves(&snapshot(0, &[]), &wish(0, 30, Vec::new()));
        assert_eq!(replicas(&moves), [&json!(10)]);
        // Ten are asked for and not there; what is queued stays although nobody needs it any more.
        let later = snapshot(10, &[]);
        assert_eq!(memory.with_queue(&later).groups[0].replicas, 30);
        let moves = memory.moves(&later, &wish(30, 30, Vec::new()));
        assert_eq!(moves, Moves::default());
    }

    #[test]
    fn an_idle_worker_is_drained_first_and_named_when_its_raylet_is_gone() {
        let removal = |cause| {
            vec![ReplicaRemoval {
                replica: crate::model::ReplicaName::from("p"),
                pods: vec![PodName::from("p")],
                cause,
                idle_ms: 0,
                finish: crate::model::Finish::default(),
            }]
        };
        let mut memory = Memory::default();
        let idle = wish(1, 0, removal(RemovalCause::Idle));
        assert_eq!(
            memory.moves(&snapshot(1, &[]), &idle).patch,
            Vec::<Value>::new()
        );
        let stopped = wish(1, 0, removal(RemovalCause::Stopped));
        let moves = memory.moves(&snapshot(1, &[]), &stopped);
        assert_eq!(
            replicas(&moves),
            [&json!(0), &json!({"workersToDelete": ["p"]})]
        );
    }
}
