//! Where Ray's list has the nodes that a call has set aside.
//!
//! Ray looks only at nodes that fit a request of the call. Running ones that fit none stand behind
//! the others from then on, and new nodes behind them; ties of later calls and idle nodes go by
//! that order.
//!
//! # Cost
//!
//! Keys have two regions, one for each side, so that only a node that changes sides gets a new
//! key. The side of a class is worked out once for each list of shapes; a call looks at the
//! classes whose side is not that of the call before, and at those that got nodes since.
//!
//! Lists that alternate move many nodes each time, up to calls times nodes in all. After
//! 100,000 moves a decision leaves the list as it is: its ties may then be settled otherwise than
//! Ray's, which takes minutes for as much.

use std::collections::BTreeMap;

use super::lineup::Lineup;
use super::pool::Pool;
use super::shape::{ShapeId, index};
use super::state::{Terrain, times};

/// Keys from here on are those of nodes set aside, and of new ones behind them.
const BORDER: i64 = i64::MAX / 4;
/// Nodes that are set aside get keys that fall from here; those that come behind all, rising ones.
const MIDDLE: i64 = i64::MAX / 2;

/// Lists of shapes that are remembered.
const LISTS_MAX: usize = 64;

/// Steps after which a decision leaves the list as it is.
const STEPS_MAX: usize = 100_000;

/// Holds the next keys at the border.
#[derive(Debug, Default)]
pub(super) struct Border {
    /// Behind all nodes that are not set aside.
    back: i64,
    /// Before all nodes that are.
    front: i64,
    /// Keys that were changed in this decision.
    steps: usize,
}

/// Remembers which classes are set aside for which shapes.
#[derive(Debug, Default)]
pub(super) struct Sides {
    /// By class.
    known: BTreeMap<Vec<ShapeId>, Vec<bool>>,
    current: Vec<ShapeId>,
}

impl Sides {
    /// Turns to a call for `shapes` and adds the classes to `changed` that change sides with it.
    pub(super) fn turn_to(
        &mut self,
        (shapes, classes): (&[ShapeId], usize),
        is_aside: impl Fn(u32) -> bool,
        changed: &mut Vec<u32>,
    ) {
        if self.known.len() > LISTS_MAX && !self.known.contains_key(shapes) {
            self.known.clear();
        }
        let mut sides = self.known.remove(shapes).unwrap_or_default();
        let new = (0..).take(classes).skip(sides.len());
        sides.extend(new.map(is_aside));
        if self.current != shapes {
            match self.known.get(&self.current) {
                Some(before) => {
                    let pairs = (0..).zip(before.iter().zip(&sides));
                    let differ = pairs.filter(|(_, (before, now))| before != now);
                    changed.extend(differ.map(|(class, _)| class));
                }
                None => changed.extend((0..).take(classes)),
            }
            self.current = shapes.to_vec();
        }
        self.known.insert(shapes.to_vec(), sides);
    }

    /// Returns whether a class is set aside now.
    pub(super) fn is_aside(&self, class: u32) -> bool {
        let sides = self.known.get(&self.current);
        sides
            .and_then(|sides| sides.get(index(class)))
            .is_some_and(|is_aside| *is_aside)
    }
}

impl Pool {
    /// Sets the running nodes aside that fit none of `shapes`, and takes back those that do.
    pub(super) fn set_aside(&mut self, lineup: &mut Lineup, shapes: &[ShapeId]) {
        if self.last < MIDDLE {
            let (back, front) = (self.last, MIDDLE - 1);
            (self.border.back, self.border.front) = (back, front);
            self.last = MIDDLE;
        }
        if self.border.steps >= STEPS_MAX {
            return;
        }
        let mut shapes = shapes.to_vec();
        shapes.sort_unstable();
        shapes.dedup();
        let terrain = self.terrain();
        let is_aside = |class: u32| terrain.is_exhausted(class, &shapes);
        let misplaced = lineup.misplaced(&shapes, BORDER, is_aside);
        self.border.steps += misplaced.len();
        let returning = misplaced.iter().filter(|place| place.key >= BORDER);
        for place in returning {
            self.slots[place.slot].key = self.border.back;
            lineup.set_key(place, self.border.back);
            self.border.back += 1;
        }
        let leaving = misplaced.iter().rev().filter(|place| place.key < BORDER);
        for place in leaving {
            self.slots[place.slot].key = self.border.front;
            lineup.set_key(place, self.border.front);
            self.border.front -= 1;
        }
    }
}

impl Terrain<'_> {
    /// Returns whether a class of running nodes has too little left for any of `shapes`.
    fn is_exhausted(&self, class: u32, shapes: &[ShapeId]) -> bool {
        let state = self.state(class);
        let outfit = self.outfits.get(state.outfit);
        let fits = |shape: &ShapeId| {
            let fit = outfit.fit(*shape);
            match &fit.needs {
                Some(needs) => times(needs, &state.left) > 0,
                None if fit.selector.is_some() => false,
                // Labels are not looked at here.
                None => outfit.has_room(self.shapes.get(*shape), &state.left),
            }
        };
        state.is_running && !shapes.is_empty() && !shapes.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::STEPS_MAX;
    use crate::model::{
        ClusterSnapshot, History, Labels, Node, NodeKind, NodeStatus, Quantity, ResourceDemand,
        ResourceMap, ResourceName, ResourceRequest,
    };
    use crate::placement::{Corrections, Facts, GroupCensus, Ledger, Pool, ToCome, live_replicas};

    fn amounts(name: &str, count: i64) -> ResourceMap {
        let entry = (ResourceName::from(name), Quantity::from_whole(count));
        [entry].into_iter().collect()
    }

    fn node(name: &str, total: ResourceMap) -> Node {
        Node {
            raylet_address: None,
            name: name.into(),
            node_id: None,
            kind: NodeKind::Worker,
            group: "any".into(),
            replica: name.into(),
            host_index: 0,
            status: NodeStatus::Running,
            available: total.clone(),
            total,
            labels: Labels::new(),
            idle_since: None,
            created_at: None,
            waiting_reason: String::new(),
            pod_ip: String::new(),
        }
    }

    /// Returns the nodes in the order of Ray's list after one request of each of `kinds`.
    fn order(kinds: &[&str], steps: usize) -> Vec<usize> {
        let nodes = [("a", "CPU"), ("b", "GPU"), ("c", "CPU"), ("d", "GPU")];
        let snapshot = ClusterSnapshot {
            nodes: nodes
                .map(|(name, kind)| node(name, amounts(kind, 4)))
                .to_vec(),
            demands: kinds.iter().map(|kind| ask(kind)).collect(),
            ..ClusterSnapshot::default()
        };
        let (history, corrections) = (History::default(), Corrections::NONE);
        let others: Vec<_> = live_replicas(&snapshot, &history, &corrections)
            .into_values()
            .flatten()
            .collect();
        let facts = Facts {
            snapshot: &snapshot,
            history: &history,
            corrections,
            to_come: ToCome::Lined,
        };
        let mut pool = Pool::new(facts, &[] as &[GroupCensus], &others, None);
        pool.border.steps = steps;
        for kind in kinds {
            let asks = [ask(kind)];
            let placement = pool.place(&asks, Ledger::Free);
            pool.commit(&placement, &[0], Ledger::Free);
        }
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by_key(|at| pool.place_of(*at));
        order
    }

    fn ask(kind: &str) -> ResourceDemand {
        ResourceDemand {
            request: ResourceRequest::of(amounts(kind, 1)),
            count: 1,
        }
    }

    /// The node that was picked comes first, the one that fits as well next, and those that fit
    /// nothing of the call last, in their old order; the next call takes its own back from there.
    #[test]
    fn nodes_that_fit_nothing_stand_behind_until_a_call_they_fit() {
        assert_eq!(order(&[], 0), [0, 1, 2, 3]);
        assert_eq!(order(&["CPU"], 0), [0, 2, 1, 3]);
        assert_eq!(order(&["CPU", "GPU"], 0), [1, 3, 0, 2]);
        assert_eq!(order(&["CPU", "GPU", "CPU"], 0), [0, 2, 1, 3]);
    }

    #[test]
    fn after_so_many_moves_the_list_stays_as_it_is() {
        assert_eq!(order(&["GPU"], STEPS_MAX - 1), [1, 3, 0, 2]);
        assert_eq!(order(&["GPU"], STEPS_MAX), [1, 0, 2, 3]);
    }
}
