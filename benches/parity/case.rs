//! One case as it is stored.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use prost::Message;
use rayscaler::wire::gcs::ray::rpc::autoscaler as wire;
use serde::Deserialize;
use serde_json::Value;

/// Holds one case.
pub(crate) struct Case {
    pub(crate) config: Config,
    pub(crate) state: wire::ClusterResourceState,
}

/// What the scheduler needs besides the reply of the GCS.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    pub(crate) node_types: Vec<NodeType>,
    #[serde(default = "head_type")]
    pub(crate) head_node_type: String,
    pub(crate) max_num_nodes: Option<u64>,
    pub(crate) idle_timeout_s: Option<f64>,
    pub(crate) pending_idle_timeout_s: Option<f64>,
    #[serde(default)]
    pub(crate) cloud_resource_availabilities: BTreeMap<String, f64>,
    #[serde(default)]
    pub(crate) recoverable_resource_availabilities: BTreeMap<String, f64>,
    /// The instance table; anything else than a list stands for one row per node.
    #[serde(default)]
    instances: Value,
    #[serde(default)]
    instances_extra: Vec<Row>,
    pub(crate) ippr: Option<Ippr>,
    pub(crate) clock_steps_s: Option<Vec<f64>>,
}

fn head_type() -> String {
    "headgroup".to_owned()
}

/// A worker group, or the head's.
#[derive(Debug, Deserialize)]
pub(crate) struct NodeType {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) min: u32,
    pub(crate) max: u32,
    #[serde(default)]
    pub(crate) resources: BTreeMap<String, f64>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) idle_timeout_s: Option<f64>,
    #[serde(default)]
    pub(crate) priority: i64,
}

/// A row of Ray's instance table.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) cloud_id: String,
    #[serde(rename = "type")]
    pub(crate) node_type: String,
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) node: String,
}

/// In-place resizing.
#[derive(Debug, Deserialize)]
pub(crate) struct Ippr {
    pub(crate) groups: BTreeMap<String, IpprGroup>,
    #[serde(default)]
    pub(crate) statuses: Vec<IpprStatus>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct IpprGroup {
    pub(crate) max_cpu: f64,
    pub(crate) max_memory: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct IpprStatus {
    pub(crate) group: String,
    pub(crate) cloud_instance_id: String,
    pub(crate) current_cpu: f64,
    pub(crate) current_memory: f64,
    pub(crate) desired_cpu: f64,
    pub(crate) desired_memory: f64,
    pub(crate) resizing_at: Option<i64>,
    pub(crate) k8s_resize_status: Option<String>,
    pub(crate) suggested_max_cpu: Option<f64>,
    pub(crate) suggested_max_memory: Option<f64>,
    pub(crate) last_failed_at: Option<i64>,
}

impl Case {
    /// Reads a case.
    pub(crate) fn read(folder: &Path, name: &str) -> Self {
        let text = fs::read_to_string(folder.join(format!("{name}.in.json"))).unwrap();
        let bytes = fs::read(folder.join(format!("{name}.pb"))).unwrap();
        let reply = wire::GetClusterResourceStateReply::decode(bytes.as_slice()).unwrap();
        Self {
            config: serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{name}.in.json: {error}")),
            state: reply.cluster_resource_state.unwrap_or_default(),
        }
    }

    /// Returns the instance table.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let nodes = self.state.node_states.iter();
        let mut rows: Vec<Row> = match &self.config.instances {
            rows @ Value::Array(_) => serde_json::from_value(rows.clone()).unwrap(),
            _ => nodes.map(|node| self.row_of(node)).collect(),
        };
        rows.extend(self.config.instances_extra.iter().cloned());
        rows
    }

    fn row_of(&self, node: &wire::NodeState) -> Row {
        let is_head = node.ray_node_type_name == self.config.head_node_type;
        Row {
            id: node.instance_id.clone(),
            cloud_id: node.instance_id.clone(),
            node_type: node.ray_node_type_name.clone(),
            status: "RAY_RUNNING".to_owned(),
            kind: if is_head { "HEAD" } else { "WORKER" }.to_owned(),
            node: hex(&node.node_id),
        }
    }
}

/// Returns bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
