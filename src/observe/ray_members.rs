//! Who is in the Ray cluster: addresses of raylets, nodes with drivers, the head's folders.
//!
//! All of it changes seldom, so the GCS is asked only when a node appears whose address is not
//! known, and for drivers every few seconds in a cluster too large to ask every raylet.

use std::collections::{BTreeMap, BTreeSet};

use super::ray_state::{RayNode, RayState};
use crate::model::{NodeId, Timestamp};
use crate::wire::gcs::GcsClient;
use crate::wire::gcs::ray::rpc;

/// Between two questions for addresses: a node may take a moment to show up.
const ASK_AGAIN_MS: u64 = 1_000;

/// Between two questions for drivers; a new driver's raylet is asked in turn until then.
const DRIVERS_EVERY_MS: u64 = 10_000;

/// Holds what is known of one alive node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Member {
    /// `address:port` of its raylet.
    pub(super) raylet_address: String,
    /// Its address.
    pub(super) ip_address: String,
    /// Whether it is the head's.
    pub(super) is_head: bool,
}

/// Holds the alive nodes and where drivers run.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Alive nodes with a known address.
    pub(super) alive: BTreeMap<NodeId, Member>,
    /// Addresses of nodes where drivers run.
    pub(super) driver_ips: BTreeSet<String>,
    /// `temp_dir` of the head; empty where Ray does not tell.
    pub(super) head_temp_dir: String,
    /// Address of the head's node.
    pub(super) head_ip: String,
    asked_at: Option<Timestamp>,
    drivers_at: Option<Timestamp>,
}

impl Members {
    /// Forgets everything: the GCS may be another one.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Brings the members in step with a state; what the GCS does not answer is asked again later.
    pub(super) async fn refresh(&mut self, gcs: &GcsClient, state: &RayState, now: Timestamp) {
        let alive: BTreeSet<NodeId> = state
            .nodes
            .iter()
            .filter(|node| node.status.is_alive())
            .map(|node| node.node_id)
            .collect();
        self.alive.retain(|id, _| alive.contains(id));
        let is_due =
            |at: Option<Timestamp>, every_ms| at.is_none_or(|at| now.millis_since(at) >= every_ms);
        let somebody_is_new = alive.iter().any(|id| !self.alive.contains_key(id));
        if somebody_is_new && is_due(self.asked_at, ASK_AGAIN_MS) {
            self.asked_at = Some(now);
            if let Ok(reply) = gcs.get_all_node_info().await {
                self.take_in(&reply, &alive);
            }
        }
        if alive.len() > 1 && is_due(self.drivers_at, DRIVERS_EVERY_MS) {
            self.drivers_at = Some(now);
            if let Ok(reply) = gcs.get_all_job_info().await {
                let running = reply.job_info_list.into_iter().filter(|job| !job.is_dead);
                self.driver_ips = running.map(|job| job.driver_ip_address).collect();
            }
        }
    }

    /// Returns the addresses of these raylets, as far as they are known.
    pub(super) fn addresses(&self, ids: &BTreeSet<NodeId>) -> Vec<(NodeId, String)> {
        let known = ids.iter().filter_map(|id| {
            let member = self.alive.get(id)?;
            Some((*id, member.raylet_address.clone()))
        });
        known.collect()
    }

    /// Writes the raylet addresses into the nodes of a state.
    pub(super) fn address(&self, nodes: &mut [RayNode]) {
        for node in nodes {
            node.raylet_address = self
                .alive
                .get(&node.node_id)
                .map(|member| member.raylet_address.clone());
        }
    }

    fn take_in(&mut self, reply: &rpc::GetAllNodeInfoReply, alive: &BTreeSet<NodeId>) {
        for info in &reply.node_info_list {
            let Some(id) = NodeId::from_bytes(&info.node_id).filter(|id| alive.contains(id)) else {
                continue;
            };
            let member = Member {
                raylet_address: join_host_port(&info.node_manager_address, info.node_manager_port),
                ip_address: info.node_manager_address.clone(),
                is_head: info.is_head_node,
            };
            if info.is_head_node {
                self.head_temp_dir.clone_from(&info.temp_dir);
                self.head_ip.clone_from(&info.node_manager_address);
            }
            self.alive.insert(id, member);
        }
    }
}

fn join_host_port(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::join_host_port;

    #[test]
    fn addresses_of_both_families_can_be_dialled() {
        assert_eq!(join_host_port("10.0.0.1", 7), "10.0.0.1:7");
        assert_eq!(join_host_port("fd00::1", 7), "[fd00::1]:7");
    }
}
