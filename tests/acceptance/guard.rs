//! Watches that no worker with work is named for removal, whatever else does not answer meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rayscaler::wire::gcs::GcsClient;
use rayscaler::wire::gcs::ray::rpc::autoscaler::{NodeState, NodeStatus};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::stand_ins::Cluster;

/// A node with a raylet that has work.
const RUNNING: i32 = NodeStatus::Running as i32;

/// A node with a raylet that was told to stop and may still have work.
const DRAINING: i32 = NodeStatus::Draining as i32;

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    /// Pods that were named while they had work.
    named_busy: Vec<String>,
    /// Pods that had work in the last look.
    busy: BTreeSet<String>,
    /// Most replicas of the first group.
    replicas_peak: i64,
    /// Most requests of tasks and actors that Ray told of at once.
    requests_peak: i64,
}

/// A watch over one cluster.
pub(super) struct Guard {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Guard {
    /// Starts it; `gcs` makes clients of the head's GCS.
    pub(super) fn start(
        cluster: Cluster,
        gcs: impl Fn() -> GcsClient + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::default();
        let task = tokio::spawn(watch(cluster, gcs, Arc::clone(&seen)));
        Self { seen, task }
    }

    /// Returns the most replicas that the first group was ever asked to have.
    pub(super) fn replicas_peak(&self) -> i64 {
        self.seen.lock().unwrap().replicas_peak
    }

    /// Returns the most requests of tasks and actors that Ray ever told of at once.
    pub(super) fn requests_peak(&self) -> i64 {
        self.seen.lock().unwrap().requests_peak
    }

    /// Has the peaks begin anew.
    pub(super) fn forget_peaks(&self) {
        let mut seen = self.seen.lock().unwrap();
        (seen.replicas_peak, seen.requests_peak) = (0, 0);
    }

    /// Returns whether a pod had work in the last look.
    pub(super) fn saw_busy(&self, pod: &str) -> bool {
        self.seen.lock().unwrap().busy.contains(pod)
    }

    /// Ends the watch and returns the pods that were named while they had work.
    pub(super) fn end(&self) -> Vec<String> {
        let is_watched = !self.task.is_finished();
        assert!(is_watched, "the guard did not watch to the end");
        self.task.abort();
        self.seen.lock().unwrap().named_busy.clone()
    }
}

/// Notes every pod that comes into a `workersToDelete` while it had work in the last look before.
async fn watch(cluster: Cluster, gcs: impl Fn() -> GcsClient, seen: Arc<Mutex<Seen>>) {
    let (api, mut client) = (cluster.api(), gcs());
    let mut known = BTreeSet::new();
    loop {
        if let Ok(object) = api.get(&cluster.name).await {
            let object = serde_json::to_value(object).unwrap();
            let names = named_in(&object);
            let mut seen = seen.lock().unwrap();
            let new = names.difference(&known);
            let named_busy = new.filter(|name| seen.busy.contains(*name)).cloned();
            let named_busy: Vec<String> = named_busy.collect();
            seen.named_busy.extend(named_busy);
            let replicas = object["spec"]["workerGroupSpecs"][0]["replicas"].as_i64();
            seen.replicas_peak = seen.replicas_peak.max(replicas.unwrap_or(0));
            known = names;
        }
        match client.get_cluster_resource_state().await {
            Ok(reply) => {
                let state = reply.cluster_resource_state.unwrap_or_default();
                let requests = state.pending_resource_requests.iter();
                let requests = requests.map(|request| request.count).sum();
                let mut seen = seen.lock().unwrap();
                seen.requests_peak = seen.requests_peak.max(requests);
                look(&state.node_states, &mut seen.busy);
            }
            // It may be another cluster's now.
            Err(_) => client = gcs(),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Who is not in the list keeps what was known of it: a GCS that started anew does not know every raylet yet.
fn look(nodes: &[NodeState], busy: &mut BTreeSet<String>) {
    let mut has_it: BTreeMap<&str, bool> = BTreeMap::new();
    for node in nodes {
        let works = [RUNNING, DRAINING].contains(&node.status) && has_work(node);
        *has_it.entry(&node.instance_id).or_default() |= works;
    }
    for (pod, works) in has_it {
        if works {
            busy.insert(pod.to_owned());
        } else {
            busy.remove(pod);
        }
    }
}

/// Returns the pods that all groups name for removal.
pub(super) fn named_in(object: &Value) -> BTreeSet<String> {
    let groups = object["spec"]["workerGroupSpecs"].as_array();
    let lists = groups
        .into_iter()
        .flatten()
        .filter_map(|group| group["scaleStrategy"]["workersToDelete"].as_array());
    lists
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

pub(super) fn has_work(node: &NodeState) -> bool {
    node.total_resources.iter().any(|(name, total)| {
        let available = node.available_resources.get(name).copied().unwrap_or(0.0);
        name != "object_store_memory" && available + 1e-6 < *total
    })
}
