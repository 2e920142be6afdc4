//! What Ray asks for: tasks and actors, placement groups, and `request_resources`.
//!
//! Demand is kept as (shape, count) throughout: a count of a million costs what a count of one does.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Labels, Quantity, ResourceMap};

/// Says how a label's value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelOperator {
    /// The label is there and its value is in the set.
    In,
    /// The label is absent or its value is not in the set.
    NotIn,
    /// An operator that this version does not know: it matches nothing, as in Ray.
    Unknown,
}

/// Holds one condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LabelConstraint {
    /// The label's name.
    pub key: String,
    /// How its value is compared.
    pub operator: LabelOperator,
    /// The set, sorted.
    pub values: Vec<String>,
}

impl fmt::Display for LabelConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match self.operator {
            LabelOperator::In => "in",
            LabelOperator::NotIn => "not in",
            LabelOperator::Unknown => "?",
        };
        write!(f, "{} {operator} [{}]", self.key, self.values.join(", "))
    }
}

impl LabelConstraint {
    /// Returns whether a node with `labels` meets the condition.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelOperator::In => value.is_some_and(|v| self.values.contains(v)),
            LabelOperator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            LabelOperator::Unknown => false,
        }
    }
}

/// Holds conditions that must all be met; without any it matches every node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LabelSelector {
    /// The conditions.
    pub constraints: Vec<LabelConstraint>,
}

impl LabelSelector {
    /// Returns whether a node with `labels` meets every condition.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.constraints
            .iter()
            .all(|constraint| constraint.matches(labels))
    }
}

/// Forbids a node that already carries this label, exactly.
///
/// Source: `PlacementConstraint.anti_affinity`; Ray sends it for the bundles of a
/// STRICT_SPREAD placement group, with the name `_PG_<id>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AntiAffinity {
    /// The label's name.
    pub label_name: String,
    /// The label's value.
    pub label_value: String,
}

/// Holds one bundle that one node has to provide.
///
/// Shape: `selectors` in the order of preference; empty means that any node will do, and so
/// does one selector without constraints (Ray sends the latter for tasks and actors).
/// Source: `autoscaler.proto` `ResourceRequest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ResourceRequest {
    /// The amounts.
    pub resources: ResourceMap,
    /// Label selectors, most wanted first.
    pub selectors: Vec<LabelSelector>,
    /// Nodes that are ruled out.
    pub anti_affinity: Option<AntiAffinity>,
}

impl fmt::Display for ResourceRequest {
    /// Writes amounts and selectors, the most wanted first: `{CPU: 4} with zone in [a] or zone in [b]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.resources.fmt(f)?;
        let selectors = self
            .selectors
            .iter()
            .filter(|selector| !selector.constraints.is_empty());
        for (at, selector) in selectors.enumerate() {
            f.write_str(if at == 0 { " with " } else { " or " })?;
            for (at, constraint) in selector.constraints.iter().enumerate() {
                let and = if at == 0 { "" } else { " and " };
                write!(f, "{and}{constraint}")?;
            }
        }
        Ok(())
    }
}

impl ResourceRequest {
    /// Returns the index of the first selector that `labels` meet; `Some(0)` without selectors.
    #[must_use]
    pub fn matching_selector(&self, labels: &Labels) -> Option<usize> {
        if self.selectors.is_empty() {
            return Some(0);
        }
        self.selectors
            .iter()
            .position(|selector| selector.matches(labels))
    }

    /// Returns whether only a placement group that is already placed could serve this.
    ///
    /// Ray reports tasks that wait inside a placement group with such shapes
    /// (`CPU_group_<36 hex digits>`); no new node can ever offer them.
    #[must_use]
    pub fn is_inside_placement_group(&self) -> bool {
        self.resources.iter().any(|(name, _)| {
            name.as_str()
                .rsplit_once("_group_")
                .is_some_and(|(_, rest)| {
                    let id = rest.rsplit('_').next().unwrap_or(rest);
                    id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit())
                })
        })
    }
}

/// Holds equal requests.
///
/// Units: `count` requests, at least 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceDemand {
    /// What each of them needs.
    pub request: ResourceRequest,
    /// How many there are.
    pub count: u64,
}

/// Says how the bundles of a placement group are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PlacementStrategy {
    /// On few nodes, if possible.
    Pack,
    /// On many nodes, if possible.
    Spread,
    /// All on one node.
    StrictPack,
    /// Each on a node of its own.
    StrictSpread,
}

/// Holds a placement group that is not placed yet: all of its bundles, or none.
///
/// Shape: bundles that are already placed are left out by Ray; a STRICT_PACK group is one
/// summed bundle per set of selectors.
/// Source: `autoscaler.proto` `GangResourceRequest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GangRequest {
    /// Ray's text, `<id>:<STRATEGY>|<STATE>`; unique in a snapshot.
    pub details: String,
    /// How the bundles are laid out.
    pub strategy: PlacementStrategy,
    /// The bundles, equal ones counted.
    pub bundles: Vec<ResourceDemand>,
    /// What would do instead, the most wanted first.
    ///
    /// Source: the elements of `bundle_selectors` behind the first one, which Ray passes over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<Vec<ResourceDemand>>,
    /// Number of placement constraints over the bundles as Ray sent them; Ray places gangs
    /// with many first.
    pub constraint_count: u64,
    /// Number of bundles as Ray sent them; Ray places large gangs first.
    pub bundle_count: u64,
}

/// Holds the lower bound that `ray.autoscaler.sdk.request_resources` asks for.
///
/// Shape: at least one demand.
/// Source: `ClusterResourceConstraint`, or the KV key `autoscaler_resource_request` where the
/// cluster runs with `RAY_enable_autoscaler_v2=0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterConstraint {
    /// What the cluster has to hold, busy nodes included.
    pub demands: Vec<ResourceDemand>,
}

impl ResourceRequest {
    /// Returns a request for `resources` anywhere.
    #[must_use]
    pub fn of(resources: ResourceMap) -> Self {
        Self {
            resources,
            selectors: Vec::new(),
            anti_affinity: None,
        }
    }

    /// Returns the sum over all amounts, for ordering only.
    #[must_use]
    pub fn amount_sum(&self) -> i128 {
        self.resources
            .iter()
            .map(|(_, amount): (_, Quantity)| i128::from(amount.units()))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{LabelConstraint, LabelOperator, LabelSelector, Labels, ResourceRequest};
    use crate::model::{Quantity, ResourceMap, ResourceName};

    #[test]
    fn selectors_are_met_as_ray_meets_them() {
        let labels = Labels::from([("zone".to_owned(), "z1".to_owned())]);
        let one = |operator, key: &str, value: &str| LabelSelector {
            constraints: vec![LabelConstraint {
                key: key.into(),
                operator,
                values: vec![value.into()],
            }],
        };
        assert!(one(LabelOperator::In, "zone", "z1").matches(&labels));
        assert!(!one(LabelOperator::In, "zone", "z2").matches(&labels));
        assert!(!one(LabelOperator::In, "rack", "z1").matches(&labels));
        assert!(one(LabelOperator::NotIn, "rack", "z1").matches(&labels));
        assert!(!one(LabelOperator::NotIn, "zone", "z1").matches(&labels));
        assert!(!one(LabelOperator::Unknown, "zone", "z1").matches(&labels));
        assert!(LabelSelector::default().matches(&labels));
    }

    #[test]
    fn shapes_inside_a_placed_group_are_recognised() {
        let shape = |name: &str| {
            let map: ResourceMap = [(ResourceName::from(name), Quantity::from_whole(1))]
                .into_iter()
                .collect();
            ResourceRequest::of(map).is_inside_placement_group()
        };
        let id = "0123456789abcdef0123456789abcdef0123";
        assert!(shape(&format!("CPU_group_{id}")));
        assert!(shape(&format!("CPU_group_3_{id}")));
        assert!(!shape("my_group_of_things"));
        assert!(!shape("CPU"));
    }
}
