//! How good a node is for the requests it would take, in Ray's own order of operations.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::state::NodeState;

/// Says what a group's priority weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(schemars::JsonSchema)]
pub enum PriorityRule {
    /// Nothing.
    #[default]
    Ignored,
    /// It decides between nodes that fit equally well, as in Ray.
    EqualFits,
    /// It decides before anything else.
    First,
}

/// Holds what the choice between nodes depends on besides the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// What a group's priority weighs.
    pub priority: PriorityRule,
    /// Resources that are too dear for requests that do not ask for them.
    pub spare: Vec<String>,
    /// Whether nodes that run come before nodes that start.
    pub is_running_first: bool,
}

/// Rates what a node holds; larger is better.
///
/// The fields are compared in this order. `min` and `mean` are over the terms v·u³ of the node's
/// resources, with v the total amount and u the used share; only here f64 is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// How early a selector of the first request with selectors matched.
    pub label: u64,
    /// Whether no spared resource is wasted.
    pub is_spared: bool,
    /// Kinds of resources that are asked for and there.
    pub kinds: usize,
    /// Smallest term.
    pub min: f64,
    /// Mean term.
    pub mean: f64,
}

impl Score {
    pub(super) fn of(node: &NodeState, choice: &Choice) -> Self {
        let held = &node.held;
        let has = |name: &str| node.total.get(name).units() > 0;
        let asks = |name: &str| held.names.keys().any(|held| held.as_str() == name);
        let is_wasted = |name: &String| has(name) && !asks(name);
        let kinds = held
            .names
            .iter()
            .filter(|(name, is_positive)| **is_positive && node.total.contains(name.as_str()))
            .count();
        let (min, mean) = terms(node);
        Self {
            label: held.label_match.unwrap_or(0),
            is_spared: !choice.spare.iter().any(is_wasted),
            kinds,
            min,
            mean,
        }
    }

    /// Compares two nodes: score first, then the priority of their groups, unless the rule says otherwise.
    #[must_use]
    pub fn compare(&self, other: &Self, priorities: (i64, i64), rule: PriorityRule) -> Ordering {
        let by_priority = priorities.0.cmp(&priorities.1);
        match rule {
            PriorityRule::Ignored => self.order(other),
            PriorityRule::EqualFits => self.order(other).then(by_priority),
            PriorityRule::First => by_priority.then(self.order(other)),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        (self.label, self.is_spared, self.kinds)
            .cmp(&(other.label, other.is_spared, other.kinds))
            .then(self.min.total_cmp(&other.min))
            .then(self.mean.total_cmp(&other.mean))
    }
}

fn terms(node: &NodeState) -> (f64, f64) {
    let (mut count, mut sum, mut min) = (0_u32, 0.0_f64, f64::INFINITY);
    for (name, total) in node.total.iter() {
        if total.is_zero() || !node.available.contains(name.as_str()) {
            continue;
        }
        let total = total.as_f64();
        let used = (total - node.available.get(name.as_str()).as_f64()) / total;
        let term = total * (used * used * used);
        count += 1;
        sum += term;
        min = min.min(term);
    }
    if count == 0 {
        (0.0, 0.0)
    } else {
        (min, sum / f64::from(count))
    }
}
