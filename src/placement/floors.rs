//! When a node is full for all that may still come in a queue.
//!
//! Why: with a hundred shapes most of an offer would be spent on finding that nothing more fits.

use super::outfit::{Outfit, Outfits};
use super::queue::Queue;
use super::shape::{ShapeId, index};

/// Holds, by outfit and position in the queue, the least of each item that anything from there on takes.
#[derive(Debug)]
pub(super) struct Floors {
    by_outfit: Vec<Vec<i64>>,
}

impl Floors {
    /// Works the floors out for all outfits.
    pub(super) fn of(queue: &Queue, outfits: &Outfits) -> Self {
        let shapes = queue.shapes();
        let by_outfit = outfits.iter().map(|outfit| floors(outfit, &shapes));
        Self {
            by_outfit: by_outfit.collect(),
        }
    }

    /// Returns whether nothing from position `at` on fits what is left.
    pub(super) fn is_full(&self, outfit: u32, at: usize, left: &[i64]) -> bool {
        let floors = &self.by_outfit[index(outfit)];
        let items = left.len();
        let floors = &floors[at * items..(at + 1) * items];
        floors.iter().zip(left).any(|(floor, left)| left < floor)
    }
}

fn floors(outfit: &Outfit, shapes: &[ShapeId]) -> Vec<i64> {
    let items = outfit.items.len();
    let mut floors = vec![i64::MAX; (shapes.len() + 1) * items];
    for at in (0..shapes.len()).rev() {
        floors.copy_within((at + 1) * items..(at + 2) * items, at * items);
        let fit = outfit.fit(shapes[at]);
        let Some(needs) = fit
            .needs
            .as_deref()
            .filter(|_| fit.selector.is_some() && !fit.is_kept_apart)
        else {
            continue;
        };
        for item in 0..items {
            let taken = needs
                .iter()
                .find(|(other, _)| *other == item)
                .map_or(i64::MIN, |(_, units)| *units);
            let floor = &mut floors[at * items + item];
            *floor = (*floor).min(taken);
        }
    }
    floors
}
