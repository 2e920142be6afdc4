//! The RayCluster and the pods that every reply is joined with, and what has to hold of the decision.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use prost::Message as _;
use prost::bytes::Bytes;
use rayscaler::engine::invariants::{Again, check_again, check_of};
use rayscaler::engine::{ChainEntry, Engine, EngineSettings};
use rayscaler::model::{
    ClusterSnapshot, Completeness, History, Input, PodResize, PodSize, RemovalCause, ResizeState,
    Resizing, ScaleDecision, Timestamp,
};
use rayscaler::observe::convert::{encoded_state, ray_state};
use rayscaler::observe::join::{JoinInput, join};
use rayscaler::policy::{PolicyContext, Registry};
use rayscaler::wire::gcs::ray::rpc::autoscaler::{
    ClusterResourceState, GetClusterResourceStateReply,
};
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

/// Says how much of a decision is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What is to be written, once it is written.
    Usual,
    /// Everything, in every way.
    Full,
}

/// Holds what does not change from run to run.
pub(crate) struct World {
    raycluster: RayCluster,
    pods: Vec<PodFacts>,
    /// Which pods grow in place, and how far that has come.
    resizing: Resizing,
    engine: Engine,
}

impl World {
    /// Returns a RayCluster that nobody else has written to, one in which pods are named and the
    /// groups together have a limit, and one whose pods grow in place.
    pub(crate) fn all() -> [Self; 3] {
        let plain = raycluster();
        let mut named = plain.clone();
        for (group, pods) in [(1, ["demo-rare-b", "nobody"]), (2, ["demo-slice-a-1", "?"])] {
            named["spec"]["workerGroupSpecs"][group]["scaleStrategy"] =
                json!({"workersToDelete": pods});
        }
        let mut chain = ChainEntry::defaults();
        let maximum = chain.iter_mut().find(|entry| entry.name == "maximum");
        maximum.unwrap().settings = json!({"nodes_max": 4, "resources_max": {"CPU": 9}});
        let limited = Engine::new(&chain, &Registry::default()).unwrap();
        [
            Self::of(&plain, Engine::default()),
            Self::of(&named, limited),
            Self {
                resizing: resizing(),
                ..Self::of(&plain, Engine::default())
            },
        ]
    }

    fn of(raycluster: &Value, engine: Engine) -> Self {
        let pods = PODS.iter().filter(|name| **name != "nobody");
        Self {
            raycluster: RayCluster::from_value(raycluster).unwrap(),
            pods: pods
                .map(|name| PodFacts::from_value(&pod(name)).unwrap())
                .collect(),
            resizing: Resizing::default(),
            // One look counts: a second one would cost as much and find nothing new.
            engine: engine.with_settings(EngineSettings {
                seen_twice: false,
                ..EngineSettings::default()
            }),
        }
    }

    /// Decides on a reply and checks the decision; returns what tells it from others, `None` for what is no reply.
    pub(crate) fn run(&self, bytes: &[u8], effort: Effort) -> Result<Option<u64>, String> {
        let whole = GetClusterResourceStateReply::decode(bytes);
        let whole = whole.map(|reply| reply.cluster_resource_state);
        let parts = encoded_state(Bytes::copy_from_slice(bytes), NOW);
        let is_same = match (&whole, &parts) {
            (Ok(whole), Ok(parts)) => whole.is_some() == parts.is_some(),
            (whole, parts) => whole.is_err() && parts.is_err(),
        };
        if !is_same {
            return Err(format!(
                "read as one it is {:?}, and in parts {:?}",
                whole.err(),
                parts.err()
            ));
        }
        match whole {
            Ok(state) => self.run_on(&state.unwrap_or_default(), effort).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The same for a reply that has been read.
    pub(crate) fn run_on(
        &self,
        state: &ClusterResourceState,
        effort: Effort,
    ) -> Result<u64, String> {
        let ray = ray_state(state, NOW);
        let mut snapshot = join(&JoinInput {
            ray: &ray,
            raycluster: &self.raycluster,
            pods: &self.pods.iter().collect::<Vec<_>>(),
            completeness: Completeness {
                gcs_at: Some(NOW),
                pods_at: Some(NOW),
                raycluster_at: Some(NOW),
            },
        });
        snapshot.resizing = self.resizing.clone();
        let mut history = History::default();
        history.absorb(&Input::Observed(&snapshot), NOW);
        let decision = self.engine.decide(&snapshot, &history, NOW);
        let ctx = PolicyContext {
            snapshot: &snapshot,
            history: &history,
            now: NOW,
        };
        let mut broken = check_of(&self.engine, ctx, &decision);
        let again = match effort {
            Effort::Full => Again::ALL.to_vec(),
            // What changes nothing is decided again as it was.
            Effort::Usual if decision.is_change() => vec![Again::Applied],
            Effort::Usual => Vec::new(),
        };
        let again = again.into_iter();
        broken.extend(again.filter_map(|again| check_again(&self.engine, ctx, &decision, again)));
        if broken.is_empty() {
            Ok(kind(&snapshot, &decision))
        } else {
            Err(format!("{broken:?}\n{decision:#?}"))
        }
    }
}

/// Returns what distinguishes one decision from another: which things happened, not how often.
fn kind(snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> u64 {
    let mut codes: BTreeSet<(&str, &str)> = BTreeSet::new();
    for group in &decision.groups {
        let name = group.name.as_str();
        codes.extend(
            group
                .reasons
                .iter()
                .map(|reason| (name, reason.code.as_str())),
        );
        let removed = group.remove.iter();
        codes.extend(removed.map(|removal| {
            let cause = match removal.cause {
                RemovalCause::Idle => "idle",
                RemovalCause::AboveMax => "above_max",
                RemovalCause::AboveTotal => "above_total",
                RemovalCause::Stopped => "stopped",
                RemovalCause::Ordered => "ordered",
                RemovalCause::Withdrawn => "withdrawn",
                RemovalCause::Stuck => "stuck",
                RemovalCause::HalfStarted => "half_started",
            };
            (removal.replica.as_str(), cause)
        }));
    }
    let unserved = decision.unserved.iter();
    codes.extend(unserved.map(|one| (one.class.as_str(), one.code.as_str())));
    let kept = decision.kept_idle.iter();
    codes.extend(kept.map(|kept| (kept.pod.as_str(), kept.code.as_str())));
    codes.extend(decision.holds.iter().map(|hold| ("", hold.code.as_str())));
    let problems = snapshot.problems.iter();
    codes.extend(problems.map(|problem| ("?", problem.code.as_str())));
    // The same on every machine and in every run: the hasher has fixed keys.
    let mut hasher = DefaultHasher::new();
    codes.hash(&mut hasher);
    hasher.finish()
}

/// Returns groups whose pods grow to three times their size, and one pod for each stage on the way.
fn resizing() -> Resizing {
    let (base, most) = (PodSize::of((2_000, 1 << 30)), PodSize::of((6_000, 3 << 30)));
    let groups = ["small", "rare", "slice"].map(|group| (group.into(), most));
    let stages = [
        ("demo-small-a", (base, base), ResizeState::Settled),
        ("demo-rare-a", (base, most), ResizeState::Asked),
        ("demo-rare-b", (most, most), ResizeState::Resized),
        ("demo-slice-a-0", (base, most), ResizeState::Decided),
        ("demo-slice-a-1", (base, base), ResizeState::Settled),
    ];
    let pods = stages.map(|(pod, (current, desired), state)| {
        let resize = PodResize {
            current,
            desired,
            max: most,
            state,
            basis: None,
        };
        (pod.into(), resize)
    });
    Resizing {
        groups: groups.into(),
        pods: pods.into(),
    }
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
