//! The RayCluster and the pods that every reply is joined with, and what has to hold of the decision.

use std::collections::BTreeSet;

use prost::Message as _;
use rayscaler::engine::{Engine, apply, invariants};
use rayscaler::model::{ClusterSnapshot, Completeness, History, Input, ScaleDecision, Timestamp};
use rayscaler::observe::convert::ray_state;
use rayscaler::observe::join::{JoinInput, join};
use rayscaler::wire::gcs::ray::rpc::autoscaler::GetClusterResourceStateReply;
use rayscaler::wire::pod::PodFacts;
use rayscaler::wire::raycluster::RayCluster;
use serde_json::{Value, json};

/// The groups of the RayCluster, the head's, and one that is not there.
pub(crate) const GROUPS: [&str; 5] = ["headgroup", "small", "rare", "slice", "gone"];
/// The pods, and one that is not there.
pub(crate) const PODS: [&str; 8] = [
    "demo-head",
    "demo-small-a",
    "demo-rare-a",
    "demo-rare-b",
    "demo-slice-a-0",
    "demo-slice-a-1",
    "demo-gone-a",
    "nobody",
];
const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

/// Holds what does not change from run to run.
pub(crate) struct World {
    raycluster: RayCluster,
    pods: Vec<PodFacts>,
    engine: Engine,
}

impl World {
    pub(crate) fn new() -> Self {
        let pods = PODS.iter().filter(|name| **name != "nobody");
        Self {
            raycluster: RayCluster::from_value(&raycluster()).unwrap(),
            pods: pods
                .map(|name| PodFacts::from_value(&pod(name)).unwrap())
                .collect(),
            engine: Engine::default(),
        }
    }

    /// Decides on a reply and checks the decision; returns the codes that it bears, `None` for what is no reply.
    pub(crate) fn run(&self, bytes: &[u8]) -> Result<Option<BTreeSet<String>>, String> {
        let Ok(reply) = GetClusterResourceStateReply::decode(bytes) else {
            return Ok(None);
        };
        let ray = ray_state(&reply.cluster_resource_state.unwrap_or_default(), NOW);
        let snapshot = join(&JoinInput {
            ray: &ray,
            raycluster: &self.raycluster,
            pods: &self.pods.iter().collect::<Vec<_>>(),
            completeness: Completeness {
                gcs_at: Some(NOW),
                pods_at: Some(NOW),
                raycluster_at: Some(NOW),
            },
        });
        let mut history = History::default();
        history.absorb(&Input::Observed(&snapshot), NOW);
        let decision = self.engine.decide(&snapshot, &history, NOW);
        let broken = invariants::check(&snapshot, &history, &decision);
        if !broken.is_empty() {
            return Err(format!("{broken:?}\n{decision:#?}"));
        }
        let again = self
            .engine
            .decide(&apply(&snapshot, &decision), &history, NOW);
        if again.is_change() {
            return Err(format!("I4: {decision:#?}\nthen {again:#?}"));
        }
        Ok(Some(codes(&snapshot, &decision)))
    }
}

/// Returns what distinguishes one decision from another: which things happened, not how often.
fn codes(snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> BTreeSet<String> {
    let reasons = decision.groups.iter().flat_map(|group| {
        let reasons = group
            .reasons
            .iter()
            .map(|reason| format!("{}/{}", group.name, reason.code));
        let removals = group
            .remove
            .iter()
            .map(|removal| format!("{}/{:?}", removal.replica, removal.cause));
        reasons.chain(removals)
    });
    let unserved = decision
        .unserved
        .iter()
        .map(|one| format!("{}/{}", one.class, one.code));
    let kept = decision
        .kept_idle
        .iter()
        .map(|kept| format!("{}/{}", kept.pod, kept.code));
    let holds = decision.holds.iter().map(|hold| hold.code.clone());
    let problems = snapshot.problems.iter().map(|problem| problem.code.clone());
    reasons
        .chain(unserved)
        .chain(kept)
        .chain(holds)
        .chain(problems)
        .collect()
}

fn raycluster() -> Value {
    let template = json!({"spec": {"containers": [{"name": "ray", "resources": {"limits": {"cpu": 2, "memory": "1Gi"}}}]}});
    let group = |name: &str, more: Value| {
        let mut group = json!({"groupName": name, "replicas": 1, "minReplicas": 0, "maxReplicas": 3, "template": template});
        group
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        group
    };
    json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster",
        "metadata": {"name": "demo", "namespace": "default", "uid": "u"},
        "spec": {
            "enableInTreeAutoscaling": true,
            "autoscalerOptions": {"idleTimeoutSeconds": 30},
            "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": template},
            "workerGroupSpecs": [
                group("small", json!({"rayStartParams": {"resources": "'{\"small\": 1}'"}, "labels": {"zone": "z1"}})),
                group("rare", json!({"replicas": 2, "maxReplicas": 2_147_483_647, "idleTimeoutSeconds": 90, "priority": -1})),
                group("slice", json!({"numOfHosts": 2, "minReplicas": 1})),
            ],
        },
    })
}

fn pod(name: &str) -> Value {
    let group = GROUPS
        .iter()
        .find(|group| name.contains(&format!("-{group}-")))
        .unwrap_or(&"headgroup");
    let mut labels = json!({
        "ray.io/cluster": "demo", "ray.io/group": group,
        "ray.io/node-type": if name == "demo-head" { "head" } else { "worker" },
    });
    if *group == "slice" {
        labels["ray.io/worker-group-replica-name"] = json!("slice-a");
        labels["ray.io/replica-host-index"] = json!(&name[name.len() - 1..]);
    }
    json!({
        "metadata": {"name": name, "creationTimestamp": "2026-11-25T08:00:00Z", "labels": labels},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "ray"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "ray", "restartCount": 0, "state": {"running": {}}}]},
    })
}
