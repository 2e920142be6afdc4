//! What is kept while one reply is read.

use std::collections::BTreeSet;

use crate::model::{Problem, ResourceName};

/// Problems of one reply that are kept; a broken reply must not fill the memory.
const PROBLEMS_MAX: usize = 20;

/// Ray's own resources of single nodes begin like this; no two nodes share such a name.
const OF_ONE_NODE: &str = "node:";

/// Holds what made no sense, and the names that many nodes and requests share.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) problems: Vec<Problem>,
    names: BTreeSet<ResourceName>,
    /// The last name that belongs to one node: it stands among the totals and among what is available.
    own: Option<ResourceName>,
}

impl Reading {
    pub(super) fn add(&mut self, code: &str, detail: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem {
                code: code.to_owned(),
                detail,
            });
        }
    }

    /// Returns a name, the one that is known if there is one.
    pub(super) fn name(&mut self, text: &str) -> ResourceName {
        if text.starts_with(OF_ONE_NODE) {
            let known = self.own.take().filter(|own| own.as_str() == text);
            let own = known.unwrap_or_else(|| ResourceName::from(text));
            self.own = Some(own.clone());
            return own;
        }
        if let Some(known) = self.names.get(text) {
            return known.clone();
        }
        let name = ResourceName::from(text);
        self.names.insert(name.clone());
        name
    }
}
