//! The last launches of a list, made as one where that costs less.
//!
//! # Why
//!
//! A launch is chosen by what it serves for its price, without a look at what it leaves for the next one: six cores
//! take two nodes of four, of which the second is half empty, and not one of seven. So once all are chosen it is asked
//! whether one replica of any group would take all that the last two, three, ... take, for less money.
//!
//! Only the end is looked at, since the nodes before it are full. A decision that is made again with its launches to
//! come finds the same: what comes first is chosen as before, as it was the best of all, and what was put in the place
//! of the end is then the only one that is left.
//!
//! # Cost
//!
//! For each group a look for each of the last launches at most, and mostly one: what a node does not take of a few,
//! it does not take of more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::growth::{Fresh, Growth, Means};
use super::queue::Queue;
use super::state::Trial;

/// Launches from the end that are looked at: nodes of one kind are rarely so many times as large as those of another.
const TAIL_MAX: usize = 8;

/// What is to be saved at least, as a part of the price: prices are sums of fractions.
const SAVED_MIN: f64 = 1e-9;

/// Holds the launches at the end, the last first, as far as they are nodes of their own.
struct Tail {
    groups: Vec<usize>,
    /// By number of launches less one: what they cost together, what they take, and the best rank ahead of all prices.
    ends: Vec<(f64, Queue, u64)>,
}

/// Holds one replica that takes what the last launches take.
struct Instead {
    group: usize,
    class: u32,
    trial: Trial,
    launches: usize,
    saved: f64,
}

impl Growth<'_> {
    /// Puts one replica in the place of the last launches where it takes the same for less.
    pub(super) fn save(&mut self, queue: &Queue, means: &mut Means<'_>) {
        let prices = &self.terrain.choice.host_prices;
        if prices.is_empty() || self.launched.values().all(|replicas| *replicas == 0) {
            return;
        }
        let Some(tail) = self.tail(queue, means) else {
            return;
        };
        let mut best: Option<Instead> = None;
        for group in 0..self.pool.templates.len() {
            let found = self.instead_of(&tail, group, means);
            if let Some(found) = found
                && best.as_ref().is_none_or(|held| found.saved > held.saved)
            {
                best = Some(found);
            }
        }
        if let Some(instead) = best {
            self.put(&tail, instead);
        }
    }

    /// Returns the last launches; `None` where they are fewer than two.
    fn tail(&self, queue: &Queue, (budget, scratch): &mut Means<'_>) -> Option<Tail> {
        let is_single = |fresh: &&Fresh| {
            !fresh.is_spare && fresh.fill.is_some() && self.pool.templates[fresh.group].hosts == 1
        };
        let singles = self.fresh.iter().rev().take_while(is_single);
        let replicas = singles.flat_map(|fresh| {
            let nodes = usize::try_from(fresh.nodes).unwrap_or(TAIL_MAX);
            std::iter::repeat_n(fresh, nodes.min(TAIL_MAX))
        });
        let replicas: Vec<&Fresh> = replicas.take(TAIL_MAX).collect();
        if replicas.len() < 2 || budget.is_cut() {
            return None;
        }
        let mut ends = Vec::with_capacity(replicas.len());
        let (mut price, mut first) = (0.0, 0);
        let mut taken: BTreeMap<usize, u64> = BTreeMap::new();
        for fresh in &replicas {
            let fill = fresh.fill.as_deref().unwrap_or_default();
            let own = queue.only(&fill.iter().copied().collect());
            budget.spend(1);
            let state = self.terrain.state(fresh.class);
            let rank = state.rate((&own, false), self.terrain, scratch);
            first = first.max(rank.map_or(u64::MAX, |rank| rank.first));
            price += self.price(fresh.group)?;
            for (at, count) in fill {
                let sum = taken.entry(*at).or_default();
                *sum = sum.saturating_add(*count);
            }
            ends.push((price, queue.only(&taken), first));
        }
        let groups = replicas.iter().map(|fresh| fresh.group).collect();
        Some(Tail { groups, ends })
    }

    /// Returns the replica of a group that saves the most: the one for as many launches as it can take.
    fn instead_of(
        &self,
        tail: &Tail,
        group: usize,
        (budget, scratch): &mut Means<'_>,
    ) -> Option<Instead> {
        let template = &self.pool.templates[group];
        let ([(class, _)], 1) = (template.launch.as_slice(), template.hosts) else {
            return None;
        };
        let price = self.price(group)?;
        let mut best = None;
        for (last, (cost, queue, first)) in tail.ends.iter().enumerate().skip(1) {
            let saved = cost - price;
            if saved <= cost * SAVED_MIN || !self.has_room_without(&tail.groups[..=last], group) {
                continue;
            }
            budget.spend(1);
            let state = self.terrain.state(*class);
            let trial = state.offer((queue, false), self.terrain, scratch);
            let Some(trial) = trial.filter(|trial| queue.is_all(&trial.fill)) else {
                break;
            };
            // Labels, what is to be spared and priorities come before any price.
            if trial.rank.first < *first {
                continue;
            }
            best = Some(Instead {
                group,
                class: *class,
                trial,
                launches: last + 1,
                saved,
            });
        }
        best
    }

    fn price(&self, group: usize) -> Option<f64> {
        self.terrain.choice.host_prices.get(group).copied()
    }

    /// Returns whether a group could have one more replica if those of `groups` were not launched.
    fn has_room_without(&self, groups: &[usize], group: usize) -> bool {
        if self.spare_of(group) > 0 {
            return true;
        }
        let launched = self.launched_without(groups);
        let template = &self.pool.templates[group];
        let usage = self.before.clone().map(|mut usage| {
            for (at, replicas) in &launched {
                usage.add_grown(*at, *replicas);
            }
            usage
        });
        launched.get(&group).copied().unwrap_or(0) < template.room
            && usage.is_none_or(|usage| usage.room_grown(group) > 0)
    }

    fn launched_without(&self, groups: &[usize]) -> BTreeMap<usize, u64> {
        let mut launched = self.launched.clone();
        for group in groups {
            if let Some(replicas) = launched.get_mut(group) {
                *replicas = replicas.saturating_sub(1);
            }
        }
        launched.retain(|_, replicas| *replicas > 0);
        launched
    }

    fn put(&mut self, tail: &Tail, instead: Instead) {
        let Instead {
            group,
            class,
            trial,
            launches,
            ..
        } = instead;
        self.launched = self.launched_without(&tail.groups[..launches]);
        for _ in 0..launches {
            if let Some(last) = self.fresh.last_mut() {
                last.nodes = last.nodes.saturating_sub(1);
            }
            self.fresh.pop_if(|last| last.nodes == 0);
        }
        let is_spare = self.spare_of(group) > 0;
        if let Some(spare) = self.spare.get_mut(&group).filter(|_| is_spare) {
            *spare = spare.saturating_sub(1);
        } else {
            let launched = self.launched.entry(group).or_default();
            *launched = launched.saturating_add(1);
        }
        let fill: Option<Arc<[(usize, u64)]>> = Some(trial.fill);
        self.fresh.push(Fresh {
            group,
            class,
            nodes: 1,
            fill,
            is_spare,
        });
        self.is_plain = false;
    }
}
