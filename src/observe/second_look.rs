//! Looks a second time where one look may have counted something twice.
//!
//! # Why
//!
//! GCS and raylets are asked at once and answer one after the other, and in between tasks and bundles find
//! their places: what waits in the first answer takes room in the second, and looks as if it needed a node
//! more. Whoever reads first what nodes have left and then what waits may miss something for a moment, but
//! counts nothing twice. So where something waits and something is new, those who told of what waits are asked
//! once more, and so are raylets that have just joined: until they answer nobody knows what waits there.
//! Considered: growing only when two rounds agree, which costs every growth the time until the next
//! round; asking one after the other, which costs every round another round trip. (2026-11)

use std::collections::BTreeSet;

use super::convert;
use super::load::{KnownLoad, agreed, demands_of};
use super::ray::{RaySource, by_node, says_the_same};
use super::ray_state::RayState;
use crate::model::{GangRequest, NodeId, ResourceDemand};

/// What the first look brought, before it was joined.
#[derive(Debug)]
pub(super) struct FirstLook {
    /// What waits, in the GCS's words.
    pub(super) told: Vec<ResourceDemand>,
    /// What is known beside them.
    pub(super) known: KnownLoad,
    /// Raylets whose address was known before.
    pub(super) members: BTreeSet<NodeId>,
}

impl RaySource {
    /// Corrects `state`, which a first look made, where it may count something twice.
    pub(super) async fn look_again(&self, state: &mut RayState, first: FirstLook) {
        let waits = !state.demands.is_empty() || !state.gangs.is_empty();
        let last = self.last_state();
        let is_old = last.is_some_and(|last| says_the_same(last, state));
        // Where no raylet answers all is the GCS's, as of one moment.
        if !waits || is_old || first.known.fresh.is_empty() {
            return;
        }
        let mut known = first.known;
        let alive = state.nodes.iter().filter(|node| node.status.is_alive());
        let silent: BTreeSet<NodeId> = alive
            .map(|node| node.node_id)
            .filter(|id| !known.fresh.contains_key(id))
            .collect();
        let told_by = known.fresh.iter();
        let told_by = told_by.filter(|(_, load)| !load.demands.is_empty());
        let joined = silent.difference(&first.members);
        let wanted = told_by.map(|(id, _)| *id).chain(joined.copied()).collect();
        let asked = self.members.addresses(&wanted);
        let is_asked = |id: &NodeId| asked.iter().any(|(asked, _)| asked == id);
        let needs_parts = known.by_node.is_none() && !silent.iter().all(is_asked);
        let parts = async {
            if needs_parts {
                self.gcs.get_all_resource_usage().await.ok()
            } else {
                None
            }
        };
        let (answers, gangs, parts) =
            tokio::join!(self.raylets.ask(&asked), self.gangs_again(state), parts);
        // Only what waits there now: what is left of the nodes has to be of before.
        for (id, answer) in answers {
            if let Ok(load) = answer {
                known.fresh.insert(id, load);
            }
        }
        known.by_node = known.by_node.or_else(|| parts.map(|parts| by_node(&parts)));
        // Requests also move from one raylet's queue to another's.
        state.demands = agreed(
            &state.demands,
            &demands_of(&state.nodes, &first.told, &known),
        );
        if let Some(gangs) = gangs {
            state.gangs = gangs;
        }
    }

    /// Returns the placement groups that wait now, where some waited before.
    async fn gangs_again(&self, state: &RayState) -> Option<Vec<GangRequest>> {
        if state.gangs.is_empty() {
            return None;
        }
        let read = |bytes| convert::encoded_state(bytes, state.received_at);
        let now = self.gcs.read_cluster_resource_state(read).await.ok()??;
        let is_same_gcs =
            now.session_name == state.session_name && now.state_version > state.state_version;
        is_same_gcs.then_some(now.gangs)
    }
}
