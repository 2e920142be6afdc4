//! The node that all pods run on, in name only, and which pods it suits.

use super::Settings;
use crate::embedded::kube_time;
use crate::model::Timestamp;
use k8s_openapi::api::core::v1::{Node, PodSpec};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// Returns the node's name; nodes have no namespace, so it carries the pods' one.
pub(super) fn name(settings: &Settings) -> String {
    format!("node-of-{}", settings.namespace)
}

/// Makes the node, with room for any pod, unless it is there.
///
/// Nothing depends on it but what users see and in-place resizes, so a failure is not told.
pub(super) async fn create(client: &Client, settings: &Settings, now: Timestamp) {
    let nodes: Api<Node> = Api::all(client.clone());
    let name = name(settings);
    let room = json!({"cpu": "100000", "memory": "100Ti", "pods": "100000"});
    let node = json!({"metadata": {"name": name, "labels": settings.node_labels}});
    if let Ok(node) = serde_json::from_value(node) {
        drop(nodes.create(&PostParams::default(), &node).await);
    }
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady",
        "message": "", "lastHeartbeatTime": kube_time(now), "lastTransitionTime": kube_time(now)});
    let status = json!({"capacity": room, "allocatable": room, "conditions": [ready]});
    let patch = Patch::Merge(json!({"status": status}));
    drop(
        nodes
            .patch_status(&name, &PatchParams::default(), &patch)
            .await,
    );
}

/// Returns true when the node has all labels that a pod selects by.
pub(super) fn suits(settings: &Settings, spec: &PodSpec) -> bool {
    let mut wanted = spec.node_selector.iter().flatten();
    wanted.all(|(name, value)| settings.node_labels.get(name) == Some(value))
}

/// Returns the status of a pod that the node does not suit.
pub(super) fn unschedulable(now: Timestamp) -> Value {
    json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        "lastTransitionTime": kube_time(now),
    }]})
}

#[cfg(test)]
mod tests {
    use super::{Settings, suits};
    use serde_json::json;

    #[test]
    fn a_pod_suits_a_node_that_has_all_selected_labels() {
        let mut settings = Settings::new("n");
        settings
            .node_labels
            .insert("zone".to_owned(), "a".to_owned());
        let spec =
            |selector| serde_json::from_value(json!({"containers": [], "nodeSelector": selector}));
        assert!(suits(&settings, &spec(json!({})).unwrap()));
        assert!(suits(&settings, &spec(json!({"zone": "a"})).unwrap()));
        assert!(!suits(&settings, &spec(json!({"zone": "b"})).unwrap()));
        assert!(!suits(
            &settings,
            &spec(json!({"zone": "a", "tpu": "v4"})).unwrap()
        ));
    }
}
