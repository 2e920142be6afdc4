//! What one round of a decision hands to the next.
//!
//! A decision is made again with its launches in the pool until nothing changes. What each node has, what
//! it could do for each shape and how good it is stays known meanwhile; only where requests go is worked out again.

use crate::model::{ClusterSnapshot, Node, NodeStatus, ResizeState};

use super::asked::Asked;
use super::ids::Ids;
use super::outfit::Outfits;
use super::pool::{Facts, Pool, narrow};
use super::replay::Calls;
use super::shape::{Shapes, index};
use super::spare::ToCome;
use super::state::NodeState;

/// Holds what stays true while a decision is applied to its own snapshot.
#[derive(Debug)]
pub(crate) struct Carry {
    pub(super) asked: Asked,
    pub(super) outfits: Outfits,
    pub(super) shapes: Shapes,
    pub(super) states: Vec<NodeState>,
    pub(super) ids: Ids,
    pub(super) calls: Option<Calls>,
    pub(super) seen: Vec<Option<Seen>>,
}

/// Holds the classes of a node of the snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) status: NodeStatus,
    pub(super) group: Option<usize>,
    pub(super) free: u32,
    pub(super) whole: u32,
    /// Its outfit as registered, when its raylet runs.
    pub(super) running: Option<u32>,
}

impl Seen {
    /// Returns whether the node is what it was: a decision changes nothing but the status.
    pub(super) fn is_still(&self, node: &Node, group: Option<usize>) -> bool {
        self.status == node.status && self.group == group
    }
}

impl Carry {
    /// Returns what is known of a snapshot at first.
    pub(super) fn of(snapshot: &ClusterSnapshot) -> Self {
        Self {
            asked: Asked::of(snapshot),
            outfits: Outfits::default(),
            shapes: Shapes::default(),
            states: Vec::new(),
            ids: Ids::default(),
            calls: None,
            seen: Vec::new(),
        }
    }
}

impl Pool {
    /// Returns what the next round may start from.
    pub(crate) fn into_carry(self) -> Carry {
        Carry {
            asked: self.asked,
            outfits: self.outfits,
            shapes: self.shapes,
            states: self.states,
            ids: self.ids,
            calls: self.replay.into_calls(),
            seen: self.seen,
        }
    }

    /// Returns the classes of a node; `None` when it is no capacity.
    pub(super) fn look_at(
        &mut self,
        facts: Facts<'_>,
        node: &Node,
        group: Option<usize>,
    ) -> Option<Seen> {
        let is_drained = facts.history.drained_at.contains_key(&node.name);
        let is_running = node.status == NodeStatus::Running && !(is_drained && group.is_some());
        let mut running = None;
        let (free, whole) = if is_running {
            let class = self.running_class(node, group);
            let whole = &self.states[index(class)];
            let outfit = whole.outfit;
            running = Some(outfit);
            let free = whole.observed(node, self.outfits.get(outfit), &self.asked);
            if !facts.snapshot.resizing.pods.contains_key(&node.name) {
                return Some(Seen {
                    status: node.status,
                    group,
                    free: self.intern(free),
                    whole: class,
                    running,
                });
            }
            (free, self.states[index(class)].clone())
        } else if let Some(at) = group.filter(|_| node.status.is_capacity()) {
            let kinds = &self.templates[at].kinds;
            let kind = if node.host_index == 0 {
                kinds.first()
            } else {
                kinds.last()
            };
            let state = self.states[index(kind?.0)].clone();
            (state.clone(), state)
        } else {
            return None;
        };
        let (mut free, mut whole) = (free, whole);
        if let Some(pod) = facts.snapshot.resizing.pods.get(&node.name) {
            let size = |size: crate::model::PodSize| (size.cpu.units(), size.memory.units());
            let is_decided = pod.state == ResizeState::Decided && node.node_id.is_some();
            let is_asked = matches!(pod.state, ResizeState::Asked | ResizeState::Resized);
            let is_told =
                running.is_some() && facts.history.is_just_resized(&node.name, facts.snapshot);
            if is_asked || is_decided {
                let size = size(pod.expected());
                (free, whole) = (self.grown(&free, size), self.grown(&whole, size));
            }
            if is_told && !is_asked && !is_decided {
                let (cpu, memory) = size(pod.current);
                let has = |name| node.total.get(name).units();
                let most = (cpu.max(has("CPU")), memory.max(has("memory")));
                (free, whole) = (self.grown(&free, most), self.grown(&whole, most));
            }
            let grows_to = pod.can_grow().then(|| size(pod.max));
            (free.grows_to, whole.grows_to) = (grows_to, grows_to);
            if let Some(size) = grows_to.filter(|_| !is_running) {
                self.has_growing = true;
                if self.to_come != ToCome::Lined {
                    whole = self.grown(&whole, size);
                    free = whole.clone();
                }
            }
        }
        Some(Seen {
            status: node.status,
            group,
            free: self.intern(free),
            whole: self.intern(whole),
            running,
        })
    }

    /// Returns the class of a running node with nothing in use; neighbours in the list have the same as a rule.
    fn running_class(&mut self, node: &Node, group: Option<usize>) -> u32 {
        let names = (&node.total, &node.available, &node.labels);
        let outfit = self.outfits.intern(names, &self.asked, &self.shapes);
        let group = group.map_or(u32::MAX, narrow);
        let known = self.last_running.filter(|class| {
            let state = &self.states[index(*class)];
            (state.outfit, state.group) == (outfit, group)
        });
        let class = known.unwrap_or_else(|| {
            let mut whole = NodeState::empty(outfit, group, &self.outfits);
            whole.is_running = true;
            self.intern(whole)
        });
        self.last_running = Some(class);
        class
    }
}
