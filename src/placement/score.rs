//! How good a node is for the requests it would take, in Ray's own order of operations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::outfit::{ABSENT, Outfit, Outfits};
use super::packing::Packing;
use super::shape::index;
use super::state::Held;

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

/// Says how likely nodes of a group come when they are asked for; 1 is no doubt, 0 the most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Availability {
    /// Grows back to 1 some time after a failure.
    pub recoverable: f64,
    /// Ranks groups by the time since their last failure.
    pub lasting: f64,
}

impl Default for Availability {
    fn default() -> Self {
        Self {
            recoverable: 1.0,
            lasting: 1.0,
        }
    }
}

/// Holds what settles between equal scores.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Preference {
    pub(super) priority: i64,
    pub(super) availability: Availability,
}

impl Preference {
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let (a, b) = (self.availability, other.availability);
        let recoverable = a.recoverable.total_cmp(&b.recoverable);
        let lasting = a.lasting.total_cmp(&b.lasting);
        recoverable
            .then(self.priority.cmp(&other.priority))
            .then(lasting)
    }
}

/// Holds what the choice between nodes depends on besides the nodes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Choice {
    /// What a group's priority weighs.
    pub priority: PriorityRule,
    /// Resources that are too dear for requests that do not ask for them.
    pub spare: Vec<String>,
    /// Whether nodes that run come before nodes that start.
    pub is_running_first: bool,
    /// Availability of groups, by position; full where there is no entry.
    pub availability: BTreeMap<usize, Availability>,
    /// How nodes are scored; `None` for Ray's way.
    pub packing: Option<Packing>,
    /// Price of one host of each group, by position; none where prices do not count.
    pub(super) host_prices: Vec<f64>,
    /// Place of each group among all preferences, 1 being the least; the head has that of a group
    /// with priority 0.
    pub(super) places: Vec<(u16, u16)>,
    /// Items of each outfit that are to be spared.
    pub(super) spare_at: Vec<Vec<usize>>,
    /// The same for nodes without a group.
    pub(super) place_of_none: (u16, u16),
}

/// Holds score terms of some resources: v·u³, with v the total and u the used share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Terms {
    count: u32,
    min: u64,
    sum: u64,
}

impl Terms {
    /// Adds a resource by its [`term`].
    pub(super) fn add(&mut self, term: f64) {
        if term.is_nan() {
            return;
        }
        let min = if self.count == 0 {
            term
        } else {
            f64::from_bits(self.min).min(term)
        };
        let sum = f64::from_bits(self.sum) + term;
        (self.count, self.min, self.sum) = (self.count + 1, min.to_bits(), sum.to_bits());
    }
}

/// Returns the term of a resource; not a number where it does not count: when it is not available,
/// or there is none of it.
pub(super) fn term(total: f64, left: i64) -> f64 {
    if total == 0.0 || left == ABSENT {
        return f64::NAN;
    }
    let used = (total - crate::model::Quantity::from_units(left).as_f64()) / total;
    // The library's power and not two products, which would round otherwise than Ray does.
    if used == 0.0 {
        0.0
    } else {
        total * used.powf(3.0)
    }
}

/// Rates what a node holds; larger is better.
///
/// Shape: numbers that are compared in this order; `first` packs what comes before the terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) first: u64,
    pub(super) min: u64,
    pub(super) mean: u64,
    pub(super) last: u16,
}

/// Names a class with its rank; larger is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ranked {
    first: u64,
    min: u64,
    mean: u64,
    // Beside each other they fill one word.
    last: u16,
    pub(super) class: u32,
}

impl Rank {
    pub(super) fn of(self, class: u32) -> Ranked {
        let Self {
            first,
            min,
            mean,
            last,
        } = self;
        Ranked {
            first,
            min,
            mean,
            last,
            class,
        }
    }
}

impl Ranked {
    pub(super) fn rank(&self) -> Rank {
        let Self {
            first,
            min,
            mean,
            last,
            ..
        } = *self;
        Rank {
            first,
            min,
            mean,
            last,
        }
    }

    /// Returns whether both rank alike.
    pub(super) fn equals(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Choice {
    /// Works out the places of groups with these preferences.
    pub(super) fn settle(&mut self, priorities: &[i64], outfits: &Outfits) {
        let spare = |outfit: &Outfit| self.spare_in(outfit);
        self.spare_at = outfits.iter().map(spare).collect();
        let preference = |(at, priority): (usize, &i64)| Preference {
            priority: if self.priority == PriorityRule::EqualFits {
                *priority
            } else {
                0
            },
            availability: self.availability.get(&at).copied().unwrap_or_default(),
        };
        let own: Vec<Preference> = priorities.iter().enumerate().map(preference).collect();
        let none = Preference::default();
        let mut order: Vec<Preference> = own.iter().copied().chain([none]).collect();
        order.sort_by(Preference::order);
        let place = |wanted: &Preference| {
            let at = order.iter().position(|other| other.order(wanted).is_eq());
            u16::try_from(at.unwrap_or(0)).unwrap_or(u16::MAX)
        };
        let mut steps: Vec<i64> = priorities.iter().copied().chain([0]).collect();
        steps.sort_unstable();
        let ahead = |priority: i64| {
            let at = steps
                .iter()
                .position(|other| *other == priority)
                .unwrap_or(0);
            let is_first = self.priority == PriorityRule::First;
            if is_first {
                u16::try_from(at).unwrap_or(u16::MAX)
            } else {
                0
            }
        };
        let places = priorities.iter().zip(&own);
        self.places = places
            .map(|(priority, own)| (ahead(*priority), place(own)))
            .collect();
        self.place_of_none = (ahead(0), place(&none));
    }

    /// Returns whether nodes are ranked alike; which items are spared follows from their names.
    pub(super) fn ranks_like(&self, other: &Self) -> bool {
        let own = (&self.places, self.place_of_none, self.is_running_first);
        own == (&other.places, other.place_of_none, other.is_running_first)
            && self.spare == other.spare
            && self.packing == other.packing
    }

    fn spare_in(&self, outfit: &Outfit) -> Vec<usize> {
        let there = self.spare.iter().filter(|name| outfit.has(name));
        there.filter_map(|name| outfit.position(name)).collect()
    }

    /// Returns the rank of a node as it would be.
    pub(super) fn rank(&self, node: &Held<'_>, outfit: &Outfit) -> Rank {
        let place = self.places.get(index(node.state.group));
        let (ahead, last) = place.copied().unwrap_or(self.place_of_none);
        let is_ahead = self.is_running_first && node.state.is_running;
        let is_wasted = |at: &usize| !node.is_named(*at);
        let is_spared = match self.spare_at.get(index(node.state.outfit)) {
            Some(spare) => !spare.iter().any(is_wasted),
            // An outfit that came later, with a resize.
            None => !self.spare_in(outfit).iter().any(is_wasted),
        };
        let label = u64::try_from(node.label_match.unwrap_or(0))
            .unwrap_or(u64::MAX)
            .min(0xfff);
        let kinds = u64::try_from(node.kinds(outfit))
            .unwrap_or(u64::MAX)
            .min(0xffff);
        let (min, mean) = match &self.packing {
            None => terms(node, outfit),
            Some(packing) => packing.score(node, outfit),
        };
        // Packing by price does not care for how many kinds are in use, but for how full they are.
        let kinds = if self.packing.is_some() { 0 } else { kinds };
        Rank {
            first: (u64::from(is_ahead) << 63)
                | (u64::from(ahead) << 40)
                | (label << 24)
                | (u64::from(is_spared) << 20)
                | kinds,
            min: ordered(min),
            mean: ordered(mean),
            last,
        }
    }
}

/// Returns smallest and mean term, zero without any.
fn terms(node: &Held<'_>, outfit: &Outfit) -> (f64, f64) {
    let mut terms = node.state.folded;
    let known = node.state.left.iter().zip(&node.state.terms);
    let items = outfit.items.iter().zip(node.left).zip(known);
    for ((item, left), (before, known)) in items {
        if item.total.is_some() {
            // The power takes most of the time; what the requests do not touch keeps its term.
            terms.add(if left == before {
                *known
            } else {
                term(item.total_f64, *left)
            });
        }
    }
    if terms.count == 0 {
        return (0.0, 0.0);
    }
    (
        f64::from_bits(terms.min),
        f64::from_bits(terms.sum) / f64::from(terms.count),
    )
}

/// Returns a number whose order is that of `f64::total_cmp`.
pub(super) fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | (1 << 63)
    }
}

/// Returns the number that `ordered` stands for.
pub(super) fn value(ordered: u64) -> f64 {
    f64::from_bits(if ordered >> 63 == 1 {
        ordered & !(1 << 63)
    } else {
        !ordered
    })
}

#[cfg(test)]
mod tests {
    use super::{ordered, value};

    #[test]
    fn numbers_stand_for_floats_in_order() {
        let values = [f64::NEG_INFINITY, -2.5, -0.0, 0.0, 1e-9, 1.0, 1.5, f64::MAX];
        for pair in values.windows(2) {
            assert!(ordered(pair[0]) < ordered(pair[1]), "{pair:?}");
        }
        let again = values.map(|it| value(ordered(it)).to_bits());
        assert_eq!(again, values.map(f64::to_bits));
    }
}
