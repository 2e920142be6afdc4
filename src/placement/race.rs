//! The classes of one long list of requests, simulated again as the requests become fewer.
//!
//! Cost: a class is simulated again only when fewer requests of a shape are left than it would take;
//! many of them at a time, when a shape runs out, are put into order in linear time.

use std::collections::BTreeMap;

use super::score::Ranked;
use super::shape::index;
use super::state::Trial;
use super::view::{Standing, View};

/// A view is made anew when one in so many of its entries has another rank.
const REMADE_FROM: usize = 4;

/// Holds the classes of one call.
pub(super) struct Race {
    pub(super) view: View,
    pub(super) trials: Vec<Option<Trial>>,
    /// By position in the queue: how many each class would take.
    wanted: Vec<BTreeMap<u64, Vec<u32>>>,
    /// Classes that were simulated again and are not in the view yet.
    entered: Vec<Ranked>,
}

impl Race {
    pub(super) fn new(shapes: usize, classes: usize) -> Self {
        let mut trials = Vec::new();
        trials.resize_with(classes, || None);
        let mut wanted = Vec::new();
        wanted.resize_with(shapes, BTreeMap::new);
        Self {
            view: View::default(),
            trials,
            wanted,
            entered: Vec::new(),
        }
    }

    /// Returns the best class; entries with another rank than that of the trial are of earlier ones.
    pub(super) fn best(&mut self, standing: impl Fn(u32) -> Standing) -> Option<u32> {
        let trials = &self.trials;
        self.view.best(|entry| {
            let trial = trials[index(entry.class)].as_ref();
            match trial.filter(|trial| trial.rank == entry.rank()) {
                Some(_) => standing(entry.class),
                None => Standing::Gone,
            }
        })
    }

    /// Takes a class out, whose nodes are all taken or have to be simulated again.
    pub(super) fn leave(&mut self, class: u32) {
        self.trials[index(class)] = None;
    }

    pub(super) fn enter(&mut self, class: u32, trial: Option<Trial>) {
        self.leave(class);
        if let Some(trial) = trial {
            self.entered.push(trial.rank.of(class));
            self.want(class, trial);
        }
    }

    /// Adds the classes that were simulated again to the view, or makes it anew where they are many:
    /// entries with old ranks would be in the way.
    pub(super) fn settle(&mut self) {
        if self.entered.is_empty() {
            return;
        }
        if self.entered.len() * REMADE_FROM < self.view.len() {
            self.view.add(&mut self.entered);
            return;
        }
        self.entered.clear();
        let trials = (0..).zip(&self.trials);
        let entry = |(class, trial): (u32, &Option<Trial>)| Some(trial.as_ref()?.rank.of(class));
        self.view.replace(trials.filter_map(entry).collect());
    }

    /// Remembers what a class would take.
    pub(super) fn want(&mut self, class: u32, trial: Trial) {
        for (at, count) in trial.fill.iter() {
            let wanted = self.wanted[*at].entry(*count).or_default();
            wanted.push(class);
        }
        self.trials[index(class)] = Some(trial);
    }

    /// Returns a class that would take more of a shape than are left.
    pub(super) fn overtaken(&mut self, at: usize, remaining: u64) -> Option<u32> {
        let (count, class) = self.greediest(at)?;
        (count > remaining).then_some(class)
    }

    /// Returns the most that any class would take of a shape; while as many remain, no trial changes.
    pub(super) fn most(&mut self, at: usize) -> u64 {
        self.greediest(at).map_or(0, |(count, _)| count)
    }

    fn greediest(&mut self, at: usize) -> Option<(u64, u32)> {
        while let Some(mut most) = self.wanted[at].last_entry() {
            let count = *most.key();
            let takes = |trial: &Trial| trial.fill.contains(&(at, count));
            while let Some(class) = most.get().last().copied() {
                if self.trials[index(class)].as_ref().is_some_and(takes) {
                    return Some((count, class));
                }
                most.get_mut().pop();
            }
            most.remove();
        }
        None
    }
}
