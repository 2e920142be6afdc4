//! Orders that reach raylets through the GCS: to drain, to be taken for dead, to be resized.

use super::cluster::Cluster;
use super::ids::hex;
use super::raylet::{Cause, Drain};
use crate::model::{NodeId, Quantity, ResourceMap, Timestamp};
use crate::wire::gcs::ray::rpc::autoscaler::{DrainNodeReason, DrainNodeReply, DrainNodeRequest};
use std::collections::BTreeMap;

const NOT_IDLE: &str = "The node to be idle terminated is no longer idle.";

/// Says what came of an order to drain.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum DrainAnswer {
    Reply(DrainNodeReply),
    /// Ray's name of the error, and its text.
    Error(&'static str, String),
    /// The raylet does not answer; the GCS will, when it finds it dead.
    NotYet,
}

impl Cluster {
    /// Passes an order to drain on to its raylet.
    pub(super) fn order_drain(&mut self, request: &DrainNodeRequest) -> DrainAnswer {
        if request.deadline_timestamp_ms < 0 {
            let text = format!(
                "Draining deadline must be non-negative, received {}",
                request.deadline_timestamp_ms
            );
            return DrainAnswer::Error("Invalid", text);
        }
        let accepted = DrainAnswer::Reply(DrainNodeReply {
            is_accepted: true,
            rejection_reason_message: String::new(),
        });
        let id = NodeId::from_bytes(&request.node_id);
        let Some(id) = id.filter(|id| self.gcs.believes_in(*id)) else {
            return accepted;
        };
        let Some(raylet) = self.raylets.get(&id) else {
            return DrainAnswer::NotYet;
        };
        let cause = match request.reason() {
            // The raylet aborts over a reason that it does not know.
            DrainNodeReason::Unspecified => {
                self.crash(id);
                return DrainAnswer::NotYet;
            }
            DrainNodeReason::IdleTermination => Cause::Idle,
            DrainNodeReason::Preemption => Cause::Preempted,
        };
        if raylet.drain.is_some() {
            return accepted;
        }
        if cause == Cause::Idle && !raylet.is_idle() {
            return DrainAnswer::Reply(DrainNodeReply {
                is_accepted: false,
                rejection_reason_message: NOT_IDLE.to_owned(),
            });
        }
        let deadline = request.deadline_timestamp_ms;
        let deadline = (deadline > 0).then(|| Timestamp::from_ms(deadline));
        let message = request.reason_message.clone();
        self.drain(
            id,
            Drain {
                cause,
                message,
                deadline,
            },
        );
        accepted
    }

    /// Sets totals of CPU and memory, and returns all totals.
    ///
    /// Errors: Ray's name of the error, and its text.
    pub(super) fn resize(
        &mut self,
        node_id: &[u8],
        resources: &BTreeMap<String, f64>,
    ) -> Result<ResourceMap, (&'static str, String)> {
        let id = NodeId::from_bytes(node_id);
        let id = id.ok_or_else(|| {
            (
                "InvalidArgument",
                format!("Invalid node id: expected 28 bytes, got {}", node_id.len()),
            )
        })?;
        if !self.gcs.believes_in(id) || !self.raylets.contains_key(&id) {
            return Err(("NotFound", format!("Raylet {} is not alive.", hex(node_id))));
        }
        if let Some(name) = resources
            .keys()
            .find(|name| !["CPU", "memory"].contains(&name.as_str()))
        {
            return Err((
                "InvalidArgument",
                format!("Resource {name} can not be resized."),
            ));
        }
        let now = self.now;
        let raylet = self.raylets.get_mut(&id);
        let raylet = raylet.ok_or_else(|| ("NotFound", String::new()))?;
        for (name, amount) in resources {
            let wanted = Quantity::from_f64(*amount)
                .unwrap_or_default()
                .max(Quantity::ZERO);
            raylet.resize(name, wanted, now);
        }
        let total = raylet.total.clone();
        self.unsettle();
        Ok(total)
    }
}
