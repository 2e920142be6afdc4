//! Placement groups: which nodes get the bundles of one, all or none.

use super::ids::PlacementGroupId;
use super::raylet::holds;
use crate::model::{
    LabelSelector, Labels, NodeId, PlacementStrategy, Quantity, ResourceMap, ResourceName,
    Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a bundle offers of the resource that stands for itself.
const BUNDLE_UNITS: Quantity = Quantity::from_whole(1000);

/// What a task inside a group takes of it.
const TASK_UNITS: Quantity = Quantity::from_units(10);

/// Describes a placement group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementGroup {
    /// How the bundles are laid out.
    pub strategy: PlacementStrategy,
    /// The bundles.
    pub bundles: Vec<Bundle>,
}

/// Describes one bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundle {
    /// What it reserves.
    pub resources: ResourceMap,
    /// Which nodes may hold it.
    pub selector: LabelSelector,
}

/// Says what became of a placement group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacementGroupState {
    /// No bundle has a node.
    Pending,
    /// All bundles have one.
    Created,
    /// Some had one that died.
    Rescheduling,
}

impl PlacementGroupState {
    /// Returns Ray's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Created => "CREATED",
            Self::Rescheduling => "RESCHEDULING",
        }
    }
}

/// Holds a placement group that somebody asked for.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) spec: PlacementGroup,
    /// The node of each bundle.
    pub(super) nodes: Vec<Option<NodeId>>,
    pub(super) state: PlacementGroupState,
    pub(super) submitted_at: Timestamp,
    pub(super) placed_at: Option<Timestamp>,
}

/// A node as the placing of a group sees it.
#[derive(Debug)]
pub(super) struct Room<'a> {
    pub(super) node: NodeId,
    pub(super) number: u64,
    pub(super) labels: &'a Labels,
    pub(super) available: ResourceMap,
}

impl Group {
    pub(super) fn new(spec: PlacementGroup, now: Timestamp) -> Self {
        Self {
            nodes: vec![None; spec.bundles.len()],
            spec,
            state: PlacementGroupState::Pending,
            submitted_at: now,
            placed_at: None,
        }
    }

    /// Returns the positions of the bundles without a node.
    pub(super) fn unplaced(&self) -> Vec<usize> {
        let positions = (0..).zip(&self.nodes);
        positions
            .filter(|(_, node)| node.is_none())
            .map(|(at, _)| at)
            .collect()
    }

    /// Returns a node for each bundle that has none, or nothing unless there is one for all.
    pub(super) fn plan(&self, mut rooms: Vec<Room<'_>>) -> Option<BTreeMap<usize, NodeId>> {
        rooms.sort_by_key(|room| room.number);
        let mut held: BTreeSet<NodeId> = self.nodes.iter().flatten().copied().collect();
        let mut bundles = self.unplaced();
        if self.spec.strategy == PlacementStrategy::StrictPack {
            let all = |room: &&Room<'_>| self.fits_together(&bundles, room);
            let room = rooms.iter().find(all)?;
            return Some(bundles.iter().map(|at| (*at, room.node)).collect());
        }
        let size = |at: &usize| {
            let amounts = self.spec.bundles.get(*at).into_iter();
            let amounts = amounts.flat_map(|bundle| bundle.resources.iter());
            amounts
                .map(|(_, amount)| i128::from(amount.units()))
                .sum::<i128>()
        };
        bundles.sort_by_key(|at| (std::cmp::Reverse(size(at)), *at));
        let mut plan = BTreeMap::new();
        for at in bundles {
            let bundle = self.spec.bundles.get(at)?;
            let choice = self.choose(bundle, &rooms, &held)?;
            let room = rooms.get_mut(choice)?;
            room.available.subtract(&bundle.resources, 1);
            held.insert(room.node);
            plan.insert(at, room.node);
        }
        Some(plan)
    }

    fn choose(
        &self,
        bundle: &Bundle,
        rooms: &[Room<'_>],
        held: &BTreeSet<NodeId>,
    ) -> Option<usize> {
        let fits = |room: &Room<'_>| {
            bundle.selector.matches(room.labels) && holds(&room.available, &bundle.resources)
        };
        let rank = |room: &Room<'_>| match self.spec.strategy {
            PlacementStrategy::Pack | PlacementStrategy::StrictPack => {
                Some(!held.contains(&room.node))
            }
            PlacementStrategy::Spread => Some(held.contains(&room.node)),
            PlacementStrategy::StrictSpread => (!held.contains(&room.node)).then_some(false),
        };
        let ranked = (0..).zip(rooms).filter(|(_, room)| fits(room));
        ranked
            .filter_map(|(at, room)| Some((rank(room)?, room.number, at)))
            .min()
            .map(|(_, _, at)| at)
    }

    fn fits_together(&self, bundles: &[usize], room: &Room<'_>) -> bool {
        let mut sum = ResourceMap::new();
        let mut selected = true;
        for bundle in bundles.iter().filter_map(|at| self.spec.bundles.get(*at)) {
            sum.add(&bundle.resources);
            selected &= bundle.selector.matches(room.labels);
        }
        selected && holds(&room.available, &sum)
    }
}

/// Returns what a node offers once it holds the bundle at this position.
pub(super) fn resources_of_bundle(
    id: PlacementGroupId,
    at: usize,
    resources: &ResourceMap,
) -> ResourceMap {
    let with_itself = resources
        .iter()
        .map(|(name, amount)| (name.as_str(), amount));
    let with_itself = with_itself.chain([("bundle", BUNDLE_UNITS)]);
    with_itself
        .flat_map(|(name, amount)| {
            let names = [
                format!("{name}_group_{at}_{id}"),
                format!("{name}_group_{id}"),
            ];
            names.map(|name| (ResourceName::from(name.as_str()), amount))
        })
        .collect()
}

/// Returns what a task takes that runs in any bundle of a group.
pub(super) fn resources_in_group(id: PlacementGroupId, resources: &ResourceMap) -> ResourceMap {
    let inside = resources
        .iter()
        .map(|(name, amount)| (name.as_str(), amount));
    let inside = inside.chain([("bundle", TASK_UNITS)]);
    inside
        .map(|(name, amount)| {
            (
                ResourceName::from(format!("{name}_group_{id}").as_str()),
                amount,
            )
        })
        .collect()
}

/// Returns the label of the nodes that hold a bundle of this group.
pub(super) fn label_of(id: PlacementGroupId) -> String {
    format!("_PG_{id}")
}

#[cfg(test)]
mod tests {
    use super::{Bundle, Group, PlacementGroup, Room};
    use crate::model::{
        Labels, NodeId, PlacementStrategy, Quantity, ResourceMap, ResourceName, Timestamp,
    };

    /// Strategy, processors per bundle, processors per node, and the node of each bundle.
    type Case<'a> = (PlacementStrategy, &'a [i64], &'a [i64], Option<&'a [u8]>);

    fn cpus(amount: i64) -> ResourceMap {
        [(ResourceName::from("CPU"), Quantity::from_whole(amount))]
            .into_iter()
            .collect()
    }

    /// Returns the node of each bundle, by its number.
    fn placed(strategy: PlacementStrategy, bundles: &[i64], rooms: &[i64]) -> Option<Vec<u8>> {
        let bundles = bundles.iter().map(|amount| Bundle {
            resources: cpus(*amount),
            ..Bundle::default()
        });
        let spec = PlacementGroup {
            strategy,
            bundles: bundles.collect(),
        };
        let group = Group::new(spec, Timestamp::from_ms(0));
        let labels = Labels::new();
        let rooms = (0_u8..).zip(rooms).map(|(number, amount)| Room {
            node: NodeId::from_bytes(&[number; 28]).unwrap(),
            number: number.into(),
            labels: &labels,
            available: cpus(*amount),
        });
        let plan = group.plan(rooms.collect())?;
        Some(plan.values().map(|node| node.as_bytes()[0]).collect())
    }

    #[test]
    fn each_strategy_lays_bundles_out_in_its_way() {
        use PlacementStrategy::{Pack, Spread, StrictPack, StrictSpread};
        let cases: [Case<'_>; 9] = [
            (Pack, &[1, 1], &[2, 2], Some(&[0, 0])),
            (Pack, &[1, 3], &[2, 3], Some(&[0, 1])),
            (Pack, &[2, 2], &[3, 1], None),
            (Spread, &[1, 1], &[2, 2], Some(&[0, 1])),
            (Spread, &[1, 1], &[2], Some(&[0, 0])),
            (StrictPack, &[1, 1], &[1, 2], Some(&[1, 1])),
            (StrictPack, &[1, 1], &[1, 1], None),
            (StrictSpread, &[1, 1], &[2, 2], Some(&[0, 1])),
            (StrictSpread, &[1, 1], &[2], None),
        ];
        for (strategy, bundles, rooms, expected) in cases {
            let found = placed(strategy, bundles, rooms);
            assert_eq!(
                found.as_deref(),
                expected,
                "{strategy:?} {bundles:?} {rooms:?}"
            );
        }
    }
}
