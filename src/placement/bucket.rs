//! Places requests on nodes that are there: the best node takes what it can, then the next best.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::pool::Pool;
use super::queue::Queue;
use super::state::Trial;

/// Above this many equal steps they are taken in strides, so that counts in the billions end.
pub(super) const STRIDES: u64 = 4_096;

/// Holds `nodes` nodes of one slot that take the same.
#[derive(Debug, Clone)]
pub(super) struct Pick {
    pub(super) slot: usize,
    pub(super) nodes: u64,
    pub(super) trial: Arc<Trial>,
}

/// Offers `count` equal nodes at a position of the caller's list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) position: usize,
    pub(super) class: usize,
    pub(super) priority: i64,
    pub(super) count: u64,
}

/// Equal nodes of equal priority, the earliest first.
struct Bucket {
    class: usize,
    priority: i64,
    nodes: VecDeque<(usize, u64)>,
    trial: Option<Arc<Trial>>,
}

impl Bucket {
    fn front(&self) -> usize {
        self.nodes
            .front()
            .map_or(usize::MAX, |(position, _)| *position)
    }

    /// Brings the trial up to date; returns whether the nodes take anything at all.
    ///
    /// A class that takes nothing now takes nothing later, since requests only become fewer.
    fn refresh(&mut self, pool: &Pool, queue: &Queue<'_>) -> bool {
        if self
            .trial
            .as_ref()
            .is_none_or(|trial| !trial.is_valid(queue))
        {
            let state = pool.states.get(self.class);
            self.trial = state
                .and_then(|state| state.offer(queue, &pool.choice))
                .map(Arc::new);
        }
        self.trial.is_some() && !self.nodes.is_empty()
    }
}

/// Returns how many nodes in a row may take `trial` without any other choice changing, at least 1.
///
/// `rounds` is the exact number; beyond [`STRIDES`] exactness gives way to an end.
fn stride(exact: u64, possible: u64) -> u64 {
    exact.max(possible / STRIDES).clamp(1, possible.max(1))
}

/// Returns the largest fill of each shape over `trials`: while so many remain, no trial changes.
pub(super) fn largest_fills<'a>(
    trials: impl Iterator<Item = &'a Trial>,
    shapes: usize,
) -> Vec<u64> {
    let mut largest = vec![0; shapes];
    for (at, count) in trials.flat_map(|trial| &trial.fill) {
        if let Some(most) = largest.get_mut(*at) {
            *most = (*count).max(*most);
        }
    }
    largest
}

/// Places what fits on the offered nodes, each node visited at most once.
pub(super) fn fill_existing(
    pool: &Pool,
    offers: impl Iterator<Item = Offer>,
    queue: &mut Queue<'_>,
) -> Vec<Pick> {
    let mut buckets = group(offers);
    let mut picks = Vec::new();
    while !queue.is_empty() {
        buckets.retain_mut(|bucket| bucket.refresh(pool, queue));
        let Some((best, trial)) = best(pool, &buckets) else {
            break;
        };
        let trials = buckets.iter().filter_map(|bucket| bucket.trial.as_deref());
        let kept = largest_fills(trials, queue.len());
        let Some((slot, count)) = buckets
            .get_mut(best)
            .and_then(|bucket| bucket.nodes.front_mut())
        else {
            break;
        };
        let possible = (*count).min(queue.rounds(&trial.fill, &[]));
        let nodes = stride(possible.min(queue.rounds(&trial.fill, &kept)), possible);
        queue.take(&trial.fill, nodes);
        picks.push(Pick {
            slot: *slot,
            nodes,
            trial,
        });
        *count = count.saturating_sub(nodes);
        if *count == 0
            && let Some(bucket) = buckets.get_mut(best)
        {
            bucket.nodes.pop_front();
        }
    }
    picks
}

fn group(offers: impl Iterator<Item = Offer>) -> Vec<Bucket> {
    let mut buckets: BTreeMap<(usize, i64), VecDeque<(usize, u64)>> = BTreeMap::new();
    for offer in offers.filter(|offer| offer.count > 0) {
        let nodes = buckets.entry((offer.class, offer.priority)).or_default();
        nodes.push_back((offer.position, offer.count));
    }
    let buckets = buckets.into_iter();
    buckets
        .map(|((class, priority), nodes)| Bucket {
            class,
            priority,
            nodes,
            trial: None,
        })
        .collect()
}

fn best(pool: &Pool, buckets: &[Bucket]) -> Option<(usize, Arc<Trial>)> {
    let mut best: Option<(usize, &Bucket, &Arc<Trial>)> = None;
    for (at, bucket) in buckets.iter().enumerate() {
        let Some(trial) = &bucket.trial else { continue };
        let is_better = best.is_none_or(|(_, other, held)| {
            let priorities = (bucket.priority, other.priority);
            trial
                .score
                .compare(&held.score, priorities, pool.choice.priority)
                .then(other.front().cmp(&bucket.front()))
                .is_gt()
        });
        if is_better {
            best = Some((at, bucket, trial));
        }
    }
    best.map(|(at, _, trial)| (at, Arc::clone(trial)))
}
