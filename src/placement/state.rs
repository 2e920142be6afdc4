//! What one node can still take, what it holds, and what it would hold after taking more.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::model::{AntiAffinity, Node, ResourceMap};

use super::asked::{Asked, Role};
use super::floors::Floors;
use super::outfit::{ABSENT, Fit, Item, Outfit, Outfits};
use super::queue::Queue;
use super::score::{Choice, Rank, Terms, term};
use super::shape::{Apart, Shapes};

/// Bits of [`NodeState::held`]: the item was named by a request, and by one that takes some of it.
const NAMED: u8 = 1;
const TAKEN: u8 = 2;

/// Holds everything about a node that placing depends on; nodes with equal states are one class.
#[derive(Debug, Clone)]
pub(super) struct NodeState {
    /// What it has.
    pub(super) outfit: u32,
    /// Position of its group; `u32::MAX` for the head and for nodes of other groups.
    pub(super) group: u32,
    /// Whether its raylet is there.
    pub(super) is_running: bool,
    /// What is left, by item of the outfit. A resource that is used up in Ray is [`ABSENT`].
    pub(super) left: Box<[i64]>,
    /// Score term of each item, which follows from what is left.
    pub(super) terms: Box<[f64]>,
    /// What the requests placed in this decision named, by item.
    pub(super) held: Box<[u8]>,
    /// Number of selectors minus the index of the one that matched, of the first request with any.
    pub(super) label_match: Option<usize>,
    /// Labels given by bundles that want no other of their placement group beside them.
    pub(super) spread: BTreeSet<AntiAffinity>,
    /// Score terms of resources that nobody asks for.
    pub(super) folded: Terms,
    /// What it may be resized to, in units of CPU and memory.
    pub(super) grows_to: Option<(i64, i64)>,
}

impl PartialEq for NodeState {
    fn eq(&self, other: &Self) -> bool {
        let own = (&self.left, &self.held, self.outfit, self.group);
        own == (&other.left, &other.held, other.outfit, other.group)
            && self.is_running == other.is_running
            && self.label_match == other.label_match
            && self.spread == other.spread
            && self.folded == other.folded
            && self.grows_to == other.grows_to
    }
}

impl Eq for NodeState {}

impl Hash for NodeState {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // What differs between nodes of a group; the rest is compared.
        state.write_u64(u64::from(self.outfit) << 32 | u64::from(self.group));
        self.left.iter().for_each(|left| left.hash(state));
        self.held.hash(state);
        state.write_u8(u8::from(self.is_running));
        self.label_match.hash(state);
        self.spread.hash(state);
        self.folded.hash(state);
        self.grows_to.hash(state);
    }
}

/// Holds the outcome of offering a queue of requests to a node.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    /// How many of which shape it takes, by position in the queue.
    pub(super) fill: Arc<[(usize, u64)]>,
    /// How good that is.
    pub(super) rank: Rank,
}

/// Holds what offers are made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terrain<'a> {
    pub(super) states: &'a [NodeState],
    pub(super) outfits: &'a Outfits,
    pub(super) shapes: &'a Shapes,
    pub(super) choice: &'a Choice,
}

/// Holds what is changed while one offer is made; kept to save allocations.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    left: Vec<i64>,
    held: Vec<u8>,
    fill: Vec<(usize, u64)>,
    /// When nodes are full, for the queue at hand; only worth its while for long ones.
    pub(super) floors: Option<Floors>,
}

impl NodeState {
    /// Returns the state of a node with nothing on it.
    pub(super) fn empty(outfit: u32, group: u32, outfits: &Outfits) -> Self {
        let left = outfits.get(outfit).everything();
        let terms = terms(outfits.get(outfit), &left);
        Self {
            terms,
            outfit,
            group,
            is_running: false,
            held: vec![0; left.len()].into_boxed_slice(),
            left: left.into_boxed_slice(),
            label_match: None,
            spread: BTreeSet::new(),
            folded: Terms::default(),
            grows_to: None,
        }
    }

    /// Returns the state of such a node with nothing left.
    pub(super) fn full(&self, outfit: &Outfit) -> Self {
        let left: Box<[i64]> = self.left.iter().map(|left| *left.min(&0)).collect();
        Self {
            terms: terms(outfit, &left),
            left,
            ..self.clone()
        }
    }

    /// Returns the same node with what a running node has in use.
    pub(super) fn observed(&self, node: &Node, outfit: &Outfit, asked: &Asked) -> Self {
        let left = outfit.left(&node.available, asked).into_boxed_slice();
        Self {
            outfit: self.outfit,
            group: self.group,
            is_running: self.is_running,
            terms: terms(outfit, &left),
            left,
            held: self.held.clone(),
            label_match: self.label_match,
            spread: self.spread.clone(),
            folded: folded(&node.total, &node.available, asked),
            grows_to: self.grows_to,
        }
    }

    /// Returns how much the node takes of a queue, and how good that is; `None` when it is nothing.
    ///
    /// As in Ray each request is tried once, in the order of the queue, without going back.
    /// `has_own` says that the node already holds a request that keeps its own list apart.
    pub(super) fn offer(
        &self,
        (queue, has_own): (&Queue, bool),
        terrain: Terrain<'_>,
        scratch: &mut Scratch,
    ) -> Option<Trial> {
        let rank = self.rate((queue, has_own), terrain, scratch)?;
        Some(Trial {
            fill: scratch.fill.as_slice().into(),
            rank,
        })
    }

    /// Returns how good an offer is; what the node takes stays in `scratch`.
    pub(super) fn rate(
        &self,
        (queue, has_own): (&Queue, bool),
        terrain: Terrain<'_>,
        scratch: &mut Scratch,
    ) -> Option<Rank> {
        let outfit = terrain.outfits.get(self.outfit);
        let mut has_own = has_own;
        let mut label_match = self.label_match;
        scratch.fill.clear();
        let floors = scratch.floors.take();
        let is_full = |at: usize, left: &[i64]| {
            let floors = floors.as_ref();
            floors.is_some_and(|floors| floors.is_full(self.outfit, at, left))
        };
        let is_full_already = is_full(0, &self.left);
        for (at, shape, remaining) in queue.open().take_while(|_| !is_full_already) {
            let fit = outfit.fit(shape);
            let (Some(needs), Some(selector)) = (&fit.needs, fit.selector) else {
                continue;
            };
            if fit.is_kept_apart {
                continue;
            }
            let apart = &terrain.shapes.get(shape).apart;
            let is_beside =
                |(at, _): &(usize, u64)| terrain.shapes.get(queue.shape_at(*at)).apart == *apart;
            let most = match apart {
                Apart::No => u64::MAX,
                Apart::Own if has_own => continue,
                Apart::Label(avoid) if self.spread.contains(avoid) => continue,
                Apart::Label(_) if scratch.fill.iter().any(is_beside) => continue,
                Apart::Own | Apart::Label(_) => 1,
            };
            let left = if scratch.fill.is_empty() {
                &*self.left
            } else {
                &*scratch.left
            };
            let count = times(needs, left).min(remaining).min(most);
            if count == 0 {
                continue;
            }
            if scratch.fill.is_empty() {
                scratch.left.clear();
                scratch.left.extend_from_slice(&self.left);
                scratch.held.clear();
                scratch.held.extend_from_slice(&self.held);
            }
            scratch.fill.push((at, count));
            take(fit, count, (&mut scratch.left, &mut scratch.held));
            has_own |= terrain.shapes.get(shape).apart == Apart::Own;
            if label_match.is_none() && fit.selectors > 0 {
                label_match = Some(fit.selectors - selector);
            }
            if is_full(at + 1, &scratch.left) {
                break;
            }
        }
        scratch.floors = floors;
        if scratch.fill.is_empty() {
            return None;
        }
        let after = Held {
            state: self,
            left: &scratch.left,
            held: &scratch.held,
            label_match,
        };
        Some(terrain.choice.rank(&after, outfit))
    }

    /// Returns the state after taking `fill`, whose shapes are given by position in the queue.
    pub(super) fn after(
        &self,
        fill: &[(usize, u64)],
        shape_at: &[u32],
        terrain: Terrain<'_>,
    ) -> Self {
        let mut after = self.clone();
        let outfit = terrain.outfits.get(self.outfit);
        for (at, count) in fill {
            let id = shape_at[*at];
            let fit = outfit.fit(id);
            take(fit, *count, (&mut after.left, &mut after.held));
            if let Apart::Label(avoid) = &terrain.shapes.get(id).apart {
                after.spread.insert(avoid.clone());
            }
            if after.label_match.is_none() && fit.selectors > 0 {
                after.label_match = fit.selector.map(|selector| fit.selectors - selector);
            }
        }
        after.terms = terms_after(&after.left, self, outfit);
        after
    }
}

/// Holds a node as it would be, for its score.
pub(super) struct Held<'a> {
    pub(super) state: &'a NodeState,
    pub(super) left: &'a [i64],
    held: &'a [u8],
    pub(super) label_match: Option<usize>,
}

impl Held<'_> {
    pub(super) fn is_named(&self, at: usize) -> bool {
        self.held[at] & NAMED != 0
    }

    /// Returns how many kinds of registered resources are in use by what was placed.
    pub(super) fn kinds(&self, outfit: &Outfit) -> usize {
        let items = self.held.iter().zip(&outfit.items);
        items
            .filter(|(held, item)| **held & TAKEN != 0 && item.total.is_some())
            .count()
    }
}

/// Returns how often `needs` fit into what is left; `u64::MAX` when they are nothing.
pub(super) fn times(needs: &[(usize, i64)], left: &[i64]) -> u64 {
    let fits = needs
        .iter()
        .map(|(at, units)| u64::try_from(left[*at] / units).unwrap_or(0));
    fits.min().unwrap_or(u64::MAX)
}

fn take(fit: &Fit, count: u64, (left, held): (&mut [i64], &mut [u8])) {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    for (at, units) in fit.needs.iter().flatten() {
        left[*at] = left[*at].saturating_sub(units.saturating_mul(count));
        held[*at] |= NAMED | TAKEN;
    }
    for at in &fit.named {
        held[*at] |= NAMED;
    }
}

/// Returns the score term of every item.
pub(super) fn terms(outfit: &Outfit, left: &[i64]) -> Box<[f64]> {
    let items = outfit.items.iter().zip(left);
    items
        .map(|(item, left)| term(item.total_f64, *left))
        .collect()
}

/// Returns the same with what is known from the state before.
fn terms_after(left: &[i64], before: &NodeState, outfit: &Outfit) -> Box<[f64]> {
    let known = before.left.iter().zip(&before.terms);
    let items = outfit.items.iter().zip(left).zip(known);
    let term = |((item, left), (before, known)): ((&Item, &i64), (&i64, &f64))| {
        if left == before {
            *known
        } else {
            term(item.total_f64, *left)
        }
    };
    items.map(term).collect()
}

fn folded(total: &ResourceMap, available: &ResourceMap, asked: &Asked) -> Terms {
    let mut terms = Terms::default();
    for (name, amount) in total
        .iter()
        .filter(|(name, _)| asked.role(name) == Role::Folded)
    {
        let left = available
            .contains(name.as_str())
            .then(|| available.get(name.as_str()));
        let left = left.map_or(ABSENT, crate::model::Quantity::units);
        terms.add(term(amount.as_f64(), left));
    }
    terms
}
