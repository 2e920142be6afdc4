//! Which names the demand mentions; the others need not keep equal nodes apart.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{AntiAffinity, ClusterSnapshot, ResourceDemand, ResourceName};

/// Every node has one of these, whatever its name; Ray uses them to bind tasks to one node.
pub(super) const IMPLICIT_PREFIX: &str = "node:__internal_implicit_resource_";

/// Says what becomes of a resource of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is told by its name.
    Named,
    /// It only says which node it is: all nodes have it under one name.
    Own,
    /// It belongs to one placement group: nobody asks for it, and only its use counts.
    Folded,
}

/// Knows which names the demand mentions.
#[derive(Debug, Default)]
pub(super) struct Asked {
    resources: BTreeSet<ResourceName>,
    labels: BTreeSet<String>,
    /// Labels that keep bundles apart across more than one list of requests.
    shared: BTreeSet<AntiAffinity>,
}

impl Asked {
    pub(super) fn of(snapshot: &ClusterSnapshot) -> Self {
        let mut asked = Self::default();
        let constraint = snapshot.constraint.iter().map(|asked| &asked.demands);
        let gangs = snapshot.gangs.iter().map(|gang| &gang.bundles);
        // These are other lists; a label that they share with the first is then told by its name.
        let fallbacks = snapshot.gangs.iter().flat_map(|gang| &gang.fallbacks);
        let lists = gangs.chain(fallbacks).chain(constraint);
        let lists = lists.chain([&snapshot.demands]);
        let mut lists_of: BTreeMap<&AntiAffinity, usize> = BTreeMap::new();
        for (list, demands) in lists.enumerate() {
            for avoid in asked.take_in(demands) {
                if *lists_of.entry(avoid).or_insert(list) != list {
                    asked.shared.insert(avoid.clone());
                }
            }
        }
        // Nodes may carry such a label already, from bundles placed before.
        let names: BTreeSet<&str> = lists_of
            .keys()
            .map(|avoid| avoid.label_name.as_str())
            .collect();
        // Nodes have few label names between them, so that each is looked up once.
        let mut known: BTreeMap<&str, bool> = BTreeMap::new();
        for node in snapshot.nodes.iter().filter(|_| !names.is_empty()) {
            for (name, value) in &node.labels {
                if !*known
                    .entry(name)
                    .or_insert_with(|| names.contains(name.as_str()))
                {
                    continue;
                }
                let (label_name, label_value) = (name.clone(), value.clone());
                asked.labels.insert(name.clone());
                asked.shared.insert(AntiAffinity {
                    label_name,
                    label_value,
                });
            }
        }
        asked
    }

    fn take_in<'a>(
        &mut self,
        demands: &'a [ResourceDemand],
    ) -> impl Iterator<Item = &'a AntiAffinity> + use<'a> {
        for demand in demands {
            for (name, _) in demand.request.resources.iter() {
                if !self.resources.contains(name) {
                    self.resources.insert(name.clone());
                }
            }
            let selectors = demand.request.selectors.iter();
            for constraint in selectors.flat_map(|selector| &selector.constraints) {
                if !self.labels.contains(&constraint.key) {
                    self.labels.insert(constraint.key.clone());
                }
            }
        }
        demands
            .iter()
            .filter_map(|demand| demand.request.anti_affinity.as_ref())
    }

    /// Returns what becomes of a resource of a node.
    pub(super) fn role(&self, name: &ResourceName) -> Role {
        let text = name.as_str();
        if text.starts_with("node:") && text != "node:__internal_head__" {
            return if self.resources.contains(name) {
                Role::Named
            } else {
                Role::Own
            };
        }
        // A plain look is faster than a search that is prepared first: names are short.
        let is_of_group = || text.as_bytes().windows(7).any(|part| part == b"_group_");
        if is_of_group() && !self.resources.contains(name) {
            return Role::Folded;
        }
        Role::Named
    }

    /// Returns the resources asked for that every node has one of.
    pub(super) fn implicit(&self) -> impl Iterator<Item = &ResourceName> {
        self.resources
            .iter()
            .filter(|name| name.as_str().starts_with(IMPLICIT_PREFIX))
    }

    /// Returns whether a label must be remembered of a node; what nobody asks for only keeps equal nodes apart.
    pub(super) fn keeps_label(&self, name: &str) -> bool {
        self.labels.contains(name)
    }

    /// Returns whether a label outlives the list of requests that it stands in.
    pub(super) fn is_shared(&self, avoid: &AntiAffinity) -> bool {
        self.shared.contains(avoid)
    }
}
