//! What is remembered of outages: after one, nodes that are missing are not gone, and nobody has
//! been idle for as long as it looks.

use serde::{Deserialize, Serialize};

use super::super::{
    ClusterSnapshot, Node, NodeId, NodeKind, NodeStatus, PodName, ScalingMode, Timestamp,
};
use super::History;

/// From this age on the GCS is out, not slow: it is asked every 5 s at the least.
const GCS_OUT_MS: u64 = 10_000;

/// Names one life of the head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadSeen {
    /// Its pod.
    pub pod: PodName,
    /// When that was made; a pod made anew may have the same name.
    pub created_at: Option<Timestamp>,
    /// Its raylet.
    pub node_id: Option<NodeId>,
}

/// Holds what is remembered of outages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recovery {
    /// Whether the GCS was out when it was last looked at.
    #[serde(default)]
    pub is_gcs_out: bool,
    /// When the GCS was last found to be back, or to be another one; `None` when it never was.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// The head as it was last seen running.
    #[serde(default)]
    pub head: Option<HeadSeen>,
    /// The mode of the last decision, and since when it has been so.
    #[serde(default)]
    pub mode: Option<(ScalingMode, Timestamp)>,
}

impl History {
    /// Notes that the GCS is back at `at`, whatever happened to it.
    pub(super) fn recover(&mut self, at: Timestamp) {
        self.recovery.since = Some(at);
        self.quiet.since = None;
        self.removable.clear();
    }

    pub(super) fn observe_outage(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        match snapshot.completeness.gcs_at {
            // Another cluster has not answered yet: its recovery has not begun.
            None if self.recovery.since.is_some() => self.recover(at),
            None => {}
            Some(gcs_at) if at.millis_since(gcs_at) > GCS_OUT_MS => self.recovery.is_gcs_out = true,
            Some(_) if self.recovery.is_gcs_out => {
                self.recovery.is_gcs_out = false;
                self.recover(at);
            }
            Some(_) => {}
        }
        self.observe_head(snapshot, at);
    }

    fn observe_head(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        let is_running_head =
            |node: &&Node| node.kind == NodeKind::Head && node.status == NodeStatus::Running;
        let Some(head) = snapshot.nodes.iter().find(is_running_head) else {
            return;
        };
        let seen = HeadSeen {
            pod: head.name.clone(),
            created_at: head.created_at,
            node_id: head.node_id,
        };
        let is_another = match &self.recovery.head {
            Some(known) => *known != seen,
            // A head that is younger than its workers has taken the place of another.
            None => snapshot.nodes.iter().any(|node| {
                node.kind == NodeKind::Worker
                    && node.created_at.is_some()
                    && node.created_at < seen.created_at
            }),
        };
        if is_another {
            self.recover(at);
        }
        self.recovery.head = Some(seen);
    }

    /// Returns until when nodes have time to register after an outage; `None` when there was none,
    /// all are back, or that time is over.
    #[must_use]
    pub fn recovers_until(
        &self,
        snapshot: &ClusterSnapshot,
        (now, within_ms): (Timestamp, u64),
    ) -> Option<Timestamp> {
        let since = self.recovery.since?;
        let until = since.plus_ms(within_ms);
        let is_missing = |node: &Node| {
            node.kind == NodeKind::Worker
                && node.status == NodeStatus::Starting
                && node.created_at.is_some_and(|created_at| created_at < since)
        };
        let is_read = snapshot.completeness.gcs_at.is_some_and(|at| at >= since);
        let is_over = now >= until || (is_read && !snapshot.nodes.iter().any(is_missing));
        (!is_over).then_some(until)
    }
}
