//! Ceilings over all groups together.

use std::collections::BTreeMap;

use crate::model::{Quantity, ResourceMap, ResourceName};

use super::outfit::Outfit;
use super::pool::Pool;
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

/// Counts what the worker groups have against the caps.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    pub(super) caps: Caps,
    pub(super) nodes: u128,
    resources: BTreeMap<ResourceName, i128>,
}

impl Usage {
    pub(super) fn new(caps: Caps) -> Self {
        Self {
            caps,
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

    /// Adds nodes of a group to what counts against the caps.
    pub(super) fn add_to_usage(&mut self, (group, class): (Option<usize>, u32), nodes: u64) {
        let Some(mut usage) = self.usage.take() else {
            return;
        };
        if group.is_some() {
            usage.add(self.capped((group, class)).registered(), nodes);
        }
        self.usage = Some(usage);
    }

    /// Takes nodes out of what counts against the caps.
    pub(super) fn take_from_usage(&mut self, class: (Option<usize>, u32), nodes: u64) {
        if let Some(mut usage) = self.usage.take() {
            usage.remove(self.capped(class).registered(), nodes);
            self.usage = Some(usage);
        }
    }

    /// Returns what of a class of nodes counts against the caps: a new node is launched as its template says, whatever it
    /// may be resized to later.
    pub(super) fn capped(&self, (group, class): (Option<usize>, u32)) -> &Outfit {
        let state = &self.states[index(class)];
        let outfit = |class: u32| self.states[index(class)].outfit;
        let template = group.and_then(|at| self.templates.get(at));
        let template = template.filter(|_| !state.is_running);
        let base = template.and_then(|template| {
            let mut pairs = template.launch.iter().zip(&template.kinds);
            pairs.find(|((grown, _), _)| outfit(*grown) == state.outfit)
        });
        self.outfits
            .get(base.map_or(state.outfit, |(_, (class, _))| outfit(*class)))
    }
}
