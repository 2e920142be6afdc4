//! The better packer: least cost for new nodes, best fit for nodes that are there.
//!
//! # Why
//!
//! Ray's score multiplies shares with raw amounts, so that bytes outweigh everything else. Here a new
//! node is as good as what it serves is worth compared with what it costs, all its replica's hosts
//! included, since all of them are paid. A node that is there, running or starting, costs nothing
//! more, so that it is as good as it becomes full: only in what is asked of it, and by shares, for
//! a price that weighs cores against bytes would let one of them outweigh the other again.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::outfit::{ABSENT, Outfit};
use super::pool::{Pool, Template};
use super::score::{Rank, ordered, value};
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
    /// Returns how full the node becomes in what is asked of it, and what all that is in use is worth.
    pub(super) fn score(&self, node: &Held<'_>, outfit: &Outfit) -> (f64, f64) {
        let (mut kinds, mut shares, mut worth) = (0.0, 0.0, 0.0);
        let amounts = node.left.iter().zip(&node.state.left);
        let items = outfit.items.iter().zip(amounts);
        for (item, (left, before)) in items.filter(|(item, _)| item.total.is_some()) {
            let is_there = *left != ABSENT;
            let free = if is_there {
                Quantity::from_units(*left).as_f64()
            } else {
                0.0
            };
            let used = item.total_f64 - free;
            if left != before && item.total_f64 > 0.0 {
                kinds += 1.0;
                shares += used / item.total_f64;
            }
            worth += self.unit_price(item.name.as_str()) * used;
        }
        (if kinds > 0.0 { shares / kinds } else { 0.0 }, worth)
    }

    /// Returns what everything that a node has is worth.
    fn worth_of(&self, outfit: &Outfit) -> f64 {
        let items = outfit.items.iter().filter(|item| item.total.is_some());
        items.fold(0.0, |sum, item| {
            sum + self.unit_price(item.name.as_str()) * item.total_f64
        })
    }

    fn unit_price(&self, name: &str) -> f64 {
        self.unit_prices.get(name).copied().unwrap_or(0.0)
    }
}

/// Rates one more replica of a group; larger is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Worth {
    first: u64,
    /// What is served for the price; in Ray's way the smallest term.
    ratio: u64,
    /// What one host serves; in Ray's way the mean term.
    used: u64,
    /// What all hosts cost; in Ray's way nothing.
    price: Reverse<u64>,
    last: u16,
}

impl Worth {
    /// Rates it in Ray's way: as good as its first host.
    pub(super) fn of(rank: Rank) -> Self {
        Self {
            first: rank.first,
            ratio: rank.min,
            used: rank.mean,
            price: Reverse(0),
            last: rank.last,
        }
    }

    /// Rates it by price: `filled` of its `hosts` hosts serve what the first one does, and all are paid.
    ///
    /// What costs nothing is the best there is. Of what is equal the cheaper goes first, as it leaves less unused.
    pub(super) fn priced(rank: Rank, host_price: f64, (filled, hosts): (u64, u64)) -> Self {
        let ratio = if host_price > 0.0 {
            // One share of all is exact, so that groups with few and with many hosts tie where they are equal.
            value(rank.mean) / host_price * (number(filled) / number(hosts))
        } else {
            f64::INFINITY
        };
        Self {
            ratio: ordered(ratio),
            price: Reverse(ordered(host_price * number(hosts))),
            ..Self::of(rank)
        }
    }
}

impl Pool {
    /// Returns the price of one host of each group, of all its hosts the mean; nothing where prices do not count.
    pub(super) fn host_prices(&self) -> Vec<f64> {
        let Some(packing) = &self.choice().packing else {
            return Vec::new();
        };
        let worth = |class: u32| packing.worth_of(self.outfit_of(class));
        let by_resources = |template: &Template| match template.launch.as_slice() {
            [(class, _)] => worth(*class),
            kinds => {
                let all = kinds.iter().fold(0.0, |sum, (class, hosts)| {
                    sum + worth(*class) * number(*hosts)
                });
                all / number(template.hosts)
            }
        };
        let templates = self.templates.iter().enumerate();
        templates
            .map(|(at, template)| {
                let own = packing.node_prices.get(&at).copied();
                own.unwrap_or_else(|| by_resources(template))
            })
            .collect()
    }
}

/// Returns a count of hosts for arithmetic with prices.
fn number(hosts: u64) -> f64 {
    f64::from(u32::try_from(hosts).unwrap_or(u32::MAX))
}
