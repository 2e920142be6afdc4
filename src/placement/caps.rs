//! Ceilings over all groups together.
//!
//! Everything counts as large as placing takes it to be: what is to be resized and what is launched to be resized, too,
//! with what it will have. Otherwise nodes would be launched whose pods the ceilings do not let grow then.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Quantity, ResourceMap, ResourceName};

use super::outfit::Outfit;
use super::pool::{Pool, Template};
use super::shape::index;

/// Caps what all worker groups together may have; without entries nothing is capped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caps {
    /// Worker nodes, never more.
    pub nodes_max: Option<u64>,
    /// Resources of all worker nodes together, never more.
    pub resources_max: ResourceMap,
}

impl Caps {
    /// Returns whether anything is capped.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.nodes_max.is_some() || !self.resources_max.is_empty()
    }
}

/// Holds the hosts of a replica: each total, and how many have it.
type Hosts = Vec<(ResourceMap, u64)>;

/// Counts what the worker groups have against the caps.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    pub(super) caps: Caps,
    pub(super) nodes: u128,
    /// What a replica has once its pods are as large as placing takes them to be, by position of the group: hosts with
    /// a total and a count.
    grown: Arc<[Hosts]>,
    resources: BTreeMap<ResourceName, i128>,
}

impl Usage {
    pub(super) fn new(caps: Caps, grown: Arc<[Hosts]>) -> Self {
        Self {
            caps,
            grown,
            ..Self::default()
        }
    }

    /// Adds `times` nodes with `total` each.
    pub(super) fn add<'a>(
        &mut self,
        total: impl Iterator<Item = (&'a ResourceName, Quantity)>,
        times: u64,
    ) {
        self.nodes = self.nodes.saturating_add(u128::from(times));
        for (name, amount) in total {
            let part = i128::from(amount.units()).saturating_mul(i128::from(times));
            let sum = self.resources.entry(name.clone()).or_default();
            *sum = sum.saturating_add(part);
        }
    }

    /// Takes `times` nodes with `total` each out again.
    pub(super) fn remove<'a>(
        &mut self,
        total: impl Iterator<Item = (&'a ResourceName, Quantity)>,
        times: u64,
    ) {
        self.nodes = self.nodes.saturating_sub(u128::from(times));
        for (name, amount) in total {
            let part = i128::from(amount.units()).saturating_mul(i128::from(times));
            let sum = self.resources.entry(name.clone()).or_default();
            *sum = sum.saturating_sub(part);
        }
    }

    /// Adds the hosts of `replicas` replicas, each made of hosts with a total and a count.
    pub(super) fn add_hosts(&mut self, hosts: &[(ResourceMap, u64)], replicas: u64) {
        for (total, count) in hosts {
            self.add(total.iter(), count.saturating_mul(replicas));
        }
    }

    /// Returns whether a node may become another one: what it gains must be left.
    pub(super) fn allows(&self, from: &Outfit, to: &Outfit) -> bool {
        self.caps.resources_max.iter().all(|(name, max)| {
            let amount = |outfit: &Outfit| i128::from(outfit.amount(name.as_str()).units());
            let gain = amount(to).saturating_sub(amount(from));
            let have = self.resources.get(name).copied().unwrap_or(0);
            gain <= 0 || have.saturating_add(gain) <= i128::from(max.units())
        })
    }

    /// Adds replicas of a group whose pods grow.
    pub(super) fn add_grown(&mut self, group: usize, replicas: u64) {
        let grown = Arc::clone(&self.grown);
        self.add_hosts(&grown[group], replicas);
    }

    /// Returns how many more replicas of a group the caps allow whose pods grow.
    pub(super) fn room_grown(&self, group: usize) -> u64 {
        self.room(&self.grown[group])
    }

    /// Returns how many more replicas the caps allow, each made of hosts with a total and a count.
    pub(super) fn room(&self, hosts: &[(ResourceMap, u64)]) -> u64 {
        let nodes: u128 = hosts.iter().map(|(_, count)| u128::from(*count)).sum();
        let mut room = u128::from(u64::MAX);
        if let Some(max) = self.caps.nodes_max {
            room = room.min(u128::from(max).saturating_sub(self.nodes) / nodes.max(1));
        }
        for (name, max) in self.caps.resources_max.iter() {
            let each: i128 = hosts
                .iter()
                .map(|(total, count)| {
                    i128::from(total.get(name.as_str()).units()).saturating_mul(i128::from(*count))
                })
                .sum();
            if each > 0 {
                let have = self.resources.get(name).copied().unwrap_or(0);
                let left = i128::from(max.units()).saturating_sub(have).max(0);
                room = room.min(u128::try_from(left / each).unwrap_or(0));
            }
        }
        u64::try_from(room).unwrap_or(u64::MAX)
    }
}

impl Pool {
    /// Returns what a class of nodes has, by name.
    pub(super) fn outfit_of(&self, class: u32) -> &Outfit {
        self.outfits.get(self.states[index(class)].outfit)
    }

    /// Returns what new replicas have once their pods are as large as placing takes them to be, by position of the group.
    pub(super) fn grown_hosts(&self) -> Arc<[Hosts]> {
        let total = |(class, count): &(u32, u64)| {
            let registered = self.outfit_of(*class).registered();
            let total = registered.map(|(name, amount)| (name.clone(), amount));
            (total.collect(), *count)
        };
        let hosts = |template: &Template| template.launch.iter().map(total).collect();
        self.templates.iter().map(hosts).collect()
    }

    /// Adds nodes of a group to what counts against the caps.
    pub(super) fn add_to_usage(&mut self, (group, class): (Option<usize>, u32), nodes: u64) {
        let Some(mut usage) = self.usage.take() else {
            return;
        };
        if group.is_some() {
            usage.add(self.outfit_of(class).registered(), nodes);
        }
        self.usage = Some(usage);
    }

    /// Takes nodes out of what counts against the caps.
    pub(super) fn take_from_usage(&mut self, class: u32, nodes: u64) {
        if let Some(mut usage) = self.usage.take() {
            usage.remove(self.outfit_of(class).registered(), nodes);
            self.usage = Some(usage);
        }
    }

    /// Counts a node of a group as what it has become.
    pub(super) fn change_in_usage(&mut self, group: Option<usize>, (from, to): (u32, u32)) {
        if group.is_some() {
            self.take_from_usage(from, 1);
            self.add_to_usage((group, to), 1);
        }
    }
}
