//! Asks for two placement groups at once, and sees that each gets all of its nodes or none.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::SimulatorError;
use super::run::{Run, SERVED_WITHIN_MS, SMALL_WITHIN_MS};
use super::templates::amounts;
use super::witness::{groups, number, text};
use super::workload::{own_resource, whole};
use crate::embedded::ray::{
    Bundle, NodeCondition, NodeView, PlacementGroup, PlacementGroupId, PlacementGroupState,
};
use crate::model::PlacementStrategy;

/// Two gangs that want nodes with this resource.
struct Pair {
    resource: String,
    ids: [PlacementGroupId; 2],
    /// How many of the two there is room for.
    fitting: usize,
    /// What the groups keep in any case, or have to start with one that is wanted. Units: nodes.
    others: u64,
    /// The groups there are.
    groups: BTreeSet<String>,
}

/// Returns how many nodes there may be of each group's own resource.
pub(super) fn room(raycluster: &Value) -> BTreeMap<String, u64> {
    let mut room: BTreeMap<String, u64> = BTreeMap::new();
    for spec in groups(raycluster) {
        let nodes = number(&spec, "maxReplicas") * hosts(&spec);
        *room.entry(own(&spec)).or_default() += nodes;
    }
    room
}

/// Returns how many nodes are asked for of each group's own resource.
pub(super) fn asked(raycluster: &Value) -> BTreeMap<String, u64> {
    let mut asked: BTreeMap<String, u64> = BTreeMap::new();
    for spec in groups(raycluster) {
        let nodes = number(&spec, "replicas") * hosts(&spec);
        *asked.entry(own(&spec)).or_default() += nodes;
    }
    asked
}

pub(super) fn hosts(spec: &Value) -> u64 {
    number(spec, "numOfHosts").max(1)
}

/// Returns the resource that is a group's own, whatever its name is now.
fn own(spec: &Value) -> String {
    let mut names = amounts(spec).into_keys();
    let own = names.find(|name| name.ends_with(&own_resource("")));
    own.unwrap_or_default()
}

impl Run {
    /// Asks for two gangs, and waits until all who can be placed are, and nobody else holds a node.
    pub(super) async fn check_gangs(&mut self) -> Result<(), SimulatorError> {
        let Some(pair) = self.ask_for_gangs().await? else {
            return Ok(());
        };
        let slow_ms = self.world.scenario.boot.as_ms() + self.world.scenario.join.as_ms();
        let idle_ms = self.world.scenario.idle_timeout.as_ms();
        let deadline = self.world.after(slow_ms + SERVED_WITHIN_MS);
        while self.is_well() && self.placed(&pair).len() < pair.fitting {
            if self.world.clock.now() > deadline {
                let text = self.describe(&[]).await?;
                self.object(&pair, &format!("not placed: {text}"));
            }
            self.step().await?;
        }
        // What was started for the other one, if anything was, is idle now.
        let deadline = self.world.after(idle_ms + SMALL_WITHIN_MS);
        while self.is_well() && !self.is_all_or_none(&pair) {
            if self.world.clock.now() > deadline {
                let text = self.describe(&[]).await?;
                self.object(&pair, &format!("nodes for a part: {text}"));
            }
            self.step().await?;
        }
        for id in pair.ids {
            self.world.ray.remove_placement_group(id);
        }
        self.world.trace.say("gangs are over");
        Ok(())
    }

    fn object(&self, pair: &Pair, problem: &str) {
        let placed = self.placed(pair);
        self.world.witness.object(format!(
            "gangs on {}: {} of {} have bundles {placed:?}; {problem}",
            pair.resource,
            placed.len(),
            pair.fitting,
        ));
    }

    async fn ask_for_gangs(&mut self) -> Result<Option<Pair>, SimulatorError> {
        let raycluster = self.world.raycluster().await?;
        let rooms: Vec<(String, u64)> = room(&raycluster).into_iter().collect();
        let Some((resource, room)) = self.random.pick(&rooms).cloned() else {
            return Ok(None);
        };
        let sizes = [0; 2].map(|_| self.random.between(1, (room + 1).min(4)));
        let alone = sizes.iter().filter(|size| **size <= room).count();
        let fitting = if sizes.iter().sum::<u64>() <= room {
            2
        } else {
            alone.min(1)
        };
        let mut others = 0;
        for spec in groups(&raycluster) {
            if own(&spec) == resource {
                others += number(&spec, "minReplicas") * hosts(&spec);
                // Every gang may leave hosts of its last replica without a bundle.
                others += (hosts(&spec) - 1) * 2 * sizes.iter().sum::<u64>();
            }
        }
        let bundle = Bundle {
            resources: whole(&[(&resource, 1)]),
            ..Bundle::default()
        };
        let strategies = [
            PlacementStrategy::StrictSpread,
            PlacementStrategy::Pack,
            PlacementStrategy::Spread,
        ];
        let ids = sizes.map(|size| {
            let strategy = self.random.pick(&strategies).copied();
            self.world.ray.create_placement_group(PlacementGroup {
                strategy: strategy.unwrap_or(PlacementStrategy::Pack),
                bundles: (0..size).map(|_| bundle.clone()).collect(),
            })
        });
        self.world.trace.say(&format!(
            "ask gangs of {sizes:?} {resource}, room for {room}"
        ));
        Ok(Some(Pair {
            resource,
            ids,
            fitting,
            others,
            groups: groups(&raycluster)
                .iter()
                .map(|spec| text(spec, "groupName"))
                .collect(),
        }))
    }

    /// Returns how many bundles each gang has that is placed.
    fn placed(&self, pair: &Pair) -> Vec<usize> {
        let view = self.world.ray.view();
        let groups = view.placement_groups.iter();
        groups
            .filter(|group| {
                pair.ids.contains(&group.id) && group.state == PlacementGroupState::Created
            })
            .map(|group| group.bundles.len())
            .collect()
    }

    fn is_all_or_none(&self, pair: &Pair) -> bool {
        let view = self.world.ray.view();
        let nodes = view.nodes.iter().filter(|node| is_counted(node, pair));
        let nodes = u64::try_from(nodes.count()).unwrap_or(u64::MAX);
        let placed: usize = self.placed(pair).iter().sum();
        let placed = u64::try_from(placed).unwrap_or(u64::MAX);
        nodes <= placed + pair.others
    }
}

/// Returns whether a node is there for the gangs, or could be.
///
/// A pod whose group was removed or renamed stays, as the operator leaves it alone and nobody may name it: without
/// work it was there before the gangs were, and with work it holds a bundle.
fn is_counted(node: &NodeView, pair: &Pair) -> bool {
    let is_orphan = !pair.groups.contains(&node.group);
    let is_there = match node.condition {
        NodeCondition::Dead | NodeCondition::Lost => false,
        NodeCondition::Idle => !is_orphan,
        NodeCondition::Busy | NodeCondition::Draining => true,
    };
    is_there && !node.total.get(&pair.resource).is_zero()
}
