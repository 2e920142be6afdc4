//! The requests of one call, in the order in which Ray offers them to a node.

use std::cmp::Reverse;

use crate::model::{ResourceDemand, ResourceRequest};

struct Shape<'a> {
    request: &'a ResourceRequest,
    remaining: u64,
    ask: usize,
}

/// Holds what is still to be placed.
pub(super) struct Queue<'a> {
    shapes: Vec<Shape<'a>>,
}

impl<'a> Queue<'a> {
    /// Returns the asks, hardest first: placement constraints, label constraints, kinds of
    /// resources, sum of amounts, amounts by name.
    ///
    /// The last tie-break is the request itself, so that the order of the input does not matter.
    pub(super) fn new(asks: &'a [ResourceDemand]) -> Self {
        let mut shapes: Vec<Shape<'a>> = asks
            .iter()
            .enumerate()
            .map(|(ask, demand)| Shape {
                request: &demand.request,
                remaining: demand.count,
                ask,
            })
            .collect();
        shapes.sort_by_cached_key(|shape| {
            let request = shape.request;
            let labels = request
                .selectors
                .first()
                .map_or(0, |first| first.constraints.len());
            let hardness = (
                usize::from(request.anti_affinity.is_some()),
                labels,
                request.resources.len(),
                request.amount_sum(),
                &request.resources,
            );
            (Reverse(hardness), request)
        });
        Self { shapes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shapes.iter().all(|shape| shape.remaining == 0)
    }

    pub(super) fn remaining(&self, at: usize) -> u64 {
        self.shapes.get(at).map_or(0, |shape| shape.remaining)
    }

    /// Returns position, request and count of every shape of which some are left.
    pub(super) fn open(&self) -> impl Iterator<Item = (usize, &'a ResourceRequest, u64)> {
        self.shapes
            .iter()
            .enumerate()
            .filter(|(_, shape)| shape.remaining > 0)
            .map(|(at, shape)| (at, shape.request, shape.remaining))
    }

    /// Takes `times` fills out.
    pub(super) fn take(&mut self, fill: &[(usize, u64)], times: u64) {
        for (at, count) in fill {
            if let Some(shape) = self.shapes.get_mut(*at) {
                shape.remaining = shape.remaining.saturating_sub(count.saturating_mul(times));
            }
        }
    }

    /// Returns how often `used` can be taken so that afterwards `kept` of each shape are still left.
    pub(super) fn rounds(&self, used: &[(usize, u64)], kept: &[u64]) -> u64 {
        used.iter()
            .filter(|(_, count)| *count > 0)
            .map(|(at, count)| {
                let kept = kept.get(*at).copied().unwrap_or(0);
                self.remaining(*at).saturating_sub(kept) / count
            })
            .min()
            .unwrap_or(0)
    }

    /// Returns the position in the asks of a shape.
    pub(super) fn ask(&self, at: usize) -> usize {
        self.shapes.get(at).map_or(0, |shape| shape.ask)
    }

    /// Returns what is left, by position in the asks.
    pub(super) fn unplaced(&self) -> Vec<(usize, u64)> {
        let left = self.shapes.iter().filter(|shape| shape.remaining > 0);
        let mut left: Vec<(usize, u64)> = left.map(|shape| (shape.ask, shape.remaining)).collect();
        left.sort_unstable();
        left
    }

    pub(super) fn len(&self) -> usize {
        self.shapes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;
    use crate::model::{Quantity, ResourceDemand, ResourceMap, ResourceName, ResourceRequest};

    #[test]
    fn hard_shapes_come_first() {
        let shape = |entries: &[(&str, i64)]| {
            let resources: ResourceMap = entries
                .iter()
                .map(|(name, count)| (ResourceName::from(*name), Quantity::from_whole(*count)))
                .collect();
            ResourceDemand {
                request: ResourceRequest::of(resources),
                count: 1,
            }
        };
        let asks = [
            shape(&[("CPU", 4)]),
            shape(&[("CPU", 1), ("GPU", 1)]),
            shape(&[("memory", 99)]),
            shape(&[("CPU", 3), ("memory", 2)]),
        ];
        let queue = Queue::new(&asks);
        let order: Vec<usize> = queue.open().map(|(at, _, _)| queue.ask(at)).collect();
        assert_eq!(order, [3, 1, 2, 0]);
    }
}
