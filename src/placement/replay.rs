//! What the round before has placed on running nodes.
//!
//! A decision is made again with its launches in the pool until nothing changes. Where nodes that run
//! come before nodes that start, requests go to the same running nodes again, whatever has been launched:
//! those nodes are what they were, and so are the requests, as long as the same lists of requests are
//! placed and taken over in the same order. From the first difference on all is worked out anew.
//!
//! Nodes that have left meanwhile change nothing unless they were used: the best of some nodes stays the
//! best when others go.
//!
//! Cost: O(1) per node taken, without looking at any other node.

use std::sync::Arc;

use super::lineup::Pick;
use super::pool::{Ledger, Origin, Pool, Slot};
use super::score::Choice;
use super::shape::{ShapeId, index};

/// Holds one running node that was used.
#[derive(Debug, Clone)]
struct Used {
    /// Its position in the snapshot.
    node: usize,
    class: u32,
    /// Its class afterwards, once that has been worked out.
    after: Option<u32>,
    fill: Arc<[(usize, u64)]>,
}

/// Holds one list of requests that was placed.
#[derive(Debug, Clone)]
struct Call {
    ledger: Ledger,
    asks: Vec<(ShapeId, u64)>,
    used: Vec<Used>,
    is_taken_over: bool,
}

/// Holds the calls of a round.
#[derive(Debug, Default)]
pub(super) struct Calls {
    all: Vec<Call>,
    /// Which nodes of the snapshot ran.
    running: Vec<bool>,
    choice: Choice,
}

/// Holds the calls of this round, and those of the one before as long as they are the same.
#[derive(Debug, Default)]
pub(super) struct Replay {
    own: Calls,
    before: Option<Calls>,
    is_recording: bool,
    /// How many calls were taken over, in this round and among the same calls of the one before.
    taken_over: (usize, usize),
}

impl Replay {
    /// Starts a round after another one.
    pub(super) fn after(before: Option<Calls>) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// Returns the calls, for the next round.
    pub(super) fn into_calls(self) -> Option<Calls> {
        self.is_recording.then_some(self.own)
    }

    /// Gives up what is known, for the order of the nodes has changed or how they are chosen.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Takes note that a node may not run any more.
    pub(super) fn leave(&mut self, node: usize) {
        if let Some(runs) = self.own.running.get_mut(node) {
            *runs = false;
        }
    }

    /// Takes note that a placement is taken over; `after` has the classes of its nodes afterwards.
    pub(super) fn take_over(&mut self, number: usize, after: impl Iterator<Item = u32>) {
        let Some(call) = self.own.all.get_mut(number).filter(|_| self.is_recording) else {
            return;
        };
        if !std::mem::replace(&mut call.is_taken_over, true) {
            self.taken_over.0 += 1;
        }
        let was = |before: &Calls| before.all.get(number).is_some_and(|it| it.is_taken_over);
        if !self.before.as_ref().is_some_and(was) {
            self.before = None;
        }
        for (used, class) in call.used.iter_mut().zip(after) {
            used.after = Some(class);
        }
    }

    /// Returns the same call of the round before, if all has been the same so far.
    fn same(&self, ledger: Ledger, asks: &[(ShapeId, u64)]) -> Option<&Call> {
        let at = self.own.all.len();
        let call = self.before.as_ref()?.all.get(at)?;
        let is_alike = self.taken_over.0 == self.taken_over.1;
        (is_alike && call.ledger == ledger && call.asks == asks).then_some(call)
    }
}

impl Pool {
    /// Returns whether nodes that run are lined up apart from those that start.
    pub(super) fn is_split(&self) -> bool {
        self.is_running_first() && self.corrections.order && !self.has_resizing
    }

    /// Starts to record, once it is known how nodes are chosen.
    pub(super) fn start_replay(&mut self) {
        if !self.replay.own.all.is_empty() || !self.is_split() {
            self.replay.forget();
            return;
        }
        let runs = |slot: &Slot| slot.count > 0 && self.states[index(slot.free)].is_running;
        let mut running = vec![false; self.seen.len()];
        for slot in self.slots.iter().filter(|slot| runs(slot)) {
            if let Origin::Node(at) = slot.origin {
                running[at] = true;
            }
        }
        let is_like = |before: &Calls| {
            let mut nodes = running.iter().zip(&before.running);
            nodes.all(|(is, was)| !is || *was) && before.choice.ranks_like(self.choice())
        };
        if !self.replay.before.as_ref().is_some_and(is_like) {
            self.replay.before = None;
        }
        self.replay.own = Calls {
            all: Vec::new(),
            running,
            choice: self.choice().clone(),
        };
        self.replay.is_recording = true;
    }

    /// Returns what the round before has placed on running nodes for the same requests.
    pub(super) fn follow(&mut self, ledger: Ledger, asks: &[(ShapeId, u64)]) -> Option<Vec<Pick>> {
        let same = self.replay.same(ledger, asks);
        let picks = same.and_then(|call| self.picks_of(call));
        if picks.is_none() {
            self.replay.before = None;
        }
        picks
    }

    fn picks_of(&self, call: &Call) -> Option<Vec<Pick>> {
        let pick = |used: &Used| {
            let slot = self.slot_of(used.node)?;
            let is_same =
                self.slots[slot].count == 1 && self.slots[slot].class(call.ledger) == used.class;
            is_same.then(|| Pick {
                class: used.class,
                slot,
                nodes: 1,
                fill: Arc::clone(&used.fill),
                after: used.after,
            })
        };
        call.used.iter().map(pick).collect()
    }

    /// Records a call with what it has placed on running nodes; returns its number.
    pub(super) fn record(
        &mut self,
        ledger: Ledger,
        asks: &[(ShapeId, u64)],
        picks: &[Pick],
    ) -> usize {
        let number = self.replay.own.all.len();
        if !self.replay.is_recording {
            return number;
        }
        let used = |pick: &Pick| match self.slots[pick.slot].origin {
            Origin::Node(node) => Some(Used {
                node,
                class: pick.class,
                after: pick.after,
                fill: Arc::clone(&pick.fill),
            }),
            Origin::ToCome | Origin::Launch => None,
        };
        let used = picks.iter().filter_map(used).collect();
        let before = self.replay.before.as_ref();
        let same = before.and_then(|before| before.all.get(number));
        self.replay.taken_over.1 += usize::from(same.is_some_and(|it| it.is_taken_over));
        self.replay.own.all.push(Call {
            ledger,
            asks: asks.to_vec(),
            used,
            is_taken_over: false,
        });
        number
    }
}
