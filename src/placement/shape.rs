//! The distinct requests of a decision, each known by a number.
//!
//! Why: ten thousand placement groups ask for a handful of shapes. What a node can do for a shape
//! is worked out once per outfit and shape, and a list of requests becomes a list of numbers.

use std::cmp::Ordering;

use crate::model::{AntiAffinity, ResourceDemand, ResourceRequest};

use super::asked::Asked;

/// Numbers a shape.
pub(super) type ShapeId = u32;

/// Says which nodes a request keeps away from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Apart {
    /// None.
    No,
    /// Those that hold a request of the same list; no other list and no node knows the label.
    Own,
    /// Those that carry this label.
    Label(AntiAffinity),
}

/// Holds one shape.
#[derive(Debug)]
pub(super) struct Shape {
    /// The request; its label is in `apart`.
    pub(super) request: ResourceRequest,
    /// Which nodes it keeps away from.
    pub(super) apart: Apart,
    hardness: (usize, usize, usize, i128),
}

/// Holds all shapes.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    all: Vec<Shape>,
    /// By content, for looking up.
    sorted: Vec<ShapeId>,
}

impl Shapes {
    pub(super) fn get(&self, id: ShapeId) -> &Shape {
        &self.all[index(id)]
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the number of a request that stands in a list with `label`; new ones get the next.
    pub(super) fn intern(&mut self, request: &ResourceRequest, apart: Apart) -> ShapeId {
        let found = self.sorted.binary_search_by(|id| {
            let shape = &self.all[index(*id)];
            let known = (
                &shape.request.resources,
                &shape.request.selectors,
                &shape.apart,
            );
            known.cmp(&(&request.resources, &request.selectors, &apart))
        });
        match found {
            Ok(at) => self.sorted[at],
            Err(at) => {
                let id = ShapeId::try_from(self.all.len()).unwrap_or(ShapeId::MAX);
                let labels = request
                    .selectors
                    .first()
                    .map_or(0, |first| first.constraints.len());
                let hardness = (
                    usize::from(apart != Apart::No),
                    labels,
                    request.resources.len(),
                    request.amount_sum(),
                );
                let request = request.clone();
                self.all.push(Shape {
                    request,
                    apart,
                    hardness,
                });
                self.sorted.insert(at, id);
                id
            }
        }
    }

    /// Orders two shapes, the hardest first: placement constraints, label constraints, kinds of
    /// resources, sum of amounts, amounts by name.
    pub(super) fn hardest_first(&self, a: ShapeId, b: ShapeId) -> Ordering {
        if a == b {
            return Ordering::Equal;
        }
        let (a, b) = (self.get(a), self.get(b));
        let resources = || b.request.resources.cmp(&a.request.resources);
        b.hardness.cmp(&a.hardness).then_with(resources)
    }
}

/// Returns how each request of a list keeps apart.
///
/// One label that nobody else knows needs no name: the list itself is enough to tell.
pub(super) fn aparts(asks: &[ResourceDemand], asked: &Asked) -> Vec<Apart> {
    let labels = || {
        asks.iter()
            .filter_map(|ask| ask.request.anti_affinity.as_ref())
    };
    let first = labels().next();
    let is_own =
        first.is_some_and(|first| !asked.is_shared(first) && labels().all(|label| label == first));
    let apart = |ask: &ResourceDemand| match &ask.request.anti_affinity {
        None => Apart::No,
        Some(_) if is_own => Apart::Own,
        Some(label) => Apart::Label(label.clone()),
    };
    asks.iter().map(apart).collect()
}

pub(super) fn index(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}
