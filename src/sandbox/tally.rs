//! Adds up what a scenario cost, sample by sample.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::embedded::ray::{HeadView, NodeCondition};

/// Holds one count of the workers of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Workers {
    /// Pods without a machine.
    pub(super) pending: u64,
    /// Pods with a machine, whose raylet has not joined.
    pub(super) starting: u64,
    /// Nodes with work.
    pub(super) busy: u64,
    /// Nodes without.
    pub(super) idle: u64,
    /// Pods whose raylet is told to stop or gone, or that are being deleted.
    pub(super) leaving: u64,
}

impl Workers {
    /// Returns the pods that have a machine, which is what is paid for.
    pub(super) const fn paid(self) -> u64 {
        self.starting + self.busy + self.idle + self.leaving
    }
}

/// Adds up what was paid for and what of it had work.
///
/// Units: node-milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Nodes that had work.
    pub(super) busy: u64,
    /// Nodes that joined and had none.
    pub(super) idle: u64,
    /// Machines whose raylet had not joined.
    pub(super) starting: u64,
    /// Machines whose raylet was going or gone.
    pub(super) leaving: u64,
    /// Most machines at one time. Units: nodes.
    pub(super) peak: u64,
}

impl Tally {
    /// Adds one sample that stands for `ms` milliseconds.
    pub(super) fn add(&mut self, groups: &BTreeMap<String, Workers>, ms: u64) {
        let mut paid = 0;
        for workers in groups.values() {
            self.busy += workers.busy * ms;
            self.idle += workers.idle * ms;
            self.starting += workers.starting * ms;
            self.leaving += workers.leaving * ms;
            paid += workers.paid();
        }
        self.peak = self.peak.max(paid);
    }

    /// Returns all that was paid for.
    pub(super) const fn paid(&self) -> u64 {
        self.busy + self.idle + self.starting + self.leaving
    }
}

/// Returns what the node of each pod does.
pub(super) fn conditions(view: &HeadView) -> BTreeMap<String, NodeCondition> {
    let nodes = view.nodes.iter();
    nodes
        .map(|node| (node.pod.clone(), node.condition))
        .collect()
}

/// Counts the workers of each group.
pub(super) fn count(
    pods: &[Pod],
    conditions: &BTreeMap<String, NodeCondition>,
) -> BTreeMap<String, Workers> {
    let mut groups: BTreeMap<String, Workers> = BTreeMap::new();
    for pod in pods {
        let labels = pod.labels();
        if labels.get("ray.io/node-type").map(String::as_str) != Some("worker") {
            continue;
        }
        let group = labels.get("ray.io/group").cloned().unwrap_or_default();
        let workers = groups.entry(group).or_default();
        let has_machine = pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some());
        let is_going = pod.metadata.deletion_timestamp.is_some();
        let condition = conditions.get(&pod.name_any());
        let count = match condition {
            _ if !has_machine => &mut workers.pending,
            _ if is_going => &mut workers.leaving,
            None => &mut workers.starting,
            Some(NodeCondition::Busy) => &mut workers.busy,
            Some(NodeCondition::Idle) => &mut workers.idle,
            Some(_) => &mut workers.leaving,
        };
        *count += 1;
    }
    groups
}
