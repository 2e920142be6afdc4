//! All nodes a decision may place requests on: those that run, those that start, those it launches.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ClusterSnapshot, History, Node, NodeKind, ResourceMap, WorkerGroup};

use super::aside::Border;
use super::asked::Asked;
use super::budget::Budget;
use super::caps::Usage;
use super::carry::{Carry, Seen};
use super::corrections::Corrections;
use super::fit::Explained;
use super::ids::{Ids, hash_of};
use super::lineup::Lineup;
use super::outfit::Outfits;
use super::replay::Replay;
use super::replicas::{GroupCensus, ReplicaHealth, ReplicaState};
use super::score::Choice;
use super::shape::{Shapes, index};
use super::spare::ToCome;
use super::state::{NodeState, Scratch, Terrain};

/// Says which amounts of a node count as free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ledger {
    /// What is really free: for tasks, actors and placement groups.
    Free,
    /// Everything, busy or not: for `request_resources`.
    Whole,
}

impl Ledger {
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Free => 0,
            Self::Whole => 1,
        }
    }
}

/// Says where a node comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is at this position in the snapshot's nodes.
    Node(usize),
    /// It was asked for earlier and has no pod yet.
    ToCome,
    /// This decision launches it.
    Launch,
}

/// Holds `count` equal nodes.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Where they come from.
    pub origin: Origin,
    /// Position of their group in the snapshot; `None` for the head and for nodes of other groups.
    pub group: Option<usize>,
    /// How many they are; none when they have left.
    pub count: u64,
    /// What was placed on each of them: claim and number of requests.
    pub uses: Vec<(usize, u64)>,
    /// Place in the list by which ties are settled.
    pub(super) key: i64,
    pub(super) is_head: bool,
    /// Whether they are whole replicas without a pod that nothing was placed on, see `spare.rs`.
    pub(super) is_spare: bool,
    pub(super) free: u32,
    pub(super) whole: u32,
}

impl Slot {
    pub(super) fn class(&self, ledger: Ledger) -> u32 {
        match ledger {
            Ledger::Free => self.free,
            Ledger::Whole => self.whole,
        }
    }
}

/// Describes what a new replica of a group brings.
#[derive(Debug, Clone)]
pub struct Template {
    /// The group's name.
    pub name: String,
    /// The group's maximum, for explanations.
    pub replicas_max: u32,
    /// Nodes per replica.
    pub hosts: u64,
    pub(super) priority: i64,
    pub(super) room: u64,
    /// Why the room is less than the maximum leaves: a stable word, and more.
    pub(super) limited: Option<(&'static str, String)>,
    /// Classes of its hosts, and how many of each.
    pub(super) kinds: Vec<(u32, u64)>,
    /// The same as placing may count on: resized to the most they may have.
    pub(super) launch: Vec<(u32, u64)>,
    /// The same while they have no pod yet.
    pub(super) to_come: Vec<(u32, u64)>,
    pub(super) totals: Vec<(ResourceMap, u64)>,
    /// Outfit of its first host as the spec promises it, where its nodes had something else.
    pub(super) promised: Option<u32>,
}

/// Holds the nodes of one decision.
#[derive(Debug)]
pub struct Pool {
    pub(super) slots: Vec<Slot>,
    pub(super) states: Vec<NodeState>,
    pub(super) ids: Ids,
    pub(super) replay: Replay,
    /// By position in the snapshot.
    pub(super) seen: Vec<Option<Seen>>,
    pub(super) outfits: Outfits,
    pub(super) shapes: Shapes,
    pub(super) asked: Asked,
    pub(super) templates: Vec<Template>,
    /// The word for demand that the caps keep from being served.
    pub(super) cap_code: &'static str,
    /// Counted only where there are caps.
    pub(super) usage: Option<Usage>,
    /// Nodes that are no capacity and still count against the caps: position and group.
    pub(super) outside: BTreeMap<usize, usize>,
    /// Outfits of running nodes, for the question what could ever fit.
    pub(super) running: BTreeSet<u32>,
    /// By ledger; where nodes that run come first, those that start stand in a second one.
    pub(super) lineups: [[Option<Lineup>; 2]; 2],
    pub(super) corrections: Corrections,
    pub(super) budget: Budget,
    pub(super) scratch: Scratch,
    pub(super) explained: Explained,
    pub(super) has_resizing: bool,
    /// Whether pods start that can be resized.
    pub(super) has_growing: bool,
    pub(super) to_come: ToCome,
    /// Positions in the snapshot of nodes that are to be resized.
    pub(super) resized: Vec<usize>,
    /// Slots that are or were spare.
    pub(super) spare: Vec<usize>,
    /// Slot of each node of the snapshot.
    slot_of: Vec<Option<usize>>,
    /// Next keys before and behind all others.
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) border: Border,
    /// The class of the running node that was looked at last, as it is with nothing in use.
    pub(super) last_running: Option<u32>,
    choice: Choice,
    is_settled: bool,
}

/// Holds what a pool is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) snapshot: &'a ClusterSnapshot,
    pub(crate) history: &'a History,
    pub(crate) corrections: Corrections,
    pub(crate) to_come: ToCome,
}

impl Pool {
    /// Returns the nodes of a snapshot; `carry` holds what an earlier pool has worked out for the
    /// same snapshot without the changes of a decision.
    pub(crate) fn new(
        facts: Facts<'_>,
        census: &[GroupCensus],
        others: &[ReplicaState],
        carry: Option<Carry>,
    ) -> Self {
        let snapshot = facts.snapshot;
        let mut carry = carry.unwrap_or_else(|| Carry::of(snapshot));
        carry.seen.resize(snapshot.nodes.len(), None);
        let mut pool = Self {
            slots: Vec::with_capacity(snapshot.nodes.len()),
            states: carry.states,
            ids: carry.ids,
            replay: Replay::after(carry.calls),
            seen: carry.seen,
            outfits: carry.outfits,
            shapes: carry.shapes,
            asked: carry.asked,
            templates: Vec::new(),
            cap_code: "at_total_cap",
            usage: None,
            outside: BTreeMap::new(),
            running: BTreeSet::new(),
            lineups: Default::default(),
            corrections: facts.corrections,
            budget: Budget::default(),
            scratch: Scratch::default(),
            explained: Explained::default(),
            has_resizing: !snapshot.resizing.pods.is_empty(),
            has_growing: false,
            to_come: facts.to_come,
            resized: Vec::new(),
            spare: Vec::new(),
            slot_of: vec![None; snapshot.nodes.len()],
            first: -1,
            last: 0,
            border: Border::default(),
            last_running: None,
            choice: Choice::default(),
            is_settled: false,
        };
        let heads = snapshot.nodes.iter().enumerate();
        let mut heads: Vec<(usize, &Node)> = heads
            .filter(|(_, node)| node.kind == NodeKind::Head)
            .collect();
        heads.sort_by_key(|(_, node)| (&node.name, node.node_id));
        for (at, node) in heads {
            pool.observe(facts, (at, node), None);
        }
        for (index, (group, census)) in snapshot.groups.iter().zip(census).enumerate() {
            let template = pool.template(group, facts);
            pool.templates.push(template);
            pool.seat(facts, index, census);
        }
        for replica in others
            .iter()
            .filter(|replica| replica.health == ReplicaHealth::Capacity)
        {
            for at in &replica.hosts {
                if let Some(node) = snapshot.nodes.get(*at) {
                    pool.observe(facts, (*at, node), None);
                }
            }
        }
        if !facts.corrections.order {
            pool.list_as_given();
        }
        pool
    }

    fn template(&mut self, group: &WorkerGroup, facts: Facts<'_>) -> Template {
        let known = facts.history.template(&group.name, &group.template);
        let promised = self.promised(group, &known);
        let at = self.templates.len();
        let hosts = u64::from(group.num_of_hosts.max(1));
        let mut zero = known.resources.clone();
        zero.add(&known.host_zero_resources);
        let has_special_host = zero != known.resources && hosts > 1;
        let mut totals = vec![(zero, if has_special_host { 1 } else { hosts })];
        if has_special_host {
            totals.push((known.resources, hosts.saturating_sub(1)));
        }
        let mut kinds = Vec::new();
        let mut launch = Vec::new();
        let size = facts.snapshot.resizing.groups.get(&group.name);
        for (total, count) in &totals {
            let names = (total, total, &known.labels);
            let outfit = self.outfits.intern(names, &self.asked, &self.shapes);
            let state = NodeState::empty(outfit, narrow(at), &self.outfits);
            let most = size.map(|size| {
                let most = |name, units: i64| units.max(total.get(name).units());
                (
                    most("CPU", size.cpu.units()),
                    most("memory", size.memory.units()),
                )
            });
            let grown = most.map(|most| self.grown(&state, most));
            let class = self.intern(state);
            kinds.push((class, *count));
            launch.push((grown.map_or(class, |state| self.intern(state)), *count));
        }
        Template {
            name: group.name.as_str().to_owned(),
            replicas_max: group.bounds.max,
            hosts,
            priority: group.priority,
            room: 0,
            limited: None,
            to_come: if facts.corrections.grown {
                launch.clone()
            } else {
                kinds.clone()
            },
            kinds,
            launch,
            totals,
            promised,
        }
    }

    fn seat(&mut self, facts: Facts<'_>, index: usize, census: &GroupCensus) {
        for replica in &census.live {
            if replica.health != ReplicaHealth::Capacity {
                self.outside
                    .extend(replica.hosts.iter().map(|at| (*at, index)));
                continue;
            }
            let mut has_host_zero = false;
            for at in &replica.hosts {
                if let Some(node) = facts.snapshot.nodes.get(*at) {
                    has_host_zero |= node.host_index == 0;
                    self.observe(facts, (*at, node), Some(index));
                }
            }
            self.add_missing_hosts(index, replica.hosts.len(), has_host_zero);
        }
        self.add(index, u64::from(census.to_come), Origin::ToCome);
    }

    /// Adds the hosts of a replica whose pods are not there yet; without them the rest of a
    /// replica that is being created would be launched a second time.
    fn add_missing_hosts(&mut self, index: usize, present: usize, has_host_zero: bool) {
        let template = &self.templates[index];
        let present = u64::try_from(present).unwrap_or(u64::MAX);
        let mut missing = template.hosts.saturating_sub(present);
        if missing == 0 {
            return;
        }
        let kinds = template.to_come.clone();
        let has_special_host = kinds.len() > 1;
        for (at, (class, count)) in kinds.into_iter().enumerate() {
            let is_there = has_special_host && at == 0 && has_host_zero;
            let count = if is_there { 0 } else { count.min(missing) };
            missing = missing.saturating_sub(count);
            self.push((Some(index), Origin::ToCome), (class, class), count);
        }
    }

    fn observe(&mut self, facts: Facts<'_>, (at, node): (usize, &Node), group: Option<usize>) {
        let known = self.seen[at].filter(|seen| seen.is_still(node, group));
        let Some(seen) = known.or_else(|| self.look_at(facts, node, group)) else {
            return;
        };
        // How far a resize has come changes with a decision.
        let is_kept = !facts.snapshot.resizing.pods.contains_key(&node.name);
        self.seen[at] = is_kept.then_some(seen);
        self.running.extend(seen.running);
        self.slot_of[at] = Some(self.slots.len());
        self.push((group, Origin::Node(at)), (seen.free, seen.whole), 1);
        if let Some(slot) = self.slots.last_mut() {
            slot.is_head = node.kind == NodeKind::Head;
        }
    }

    /// Puts the nodes into the order of the snapshot, as Ray's list has them.
    fn list_as_given(&mut self) {
        for slot in &mut self.slots {
            slot.key = match slot.origin {
                Origin::Node(at) => i64::try_from(at).unwrap_or(i64::MAX),
                // What the minimum asks for stands before all others.
                Origin::ToCome | Origin::Launch => slot.key - i64::MAX / 2,
            };
        }
        let first = self.slots.iter().map(|slot| slot.key).min();
        self.first = first.unwrap_or(0) - 1;
        self.last = i64::try_from(self.slot_of.len()).unwrap_or(i64::MAX);
    }

    pub(super) fn push(
        &mut self,
        (group, origin): (Option<usize>, Origin),
        (free, whole): (u32, u32),
        count: u64,
    ) {
        if count == 0 {
            return;
        }
        self.add_to_usage((group, whole), count);
        let key = self.last;
        self.last += 1;
        let uses = Vec::new();
        self.slots.push(Slot {
            origin,
            group,
            count,
            uses,
            key,
            is_head: false,
            is_spare: false,
            free,
            whole,
        });
    }

    pub(super) fn intern(&mut self, state: NodeState) -> u32 {
        let hash = hash_of(&state);
        let is_it = |id: u32| self.states[index(id)] == state;
        if let Some(id) = self.ids.find(hash, is_it) {
            return id;
        }
        self.ids.push(hash);
        self.states.push(state);
        narrow(self.states.len() - 1)
    }

    pub(super) fn terrain(&self) -> Terrain<'_> {
        Terrain {
            states: &self.states,
            outfits: &self.outfits,
            shapes: &self.shapes,
            choice: &self.choice,
        }
    }

    /// Returns how groups are chosen, to be set before anything is placed.
    pub fn choice_mut(&mut self) -> &mut Choice {
        self.is_settled = false;
        self.lineups = Default::default();
        &mut self.choice
    }

    pub(super) fn choice(&self) -> &Choice {
        &self.choice
    }

    pub(super) fn settle_choice(&mut self) {
        if !self.is_settled {
            let priorities: Vec<i64> = self
                .templates
                .iter()
                .map(|template| template.priority)
                .collect();
            self.choice.settle(&priorities, &self.outfits);
            self.choice.host_prices = self.host_prices();
            self.is_settled = true;
            self.start_replay();
        }
    }

    /// Returns the number of nodes per replica of a group.
    #[must_use]
    pub fn hosts(&self, index: usize) -> u64 {
        self.templates
            .get(index)
            .map_or(1, |template| template.hosts)
    }

    /// Returns whether any node is on its way.
    pub(crate) fn has_starting(&self) -> bool {
        let is_starting = |slot: &Slot| slot.count > 0 && !self.states[index(slot.free)].is_running;
        self.slots.iter().any(is_starting)
    }

    /// Returns whether replicas were asked for that have no pod yet, or one that starts and can be resized.
    pub(crate) fn has_to_come(&self) -> bool {
        let mut slots = self.slots.iter();
        self.has_growing || slots.any(|slot| slot.count > 0 && slot.origin == Origin::ToCome)
    }

    /// Returns whether nodes that run come before nodes that start.
    pub(crate) fn is_running_first(&self) -> bool {
        self.choice.is_running_first
    }

    /// Returns the nodes.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Returns the slot of a node of the snapshot.
    pub(super) fn slot_of(&self, node: usize) -> Option<usize> {
        self.slot_of.get(node).copied().flatten()
    }

    /// Returns the place of a node of the snapshot in the list by which ties are settled.
    #[must_use]
    pub fn place_of(&self, node: usize) -> Option<i64> {
        self.slot_of(node).map(|slot| self.slots[slot].key)
    }

    /// Returns the positions in the snapshot of nodes that are to be resized.
    #[must_use]
    pub fn resized(&self) -> &[usize] {
        &self.resized
    }

    /// Returns which corrections are on.
    #[must_use]
    pub fn corrections(&self) -> Corrections {
        self.corrections
    }

    /// Gives placing a number of steps; without, it has as many as it needs.
    pub fn set_budget(&mut self, steps: u64) {
        self.budget = Budget::of(steps);
    }

    /// Returns how many placement steps were made.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.budget.spent()
    }
}

pub(super) fn narrow(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

impl Template {
    /// Returns the class of a host that is no capacity any more.
    pub(super) fn any_total(&self) -> Option<&ResourceMap> {
        self.totals.last().map(|(total, _)| total)
    }
}
