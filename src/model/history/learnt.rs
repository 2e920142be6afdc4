//! What nodes of a group really had, and which of them may say so.
//!
//! A node says what pods made of one template have, and a group outlives many templates: its
//! container is given more, the operator leaves running pods as they are, and a node that is older
//! than the edit tells of what is no more. Believed, it would keep the group from ever being asked
//! for what it could serve now, or have it asked again and again for what it cannot.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::{
    ClusterSnapshot, Node, NodeKind, NodeStatus, NodeTemplate, Problem, ResourceMap, ResourceName,
    Timestamp, WorkerGroupName,
};
use super::History;

/// How far the clock of the API server may be from ours where a pod's age speaks against its own spec.
const CLOCKS_APART_MS: u64 = 60_000;

/// What the spec of a pod and its template are compared by.
const COMPARED: [&str; 3] = ["CPU", "memory", "object_store_memory"];

/// Holds what a group promises, and what its nodes really had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learnt {
    /// The template this corrects, as it was last seen.
    pub derived: NodeTemplate,
    /// Registered totals, without what belongs to one node (`node:<ip>`) or one placement group; what
    /// was derived where no node has told yet.
    pub resources: ResourceMap,
    /// When the template was first seen, and no earlier than the youngest pod that was there then: the API server's
    /// clock may be ahead of ours.
    #[serde(default)]
    pub since: Timestamp,
    /// Whether it was seen to take the place of another one; else nobody knows how old it is.
    #[serde(default)]
    pub is_edited: bool,
    /// When the pod was created whose node had `resources`; `None` while no node has told.
    #[serde(default)]
    pub taught_by: Option<Timestamp>,
}

impl Learnt {
    fn of(template: &NodeTemplate, at: Timestamp) -> Self {
        Self {
            derived: template.clone(),
            resources: template.resources.clone(),
            since: at,
            is_edited: false,
            taught_by: None,
        }
    }

    /// Takes over an edited template: what the edit did not touch is still known from the nodes.
    fn edited(&self, template: &NodeTemplate, at: Timestamp) -> Self {
        let (old, new) = (&self.derived.resources, &template.resources);
        let known = self.resources.iter().chain(new.iter());
        let names: BTreeSet<&ResourceName> = known.map(|(name, _)| name).collect();
        let amounts = names.into_iter().map(|name| {
            let key = name.as_str();
            let is_touched = old.get(key) != new.get(key);
            let from = if is_touched { new } else { &self.resources };
            (name.clone(), from.get(key))
        });
        Self {
            resources: amounts.filter(|(_, amount)| !amount.is_zero()).collect(),
            is_edited: true,
            ..Self::of(template, at)
        }
    }

    /// Returns what new nodes will have, as far as this one tells.
    ///
    /// A pod that was there before the template was first seen may be older than the last edit. What its own spec
    /// says of processors and memory is compared; what else is promised it cannot deny: nothing would be launched
    /// that could tell otherwise.
    fn told_by(&self, node: &Node) -> ResourceMap {
        let amounts = node.total.iter();
        let amounts = amounts.filter(|(name, _)| belongs_to_the_group(name.as_str()));
        let mut told: ResourceMap = amounts
            .map(|(name, amount)| (name.clone(), amount))
            .collect();
        if !self.is_edited && node.created_at.unwrap_or_default() <= self.since {
            let promised = self.derived.resources.iter();
            for (name, amount) in promised.filter(|(name, _)| !COMPARED.contains(&name.as_str())) {
                if told.get(name.as_str()) < amount {
                    told.set(name.clone(), amount);
                }
            }
        }
        told
    }

    /// Returns whether a node knows better than what is known: its pod is younger than the last
    /// one that told, and was made of this template.
    fn takes(&self, node: &Node, snapshot: &ClusterSnapshot) -> bool {
        let created_at = node.created_at.unwrap_or_default();
        if self.taught_by.is_some_and(|last| created_at <= last) {
            return false;
        }
        if snapshot.outdated.contains(&node.name) {
            // Resized in place, or made of an older template, or changed by an admission webhook; only
            // the last of these tells of new nodes, and new ones will show it.
            let is_resized = snapshot.resizing.pods.contains_key(&node.name);
            return !is_resized && created_at > self.since.plus_ms(CLOCKS_APART_MS);
        }
        !self.is_edited || created_at > self.since
    }
}

impl History {
    /// Returns what a new node of a group will offer: what its nodes really had, else what was derived.
    #[must_use]
    pub fn template(&self, group: &WorkerGroupName, derived: &NodeTemplate) -> NodeTemplate {
        match self
            .learnt
            .get(group)
            .filter(|learnt| learnt.derived == *derived)
        {
            Some(learnt) => NodeTemplate {
                resources: learnt.resources.clone(),
                ..derived.clone()
            },
            None => derived.clone(),
        }
    }

    /// Returns where nodes differ from what the RayCluster promises; what they have is used.
    #[must_use]
    pub fn differences(&self) -> Vec<Problem> {
        let differing = self.learnt.iter().flat_map(|(group, learnt)| {
            let promised = learnt.derived.resources.iter();
            let differing = promised.filter(|(name, amount)| learnt.resources.get(name.as_str()) != *amount);
            differing.map(move |(name, amount)| Problem {
                code: "nodes_differ".to_owned(),
                detail: format!(
                    "group {group}: its nodes have {name} {}, its spec promises {amount}; going by the nodes",
                    learnt.resources.get(name.as_str()),
                ),
            })
        });
        differing.collect()
    }

    /// Follows the templates, and has the youngest node of each say what it really has.
    pub(super) fn learn(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        for group in &snapshot.groups {
            let known = self.learnt.get(&group.name);
            if known.is_some_and(|learnt| learnt.derived == group.template) {
                continue;
            }
            let pods = snapshot.nodes.iter();
            let pods = pods.filter(|node| node.group == group.name);
            let youngest = pods.filter_map(|node| node.created_at).max();
            let since = youngest.unwrap_or_default().max(at);
            let new = match known {
                Some(learnt) => learnt.edited(&group.template, since),
                None => Learnt::of(&group.template, since),
            };
            self.learnt.insert(group.name.clone(), new);
        }
        let mut youngest: BTreeMap<&WorkerGroupName, &Node> = BTreeMap::new();
        let is_registered = |node: &&Node| {
            node.kind == NodeKind::Worker
                && node.status == NodeStatus::Running
                // A raylet that could not be read teaches nothing.
                && !node.total.is_empty()
        };
        for node in snapshot.nodes.iter().filter(is_registered) {
            let learnt = self.learnt.get(&node.group);
            if !learnt.is_some_and(|learnt| learnt.takes(node, snapshot)) {
                continue;
            }
            // Of pods that are equally old, the one that comes first.
            let known = youngest.get(&node.group);
            if known.is_none_or(|known| node.created_at > known.created_at) {
                youngest.insert(&node.group, node);
            }
        }
        for (group, node) in youngest {
            if let Some(learnt) = self.learnt.get_mut(group) {
                learnt.resources = learnt.told_by(node);
                learnt.taught_by = Some(node.created_at.unwrap_or_default());
            }
        }
    }
}

/// Returns whether every node of a group has this resource, not only the node that registered it.
fn belongs_to_the_group(name: &str) -> bool {
    let is_of_a_placement_group = name.contains("_group_");
    let is_of_host_zero = name.starts_with("TPU-") && name.ends_with("-head");
    !(name.starts_with("node:") || is_of_a_placement_group || is_of_host_zero)
}

#[cfg(test)]
mod tests;
