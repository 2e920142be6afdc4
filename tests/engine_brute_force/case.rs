//! A small cluster and its placement groups, for the engine and for trying everything.

use std::collections::BTreeSet;

use rayscaler::engine::invariants::{Again, check_again, check_of};
use rayscaler::engine::{Engine, Profile};
use rayscaler::model::{
    AntiAffinity, GangRequest, LabelConstraint, LabelOperator, LabelSelector, PlacementStrategy,
    ResourceDemand, ResourceRequest,
};
use rayscaler::policy::{PolicyContext, Registry};

use super::support::builders::{Cluster, group, labels, resources, running};

/// One bundle: amounts of two resources, and the zone it has to be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bundle {
    pub(crate) cpu: u32,
    pub(crate) special: u32,
    pub(crate) zone: Option<u8>,
}

/// One node, there or yet to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) cpu: u32,
    pub(crate) special: u32,
    pub(crate) zone: u8,
}

/// One placement group.
#[derive(Debug, Clone)]
pub(crate) struct Gang {
    pub(crate) strategy: PlacementStrategy,
    pub(crate) bundles: Vec<Bundle>,
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) gangs: Vec<Gang>,
    /// What is free on the nodes that run.
    pub(crate) running: Vec<Room>,
    /// What a new node of each group has, and how many there may be.
    pub(crate) groups: Vec<(Room, u32)>,
}

impl Gang {
    fn is_alone(&self) -> bool {
        self.strategy == PlacementStrategy::StrictSpread
    }

    /// Returns the bundles that are placed as one each: what has to lie on one node is summed.
    pub(crate) fn parts(&self) -> Vec<Bundle> {
        let mut parts = self.bundles.clone();
        if self.strategy == PlacementStrategy::StrictPack {
            let sum = |amount: fn(&Bundle) -> u32| parts.iter().map(amount).sum();
            let (cpu, special) = (sum(|b| b.cpu), sum(|b| b.special));
            let zone = self.zone();
            parts = vec![Bundle { cpu, special, zone }];
        }
        parts
    }

    /// Returns the zone of a node that meets all selectors; one that no node is in where they contradict.
    fn zone(&self) -> Option<u8> {
        let mut zones = self.bundles.iter().filter_map(|bundle| bundle.zone);
        let first = zones.next();
        if zones.all(|zone| Some(zone) == first) {
            first
        } else {
            Some(u8::MAX)
        }
    }

    /// Returns the group as the conversion from Ray's reply makes it.
    fn request(&self, id: usize) -> GangRequest {
        let anti_affinity = self.is_alone().then(|| AntiAffinity {
            label_name: format!("_PG_{id}"),
            label_value: String::new(),
        });
        let mut parts = self.bundles.clone();
        if self.strategy == PlacementStrategy::StrictPack {
            parts.sort_by_key(|bundle| bundle.zone);
            let zones = parts.chunk_by(|a, b| a.zone == b.zone);
            let whole = |zone: &[Bundle]| {
                Gang {
                    strategy: self.strategy,
                    bundles: zone.to_vec(),
                }
                .parts()
            };
            parts = zones.flat_map(whole).collect();
        }
        parts.sort();
        let bundles = parts.chunk_by(|a, b| a == b).map(|equal| ResourceDemand {
            request: ResourceRequest {
                resources: resources(&equal[0].shape()),
                selectors: equal[0].zone.into_iter().map(in_zone).collect(),
                anti_affinity: anti_affinity.clone(),
            },
            count: equal.len() as u64,
        });
        let is_strict = self.is_alone() || self.strategy == PlacementStrategy::StrictPack;
        let bundle_count = self.bundles.len() as u64;
        GangRequest {
            details: format!("{id}:{:?}|PENDING", self.strategy),
            strategy: self.strategy,
            bundles: bundles.collect(),
            fallbacks: Vec::new(),
            constraint_count: if is_strict { bundle_count } else { 0 },
            bundle_count,
        }
    }
}

impl Bundle {
    fn shape(self) -> String {
        let amounts = [("CPU", self.cpu), ("special", self.special)];
        let amounts = amounts.iter().filter(|(_, amount)| *amount > 0);
        amounts
            .map(|(name, amount)| format!("{name}={amount} "))
            .collect()
    }
}

impl Case {
    /// Returns every node that could hold a bundle.
    fn rooms(&self) -> Vec<Room> {
        let new = self.groups.iter();
        let new = new.flat_map(|(room, count)| std::iter::repeat_n(*room, *count as usize));
        self.running.iter().copied().chain(new).collect()
    }

    /// Returns whether there is any way to place all of the groups `chosen`.
    pub(crate) fn is_possible(&self, chosen: &[usize]) -> bool {
        let parts = chosen.iter().flat_map(|gang| {
            let parts = self.gangs[*gang].parts();
            parts.into_iter().map(move |part| (*gang, part))
        });
        let parts: Vec<(usize, Bundle)> = parts.collect();
        self.place(&parts, &mut self.rooms(), &mut BTreeSet::new())
    }

    /// Tries every node for the first part, and so on for the rest; `taken` has the nodes of each group.
    fn place(
        &self,
        parts: &[(usize, Bundle)],
        rooms: &mut [Room],
        taken: &mut BTreeSet<(usize, usize)>,
    ) -> bool {
        let Some(((gang, bundle), rest)) = parts.split_first() else {
            return true;
        };
        (0..rooms.len()).any(|at| {
            let room = rooms[at];
            let is_there = bundle.zone.is_none_or(|zone| zone == room.zone);
            let is_free = !self.gangs[*gang].is_alone() || !taken.contains(&(*gang, at));
            if !is_there || !is_free || room.cpu < bundle.cpu || room.special < bundle.special {
                return false;
            }
            rooms[at].cpu -= bundle.cpu;
            rooms[at].special -= bundle.special;
            let is_new = taken.insert((*gang, at));
            let is_placed = self.place(rest, rooms, taken);
            rooms[at] = room;
            if is_new {
                taken.remove(&(*gang, at));
            }
            is_placed
        })
    }

    /// Returns the groups that the engine of a profile places.
    pub(crate) fn served(&self, profile: Profile) -> Vec<usize> {
        let Cluster {
            mut snapshot,
            history,
            now,
        } = self.cluster();
        snapshot.sort();
        let engine = Engine::new(&profile.chain(), &Registry::default());
        let engine = engine.unwrap().with_profile(profile);
        let ctx = PolicyContext {
            snapshot: &snapshot,
            history: &history,
            now,
        };
        let decision = engine.decide(&snapshot, &history, now);
        assert_eq!(check_of(&engine, ctx, &decision), [], "{decision:#?}");
        for again in Again::ALL {
            let broken = check_again(&engine, ctx, &decision, again);
            assert_eq!(broken, None, "{decision:#?}");
        }
        let is_served = |gang: &usize| {
            let name = format!("placement group {gang}");
            decision
                .unserved
                .iter()
                .all(|unserved| unserved.what != name)
        };
        (0..self.gangs.len()).filter(is_served).collect()
    }

    fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default().group(group("there", "CPU=100 special=100"));
        cluster.group_mut("there").bounds.max = u32::try_from(self.running.len()).unwrap();
        for (at, (room, count)) in self.groups.iter().enumerate() {
            let mut group = group(&format!("new{at}"), &room.shape());
            group.bounds.max = *count;
            group
                .template
                .labels
                .extend(labels(&format!("zone=z{}", room.zone)));
            cluster = cluster.group(group);
        }
        for (at, room) in self.running.iter().enumerate() {
            let mut node = running("there", &format!("there-{at}"), "CPU=100 special=100");
            node.available = resources(&room.shape());
            node.labels.extend(labels(&format!("zone=z{}", room.zone)));
            cluster = cluster.node(node);
        }
        let gangs = self.gangs.iter().enumerate();
        cluster
            .snapshot
            .gangs
            .extend(gangs.map(|(id, gang)| gang.request(id)));
        cluster
    }
}

impl Room {
    fn shape(self) -> String {
        format!("CPU={} special={}", self.cpu, self.special)
    }
}

fn in_zone(zone: u8) -> LabelSelector {
    LabelSelector {
        constraints: vec![LabelConstraint {
            key: "zone".into(),
            operator: LabelOperator::In,
            values: vec![format!("z{zone}")],
        }],
    }
}
