//! Ray nodes and the pods they live in.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Labels, ResourceMap, Timestamp, WorkerGroupName};

/// Names a pod; a Ray node's instance id is the name of its pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodName(Arc<str>);

/// Names a replica: the label `ray.io/worker-group-replica-name`, or the pod where a replica is one pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaName(Arc<str>);

macro_rules! text_name {
    ($name:ident) => {
        impl $name {
            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(Arc::from(name))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
text_name!(PodName);
text_name!(ReplicaName);

/// Identifies a raylet; 28 bytes, shown as 56 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 28]);

impl NodeId {
    /// Returns the id with these bytes; `None` unless there are 28.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 28] {
        &self.0
    }

    /// Returns the id written as 56 hex digits; `None` for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = text.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        Self::from_bytes(&bytes.collect::<Option<Vec<u8>>>()?)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("expected 56 hex digits"))
    }
}

/// Tells the head from the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// The head: capacity for demand, never removed.
    Head,
    /// A worker.
    Worker,
}

/// Says what can be expected of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// Asked for and not passed on yet; only Ray's own instance table knows such nodes.
    Queued,
    /// Passed on, without a pod so far; a snapshot of KubeRay has them as a number, in `replicas`.
    Requested,
    /// The pod is there, its raylet has not registered yet: capacity to come.
    Starting,
    /// The raylet is alive.
    Running,
    /// The raylet was told to stop: no capacity, its pod is to be named.
    Draining,
    /// The raylet is gone for good and the pod is still there (`ray start --block` outlives a
    /// drained raylet): no capacity, its pod is to be named.
    Stopped,
    /// The pod ended (Failed, Succeeded, or its Ray container will not come back): the operator deletes and
    /// replaces it.
    Failed,
    /// The pod's name stands in `workersToDelete`: no capacity, going.
    Deleting,
    /// The pod has a deletion timestamp, and had not ended before or was named: no capacity, going.
    Terminating,
    /// The GCS knows an alive node of a pod that does not exist (any more).
    Lost,
}

impl NodeStatus {
    /// Returns whether demand may be placed on such a node.
    #[must_use]
    pub const fn is_capacity(self) -> bool {
        matches!(
            self,
            Self::Queued | Self::Requested | Self::Starting | Self::Running
        )
    }

    /// Returns whether the operator counts the pod towards `replicas` and nobody has asked for its deletion.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(
            self,
            Self::Queued
                | Self::Requested
                | Self::Starting
                | Self::Running
                | Self::Draining
                | Self::Stopped
        )
    }
}

/// Holds one Ray node, its pod, or both.
///
/// Shape: `total`, `available` and `labels` are what the raylet registered; empty while
/// `Starting` (then the group's template says what will come).
/// Source: `NodeState` joined with the pod of that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The pod's name, which is the node's instance id.
    pub name: PodName,
    /// The raylet's id; `None` while none has registered.
    pub node_id: Option<NodeId>,
    /// `address:port` of the raylet's own service; `None` when unknown.
    pub raylet_address: Option<String>,
    /// Head or worker.
    pub kind: NodeKind,
    /// The worker group; `headgroup` for the head.
    pub group: WorkerGroupName,
    /// The replica the pod belongs to.
    pub replica: ReplicaName,
    /// Position among the hosts of its replica, from 0.
    pub host_index: u32,
    /// What can be expected of it.
    pub status: NodeStatus,
    /// Registered totals.
    pub total: ResourceMap,
    /// Available amounts; Ray leaves out keys that are used up.
    pub available: ResourceMap,
    /// Registered labels, `_PG_<id>` of placed groups included.
    pub labels: Labels,
    /// Since when the raylet has been idle; `None` when it is not, or is not running.
    pub idle_since: Option<Timestamp>,
    /// When the pod was created; `None` when there is no pod.
    pub created_at: Option<Timestamp>,
    /// Why the pod does not run yet, in Kubernetes' words (`Unschedulable`, `ImagePullBackOff`); empty when unknown.
    pub waiting_reason: String,
    /// Address of a pod in which no raylet is known, to know one by that goes by another name; empty for all others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_ip: String,
}

#[cfg(test)]
mod tests {
    use super::NodeId;

    #[test]
    fn node_ids_are_56_hex_digits() {
        let text = "0a".repeat(28);
        assert_eq!(
            NodeId::from_hex(&text).map(|id| id.to_string()),
            Some(text.clone())
        );
        assert_eq!(NodeId::from_hex(&text[1..]), None);
        assert_eq!(NodeId::from_hex(&"zz".repeat(28)), None);
        assert_eq!(NodeId::from_hex("ä"), None);
    }
}
