//! The requests of one call, in the order in which Ray offers them to a node.

use std::collections::{BTreeMap, BTreeSet};

use super::shape::{Apart, ShapeId, Shapes};

/// Requests of a list whose views are kept for the next one.
const SHORT: u64 = 64;

/// Holds equal requests of the queue.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    shape: ShapeId,
    remaining: u64,
    ask: usize,
}

/// Says what of which shape is left, in the order of the queue.
pub(super) type QueueKey = Vec<(ShapeId, u64)>;

/// Holds what is still to be placed.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    waiting: Vec<Waiting>,
    open: usize,
}

impl Queue {
    /// Returns a queue of shapes and counts, hardest first.
    ///
    /// The last tie-break is the request itself, so that the order of the input does not matter;
    /// in Ray there is none, and the order of the list stays.
    pub(super) fn new(asks: &[(ShapeId, u64)], shapes: &Shapes, is_by_request: bool) -> Self {
        let mut waiting: Vec<Waiting> = asks
            .iter()
            .enumerate()
            .map(|(ask, (shape, remaining))| Waiting {
                shape: *shape,
                remaining: *remaining,
                ask,
            })
            .collect();
        if asks.len() > 1 {
            waiting.sort_by(|a, b| {
                let order = shapes.hardest_first(a.shape, b.shape);
                if is_by_request && order.is_eq() && a.shape != b.shape {
                    let (a, b) = (shapes.get(a.shape), shapes.get(b.shape));
                    return (&a.request, &a.apart).cmp(&(&b.request, &b.apart));
                }
                order
            });
        }
        let open = waiting.iter().filter(|shape| shape.remaining > 0).count();
        Self { waiting, open }
    }

    /// Returns the same queue with some positions before all others, and what its positions are in this one.
    pub(super) fn with_first(&self, first: &BTreeSet<usize>) -> (Self, Vec<usize>) {
        let mut places: Vec<usize> = (0..self.waiting.len()).collect();
        places.sort_by_key(|at| !first.contains(at));
        let waiting = places.iter().map(|at| self.waiting[*at]).collect();
        let open = self.open;
        (Self { waiting, open }, places)
    }

    /// Returns the same queue with only so many of each position.
    pub(super) fn only(&self, counts: &BTreeMap<usize, u64>) -> Self {
        let waiting = self.waiting.iter().enumerate();
        let waiting: Vec<Waiting> = waiting
            .map(|(at, waiting)| Waiting {
                remaining: counts.get(&at).copied().unwrap_or(0),
                ..*waiting
            })
            .collect();
        let open = waiting.iter().filter(|it| it.remaining > 0).count();
        Self { waiting, open }
    }

    /// Returns whether a fill is all that is left.
    pub(super) fn is_all(&self, fill: &[(usize, u64)]) -> bool {
        let mut open = self.open();
        open.all(|(at, _, remaining)| fill.contains(&(at, remaining)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Returns whether so much is left that it does not pay to keep what is found for the next queue.
    pub(super) fn is_long(&self) -> bool {
        self.total() > SHORT
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn remaining(&self, at: usize) -> u64 {
        self.waiting[at].remaining
    }

    /// Returns position, shape and count of every request of which some are left.
    pub(super) fn open(&self) -> impl Iterator<Item = (usize, ShapeId, u64)> {
        let waiting = self.waiting.iter().enumerate();
        waiting
            .filter(|(_, shape)| shape.remaining > 0)
            .map(|(at, shape)| (at, shape.shape, shape.remaining))
    }

    /// Returns what is left, as a key: queues with equal keys are offered alike.
    pub(super) fn key(&self, shapes: &Shapes) -> QueueKey {
        let open = self.open().map(|(_, shape, remaining)| {
            // However many are left, a node takes one of those that keep apart.
            let is_apart = shapes.get(shape).apart != Apart::No;
            (shape, if is_apart { 1 } else { remaining })
        });
        open.collect()
    }

    /// Returns the shape at a position.
    pub(super) fn shape_at(&self, at: usize) -> ShapeId {
        self.waiting[at].shape
    }

    /// Returns the positions of requests of which some are left.
    pub(super) fn positions(&self) -> Vec<usize> {
        self.open().map(|(at, _, _)| at).collect()
    }

    /// Returns the shape at every position.
    pub(super) fn shapes(&self) -> Vec<ShapeId> {
        self.waiting.iter().map(|waiting| waiting.shape).collect()
    }

    /// Returns the number of requests that are left.
    pub(super) fn total(&self) -> u64 {
        self.open()
            .fold(0, |sum, (_, _, remaining)| sum.saturating_add(remaining))
    }

    /// Takes `times` fills out.
    pub(super) fn take(&mut self, fill: &[(usize, u64)], times: u64) {
        for (at, count) in fill {
            let waiting = &mut self.waiting[*at];
            let before = waiting.remaining;
            waiting.remaining = before.saturating_sub(count.saturating_mul(times));
            if before > 0 && waiting.remaining == 0 {
                self.open -= 1;
            }
        }
    }

    /// Returns how often `used` can be taken so that afterwards `kept` of each shape are still left.
    pub(super) fn rounds(&self, used: &[(usize, u64)], mut kept: impl FnMut(usize) -> u64) -> u64 {
        let used = used.iter().filter(|(_, count)| *count > 0);
        used.map(|(at, count)| self.remaining(*at).saturating_sub(kept(*at)) / count)
            .min()
            .unwrap_or(0)
    }

    /// Returns whether a node that took `fill` would still take the same.
    ///
    /// A shape limited by the node is taken again while enough remain; one limited by what
    /// remained has its count in `fill`, so that any less is noticed.
    pub(super) fn still_has(&self, fill: &[(usize, u64)]) -> bool {
        fill.iter().all(|(at, count)| *count <= self.remaining(*at))
    }

    /// Returns the position in the asks of every position of the queue.
    pub(super) fn asks(&self) -> Vec<usize> {
        self.waiting.iter().map(|shape| shape.ask).collect()
    }

    /// Returns what is left, by position in the asks.
    pub(super) fn unplaced(&self) -> Vec<(usize, u64)> {
        let left = self.waiting.iter().filter(|shape| shape.remaining > 0);
        let mut left: Vec<(usize, u64)> = left.map(|shape| (shape.ask, shape.remaining)).collect();
        left.sort_unstable();
        left
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;
    use crate::model::{Quantity, ResourceMap, ResourceName, ResourceRequest};
    use crate::placement::shape::{Apart, Shapes};

    #[test]
    fn hard_shapes_come_first() {
        let mut shapes = Shapes::default();
        let mut shape = |entries: &[(&str, i64)]| {
            let resources: ResourceMap = entries
                .iter()
                .map(|(name, count)| (ResourceName::from(*name), Quantity::from_whole(*count)))
                .collect();
            (shapes.intern(&ResourceRequest::of(resources), Apart::No), 1)
        };
        let asks = [
            shape(&[("CPU", 4)]),
            shape(&[("CPU", 1), ("GPU", 1)]),
            shape(&[("memory", 99)]),
            shape(&[("CPU", 3), ("memory", 2)]),
        ];
        let queue = Queue::new(&asks, &shapes, true);
        assert_eq!(queue.asks(), [3, 1, 2, 0]);
    }
}
