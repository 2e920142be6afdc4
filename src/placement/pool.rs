//! All nodes a decision may place requests on: those that run, those that start, those it launches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{
    ClusterSnapshot, History, Node, NodeKind, NodeStatus, ResourceMap, WorkerGroup,
};

use super::asked::Asked;
use super::caps::{Caps, Usage};
use super::place::Placement;
use super::replicas::{GroupCensus, ReplicaHealth, ReplicaState};
use super::score::Choice;
use super::state::NodeState;

/// Says which amounts of a node count as free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ledger {
    /// What is really free: for tasks, actors and placement groups.
    Free,
    /// Everything, busy or not: for `request_resources`.
    Whole,
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
    /// How many they are.
    pub count: u64,
    /// What was placed on each of them: claim and number of requests.
    pub uses: Vec<(usize, u64)>,
    pub(super) is_running: bool,
    pub(super) free: usize,
    pub(super) whole: usize,
}

impl Slot {
    pub(super) fn class(&self, ledger: Ledger) -> usize {
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
    pub(super) kinds: Vec<(usize, u64)>,
}

/// Holds the nodes of one decision, in the order in which ties are resolved.
#[derive(Debug)]
pub struct Pool {
    pub(super) slots: Vec<Slot>,
    pub(super) states: Vec<Arc<NodeState>>,
    ids: BTreeMap<Arc<NodeState>, usize>,
    pub(super) templates: Vec<Template>,
    pub(super) usage: Usage,
    /// Nodes that are no capacity and still count against the caps: position and class.
    outside: BTreeMap<usize, usize>,
    /// Running nodes as they would be without any work, for the question what could ever fit.
    pub(super) empty: BTreeSet<usize>,
    /// How groups are chosen.
    pub choice: Choice,
}

impl Pool {
    pub(crate) fn new(
        snapshot: &ClusterSnapshot,
        history: &History,
        census: &[GroupCensus],
        others: &[ReplicaState],
    ) -> Self {
        let mut pool = Self {
            slots: Vec::new(),
            states: Vec::new(),
            ids: BTreeMap::new(),
            templates: Vec::new(),
            usage: Usage::default(),
            outside: BTreeMap::new(),
            empty: BTreeSet::new(),
            choice: Choice::default(),
        };
        let asked = Asked::of(snapshot);
        let is_head = |node: &&Node| node.kind == NodeKind::Head;
        let heads = snapshot
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| is_head(node));
        let mut heads: Vec<(usize, &Node)> = heads.collect();
        heads.sort_by_key(|(_, node)| (&node.name, node.node_id));
        for (at, node) in heads {
            pool.observe(at, node, None, &asked);
        }
        for (index, (group, census)) in snapshot.groups.iter().zip(census).enumerate() {
            let template = pool.template(group, history);
            pool.templates.push(template);
            pool.seat(snapshot, index, census, &asked);
        }
        for replica in others
            .iter()
            .filter(|replica| replica.health == ReplicaHealth::Capacity)
        {
            for at in &replica.hosts {
                if let Some(node) = snapshot.nodes.get(*at) {
                    pool.observe(*at, node, None, &asked);
                }
            }
        }
        pool
    }

    fn template(&mut self, group: &WorkerGroup, history: &History) -> Template {
        let known = history.template(&group.name, &group.template);
        let hosts = u64::from(group.num_of_hosts.max(1));
        let mut zero = known.resources.clone();
        zero.add(&known.host_zero_resources);
        let has_special_host = zero != known.resources;
        let mut kinds = Vec::new();
        let zero = self.intern(NodeState::empty(zero, known.labels.clone()));
        if has_special_host && hosts > 1 {
            kinds.push((zero, 1));
            let other = self.intern(NodeState::empty(known.resources, known.labels));
            kinds.push((other, hosts.saturating_sub(1)));
        } else {
            kinds.push((zero, hosts));
        }
        Template {
            name: group.name.as_str().to_owned(),
            replicas_max: group.bounds.max,
            hosts,
            priority: group.priority,
            room: 0,
            kinds,
        }
    }

    fn seat(
        &mut self,
        snapshot: &ClusterSnapshot,
        index: usize,
        census: &GroupCensus,
        asked: &Asked<'_>,
    ) {
        for replica in &census.live {
            if replica.health != ReplicaHealth::Capacity {
                self.count_outside(index, replica);
                continue;
            }
            let mut hosts_seen = BTreeSet::new();
            for at in &replica.hosts {
                if let Some(node) = snapshot.nodes.get(*at) {
                    hosts_seen.insert(u64::from(node.host_index));
                    self.observe(*at, node, Some(index), asked);
                }
            }
            self.add_missing_hosts(index, replica.hosts.len(), hosts_seen.contains(&0));
        }
        self.add(index, u64::from(census.to_come), Origin::ToCome);
    }

    /// Counts the hosts of a replica that is no capacity: they are there until they are removed.
    fn count_outside(&mut self, index: usize, replica: &ReplicaState) {
        let kinds = self.templates.get(index).map(|template| &template.kinds);
        let Some((class, _)) = kinds.and_then(|kinds| kinds.last().copied()) else {
            return;
        };
        let Some(state) = self.states.get(class) else {
            return;
        };
        for at in &replica.hosts {
            self.usage.add(&state.total, 1);
            self.outside.insert(*at, class);
        }
    }

    /// Adds the hosts of a replica whose pods are not there yet; without them the rest of a
    /// replica that is being created would be launched a second time.
    fn add_missing_hosts(&mut self, index: usize, present: usize, has_host_zero: bool) {
        let Some(template) = self.templates.get(index) else {
            return;
        };
        let present = u64::try_from(present).unwrap_or(u64::MAX);
        let mut missing = template.hosts.saturating_sub(present);
        let kinds = template.kinds.clone();
        let has_special_host = kinds.len() > 1;
        for (at, (class, count)) in kinds.into_iter().enumerate() {
            let is_there = has_special_host && at == 0 && has_host_zero;
            let count = if is_there { 0 } else { count.min(missing) };
            missing = missing.saturating_sub(count);
            self.push(index, class, count, Origin::ToCome);
        }
    }

    fn observe(&mut self, at: usize, node: &Node, group: Option<usize>, asked: &Asked<'_>) {
        let (free, whole) = match (node.status, group) {
            (NodeStatus::Running, _) => {
                let total = asked.resources(&node.total);
                let mut state = NodeState::empty(total, asked.labels(&node.labels));
                let whole = self.intern(state.clone());
                state.available = asked.resources(&node.available);
                self.empty.insert(whole);
                (self.intern(state), whole)
            }
            (NodeStatus::Starting, Some(index)) => {
                let kinds = self.templates.get(index).map(|template| &template.kinds);
                let is_special = node.host_index == 0;
                let kind = kinds.and_then(|kinds| {
                    if is_special {
                        kinds.first()
                    } else {
                        kinds.last()
                    }
                });
                let Some((class, _)) = kind else { return };
                (*class, *class)
            }
            _ => return,
        };
        if node.kind == NodeKind::Worker
            && let Some(state) = self.states.get(whole)
        {
            self.usage.add(&state.total, 1);
        }
        let origin = Origin::Node(at);
        self.slots.push(Slot {
            origin,
            group,
            count: 1,
            uses: Vec::new(),
            is_running: node.status == NodeStatus::Running,
            free,
            whole,
        });
    }

    /// Adds `replicas` replicas with nothing on them.
    pub(crate) fn add(&mut self, index: usize, replicas: u64, origin: Origin) {
        let Some(template) = self.templates.get(index) else {
            return;
        };
        for (class, count) in template.kinds.clone() {
            self.push(index, class, count.saturating_mul(replicas), origin);
        }
    }

    fn push(&mut self, index: usize, class: usize, count: u64, origin: Origin) {
        if count == 0 {
            return;
        }
        if let Some(state) = self.states.get(class) {
            self.usage.add(&state.total, count);
        }
        let (free, whole) = (class, class);
        self.slots.push(Slot {
            origin,
            group: Some(index),
            count,
            uses: Vec::new(),
            is_running: false,
            free,
            whole,
        });
    }

    /// Takes nodes that are going to be removed out of the pool.
    pub(crate) fn remove_nodes(&mut self, nodes: &[usize]) {
        for class in nodes.iter().filter_map(|at| self.outside.remove(at)) {
            if let Some(state) = self.states.get(class) {
                self.usage.remove(&state.total, 1);
            }
        }
        let (states, usage) = (&self.states, &mut self.usage);
        self.slots.retain(|slot| {
            let is_removed = matches!(slot.origin, Origin::Node(at) if nodes.contains(&at));
            if let Some(state) = states.get(slot.whole).filter(|_| is_removed) {
                usage.remove(&state.total, 1);
            }
            !is_removed
        });
    }

    /// Takes `nodes` nodes of a group and an origin out, the last first; returns what was on them.
    pub(crate) fn withdraw(
        &mut self,
        index: usize,
        origin: Origin,
        nodes: u64,
    ) -> Vec<(usize, u64)> {
        let mut left = nodes;
        let mut uses = Vec::new();
        let (states, usage) = (&self.states, &mut self.usage);
        let own = |slot: &&mut Slot| slot.group == Some(index) && slot.origin == origin;
        for slot in self.slots.iter_mut().rev().filter(own) {
            let count = slot.count.min(left);
            left = left.saturating_sub(count);
            slot.count = slot.count.saturating_sub(count);
            if let Some(state) = states.get(slot.whole) {
                usage.remove(&state.total, count);
            }
            if count > 0 {
                uses.extend(
                    slot.uses
                        .iter()
                        .map(|(claim, each)| (*claim, each.saturating_mul(count))),
                );
            }
        }
        self.slots.retain(|slot| slot.count > 0);
        uses
    }

    /// Sets the caps over all groups.
    pub fn set_caps(&mut self, caps: Caps) {
        self.usage.caps = caps;
    }

    pub(crate) fn set_room(&mut self, index: usize, replicas: u32) {
        if let Some(template) = self.templates.get_mut(index) {
            template.room = u64::from(replicas);
        }
    }

    /// Returns how many replicas a group may still grow by.
    #[must_use]
    pub fn room(&self, index: usize) -> u64 {
        let Some(template) = self.templates.get(index) else {
            return 0;
        };
        template
            .room
            .min(self.usage.room(&self.host_totals(template)))
    }

    pub(super) fn host_totals(&self, template: &Template) -> Vec<(&ResourceMap, u64)> {
        let kinds = template.kinds.iter();
        kinds
            .filter_map(|(class, count)| Some((self.states.get(*class)?.total.as_ref(), *count)))
            .collect()
    }

    /// Returns the number of nodes per replica of a group.
    #[must_use]
    pub fn hosts(&self, index: usize) -> u64 {
        self.templates
            .get(index)
            .map_or(1, |template| template.hosts)
    }

    /// Returns the nodes.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn intern(&mut self, state: NodeState) -> usize {
        if let Some(id) = self.ids.get(&state) {
            return *id;
        }
        self.intern_shared(&Arc::new(state))
    }

    fn intern_shared(&mut self, state: &Arc<NodeState>) -> usize {
        if let Some(id) = self.ids.get(state) {
            return *id;
        }
        let id = self.states.len();
        self.states.push(Arc::clone(state));
        self.ids.insert(Arc::clone(state), id);
        id
    }

    /// Takes a placement over; `claims` says for each ask what the nodes are used for.
    ///
    /// As in Ray the nodes that were picked come first from now on, then the others, then new ones.
    pub fn commit(&mut self, placement: &Placement, claims: &[usize], ledger: Ledger) {
        let mut slots = Vec::with_capacity(self.slots.len());
        for pick in &placement.picks {
            let class = self.intern_shared(&pick.trial.after);
            let Some(source) = self.slots.get_mut(pick.slot) else {
                continue;
            };
            source.count = source.count.saturating_sub(pick.nodes);
            let mut slot = source.clone();
            slot.count = pick.nodes;
            slot.hold(class, ledger, placement.uses(&pick.trial.fill, claims));
            slots.push(slot);
        }
        slots.extend(
            std::mem::take(&mut self.slots)
                .into_iter()
                .filter(|slot| slot.count > 0),
        );
        self.slots = slots;
        for fresh in &placement.fresh {
            let before = self.slots.len();
            self.push(fresh.group, fresh.class, fresh.nodes, Origin::Launch);
            let Some(trial) = fresh.trial.as_ref().filter(|_| self.slots.len() > before) else {
                continue;
            };
            let class = self.intern_shared(&trial.after);
            let uses = placement.uses(&trial.fill, claims);
            if let Some(slot) = self.slots.last_mut() {
                slot.hold(class, ledger, uses);
            }
        }
    }
}

impl Slot {
    fn hold(&mut self, class: usize, ledger: Ledger, uses: Vec<(usize, u64)>) {
        match ledger {
            Ledger::Free => self.free = class,
            Ledger::Whole => self.whole = class,
        }
        self.uses.extend(uses);
    }
}
