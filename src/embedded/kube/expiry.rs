//! Events are kept for an hour, as by kube-apiserver (`--event-ttl`).

use super::State;
use super::store::{Key, Object};
use crate::model::Timestamp;
use std::collections::VecDeque;

/// How long an event is kept. Units: milliseconds.
const EVENT_MS: u64 = 3_600_000;

/// Holds which events were made, the oldest first: when, where, and the uid.
#[derive(Debug, Default)]
pub(super) struct Events(VecDeque<(Timestamp, Key, String)>);

impl State {
    /// Notes an object that was made; where it is an event, older ones go.
    ///
    /// They go no sooner, as nothing here has a clock of its own.
    pub(super) fn note_made(&mut self, key: &Key, made: &Object) {
        if key.plural != "events" {
            return;
        }
        let now = (self.now)();
        let uid = |object: &Object| object["metadata"]["uid"].as_str().map(str::to_owned);
        let noted = (now, key.clone(), uid(made).unwrap_or_default());
        self.events.0.push_back(noted);
        let is_old = |at: Timestamp| now.millis_since(at) >= EVENT_MS;
        while self.events.0.front().is_some_and(|(at, ..)| is_old(*at)) {
            let Some((_, key, made)) = self.events.0.pop_front() else {
                return;
            };
            let kept = self.store.get(&key).cloned();
            if let Some(kept) = kept.filter(|kept| uid(kept).as_ref() == Some(&made)) {
                self.store.remove(key, (**kept).clone());
            }
        }
    }
}
