//! Replicas of several hosts of which some have registered and the others do not come up.

use super::{Drained, Drainer, KnownMembers};
use crate::model::{ClusterSnapshot, Node, NodeStatus, ReplicaRemoval};

/// The word for a replica that stays since another of its hosts has registered.
const JOINED: &str = "has_registered";

impl Drainer {
    /// Drains the hosts of a replica that have registered; the others have nothing to drain, unless they have
    /// registered before it or while it was done.
    pub(super) async fn drain_half(
        &self,
        removal: &ReplicaRemoval,
        hosts: &[&Node],
        (snapshot, members): (&ClusterSnapshot, &KnownMembers),
    ) -> Drained {
        let facts = (snapshot, members);
        if let Some(joined) = self.joined(removal, hosts, (JOINED, facts)).await {
            return joined;
        }
        let is_starting = |host: &&Node| host.status == NodeStatus::Starting;
        let registered: Vec<&Node> = hosts
            .iter()
            .copied()
            .filter(|it| !is_starting(it))
            .collect();
        let mut outcome = self.drain_idle(removal, &registered, facts).await;
        if !outcome.may_go.is_empty() {
            let now = KnownMembers::new();
            let joined = self.joined(removal, hosts, (JOINED, (snapshot, &now)));
            if let Some(joined) = joined.await {
                (outcome.may_go, outcome.refused) = (joined.may_go, joined.refused);
            }
        }
        outcome
    }
}
