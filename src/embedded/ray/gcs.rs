//! What the GCS knows: nodes as they last reported, keys, drivers, what was reported to it.

use super::Settings;
use super::ids::Ids;
use super::raylet::{Cause, NodeSpec, Raylet, Report};
use crate::model::{Labels, NodeId, ResourceMap, Timestamp};
use crate::wire::gcs::ray::rpc::autoscaler::AutoscalingState;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Namespace and name of a key.
pub(super) type Key = (Vec<u8>, Vec<u8>);

/// Holds a node as the GCS knows it.
#[derive(Debug)]
pub(super) struct Record {
    /// The how manieth raylet it is.
    pub(super) number: u64,
    pub(super) spec: Arc<NodeSpec>,
    pub(super) labels: Labels,
    pub(super) registered_at: Timestamp,
    pub(super) report: Report,
    pub(super) death: Option<Death>,
}

/// Holds when and why a node died.
#[derive(Debug, Clone)]
pub(super) struct Death {
    pub(super) at: Timestamp,
    pub(super) cause: Cause,
    pub(super) message: String,
}

/// Identifies a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub(super) u32);

/// Holds a driver, past or present.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) namespace: String,
    pub(super) node: Option<(NodeId, String)>,
    pub(super) started_at: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
}

/// Holds all of it.
#[derive(Debug)]
pub(super) struct Gcs {
    pub(super) is_up: bool,
    pub(super) cluster_id: [u8; 28],
    pub(super) session_name: String,
    /// Counts replies, and starts again with the process.
    pub(super) state_version: i64,
    pub(super) autoscaling_state: Option<AutoscalingState>,
    /// What `request_resources` last asked for.
    pub(super) constraint: Option<BTreeMap<ResourceMap, u64>>,
    pub(super) kv: BTreeMap<Key, Vec<u8>>,
    pub(super) records: BTreeMap<NodeId, Record>,
    pub(super) jobs: BTreeMap<JobId, Job>,
}

impl Gcs {
    /// Returns the GCS of a cluster that begins.
    pub(super) fn new(ids: &mut Ids, session_name: String, settings: &Settings) -> Self {
        let session = (b"session".to_vec(), b"session_name".to_vec());
        // Ray's own tools ask whether they are of the same version.
        let metadata = (b"cluster".to_vec(), b"CLUSTER_METADATA".to_vec());
        let about = json!({"ray_version": settings.version, "ray_init_cluster": false});
        let mut gcs = Self {
            is_up: true,
            cluster_id: ids.bytes(),
            kv: BTreeMap::from([
                (session, session_name.clone().into_bytes()),
                (metadata, about.to_string().into_bytes()),
            ]),
            session_name,
            state_version: 0,
            autoscaling_state: None,
            constraint: None,
            records: BTreeMap::new(),
            jobs: BTreeMap::new(),
        };
        gcs.set_v2(settings.autoscaler_v2);
        gcs
    }

    /// Writes the key that says which autoscaler is expected.
    pub(super) fn set_v2(&mut self, is_v2: bool) {
        let key = (
            b"__autoscaler".to_vec(),
            b"__autoscaler_v2_enabled".to_vec(),
        );
        let flag = if is_v2 { b"1" } else { b"0" };
        self.kv.insert(key, flag.to_vec());
    }

    /// Forgets what the process kept in memory.
    pub(super) fn stop(&mut self) {
        self.is_up = false;
        self.state_version = 0;
        self.autoscaling_state = None;
        self.constraint = None;
    }

    /// Notes a raylet that says hello; what it does is known from its first report.
    pub(super) fn register(&mut self, id: NodeId, raylet: &Raylet, now: Timestamp) {
        let report = Report {
            at: now,
            total: raylet.total.clone(),
            available: raylet.total.clone(),
            idle_ms: 0,
            drain: None,
            waiting: Vec::new(),
            activity: Vec::new(),
        };
        let registered_at = self
            .records
            .get(&id)
            .map_or(now, |known| known.registered_at);
        let record = Record {
            number: raylet.number,
            spec: Arc::clone(&raylet.spec),
            labels: raylet.labels.clone(),
            registered_at,
            report,
            death: None,
        };
        self.records.insert(id, record);
    }

    /// Returns whether the GCS takes a node for alive.
    pub(super) fn believes_in(&self, id: NodeId) -> bool {
        self.records
            .get(&id)
            .is_some_and(|record| record.death.is_none())
    }

    /// Returns the nodes that the GCS takes for alive.
    pub(super) fn alive(&self) -> impl Iterator<Item = (NodeId, &Record)> {
        let alive = self
            .records
            .iter()
            .filter(|(_, record)| record.death.is_none());
        alive.map(|(id, record)| (*id, record))
    }

    /// Returns the head's node.
    pub(super) fn head(&self) -> Option<(NodeId, &Record)> {
        self.alive().find(|(_, record)| record.spec.is_head)
    }
}
