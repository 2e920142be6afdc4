//! Which names the demand mentions; the others need not keep equal nodes apart.

use std::collections::BTreeSet;

use crate::model::{ClusterSnapshot, Labels, ResourceMap};

/// Label with a value of its own on every node.
const NODE_ID_LABEL: &str = "ray.io/node-id";
/// Start of the labels that Ray gives to nodes with bundles of a placement group.
const PLACEMENT_GROUP_LABEL: &str = "_PG_";

/// Knows which names the demand mentions; the others need not keep equal nodes apart.
pub(super) struct Asked<'a> {
    resources: BTreeSet<&'a str>,
    labels: BTreeSet<&'a str>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(snapshot: &'a ClusterSnapshot) -> Self {
        let bundles = snapshot.gangs.iter().flat_map(|gang| &gang.bundles);
        let constraint = snapshot
            .constraint
            .iter()
            .flat_map(|constraint| &constraint.demands);
        let mut asked = Self {
            resources: BTreeSet::new(),
            labels: BTreeSet::new(),
        };
        for demand in snapshot.demands.iter().chain(bundles).chain(constraint) {
            let request = &demand.request;
            asked
                .resources
                .extend(request.resources.iter().map(|(name, _)| name.as_str()));
            let selectors = request
                .selectors
                .iter()
                .flat_map(|selector| &selector.constraints);
            asked
                .labels
                .extend(selectors.map(|constraint| constraint.key.as_str()));
            asked.labels.extend(
                request
                    .anti_affinity
                    .iter()
                    .map(|avoid| avoid.label_name.as_str()),
            );
        }
        asked
    }

    /// Gives every node the same name for the resource that only says which node it is.
    pub(super) fn resources(&self, resources: &ResourceMap) -> ResourceMap {
        let own = |name: &str| {
            name.starts_with("node:")
                && name != "node:__internal_head__"
                && !self.resources.contains(name)
        };
        if !resources.iter().any(|(name, _)| own(name.as_str())) {
            return resources.clone();
        }
        let mut renamed = ResourceMap::new();
        for (name, amount) in resources.iter() {
            let is_own = own(name.as_str());
            renamed.set(if is_own { "node:".into() } else { name.clone() }, amount);
        }
        renamed
    }

    pub(super) fn labels(&self, labels: &Labels) -> Labels {
        let tells_apart =
            |name: &str| name == NODE_ID_LABEL || name.starts_with(PLACEMENT_GROUP_LABEL);
        labels
            .iter()
            .filter(|(name, _)| self.labels.contains(name.as_str()) || !tells_apart(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}
