//! A watch: what is there, if that is asked for, then every change, in order, as lines of JSON.

use super::Shared;
use super::body::KubeBody;
use super::read::ListOptions;
use super::refusal::Refusal;
use super::shape::Shape;
use super::store::{Change, Object, Scope, Stored};
use crate::embedded::news;
use bytes::Bytes;
use futures_util::stream::StreamExt;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Sleep;

/// A watch that names no time ends after this one; the API server takes 30 to 60 minutes.
const TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// So long before its end a watch gets a last bookmark, to go on from.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// What a watch is about.
pub(super) struct Subject {
    pub(super) scope: Scope,
    pub(super) options: ListOptions,
    pub(super) shape: Shape,
}

struct Watch {
    shared: Arc<Shared>,
    subject: Subject,
    /// Where it started, or what the last bookmark said.
    marked: u64,
    /// Changes up to here have been told.
    cursor: u64,
    changed: news::Receiver<u64>,
    lines: VecDeque<Bytes>,
    bookmark: Option<Pin<Box<Sleep>>>,
    deadline: Pin<Box<Sleep>>,
    is_over: bool,
}

/// Opens a watch that has told changes up to `cursor`; `first` are lines that come before any change.
pub(super) fn open(
    shared: &Arc<Shared>,
    subject: Subject,
    (cursor, first): (u64, Vec<String>),
    changed: news::Receiver<u64>,
) -> KubeBody {
    let every = shared.settings.bookmark_every;
    let options = &subject.options;
    let timeout = options.timeout.unwrap_or(TIMEOUT);
    let bookmark = options.allows_bookmarks.then(|| {
        Box::pin(tokio::time::sleep(
            every.min(timeout.saturating_sub(LAST_BOOKMARK)),
        ))
    });
    let watch = Watch {
        shared: Arc::clone(shared),
        marked: cursor,
        cursor,
        changed,
        lines: first.into_iter().map(line).collect(),
        bookmark,
        deadline: Box::pin(tokio::time::sleep(timeout)),
        is_over: false,
        subject,
    };
    let lines = futures_util::stream::unfold(watch, |mut watch| async {
        let line = watch.next().await?;
        Some((line, watch))
    });
    KubeBody::lines(lines.boxed())
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.is_over {
                return None;
            }
            self.changed.mark_unchanged();
            self.collect();
            if !self.lines.is_empty() {
                continue;
            }
            let bookmark = async {
                match &mut self.bookmark {
                    Some(timer) => timer.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = self.changed.changed() => self.is_over = changed.is_err(),
                () = &mut self.deadline => self.is_over = true,
                () = bookmark => self.on_bookmark(),
            }
        }
    }

    /// Turns the changes since the last time into lines.
    fn collect(&mut self) {
        let state = self.shared.state.lock();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let changes = state.store.changes_after(&self.subject.scope, self.cursor);
        let version = state.store.version();
        drop(state);
        match changes {
            Ok(changes) => {
                let events = changes
                    .iter()
                    .filter_map(|change| self.subject.event(change));
                self.lines.extend(events.map(line));
                // A watch may start at a version that is yet to come.
                self.cursor = self.cursor.max(version);
            }
            Err(gone) => {
                self.lines.push_back(line(error(&gone)));
                self.is_over = true;
            }
        }
    }

    fn on_bookmark(&mut self) {
        if self.cursor > self.marked {
            self.marked = self.cursor;
            let bookmark = self.subject.bookmark(self.cursor, json!({}));
            self.lines.push_back(line(bookmark));
        }
        let every = self.shared.settings.bookmark_every;
        self.bookmark = Some(Box::pin(tokio::time::sleep(every)));
    }
}

impl Subject {
    /// Returns the event that a change is for somebody who sees what the selector admits.
    fn event(&self, change: &Change) -> Option<String> {
        let admits = |object: &Option<Object>| {
            let admits = |object: &Object| self.options.selector.admits(object);
            object.as_ref().is_some_and(admits)
        };
        match (admits(&change.old), &change.new) {
            (false, Some(new)) if admits(&change.new) => Some(self.shown("ADDED", new)),
            (true, Some(new)) if admits(&change.new) => Some(self.shown("MODIFIED", new)),
            (true, None) => Some(self.shown("DELETED", &change.last)),
            // It has changed so that the selector admits it no longer: shown as it was.
            (true, Some(_)) => {
                let mut last = change
                    .old
                    .as_deref()
                    .map_or(Value::Null, |old| (**old).clone());
                last["metadata"]["resourceVersion"] = json!(change.version.to_string());
                Some(self.shown("DELETED", &Stored::new(last)))
            }
            (false, _) => None,
        }
    }

    /// Returns an event of this type about an object, as JSON.
    pub(super) fn shown(&self, event: &str, object: &Object) -> String {
        let object = self.shape.text(object);
        format!("{{\"object\":{object},\"type\":\"{event}\"}}")
    }

    /// Returns the event that tells how far a watch has come.
    pub(super) fn bookmark(&self, version: u64, annotations: Value) -> String {
        let mut metadata =
            json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if annotations.as_object().is_some_and(|all| !all.is_empty()) {
            metadata["annotations"] = annotations;
        }
        json!({"type": "BOOKMARK", "object": self.shape.bookmark(metadata)}).to_string()
    }
}

/// Returns the event that ends a watch.
fn error(refusal: &Refusal) -> String {
    json!({"type": "ERROR", "object": refusal.to_value()}).to_string()
}

fn line(mut event: String) -> Bytes {
    event.push('\n');
    Bytes::from(event)
}
