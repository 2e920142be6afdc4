//! Who lives as of now: what is known of raylets may be seconds old.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::{ClusterSnapshot, Node, NodeId, NodeStatus};
use crate::wire::gcs::ray::rpc::GetAllNodeInfoReply;
use crate::wire::gcs::ray::rpc::gcs_node_info::GcsNodeState;

/// Holds the raylets that are alive.
#[derive(Debug, Default)]
pub(super) struct Members {
    pods: BTreeSet<String>,
    nodes: BTreeSet<NodeId>,
    /// Addresses of raylets that call themselves by no pod's name: whoever changes `RAY_CLOUD_INSTANCE_ID` in a pod is
    /// known by its address only.
    strangers: BTreeSet<IpAddr>,
}

impl Members {
    /// Returns those of a reply; the pods are known from the snapshot.
    pub(super) fn of(reply: &GetAllNodeInfoReply, snapshot: &ClusterSnapshot) -> Self {
        let with_pod = snapshot
            .nodes
            .iter()
            .filter(|node| node.status != NodeStatus::Lost);
        let named: BTreeSet<&str> = with_pod.map(|node| node.name.as_str()).collect();
        let mut members = Self::default();
        for info in &reply.node_info_list {
            if info.state() != GcsNodeState::Alive {
                continue;
            }
            if !named.contains(info.instance_id.as_str()) {
                members
                    .strangers
                    .extend(info.node_manager_address.parse::<IpAddr>());
            }
            members.pods.insert(info.instance_id.clone());
            members.nodes.extend(NodeId::from_bytes(&info.node_id));
        }
        members
    }

    /// Returns whether a raylet lives in the pod of a host.
    pub(super) fn has_joined(&self, host: &Node) -> bool {
        let is_stranger = |address: IpAddr| self.strangers.contains(&address);
        self.pods.contains(host.name.as_str()) || host.pod_ip.parse().is_ok_and(is_stranger)
    }
}

/// Returns whether a host that nobody has asked to go has no raylet, as far as anybody knew.
pub(super) fn is_without_raylet(host: &Node) -> bool {
    matches!(host.status, NodeStatus::Starting | NodeStatus::Stopped)
}

/// Returns whether all hosts that ran as far as anybody knew are alive now.
pub(super) fn live_on(hosts: &[&Node], members: Option<&Members>) -> bool {
    let lives = |host: &&Node| {
        let id = host.node_id.as_ref();
        host.status != NodeStatus::Running
            || members.is_some_and(|all| id.is_some_and(|id| all.nodes.contains(id)))
    };
    hosts.iter().all(lives)
}
