//! What a node has, apart from what is left of it: totals and labels.
//!
//! Nodes of a group share one outfit. What an outfit can do for a shape is worked out once; after
//! that an offer is arithmetic on a few integers.

use std::collections::BTreeMap;

use crate::model::{Labels, Quantity, ResourceMap, ResourceName};

use super::asked::{Asked, IMPLICIT_PREFIX, Role};
use super::shape::{Apart, Shape, Shapes, index};

/// The name under which all nodes have the resource that only says which node it is.
const OWN: &str = "node:";

/// Says that a resource is not among the available ones: it fits nothing and does not score.
pub(super) const ABSENT: i64 = i64::MIN;

/// Holds one resource of an outfit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) name: ResourceName,
    /// The total; `None` when the node has it without having registered it.
    pub(super) total: Option<Quantity>,
    /// The total as Ray counts.
    pub(super) total_f64: f64,
    is_implicit: bool,
}

/// Says what an outfit can do for a shape.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    /// Which items it takes how much of; `None` when the outfit lacks one, or no selector is met.
    pub(super) needs: Option<Box<[(usize, i64)]>>,
    /// Items it names without taking any.
    pub(super) named: Box<[usize]>,
    /// The first selector that the labels meet; `None` when there is none.
    pub(super) selector: Option<usize>,
    /// How many selectors there are.
    pub(super) selectors: usize,
    /// Whether the node's own labels keep it away.
    pub(super) is_kept_apart: bool,
}

/// Holds what a node has.
#[derive(Debug)]
pub(super) struct Outfit {
    pub(super) items: Vec<Item>,
    pub(super) labels: Labels,
    /// By shape.
    fits: Vec<Fit>,
}

impl Outfit {
    pub(super) fn fit(&self, shape: u32) -> &Fit {
        &self.fits[index(shape)]
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let total = self.position(name).and_then(|at| self.items[at].total);
        total.is_some_and(|total| total > Quantity::ZERO)
    }

    /// Returns the total of a resource.
    pub(super) fn amount(&self, name: &str) -> Quantity {
        let total = self.position(name).and_then(|at| self.items[at].total);
        total.unwrap_or_default()
    }

    /// Returns the totals by name.
    pub(super) fn registered(&self) -> impl Iterator<Item = (&ResourceName, Quantity)> {
        self.items
            .iter()
            .filter_map(|item| Some((&item.name, item.total?)))
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.items
            .binary_search_by(|item| item.name.as_str().cmp(name))
            .ok()
    }

    /// Returns the amounts that are left when nothing is in use.
    pub(super) fn everything(&self) -> Vec<i64> {
        let amount = |item: &Item| match item.total {
            Some(total) => total.units(),
            None if item.is_implicit => Quantity::SCALE,
            None => ABSENT,
        };
        self.items.iter().map(amount).collect()
    }

    /// Returns the amounts that are left, as `available` has them.
    pub(super) fn left(&self, available: &ResourceMap, asked: &Asked) -> Vec<i64> {
        let mut left: Vec<i64> = self
            .items
            .iter()
            .map(|item| {
                if item.is_implicit && item.total.is_none() {
                    Quantity::SCALE
                } else {
                    ABSENT
                }
            })
            .collect();
        let mut at = 0;
        for (name, amount) in available.iter() {
            // Most of what a node has stands in the outfit, in the same order.
            // What a reply tells is never taken for a resource that is not there.
            let units = amount.units().max(ABSENT + 1);
            if self.items.get(at).is_some_and(|item| item.name == *name) {
                left[at] = units;
                at += 1;
                continue;
            }
            let position = match asked.role(name) {
                Role::Folded => continue,
                Role::Own => self.position(OWN),
                Role::Named => {
                    // Both are sorted by name.
                    while at < self.items.len() && self.items[at].name < *name {
                        at += 1;
                    }
                    (at < self.items.len() && self.items[at].name == *name).then_some(at)
                }
            };
            if let Some(position) = position {
                left[position] = units;
            }
            if self
                .items
                .get(at)
                .is_some_and(|item| item.name.as_str() == OWN)
            {
                at += 1;
            }
        }
        left
    }

    /// Returns whether a shape's amounts are within the totals.
    pub(super) fn could_hold(&self, shape: u32) -> bool {
        let fit = self.fit(shape);
        let everything = |at: usize| match self.items[at].total {
            Some(total) => total.units(),
            None if self.items[at].is_implicit => Quantity::SCALE,
            None => 0,
        };
        let has =
            |needs: &[(usize, i64)]| needs.iter().all(|(at, units)| everything(*at) >= *units);
        fit.selector.is_some() && fit.needs.as_deref().is_some_and(has)
    }

    /// Returns whether the amounts of a shape are among those that are left, whatever the labels.
    pub(super) fn has_room(&self, shape: &Shape, left: &[i64]) -> bool {
        let amounts = shape.request.resources.iter();
        let mut taken = amounts.filter(|(_, amount)| *amount > Quantity::ZERO);
        taken.all(|(name, amount)| {
            let at = self.position(name.as_str());
            at.is_some_and(|at| left[at] >= amount.units())
        })
    }

    fn compile(&mut self, shape: &Shape) {
        let request = &shape.request;
        let Some(selector) = request.matching_selector(&self.labels) else {
            // Most shapes that choose by label are for few outfits, and the amounts do not matter.
            self.fits.push(Fit {
                needs: None,
                named: Box::default(),
                selector: None,
                selectors: request.selectors.len(),
                is_kept_apart: false,
            });
            return;
        };
        let mut needs = Some(Vec::with_capacity(request.resources.len()));
        let mut named = Vec::new();
        for (name, amount) in request.resources.iter() {
            match self.position(name.as_str()) {
                Some(at) if amount > Quantity::ZERO => {
                    if let Some(needs) = &mut needs {
                        needs.push((at, amount.units()));
                    }
                }
                Some(at) => named.push(at),
                None if amount > Quantity::ZERO => needs = None,
                None => {}
            }
        }
        let is_kept_apart = match &shape.apart {
            Apart::Label(avoid) => self.labels.get(&avoid.label_name) == Some(&avoid.label_value),
            Apart::No | Apart::Own => false,
        };
        self.fits.push(Fit {
            needs: needs.map(Vec::into_boxed_slice),
            named: named.into_boxed_slice(),
            selector: Some(selector),
            selectors: request.selectors.len(),
            is_kept_apart,
        });
    }

    /// Returns whether a node has just this outfit, without making a copy of what it has.
    fn is_of(
        &self,
        total: &ResourceMap,
        available: &ResourceMap,
        labels: &Labels,
        asked: &Asked,
    ) -> bool {
        let mut items = self
            .items
            .iter()
            .filter(|item| item.total.is_some() && item.name.as_str() != OWN)
            .peekable();
        let mut own = None;
        for (name, amount) in total.iter() {
            if items.peek().is_some_and(|item| item.name == *name) {
                if items.next().and_then(|item| item.total) != Some(amount) {
                    return false;
                }
                continue;
            }
            match asked.role(name) {
                Role::Folded => {}
                Role::Own => own = Some(amount),
                Role::Named => return false,
            }
        }
        let has_own = self.position(OWN).and_then(|at| self.items[at].total);
        if items.next().is_some() || has_own != own {
            return false;
        }
        // What is known of it beyond its total has to be the same as well, not only be known.
        let is_beyond = |at: usize| self.items[at].total.is_none();
        let mut beyond = 0;
        for (name, _) in available.iter() {
            match self.position(name.as_str()) {
                Some(at) => beyond += usize::from(is_beyond(at)),
                None if asked.role(name) == Role::Named => return false,
                None => {}
            }
        }
        let implicit = asked
            .implicit()
            .filter(|name| !available.contains(name.as_str()));
        let positions = implicit.map(|name| self.position(name.as_str()));
        for position in positions {
            match position {
                Some(at) => beyond += usize::from(is_beyond(at)),
                None => return false,
            }
        }
        if beyond != (0..self.items.len()).filter(|at| is_beyond(*at)).count() {
            return false;
        }
        let kept = labels.iter().filter(|(name, _)| asked.keeps_label(name));
        kept.eq(self.labels.iter())
    }
}

/// Holds all outfits.
#[derive(Debug, Default)]
pub(super) struct Outfits {
    all: Vec<Outfit>,
    ids: BTreeMap<(ResourceMap, Vec<ResourceName>, Labels), u32>,
    last: Option<u32>,
}

impl Outfits {
    pub(super) fn get(&self, id: u32) -> &Outfit {
        &self.all[index(id)]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Outfit> {
        self.all.iter()
    }

    /// Returns the number of the outfit of a node with these amounts and labels.
    pub(super) fn intern(
        &mut self,
        (total, available, labels): (&ResourceMap, &ResourceMap, &Labels),
        asked: &Asked,
        shapes: &Shapes,
    ) -> u32 {
        let is_same = |last: &u32| self.get(*last).is_of(total, available, labels, asked);
        if let Some(last) = self.last.filter(is_same) {
            return last;
        }
        let mut own_total = ResourceMap::new();
        for (name, amount) in total.iter() {
            match asked.role(name) {
                Role::Folded => {}
                Role::Own => own_total.set(OWN.into(), amount),
                Role::Named => own_total.set(name.clone(), amount),
            }
        }
        let is_more = |name: &ResourceName| {
            asked.role(name) == Role::Named && !own_total.contains(name.as_str())
        };
        let mut more: Vec<ResourceName> = available.iter().map(|(name, _)| name.clone()).collect();
        more.extend(asked.implicit().cloned());
        more.retain(is_more);
        more.sort();
        more.dedup();
        let labels: Labels = labels
            .iter()
            .filter(|(name, _)| asked.keeps_label(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let key = (own_total, more, labels);
        let id = match self.ids.get(&key) {
            Some(id) => *id,
            None => {
                let id = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
                self.all.push(outfit(&key, shapes));
                self.ids.insert(key, id);
                id
            }
        };
        self.last = Some(id);
        id
    }

    /// Works out what every outfit can do for the shapes that are new.
    pub(super) fn learn(&mut self, shapes: &Shapes) {
        for outfit in &mut self.all {
            let known = outfit.fits.len();
            outfit.fits.reserve(shapes.len().saturating_sub(known));
            for id in known..shapes.len() {
                outfit.compile(shapes.get(u32::try_from(id).unwrap_or(u32::MAX)));
            }
        }
    }
}

fn outfit(
    (total, more, labels): &(ResourceMap, Vec<ResourceName>, Labels),
    shapes: &Shapes,
) -> Outfit {
    let registered = total
        .iter()
        .map(|(name, amount)| (name.clone(), Some(amount)));
    let others = more.iter().map(|name| (name.clone(), None));
    let mut items: Vec<Item> = registered
        .chain(others)
        .map(|(name, total)| Item {
            is_implicit: name.as_str().starts_with(IMPLICIT_PREFIX),
            name,
            total,
            total_f64: total.map_or(0.0, Quantity::as_f64),
        })
        .collect();
    items.sort_by(|a, b| a.name.cmp(&b.name));
    let mut outfit = Outfit {
        items,
        labels: labels.clone(),
        fits: Vec::new(),
    };
    for id in 0..shapes.len() {
        outfit.compile(shapes.get(u32::try_from(id).unwrap_or(u32::MAX)));
    }
    outfit
}

#[cfg(test)]
mod tests {
    use super::Outfits;
    use crate::model::{ClusterSnapshot, Labels, Quantity, ResourceMap};
    use crate::placement::asked::Asked;
    use crate::placement::shape::Shapes;

    fn amounts(names: &[&str]) -> ResourceMap {
        let one = Quantity::from_whole(1);
        names.iter().map(|name| ((*name).into(), one)).collect()
    }

    #[test]
    fn which_outfit_was_looked_at_last_changes_nothing() {
        let (asked, shapes) = (Asked::of(&ClusterSnapshot::default()), Shapes::default());
        let labels = Labels::new();
        let plain = amounts(&["CPU"]);
        let (own, more) = (
            amounts(&["CPU", "node:10.0.0.1"]),
            amounts(&["CPU", "more"]),
        );
        // A template, a node of it, and one that also has something to give that it has not registered.
        let all = [(&plain, &plain), (&own, &own), (&plain, &more)];
        let mut outfits = Outfits::default();
        let mut intern = |at: usize| {
            let (total, available) = all[at];
            outfits.intern((total, available, &labels), &asked, &shapes)
        };
        let ids = [0, 1, 2].map(&mut intern);
        assert_ne!(ids[0], ids[1]);
        assert_ne!(ids[0], ids[2]);
        for before in 0..3 {
            for (at, id) in ids.into_iter().enumerate() {
                intern(before);
                assert_eq!(intern(at), id, "{at} after {before}");
            }
        }
    }
}
