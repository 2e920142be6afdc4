//! A cluster that is looked at and changed pass by pass, as the controller does it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use rayscaler::engine::{ChainEntry, Engine};
use rayscaler::model::{
    Input, NodeStatus, PODS_END, PODS_REFUSED, Reason, RemovalCause, ScaleDecision, ScaleEvent,
};
use rayscaler::policy::Registry;
use serde_json::Value;

use super::builders::{Cluster, lines, resources};

/// Returns the default engine with other settings of some policies.
pub fn engine(settings: &[(&str, Value)]) -> Engine {
    let mut chain = ChainEntry::defaults();
    for (name, value) in settings {
        let entry = chain.iter_mut().find(|entry| entry.name == *name);
        entry.unwrap().settings = value.clone();
    }
    Engine::new(&chain, &Registry::default()).unwrap()
}

/// Says that a decision was carried out, as the controller does after its patch.
pub fn patched(cluster: &mut Cluster, decision: &ScaleDecision) {
    for group in decision.groups.iter().filter(|group| group.is_change()) {
        let of = |cause| {
            let removed = group.remove.iter().filter(|removal| removal.cause == cause);
            u32::try_from(removed.count()).unwrap()
        };
        let named = u32::try_from(group.remove.len()).unwrap();
        let launched = (group.replicas_to + named).saturating_sub(group.replicas_from);
        let (name, removed) = (&group.name, of(RemovalCause::Idle));
        let event = ScaleEvent {
            launched,
            removed,
            named,
            ..ScaleEvent::default()
        };
        cluster
            .history
            .absorb(&Input::Paced(name, event), cluster.now);
        let (from, to) = (group.replicas_from, group.replicas_to);
        let scaled = Input::Scaled {
            group: name,
            from,
            to,
        };
        cluster.history.absorb(&scaled, cluster.now);
        let surged = Input::Surged {
            group: name,
            replicas: to,
            surge: group.surge(),
        };
        cluster.history.absorb(&surged, cluster.now);
        let is_for = |code| group.reasons.iter().any(|reason| reason.code == code);
        let refused = is_for(PODS_REFUSED);
        let by_recycle = |it: &Reason| it.policy == "recycle" && it.to < it.from;
        let mut given_up = of(RemovalCause::Stuck);
        if group.reasons.iter().any(by_recycle) {
            given_up += of(RemovalCause::HalfStarted);
        }
        if refused || given_up > 0 && !is_for(PODS_END) {
            let gave_up = Input::GaveUp {
                group: name,
                refused,
            };
            cluster.history.absorb(&gave_up, cluster.now);
        }
    }
    cluster.apply(decision);
    see(cluster);
}

/// Looks at the cluster, as the controller does before each decision.
pub fn see(cluster: &mut Cluster) {
    cluster.snapshot.sort();
    let snapshot = cluster.snapshot.clone();
    cluster
        .history
        .absorb(&Input::Observed(&snapshot), cluster.now);
}

/// Lets time pass with every source read again.
pub fn wait(cluster: &mut Cluster, seconds: u64) {
    cluster.now = cluster.now.plus_ms(seconds * 1_000);
    let fresh = Some(cluster.now);
    let known = &mut cluster.snapshot.completeness;
    (known.gcs_at, known.pods_at, known.raycluster_at) = (fresh, fresh, fresh);
    see(cluster);
}

/// Decides, carries it out and returns what it says, but for names that are forgotten.
pub fn act(cluster: &mut Cluster, engine: &Engine) -> Vec<String> {
    let decision = cluster.decide_with(engine);
    patched(cluster, &decision);
    let mut lines = lines(&decision);
    let is_forgetting = |line: &String| {
        let is_header = line.contains(" -> ") && !line.contains(": ");
        line.starts_with("forget ") || line == "hold operator_silent" || is_header
    };
    lines.retain(|line| !is_forgetting(line));
    lines
}

/// Says that the pods of a group that were asked for are there and wait for `reason`.
pub fn pods_wait(cluster: &mut Cluster, name: &str, reason: &str) {
    cluster.settle();
    let now = cluster.now;
    let nodes = cluster.snapshot.nodes.iter_mut();
    for node in
        nodes.filter(|node| node.group.as_str() == name && node.name.as_str().contains("new"))
    {
        (node.status, node.waiting_reason) = (NodeStatus::Starting, reason.to_owned());
        node.created_at.get_or_insert(now);
        (node.total, node.available) = (resources(""), resources(""));
    }
    see(cluster);
}
