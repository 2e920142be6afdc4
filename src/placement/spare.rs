//! Replicas that were asked for and are nothing but a number so far, taken as if they were launched now.
//!
//! # Why
//!
//! A decision is made again with its launches in the pool, and the next pass sees them as well. There they stand with the
//! nodes that have pods: requests may move to them from places that they have elsewhere, those that they were launched
//! for find them taken, and something is launched again. A round that launches although replicas are to come is tried
//! once more with these after all others and before anything is launched, group by group as launches do: then the same
//! requests go to the same nodes as in the round that launched them, and nothing is left to launch for.
//!
//! Not always, since who comes first would then depend on which pods the operator has made already.
//!
//! Where less was asked for than requests need, because a policy holds the rest back, those of the groups that got
//! their part would now take requests of the others. If something is still launched, it is tried a third time with
//! each group in the turn that it would have if nothing were spare: what is then left to launch is what is held back.
//!
//! What starts and can be resized stands there as large as it may become, as what is launched does.
//!
//! Only whole replicas are spare. Once one is used, its other hosts stand with the others, as those of a launched one do.
//!
//! # Cost
//!
//! Another round or two, where one launches although replicas are to come; in them a look at the slots of spare replicas, a few
//! for each group, for each list that is not placed without them.

use std::collections::BTreeMap;

use super::growth::Fresh;
use super::lineup::Entry;
use super::place::Placement;
use super::pool::{Ledger, Pool};
use super::shape::index;

/// Says when replicas that were asked for and have no pod yet are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToCome {
    /// With the nodes that start.
    Lined,
    /// After all nodes, and before anything is launched.
    First,
    /// After all nodes, when one of their group would be launched.
    InTurn,
}

impl Pool {
    /// Notes that the slots from `from` on are spare.
    pub(super) fn mark_spare(&mut self, from: usize) {
        if self.to_come == ToCome::Lined {
            return;
        }
        for at in from..self.slots.len() {
            self.slots[at].is_spare = true;
            self.spare.push(at);
        }
    }

    /// Returns how many replicas of which group are spare.
    pub(super) fn spare_replicas(&self, ledger: Ledger) -> BTreeMap<usize, u64> {
        let mut hosts: BTreeMap<(usize, u32), u64> = BTreeMap::new();
        let slots = self.spare.iter().map(|at| &self.slots[*at]);
        for slot in slots.filter(|slot| slot.is_spare && slot.count > 0) {
            if let Some(group) = slot.group {
                *hosts.entry((group, slot.class(ledger))).or_default() += slot.count;
            }
        }
        let groups: Vec<usize> = hosts.keys().map(|(group, _)| *group).collect();
        let replicas = |group: &usize| {
            let kinds = self.templates[*group].to_come.iter();
            let of_kind = kinds.map(|(class, count)| {
                let hosts = hosts.get(&(*group, *class)).copied().unwrap_or(0);
                hosts / (*count).max(1)
            });
            of_kind.min().unwrap_or(0)
        };
        let counted = groups.iter().map(|group| (*group, replicas(group)));
        counted.filter(|(_, replicas)| *replicas > 0).collect()
    }

    /// Places on spare nodes what a placement has for them; returns their classes and places in the list.
    pub(super) fn use_spare(
        &mut self,
        fresh: &Fresh,
        (placement, claims): (&Placement, &[usize]),
        ledger: Ledger,
    ) -> Vec<(u32, Entry)> {
        let mut left = fresh.nodes;
        let mut used = Vec::new();
        for at in 0..self.spare.len() {
            let at = self.spare[at];
            let slot = &self.slots[at];
            let is_meant = slot.is_spare
                && slot.group == Some(fresh.group)
                && slot.class(ledger) == fresh.class;
            if left == 0 || !is_meant || slot.count == 0 {
                continue;
            }
            let nodes = slot.count.min(left);
            left -= nodes;
            let at = if slot.count > nodes {
                let part = self.split(at, nodes);
                // What is used is spare no more.
                self.spare.pop();
                part
            } else {
                at
            };
            let mut class = fresh.class;
            let fill = fresh.fill.as_deref().unwrap_or_default();
            if fill.iter().any(|(_, count)| *count > 0) {
                let state = &self.states[index(class)];
                let after = state.after(fill, &placement.shapes, self.terrain());
                class = self.intern(after);
            }
            let key = self.last;
            self.last += 1;
            let slot = &mut self.slots[at];
            (slot.is_spare, slot.key) = (false, key);
            slot.hold(class, ledger, placement.uses(fill, claims));
            let count = slot.count;
            let slot = at;
            used.push((class, Entry { key, slot, count }));
        }
        debug_assert_eq!(left, 0, "spare nodes that are counted are there");
        used
    }
}
