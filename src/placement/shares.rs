//! Who gets what when a cap over all groups is short.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ResourceDemand;

use super::pool::{Ledger, Pool};

/// Turns in which the nodes are given out; in larger clusters several replicas make one turn.
const TURNS: u64 = 1_024;

impl Pool {
    /// Returns whether there is a cap over all groups.
    pub(crate) fn is_capped(&self) -> bool {
        self.usage.is_some()
    }

    /// Returns how many replicas each group gets, by position; `None` when the caps are not short or
    /// at most one group is wanted.
    ///
    /// Complexity: one placement, and O(G) for each of a bounded number of turns.
    pub(crate) fn shares(&mut self, asks: &[ResourceDemand]) -> Option<BTreeMap<usize, u64>> {
        let caps = self.usage.take()?;
        let uncapped = self.place(asks, Ledger::Free);
        self.explained.clear();
        self.usage = Some(caps.clone());
        let mut wanted = uncapped.launched;
        wanted.retain(|_, replicas| *replicas > 0);
        if wanted.len() < 2 || uncapped.is_cut {
            return None;
        }
        let mut all = caps.clone();
        let fits = wanted.iter().all(|(at, replicas)| {
            let hosts = &self.templates[*at].totals;
            let fits = all.room(hosts) >= *replicas;
            all.add_hosts(hosts, *replicas);
            fits
        });
        if fits {
            return None;
        }
        let mut usage = caps;
        let mut have: BTreeMap<usize, u64> = BTreeMap::new();
        for slot in &self.slots {
            if let Some(group) = slot.group {
                let sum = have.entry(group).or_default();
                *sum = sum.saturating_add(slot.count);
            }
        }
        let total = wanted
            .values()
            .fold(0_u64, |sum, it| sum.saturating_add(*it));
        let turn = (total / TURNS).max(1);
        let level = |at: &usize| (have.get(at).copied().unwrap_or(0), *at);
        let mut queue: BTreeSet<(u64, usize)> = wanted.keys().map(level).collect();
        let mut shares = BTreeMap::new();
        while let Some((level, at)) = queue.pop_first() {
            let template = &self.templates[at];
            let given: &mut u64 = shares.entry(at).or_default();
            let left = wanted
                .get(&at)
                .map_or(0, |wanted| wanted.saturating_sub(*given));
            let replicas = left.min(turn).min(usage.room(&template.totals));
            if replicas == 0 {
                continue;
            }
            *given = given.saturating_add(replicas);
            usage.add_hosts(&template.totals, replicas);
            let nodes = replicas.saturating_mul(template.hosts);
            queue.insert((level.saturating_add(nodes), at));
        }
        Some(shares)
    }
}
