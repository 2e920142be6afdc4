//! What one node can still take, what it holds, and what it would hold after taking more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{AntiAffinity, Labels, Quantity, ResourceMap, ResourceName, ResourceRequest};

use super::queue::Queue;
use super::score::{Choice, Score};

/// Every node has one of these, whatever its name; Ray uses them to bind tasks to one node.
const IMPLICIT_PREFIX: &str = "node:__internal_implicit_resource_";

/// Sums up the requests that were given to a node, as far as its score depends on them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Held {
    /// Number of selectors minus the index of the one that matched, of the first request with any.
    pub(super) label_match: Option<u64>,
    /// Names asked for, and whether for more than zero.
    pub(super) names: BTreeMap<ResourceName, bool>,
}

impl Held {
    fn add(&mut self, request: &ResourceRequest, labels: &Labels) {
        if self.label_match.is_none() && !request.selectors.is_empty() {
            self.label_match = request
                .matching_selector(labels)
                .and_then(|at| u64::try_from(request.selectors.len().saturating_sub(at)).ok());
        }
        for (name, amount) in request.resources.iter() {
            let is_positive = self.names.entry(name.clone()).or_default();
            *is_positive |= amount > Quantity::ZERO;
        }
    }
}

/// Holds everything about a node that placing depends on; nodes with equal states are one class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeState {
    /// What it registered, or will.
    pub(super) total: Arc<ResourceMap>,
    /// Its labels, without those that only tell nodes apart.
    pub(super) labels: Arc<Labels>,
    /// What is left. A resource that is used up in Ray is absent here and drops out of the score.
    pub(super) available: ResourceMap,
    /// Labels given by bundles that want no other of their placement group beside them.
    pub(super) spread: BTreeSet<AntiAffinity>,
    /// What was placed on it in this decision.
    pub(super) held: Held,
}

/// Holds the outcome of offering a queue of requests to a node.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    /// How many of which shape it takes, by position in the queue.
    pub(super) fill: Vec<(usize, u64)>,
    /// How good that is.
    pub(super) score: Score,
    /// The node afterwards.
    pub(super) after: Arc<NodeState>,
}

impl Trial {
    /// Returns whether the same node would still take the same.
    ///
    /// A shape limited by the node is taken again while enough remain; one limited by what
    /// remained has its count in `fill`, so that any less is noticed.
    pub(super) fn is_valid(&self, queue: &Queue<'_>) -> bool {
        self.fill
            .iter()
            .all(|(at, count)| *count <= queue.remaining(*at))
    }
}

impl NodeState {
    pub(super) fn empty(total: ResourceMap, labels: Labels) -> Self {
        Self {
            available: total.clone(),
            total: Arc::new(total),
            labels: Arc::new(labels),
            spread: BTreeSet::new(),
            held: Held::default(),
        }
    }

    /// Returns how many of `request` fit, looking at resources only; `u64::MAX` when it needs none.
    pub(super) fn times(&self, request: &ResourceRequest) -> u64 {
        request
            .resources
            .iter()
            .filter(|(_, amount)| *amount > Quantity::ZERO)
            .map(|(name, amount)| {
                let left = available_of(&self.available, name.as_str()).units();
                u64::try_from(left / amount.units()).unwrap_or(0)
            })
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Returns whether labels and placement constraints let `request` in.
    pub(super) fn admits(&self, request: &ResourceRequest) -> bool {
        request.matching_selector(&self.labels).is_some()
            && request.anti_affinity.as_ref().is_none_or(|avoid| {
                self.labels.get(&avoid.label_name) != Some(&avoid.label_value)
                    && !self.spread.contains(avoid)
            })
    }

    /// Returns what the node takes of `queue`; `None` when that is nothing.
    ///
    /// As in Ray each request is tried once, in the order of the queue, without going back.
    pub(super) fn offer(&self, queue: &Queue<'_>, choice: &Choice) -> Option<Trial> {
        let mut fill = Vec::new();
        let mut after: Option<Self> = None;
        for (at, request, remaining) in queue.open() {
            let node = after.as_ref().unwrap_or(self);
            if !node.admits(request) {
                continue;
            }
            let most = if request.anti_affinity.is_some() {
                1
            } else {
                u64::MAX
            };
            let count = node.times(request).min(remaining).min(most);
            if count > 0 {
                fill.push((at, count));
                after
                    .get_or_insert_with(|| self.clone())
                    .take(request, count);
            }
        }
        let after = Arc::new(after?);
        Some(Trial {
            fill,
            score: Score::of(&after, choice),
            after,
        })
    }

    fn take(&mut self, request: &ResourceRequest, count: u64) {
        for (name, amount) in request.resources.iter() {
            if amount <= Quantity::ZERO {
                continue;
            }
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let part = Quantity::from_units(amount.units().saturating_mul(count));
            let left = available_of(&self.available, name.as_str()).saturating_sub(part);
            self.available.set(name.clone(), left);
        }
        if let Some(avoid) = &request.anti_affinity {
            self.spread.insert(avoid.clone());
        }
        let labels = Arc::clone(&self.labels);
        self.held.add(request, &labels);
    }
}

fn available_of(available: &ResourceMap, name: &str) -> Quantity {
    if name.starts_with(IMPLICIT_PREFIX) && !available.contains(name) {
        return Quantity::from_whole(1);
    }
    available.get(name)
}

#[cfg(test)]
mod tests {
    use super::NodeState;
    use crate::model::{
        Labels, Quantity, ResourceDemand, ResourceMap, ResourceName, ResourceRequest,
    };
    use crate::placement::queue::Queue;
    use crate::placement::score::Choice;

    fn map(entries: &[(&str, i64)]) -> ResourceMap {
        entries
            .iter()
            .map(|(name, units)| (ResourceName::from(*name), Quantity::from_units(*units)))
            .collect()
    }

    fn demand(entries: &[(&str, i64)], count: u64) -> ResourceDemand {
        ResourceDemand {
            request: ResourceRequest::of(map(entries)),
            count,
        }
    }

    #[test]
    fn fits_are_decided_in_integers() {
        // Three times 0.1 does not fit into 0.3 with doubles.
        let node = NodeState::empty(map(&[("CPU", 3_000)]), Labels::new());
        assert_eq!(node.times(&demand(&[("CPU", 1_000)], 1).request), 3);
        assert_eq!(node.times(&demand(&[], 1).request), u64::MAX);
        assert_eq!(node.times(&demand(&[("GPU", 1)], 1).request), 0);
        let implicit = "node:__internal_implicit_resource_x";
        assert_eq!(node.times(&demand(&[(implicit, 6_000)], 1).request), 1);
    }

    #[test]
    fn a_negative_amount_left_takes_nothing() {
        let mut node = NodeState::empty(map(&[("CPU", 10_000)]), Labels::new());
        node.available = map(&[("CPU", -50_000)]);
        let asks = [demand(&[("CPU", 10_000)], u64::MAX)];
        assert!(node.offer(&Queue::new(&asks), &Choice::default()).is_none());
    }

    #[test]
    fn requests_without_amounts_are_taken_whole() {
        let node = NodeState::empty(map(&[("CPU", 10_000)]), Labels::new());
        let asks = [demand(&[], u64::MAX), demand(&[("CPU", 2_500)], 9)];
        let queue = Queue::new(&asks);
        let trial = node.offer(&queue, &Choice::default()).expect("fits");
        assert_eq!(trial.fill, [(0, 4), (1, u64::MAX)]);
        assert_eq!(trial.after.available, map(&[("CPU", 0)]));
    }
}
