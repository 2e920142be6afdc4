//! Which replicas leave when a group has more than it may.

use std::cmp::Reverse;

use crate::model::{ClusterSnapshot, Node, Timestamp};

use super::replicas::{ReplicaHealth, ReplicaState};

/// Returns the positions of `count` replicas in `replicas` that hurt least.
///
/// In this order: no capacity any more, not registered yet, longest idle, least used, name.
/// Busy replicas are chosen when there are no others.
#[must_use]
pub fn victims(
    snapshot: &ClusterSnapshot,
    replicas: &[ReplicaState],
    count: usize,
    now: Timestamp,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..replicas.len()).collect();
    order.sort_by_cached_key(|at| {
        replicas
            .get(*at)
            .map(|replica| rank(snapshot, replica, now))
    });
    order.truncate(count);
    order
}

type Rank<'a> = (ReplicaHealth, bool, Reverse<u64>, u128, &'a str);

fn rank<'a>(snapshot: &ClusterSnapshot, replica: &'a ReplicaState, now: Timestamp) -> Rank<'a> {
    let idle = replica.nodes(snapshot).map(|node| idle_ms(node, now)).min();
    let used: u128 = replica.nodes(snapshot).map(used_millionths).sum();
    let hosts = u128::try_from(replica.hosts.len().max(1)).unwrap_or(u128::MAX);
    (
        replica.health,
        replica.is_running(snapshot),
        Reverse(idle.unwrap_or(0)),
        used / hosts,
        replica.name.as_str(),
    )
}

fn idle_ms(node: &Node, now: Timestamp) -> u64 {
    node.idle_since.map_or(0, |since| now.millis_since(since))
}

/// Returns the average over the node's resources of the used part, in millionths.
fn used_millionths(node: &Node) -> u128 {
    let (mut count, mut sum) = (0_u128, 0_u128);
    for (name, total) in node.total.iter().filter(|(_, total)| total.units() > 0) {
        let used = i128::from(total.units())
            .saturating_sub(i128::from(node.available.get(name.as_str()).units()));
        let used = u128::try_from(used.saturating_mul(1_000_000)).unwrap_or(0);
        sum = sum.saturating_add(used / u128::from(total.units().unsigned_abs()));
        count += 1;
    }
    sum / count.max(1)
}
