//! A look at who lives, once more: what was seen before a patch that was refused is old when the next one is sent.

use super::{Drainer, KnownMembers, node};
use crate::act::members::is_without_raylet;
use crate::model::{ClusterSnapshot, Node, PodName, Timestamp};

impl Drainer {
    /// Returns the time as drains know it.
    pub(in crate::act) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns whether any of these pods that had no raylet as far as anybody knew has one now, or nobody says that none
    /// has.
    pub(in crate::act) async fn have_joined(
        &self,
        snapshot: &ClusterSnapshot,
        pods: &[PodName],
    ) -> bool {
        let hosts = pods.iter().filter_map(|pod| node(snapshot, pod));
        let without: Vec<&Node> = hosts.filter(|host| is_without_raylet(host)).collect();
        if without.is_empty() {
            return false;
        }
        let known = KnownMembers::new();
        let members = self.members(snapshot, &known).await;
        members.is_none_or(|all| without.iter().any(|host| all.has_joined(host)))
    }
}
