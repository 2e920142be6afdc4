//! The nodes of one ledger by class, in the order in which ties are resolved.
//!
//! # Cost
//!
//! A class is simulated once for what is asked; after that the best class is looked up in a sorted
//! set, and taking a node from it is a step in its own list. A short list of requests (a placement
//! group) keeps its sorted set for the next list that asks for the same; a long one keeps its set
//! up to date while the requests become fewer: a class is simulated again only when fewer requests
//! of a shape are left than it would take.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::aside::Sides;
use super::budget::Budget;
use super::floors::Floors;
use super::queue::{Queue, QueueKey};
use super::race::Race;
use super::score::Ranked;
use super::shape::{ShapeId, Shapes, index};
use super::state::{NodeState, Scratch, Terrain, Trial};
use super::view::{Standing, View};

/// Above this many equal steps they are taken in strides, so that counts in the billions end.
pub(super) const STRIDES: u64 = 4_096;

/// Entries of all views together; each takes 32 bytes.
const KEPT_MAX: usize = 600_000;

/// Holds `nodes` nodes of one slot that take the same.
#[derive(Debug, Clone)]
pub(super) struct Pick {
    pub(super) class: u32,
    pub(super) slot: usize,
    pub(super) nodes: u64,
    pub(super) fill: Arc<[(usize, u64)]>,
    /// Its class afterwards, where that is known.
    pub(super) after: Option<u32>,
}

/// Nodes of one slot at their place in the list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) key: i64,
    pub(super) slot: usize,
    pub(super) count: u64,
}

/// The nodes of one class, the earliest first.
#[derive(Debug, Default)]
struct Line {
    entries: VecDeque<Entry>,
    /// Entries that the current call has taken, and nodes of the next one.
    taken: usize,
    part: u64,
}

impl Line {
    fn front(&self) -> Option<Entry> {
        let entry = self.entries.get(self.taken)?;
        let count = entry.count - self.part;
        Some(Entry { count, ..*entry })
    }

    /// Returns where the first node is that this call has not taken.
    fn standing(&self) -> Standing {
        match self.entries.get(self.taken) {
            Some(entry) => Standing::At(entry.key),
            None if self.entries.is_empty() => Standing::Gone,
            None => Standing::Taken,
        }
    }

    fn take(&mut self, nodes: u64) {
        self.part += nodes;
        if self
            .entries
            .get(self.taken)
            .is_some_and(|entry| entry.count <= self.part)
        {
            (self.taken, self.part) = (self.taken + 1, 0);
        }
    }
}

/// Holds the nodes of one ledger.
#[derive(Debug, Default)]
pub(super) struct Lineup {
    lines: Vec<Line>,
    /// Classes that got nodes when they had none.
    log: Vec<u32>,
    views: BTreeMap<QueueKey, View>,
    kept: usize,
    touched: Vec<u32>,
    /// What new nodes offer for short lists, by kind of host.
    ///
    /// What they take is told by position in the queue, so that the positions are part of the key.
    offers: BTreeMap<(QueueKey, Vec<usize>), Offers>,
    /// Which classes the last call has set aside, and those that got nodes since.
    sides: Sides,
    changed: Vec<u32>,
}

/// One entry of the list of a class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) key: i64,
    pub(super) slot: usize,
    class: u32,
    at: usize,
}

/// What each kind of new host would take.
type Offers = Arc<[Option<Arc<Trial>>]>;

impl Lineup {
    /// Adds nodes behind all others of their class.
    pub(super) fn push_back(&mut self, class: u32, entry: Entry) {
        self.line(class).entries.push_back(entry);
    }

    /// Adds nodes before all others of their class.
    pub(super) fn push_front(&mut self, class: u32, entry: Entry) {
        self.line(class).entries.push_front(entry);
    }

    /// Takes the first nodes of a class away for good, which a call had taken.
    pub(super) fn pop(&mut self, class: u32, nodes: u64) {
        let entries = &mut self.lines[index(class)].entries;
        match entries.front_mut() {
            Some(entry) if entry.count > nodes => entry.count -= nodes,
            _ => {
                entries.pop_front();
            }
        }
    }

    /// Returns the entries, the earliest first, that stand behind `border` though their class is not
    /// to be set aside for `shapes`, and those before it whose class is.
    pub(super) fn misplaced(
        &mut self,
        shapes: &[ShapeId],
        border: i64,
        is_aside: impl Fn(u32) -> bool,
    ) -> Vec<Place> {
        let mut classes = std::mem::take(&mut self.changed);
        self.sides
            .turn_to((shapes, self.lines.len()), is_aside, &mut classes);
        classes.sort_unstable();
        classes.dedup();
        let mut misplaced = Vec::new();
        for class in classes {
            let entries = &self.lines[index(class)].entries;
            if entries.is_empty() {
                continue;
            }
            let is_before = entries.partition_point(|entry| entry.key < border);
            let wrong = if self.sides.is_aside(class) {
                0..is_before
            } else {
                is_before..entries.len()
            };
            misplaced.extend(wrong.map(|at| Place {
                key: entries[at].key,
                slot: entries[at].slot,
                class,
                at,
            }));
        }
        misplaced.sort_unstable_by_key(|place| place.key);
        misplaced
    }

    /// Gives an entry another key, that keeps it between its neighbours.
    pub(super) fn set_key(&mut self, place: &Place, key: i64) {
        self.lines[index(place.class)].entries[place.at].key = key;
    }

    fn line(&mut self, class: u32) -> &mut Line {
        self.changed.push(class);
        let at = index(class);
        if at >= self.lines.len() {
            self.lines.resize_with(at + 1, Line::default);
        }
        if self.lines[at].entries.is_empty() {
            self.log.push(class);
        }
        &mut self.lines[at]
    }

    /// Places what fits, each node visited at most once; the nodes stay where they are.
    pub(super) fn fill(
        &mut self,
        (queue, is_long): (&mut Queue, bool),
        terrain: Terrain<'_>,
        (budget, scratch): (&mut Budget, &mut Scratch),
    ) -> Vec<Pick> {
        if queue.is_empty() || self.lines.is_empty() {
            return Vec::new();
        }
        let picks = if is_long {
            self.fill_long(queue, terrain, (budget, scratch))
        } else {
            self.fill_short(queue, terrain, (budget, scratch))
        };
        for class in self.touched.drain(..) {
            let line = &mut self.lines[index(class)];
            (line.taken, line.part) = (0, 0);
        }
        picks
    }

    /// Returns what new nodes offer for a queue; `make` works it out where it is not known.
    pub(super) fn offers_of_new(
        &mut self,
        (queue, shapes): (&Queue, &Shapes),
        make: impl FnOnce() -> Offers,
    ) -> Offers {
        if queue.is_long() {
            return make();
        }
        if self.kept > KEPT_MAX {
            (self.kept, self.views) = (0, BTreeMap::new());
            self.offers.clear();
        }
        let kept = &mut self.kept;
        let offers = self
            .offers
            .entry((queue.key(shapes), queue.positions()))
            .or_insert_with(|| {
                let offers = make();
                *kept += offers.len();
                offers
            });
        Arc::clone(offers)
    }

    fn take(&mut self, class: u32, nodes: u64) {
        self.touched.push(class);
        self.lines[index(class)].take(nodes);
    }

    fn fill_short(
        &mut self,
        queue: &mut Queue,
        terrain: Terrain<'_>,
        (budget, scratch): (&mut Budget, &mut Scratch),
    ) -> Vec<Pick> {
        let mut new: Vec<Ranked> = Vec::new();
        let mut picks = Vec::new();
        while !queue.is_empty() && budget.step(1) {
            if self.kept > KEPT_MAX {
                (self.kept, self.views) = (0, BTreeMap::new());
            }
            let key = queue.key(terrain.shapes);
            let view = self.views.entry(key).or_default();
            while let Some(class) = self.log.get(view.read).copied() {
                view.read += 1;
                let at = index(class);
                if self.lines[at].entries.is_empty() || !view.get_to_know(class) {
                    continue;
                }
                budget.spend(1);
                let rank = terrain.state(class).rate((queue, false), terrain, scratch);
                new.extend(rank.map(|rank| rank.of(class)));
            }
            self.kept += new.len();
            view.add(&mut new);
            let Some(class) = view.best(|it| self.lines[index(it.class)].standing()) else {
                break;
            };
            let trial = terrain.state(class).offer((queue, false), terrain, scratch);
            let (Some(trial), Some(front)) = (trial, self.lines[index(class)].front()) else {
                break;
            };
            queue.take(&trial.fill, 1);
            self.take(class, 1);
            picks.push(Pick {
                class,
                slot: front.slot,
                nodes: 1,
                fill: trial.fill,
                after: None,
            });
        }
        picks
    }

    fn fill_long(
        &mut self,
        queue: &mut Queue,
        terrain: Terrain<'_>,
        (budget, scratch): (&mut Budget, &mut Scratch),
    ) -> Vec<Pick> {
        let mut picks = Vec::new();
        scratch.floors = Some(Floors::of(queue, terrain.outfits));
        let mut race = Race::new(queue.len(), self.lines.len());
        let mut new = Vec::new();
        for class in 0..u32::try_from(self.lines.len()).unwrap_or(u32::MAX) {
            if self.lines[index(class)].entries.is_empty() {
                continue;
            }
            budget.spend(1);
            if let Some(trial) = terrain.state(class).offer((queue, false), terrain, scratch) {
                new.push(trial.rank.of(class));
                race.want(class, trial);
            }
        }
        race.view.add(&mut new);
        while !queue.is_empty() && budget.step(1) {
            let Some(class) = race.best(|class| self.lines[index(class)].standing()) else {
                break;
            };
            let (Some(trial), Some(front)) =
                (&race.trials[index(class)], self.lines[index(class)].front())
            else {
                break;
            };
            let fill = trial.fill.clone();
            let possible = front.count.min(queue.rounds(&fill, |_| 0));
            let exact = if possible > 1 {
                queue.rounds(&fill, |at| race.most(at))
            } else {
                1
            };
            let nodes = exact
                .min(possible)
                .max(possible / STRIDES)
                .clamp(1, possible.max(1));
            queue.take(&fill, nodes);
            self.take(class, nodes);
            if self.lines[index(class)].front().is_none() {
                race.leave(class);
            }
            for (at, _) in fill.iter() {
                while let Some(class) = race.overtaken(*at, queue.remaining(*at)) {
                    budget.spend(1);
                    race.enter(
                        class,
                        terrain.state(class).offer((queue, false), terrain, scratch),
                    );
                }
            }
            race.settle();
            picks.push(Pick {
                class,
                slot: front.slot,
                nodes,
                fill,
                after: None,
            });
        }
        scratch.floors = None;
        picks
    }
}

impl<'a> Terrain<'a> {
    pub(super) fn state(&self, class: u32) -> &'a NodeState {
        &self.states[index(class)]
    }
}
