//! Which replicas leave when a group has more than it may.

use std::cmp::{Ordering, Reverse};

use crate::model::{ClusterSnapshot, History, Node, Timestamp};

use super::corrections::Corrections;
use super::replicas::{ReplicaHealth, ReplicaState};

/// Holds what the choice of victims looks at besides the replicas.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The facts.
    pub snapshot: &'a ClusterSnapshot,
    /// What is remembered.
    pub history: &'a History,
    /// The moment.
    pub now: Timestamp,
    /// Which corrections are on.
    pub corrections: Corrections,
}

/// Returns the positions in `replicas`, those that hurt least when they leave first.
///
/// In this order: no capacity any more, not registered yet, longest idle, least used; then by name,
/// or, without the correction `order`, as they are given.
#[must_use]
pub fn victims(judge: &Judge<'_>, replicas: &[ReplicaState]) -> Vec<usize> {
    let ranks: Vec<Rank<'_>> = replicas.iter().map(|replica| judge.rank(replica)).collect();
    let mut order: Vec<usize> = (0..replicas.len()).collect();
    order.sort_by(|a, b| match (ranks.get(*a), ranks.get(*b)) {
        (Some(a), Some(b)) => a.order(b),
        _ => Ordering::Equal,
    });
    order
}

struct Rank<'a> {
    first: (ReplicaHealth, bool, Reverse<u64>),
    used: f64,
    name: Option<&'a str>,
}

impl Rank<'_> {
    fn order(&self, other: &Self) -> Ordering {
        let used = self.used.total_cmp(&other.used);
        let by_name = self.name.cmp(&other.name);
        self.first.cmp(&other.first).then(used).then(by_name)
    }
}

impl Judge<'_> {
    fn rank<'a>(&self, replica: &'a ReplicaState) -> Rank<'a> {
        let nodes = || replica.nodes(self.snapshot);
        let idle = nodes().map(|node| self.idle_ms(node)).min().unwrap_or(0);
        let is_drained = nodes().any(|node| self.history.drained_at.contains_key(&node.name));
        let is_running = replica.is_running(self.snapshot) && !is_drained;
        let hosts = nodes().fold(0.0, |hosts, _| hosts + 1.0);
        let used: f64 = nodes().map(used_share).sum();
        Rank {
            first: (replica.health, is_running, Reverse(idle)),
            used: if hosts > 0.0 { used / hosts } else { 0.0 },
            name: self.corrections.order.then_some(replica.name.as_str()),
        }
    }

    fn idle_ms(&self, node: &Node) -> u64 {
        node.idle_since
            .map_or(0, |since| self.now.millis_since(since))
    }
}

/// Returns the average over the node's resources of the used part, as Ray computes it.
#[must_use]
pub fn used_share(node: &Node) -> f64 {
    let (mut count, mut sum) = (0.0, 0.0);
    for (name, total) in node.total.iter().filter(|(_, total)| total.units() > 0) {
        let (total, left) = (total.as_f64(), node.available.get(name.as_str()).as_f64());
        sum += (total - left) / total;
        count += 1.0;
    }
    if count > 0.0 { sum / count } else { 0.0 }
}
