//! Nodes that the GCS takes for alive although their pods are gone, or are being deleted by somebody.
//!
//! A pod watch knows within a tenth of a second what the GCS finds out by missed health checks. What
//! counts as gone is only what cannot be otherwise: a pod of which we knew the UID and that the
//! API server has no more, or a Ray container that has ended and that nobody will start again.

use std::collections::{BTreeMap, BTreeSet};

use super::join::JoinInput;
use super::ray_state::{RayNode, RayNodeStatus};
use crate::model::{Departure, DepartureKind, PodName, Timestamp, WorkerGroupName};
use crate::wire::pod::PodFacts;

/// Returns the departures in an observation, sorted.
///
/// `departed` has the UIDs of pods that were there and are gone.
#[must_use]
pub fn departures<'a>(
    input: &JoinInput<'a>,
    departed: &dyn Fn(&str) -> Option<&'a str>,
) -> Vec<Departure> {
    let alive = input.ray.nodes.iter().filter(|node| {
        let is_worker = !node.is_head && node.group != WorkerGroupName::HEAD;
        node.status.is_alive() && is_worker && !node.instance_id.is_empty()
    });
    let pods: BTreeMap<&str, &PodFacts> = input
        .pods
        .iter()
        .map(|pod| (pod.name.as_str(), *pod))
        .collect();
    let groups = input.raycluster.spec.worker_groups.iter().flatten();
    let named: BTreeSet<&str> = groups
        .flat_map(|group| group.workers_to_delete.iter().flatten())
        .map(String::as_str)
        .collect();
    let found = alive.filter_map(|node| {
        let name = node.instance_id.as_str();
        let (uid, kind) = match pods.get(name) {
            None => (departed(name)?, DepartureKind::Gone),
            Some(pod) => (pod.uid.as_str(), kind_of(pod, node, named.contains(name))?),
        };
        (!uid.is_empty()).then(|| Departure {
            node_id: node.node_id,
            pod: PodName::from(name),
            pod_uid: uid.to_owned(),
            group: WorkerGroupName::from(node.group.as_str()),
            kind,
        })
    });
    let mut found: Vec<Departure> = found.collect();
    found.sort();
    found
}

fn kind_of(pod: &PodFacts, node: &RayNode, is_named: bool) -> Option<DepartureKind> {
    if pod.node_type != "worker" {
        return None;
    }
    if pod.ray_has_ended() {
        return Some(DepartureKind::Gone);
    }
    // What stands in `workersToDelete` has been drained by whoever put it there.
    let is_news = node.status != RayNodeStatus::Draining && !is_named;
    let until = Timestamp::from_ms(pod.deletion_at_ms?);
    is_news.then_some(DepartureKind::Leaving { until })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::departures;
    use crate::model::{Completeness, Labels, NodeId, ResourceMap};
    use crate::observe::join::JoinInput;
    use crate::observe::ray_state::{RayNode, RayNodeStatus, RayState};
    use crate::wire::pod::PodFacts;
    use crate::wire::raycluster::RayCluster;

    fn pod(restart_policy: &str, deletion: Value, status: &Value) -> PodFacts {
        let pod = json!({
            "metadata": {"name": "w1", "uid": "u1", "deletionTimestamp": deletion,
                "labels": {"ray.io/cluster": "c", "ray.io/node-type": "worker", "ray.io/group": "g"}},
            "spec": {"restartPolicy": restart_policy, "containers": [{"name": "ray"}, {"name": "side"}]},
            "status": status,
        });
        PodFacts::from_value(&pod).unwrap()
    }

    fn containers(phase: &str, ray: &Value) -> Value {
        json!({"phase": phase, "containerStatuses": [
            {"name": "side", "state": {"terminated": {"exitCode": 0}}},
            {"name": "ray", "state": ray}]})
    }

    /// Returns what is found of one node, in a word.
    fn found(pod: Option<&PodFacts>, node: (RayNodeStatus, bool), named: &[&str]) -> String {
        let (status, is_head) = node;
        let node = RayNode {
            node_id: NodeId::from_bytes(&[7; 28]).unwrap(),
            instance_id: "w1".to_owned(),
            group: "g".to_owned(),
            ip_address: String::new(),
            raylet_address: None,
            status,
            is_head,
            total: ResourceMap::new(),
            available: ResourceMap::new(),
            labels: Labels::new(),
            idle_ms: 0,
        };
        let ray = RayState {
            nodes: vec![node],
            ..RayState::default()
        };
        let raycluster = RayCluster::from_value(&json!({"metadata": {"name": "c"}, "spec": {
            "workerGroupSpecs": [{"groupName": "g", "scaleStrategy": {"workersToDelete": named}}]}}))
        .unwrap();
        let pods: Vec<&PodFacts> = pod.into_iter().collect();
        let input = JoinInput {
            ray: &ray,
            raycluster: &raycluster,
            pods: &pods,
            completeness: Completeness::default(),
        };
        let known = BTreeMap::from([("w1", "u1")]);
        let found = departures(&input, &|name| known.get(name).copied());
        found.first().map_or_else(String::new, |departure| {
            assert_eq!(
                (departure.pod.as_str(), departure.pod_uid.as_str()),
                ("w1", "u1")
            );
            departure.kind.code().to_owned()
        })
    }

    #[test]
    fn only_what_cannot_come_back_is_gone() {
        let running = json!({"running": {}});
        let ended = json!({"terminated": {"exitCode": 137}});
        let soon = || json!("2026-11-25T01:02:03Z");
        let table = [
            (
                "runs",
                "Never",
                json!(null),
                containers("Running", &running),
                "",
            ),
            (
                "ended",
                "Never",
                json!(null),
                containers("Running", &ended),
                "gone",
            ),
            (
                "is started again",
                "Always",
                json!(null),
                containers("Running", &ended),
                "",
            ),
            (
                "ended while it is deleted",
                "Always",
                soon(),
                containers("Running", &ended),
                "gone",
            ),
            (
                "pod failed",
                "Always",
                json!(null),
                containers("Failed", &ended),
                "gone",
            ),
            // Evicted as far as the API server knows; the kubelet may not have been there yet.
            (
                "called failed",
                "Never",
                json!(null),
                containers("Failed", &running),
                "",
            ),
            (
                "is deleted",
                "Never",
                soon(),
                containers("Running", &running),
                "leaving",
            ),
        ];
        let alive = (RayNodeStatus::Running, false);
        for (what, policy, deletion, status, expected) in table {
            let pod = pod(policy, deletion, &status);
            assert_eq!(found(Some(&pod), alive, &[]), expected, "{what}");
        }
    }

    #[test]
    fn a_pod_that_was_there_and_is_no_more_is_gone() {
        assert_eq!(found(None, (RayNodeStatus::Idle, false), &[]), "gone");
        assert_eq!(found(None, (RayNodeStatus::Draining, false), &[]), "gone");
        assert_eq!(found(None, (RayNodeStatus::Dead, false), &[]), "");
        assert_eq!(found(None, (RayNodeStatus::Unknown, false), &[]), "");
        assert_eq!(
            found(None, (RayNodeStatus::Running, true), &[]),
            "",
            "a head"
        );
    }

    #[test]
    fn what_we_delete_ourselves_or_ray_knows_already_is_no_news() {
        let status = containers("Running", &json!({"running": {}}));
        let pod = pod("Never", json!("2026-11-25T01:02:03Z"), &status);
        assert_eq!(found(Some(&pod), (RayNodeStatus::Idle, false), &["w1"]), "");
        assert_eq!(found(Some(&pod), (RayNodeStatus::Draining, false), &[]), "");
        assert_eq!(
            found(Some(&pod), (RayNodeStatus::Idle, false), &["w2"]),
            "leaving"
        );
    }
}
