//! The better packer: least cost for new nodes, best fit for nodes that are there.
//!
//! # Why
//!
//! Ray's score multiplies shares with raw amounts, so that bytes outweigh everything else. Here
//! all amounts are valued at prices first. A new node is as good as what it serves is worth
//! compared with what the node costs; a node that is there costs nothing more, so that it is as
//! good as it becomes full.

use std::collections::BTreeMap;

use super::outfit::{ABSENT, Outfit};
use super::shape::index;
use super::state::Held;
use crate::model::Quantity;

/// Holds the prices by which nodes are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Packing {
    /// Price of one unit of a resource.
    pub unit_prices: BTreeMap<String, f64>,
    /// Price of a node, by position of its group; what its resources are worth where there is no entry.
    pub node_prices: BTreeMap<usize, f64>,
}

impl Packing {
    /// Returns what the node serves for its price, and what that is worth.
    pub(super) fn score(&self, node: &Held<'_>, outfit: &Outfit) -> (f64, f64) {
        let (mut worth, mut used) = (0.0, 0.0);
        for (item, left) in outfit
            .items
            .iter()
            .zip(node.left)
            .filter(|(item, _)| item.total.is_some())
        {
            let Some(price) = self.unit_prices.get(item.name.as_str()) else {
                continue;
            };
            let left = if *left == ABSENT {
                0.0
            } else {
                Quantity::from_units(*left).as_f64()
            };
            worth += price * item.total_f64;
            used += price * (item.total_f64 - left);
        }
        let own = self
            .node_prices
            .get(&index(node.state.group))
            .filter(|_| !node.state.is_running);
        let price = own.copied().unwrap_or(worth);
        (if price > 0.0 { used / price } else { 0.0 }, used)
    }
}
