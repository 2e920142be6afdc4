//! Changes of the pool: placements that are taken over, nodes that come and go, caps.

use std::collections::BTreeSet;

use super::caps::{Caps, Usage};
use super::growth::Fresh;
use super::lineup::{Entry, Pick};
use super::place::Placement;
use super::pool::{Ledger, Origin, Pool, Slot};
use super::shape::{ShapeId, index};

impl Pool {
    /// Takes a placement over; `claims` says for each ask what the nodes are used for.
    ///
    /// As in Ray the nodes that were picked come first from now on, then the others, then those
    /// set aside, then new ones.
    pub fn commit(&mut self, placement: &Placement, claims: &[usize], ledger: Ledger) {
        if !self.corrections.order {
            let mut lineup = self.take_lineup(ledger, 0);
            self.set_aside(&mut lineup, &placement.shapes);
            self.put_lineup((ledger, 0), lineup);
        }
        let mut lineups = std::mem::take(&mut self.lineups[ledger.index()]);
        self.lineups = Default::default();
        let picks = i64::try_from(placement.picks.len()).unwrap_or(i64::MAX);
        let mut key = self.first - picks;
        self.first = key - 1;
        let mut moved = Vec::with_capacity(placement.picks.len());
        for pick in &placement.picks {
            let half = self.half_of(pick.class);
            if let Some(lineup) = &mut lineups[half] {
                lineup.pop(pick.class, pick.nodes);
            }
            let (slot, is_part) = (pick.slot, self.slots[pick.slot].count > pick.nodes);
            let class = self.class_after(pick, &placement.shapes);
            let slot = if is_part {
                self.split(slot, pick.nodes)
            } else {
                slot
            };
            key += 1;
            let held = &mut self.slots[slot];
            held.key = key;
            held.hold(class, ledger, placement.uses(&pick.fill, claims));
            let count = held.count;
            moved.push((class, Entry { key, slot, count }));
        }
        let after = moved.iter().map(|(class, _)| *class);
        self.replay.take_over(placement.call, after);
        for (class, entry) in moved.into_iter().rev() {
            if let Some(lineup) = &mut lineups[self.half_of(class)] {
                lineup.push_front(class, entry);
            }
        }
        let first_new = self.slots.len();
        let (spare, launched): (Vec<&Fresh>, Vec<&Fresh>) =
            placement.fresh.iter().partition(|fresh| fresh.is_spare);
        let mut seated = Vec::new();
        for fresh in spare {
            seated.extend(self.use_spare(fresh, (placement, claims), ledger));
        }
        for fresh in launched {
            seated.extend(self.seat_launched(fresh, (placement, claims), ledger));
        }
        for (class, entry) in seated {
            if let Some(lineup) = &mut lineups[self.half_of(class)] {
                lineup.push_back(class, entry);
            }
        }
        if placement.resized.is_empty() {
            self.lineups[ledger.index()] = lineups;
        } else {
            self.commit_resized(placement, claims, (ledger, first_new));
        }
        if !placement.launched.is_empty() {
            self.explained.clear();
        }
    }

    /// Adds launched nodes with what a placement has for them; returns their class and place in the list.
    fn seat_launched(
        &mut self,
        fresh: &Fresh,
        (placement, claims): (&Placement, &[usize]),
        ledger: Ledger,
    ) -> Option<(u32, Entry)> {
        let slot = self.slots.len();
        let plain = (fresh.class, fresh.class);
        self.push((Some(fresh.group), Origin::Launch), plain, fresh.nodes);
        if self.slots.len() == slot {
            return None;
        }
        let mut class = fresh.class;
        if let Some(fill) = &fresh.fill {
            let state = &self.states[index(class)];
            let after = state.after(fill, &placement.shapes, self.terrain());
            class = self.intern(after);
            self.slots[slot].hold(class, ledger, placement.uses(fill, claims));
        }
        let (key, count) = (self.slots[slot].key, self.slots[slot].count);
        Some((class, Entry { key, slot, count }))
    }

    /// Returns the class of a node that was picked, once it holds what it takes.
    fn class_after(&mut self, pick: &Pick, shapes: &[ShapeId]) -> u32 {
        if let Some(known) = pick.after {
            return known;
        }
        let state = &self.states[index(pick.class)];
        let after = state.after(&pick.fill, shapes, self.terrain());
        self.intern(after)
    }

    /// Moves the nodes that were resized, and those that could have been, behind the others.
    fn commit_resized(
        &mut self,
        placement: &Placement,
        claims: &[usize],
        (ledger, first_new): (Ledger, usize),
    ) {
        let mut moved: Vec<usize> = placement
            .resized
            .iter()
            .map(|resized| resized.slot)
            .collect();
        let class = |slot: usize| self.slots[slot].class(ledger);
        let can_grow = |slot: usize| self.states[index(class(slot))].grows_to.is_some();
        let resized: BTreeSet<usize> = moved.iter().copied().collect();
        let mut left: Vec<usize> = (0..first_new)
            .filter(|at| can_grow(*at) && !resized.contains(at))
            .collect();
        left.sort_by_key(|at| self.slots[*at].key);
        moved.extend(left);
        for resized in &placement.resized {
            let other = match ledger {
                Ledger::Free => Ledger::Whole,
                Ledger::Whole => Ledger::Free,
            };
            let (group, before) = (
                self.slots[resized.slot].group,
                self.slots[resized.slot].whole,
            );
            let size = self.states[index(self.slots[resized.slot].class(ledger))].grows_to;
            let mut after = self.states[index(self.slots[resized.slot].class(other))].clone();
            if let Some(size) = size {
                after = self.grown(&after, size);
            }
            let class = self.intern(after);
            self.slots[resized.slot].hold(class, other, Vec::new());
            let class = self.intern(resized.after.clone());
            self.slots[resized.slot].hold(class, ledger, placement.uses(&resized.fill, claims));
            self.change_in_usage(group, (before, self.slots[resized.slot].whole));
            if let Origin::Node(at) = self.slots[resized.slot].origin {
                self.resized.push(at);
            }
        }
        // New nodes stay behind them.
        moved.extend(first_new..self.slots.len());
        for slot in moved {
            self.slots[slot].key = self.last;
            self.last += 1;
        }
        self.lineups = Default::default();
    }

    /// Makes `nodes` nodes of a slot a slot of their own.
    pub(super) fn split(&mut self, slot: usize, nodes: u64) -> usize {
        let source = &mut self.slots[slot];
        source.count -= nodes;
        let part = Slot {
            count: nodes,
            ..source.clone()
        };
        if part.is_spare {
            self.spare.push(self.slots.len());
        }
        self.slots.push(part);
        self.slots.len() - 1
    }

    /// Adds `replicas` replicas with nothing on them.
    pub(crate) fn add(&mut self, group: usize, replicas: u64, origin: Origin) {
        let Some(template) = self.templates.get(group) else {
            return;
        };
        for (class, count) in template.to_come.clone() {
            let before = self.slots.len();
            self.push(
                (Some(group), origin),
                (class, class),
                count.saturating_mul(replicas),
            );
            self.mark_spare(before);
            if !self.corrections.order && origin == Origin::Launch && self.slots.len() > before {
                // What the minimum asks for stands before all others in Ray's list.
                self.slots[before].key -= i64::MAX / 2;
            }
        }
        self.lineups = Default::default();
        self.explained.clear();
    }

    /// Takes nodes that are going to be removed out of the pool.
    pub(crate) fn remove_nodes(&mut self, nodes: &[usize]) {
        for at in nodes {
            if let (Some(group), Some(usage)) = (self.outside.remove(at), &mut self.usage)
                && let Some(total) = self.templates[group].any_total()
            {
                usage.remove(total.iter(), 1);
            }
            let Some(slot) = self.slot_of(*at) else {
                continue;
            };
            if !self.corrections.leaving || self.slots[slot].count == 0 {
                continue;
            }
            self.slots[slot].count = 0;
            self.replay.leave(*at);
            self.take_from_usage(self.slots[slot].whole, 1);
            self.lineups = Default::default();
        }
    }

    /// Takes `nodes` nodes of a group and an origin out, the last first; returns what was on them.
    pub(crate) fn withdraw(
        &mut self,
        group: usize,
        origin: Origin,
        nodes: u64,
    ) -> Vec<(usize, u64)> {
        self.withdraw_where((group, origin), nodes, |_| true)
    }

    /// The same of those that nothing was placed on.
    pub(crate) fn withdraw_unused(&mut self, group: usize, origin: Origin, nodes: u64) {
        self.withdraw_where((group, origin), nodes, |slot| slot.uses.is_empty());
    }

    fn withdraw_where(
        &mut self,
        (group, origin): (usize, Origin),
        nodes: u64,
        is_meant: impl Fn(&Slot) -> bool,
    ) -> Vec<(usize, u64)> {
        let mut left = nodes;
        let mut uses = Vec::new();
        for at in (0..self.slots.len()).rev() {
            let slot = &mut self.slots[at];
            if left == 0 || slot.group != Some(group) || slot.origin != origin || !is_meant(slot) {
                continue;
            }
            let count = slot.count.min(left);
            left -= count;
            slot.count -= count;
            if count > 0 {
                let each = slot.uses.iter().filter(|(_, each)| *each > 0);
                uses.extend(each.map(|(claim, each)| (*claim, each.saturating_mul(count))));
            }
            let class = slot.whole;
            self.take_from_usage(class, count);
        }
        self.lineups = Default::default();
        self.explained.clear();
        uses
    }

    /// Sets the caps over all groups.
    pub fn set_caps(&mut self, caps: Caps) {
        self.explained.clear();
        self.usage = None;
        if !caps.is_set() {
            return;
        }
        let mut usage = Usage::new(caps, self.grown_hosts());
        for slot in self
            .slots
            .iter()
            .filter(|slot| slot.count > 0 && !slot.is_head)
        {
            usage.add(self.outfit_of(slot.whole).registered(), slot.count);
        }
        for group in self.outside.values() {
            if let Some(total) = self.templates[*group].any_total() {
                usage.add(total.iter(), 1);
            }
        }
        self.usage = Some(usage);
    }

    pub(crate) fn set_room(&mut self, group: usize, replicas: u32) {
        self.explained.clear();
        if let Some(template) = self.templates.get_mut(group) {
            template.room = u64::from(replicas);
        }
    }

    /// Says why the room of a group is less than its maximum leaves.
    pub(crate) fn set_limited(&mut self, group: usize, why: (&'static str, String)) {
        self.explained.clear();
        if let Some(template) = self.templates.get_mut(group) {
            template.limited = Some(why);
        }
    }

    /// Lets all groups together grow by at most so many nodes, if the caps do not allow less.
    pub(crate) fn cap_growth(&mut self, nodes: u64, code: &'static str) {
        let mut caps = self
            .usage
            .as_ref()
            .map_or_else(Caps::default, |it| it.caps.clone());
        if caps.nodes_max.is_none() {
            // Counted only where there are caps.
            self.set_caps(Caps {
                nodes_max: Some(u64::MAX),
                ..caps.clone()
            });
        }
        let have = self.usage.as_ref().map_or(0, |usage| usage.nodes);
        let most = u64::try_from(have)
            .unwrap_or(u64::MAX)
            .saturating_add(nodes);
        if most < caps.nodes_max.unwrap_or(u64::MAX) {
            caps.nodes_max = Some(most);
            self.cap_code = code;
        }
        self.set_caps(caps);
    }

    /// Returns how many replicas a group may still grow by.
    #[must_use]
    pub fn room(&self, group: usize) -> u64 {
        let Some(template) = self.templates.get(group) else {
            return 0;
        };
        let usage = self.usage.as_ref();
        template
            .room
            .min(usage.map_or(u64::MAX, |usage| usage.room(&template.totals)))
    }

    /// Puts the nodes into the order that Ray's list has once the maxima are enforced: those that
    /// leave first, then group by group in the order of their first nodes.
    ///
    /// `sorted` has, for groups and for all of them, the nodes in the order of victims where Ray
    /// has sorted them: only there, and the head comes last.
    pub(crate) fn list_by_group(&mut self, leaving: &[usize], sorted: &[Vec<usize>]) {
        let mut order: Vec<usize> = (0..self.slots.len())
            .filter(|at| self.slots[*at].count > 0)
            .collect();
        order.sort_by_key(|at| self.slots[*at].key);
        let slot_of = |at: &usize| self.slot_of(*at);
        let leaving: Vec<usize> = leaving.iter().filter_map(slot_of).collect();
        order.retain(|slot| !leaving.contains(slot));
        let mut groups: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
        for slot in order {
            let group = self.slots[slot].group;
            match groups.iter_mut().find(|(other, _)| *other == group) {
                Some((_, slots)) => slots.push(slot),
                None => groups.push((group, vec![slot])),
            }
        }
        let mut order: Vec<usize> = groups.into_iter().flat_map(|(_, slots)| slots).collect();
        for nodes in sorted {
            let ranked: Vec<usize> = nodes
                .iter()
                .filter_map(slot_of)
                .filter(|slot| !leaving.contains(slot))
                .collect();
            let places = order
                .iter()
                .enumerate()
                .filter(|(_, slot)| ranked.contains(slot));
            let places: Vec<usize> = places.map(|(place, _)| place).collect();
            for (place, slot) in places.into_iter().zip(ranked) {
                order[place] = slot;
            }
        }
        for (key, slot) in (0..).zip(leaving.into_iter().chain(order)) {
            self.slots[slot].key = key;
        }
        (self.first, self.last) = (-1, i64::try_from(self.slots.len()).unwrap_or(i64::MAX));
        self.replay.forget();
        self.lineups = Default::default();
    }
}

impl Slot {
    pub(super) fn hold(&mut self, class: u32, ledger: Ledger, uses: Vec<(usize, u64)>) {
        match ledger {
            Ledger::Free => self.free = class,
            Ledger::Whole => self.whole = class,
        }
        self.uses.extend(uses);
    }
}
