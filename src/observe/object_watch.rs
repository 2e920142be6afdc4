//! Lists objects, then follows their changes, and knows at every moment whether it is in step.
//!
//! Nothing is spawned: the state, half-finished requests included, lives here, so that waiting for the
//! next event can be given up at any time and taken up again.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use kube::core::WatchEvent;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Sleep;

use super::raycluster_pace::{pause_after, pause_asked};
use crate::model::Timestamp;
use crate::wire::kube_client::{CallError, EventStream, Failure, KubeClient};

/// Tells the time; the clock itself is injected.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The server ends a watch after this time and we open the next. It bounds how long a connection that
/// died without a word (a load balancer that forgot it) goes unnoticed, for one request a minute.
const WATCH_SECS: u64 = 60;

/// What the server may be late.
const WATCH_GRACE_SECS: u64 = 10;

/// A watch that ends sooner is a failure, however politely it ended.
const WATCH_MIN_MS: u64 = 1_000;

/// A list of everything is asked for no more often where the view is merely doubted: it is the dearest read
/// that there is.
const DOUBT_MS: u64 = 60_000;

/// A page of pods with everything in them is about 1 MB of JSON.
const PAGE_LIMIT: u32 = 100;

/// An object that can be followed.
pub(super) trait Watched: DeserializeOwned + Clone + Send + 'static {
    /// Returns `metadata.resourceVersion`.
    fn version(&self) -> &str;
}

/// What the watch tells.
#[derive(Debug)]
pub(super) enum Told<T> {
    /// These objects are there, and no others; in step from here.
    Listed(Vec<T>),
    /// This object is new or has changed.
    Applied(T),
    /// This object is gone.
    Deleted(T),
    /// In step again, nothing was missed.
    InStep,
    /// Out of step; the verb that failed.
    Lost(&'static str, CallError),
}

/// Names what is followed.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// `/api/v1/namespaces/N/pods`.
    pub(super) path: String,
    /// `labelSelector=...` or `fieldSelector=...`.
    pub(super) selector: String,
}

/// Follows objects.
pub(super) struct ObjectWatch<T> {
    client: KubeClient,
    scope: Scope,
    now: Now,
    seed: u64,
    failures: u32,
    relists: u32,
    version: String,
    is_in_step: bool,
    known_at: Option<Timestamp>,
    listed_at: Option<Timestamp>,
    /// When the list under way was asked for.
    listing_from: Option<Timestamp>,
    /// When the last list that was answered had been asked for.
    listed_from: Option<Timestamp>,
    pause: Option<Pin<Box<Sleep>>>,
    link: Link<T>,
}

enum Link<T> {
    /// Nothing is known: list.
    Start,
    Listing(BoxFuture<'static, Result<(Vec<T>, String), CallError>>),
    /// All is known up to `version`: watch from there.
    Listed,
    Opening(BoxFuture<'static, Result<EventStream<T>, CallError>>),
    Following(Following<T>),
}

struct Following<T> {
    events: EventStream<T>,
    opened_at: Timestamp,
    deadline: Pin<Box<Sleep>>,
}

impl<T> Following<T> {
    /// Returns the next event; `None` when there will be no more.
    async fn next(&mut self) -> Option<Result<WatchEvent<T>, CallError>> {
        tokio::select! {
            biased;
            event = self.events.next() => event,
            () = &mut self.deadline => None,
        }
    }
}

impl<T: Watched> ObjectWatch<T> {
    pub(super) fn new(client: KubeClient, scope: Scope, (now, seed): (Now, u64)) -> Self {
        Self {
            client,
            scope,
            now,
            seed,
            failures: 0,
            relists: 0,
            version: String::new(),
            is_in_step: false,
            known_at: None,
            listed_at: None,
            listing_from: None,
            listed_from: None,
            pause: None,
            link: Link::Start,
        }
    }

    /// Returns the last moment at which nothing can have been missed: `now` while a watch is open.
    pub(super) fn known_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self.link {
            Link::Following(_) => Some(now),
            _ => self.known_at,
        }
    }

    /// Returns when the last list that was answered had been asked for: what it does not have was not there then.
    pub(super) const fn listed_from(&self) -> Option<Timestamp> {
        self.listed_from
    }

    /// Has everything listed anew, if the last list is old enough; returns whether it will be.
    ///
    /// For those who see that the world does not do what this view has it do: an event that was lost on its way
    /// shows by nothing else, and would be missing for ever.
    pub(super) fn doubt(&mut self) -> bool {
        let now = (self.now)();
        let is_fresh = |at: Timestamp| now.millis_since(at) < DOUBT_MS;
        !self.listed_at.is_none_or(is_fresh) && self.relist()
    }

    /// Has everything listed anew, however new the last list is, unless a list is under way; returns whether it
    /// will be.
    pub(super) fn relist(&mut self) -> bool {
        let now = (self.now)();
        if matches!(self.link, Link::Start | Link::Listing(_)) {
            return false;
        }
        self.settle();
        // Whatever comes of it, the next is a minute away.
        self.listed_at = Some(now);
        self.link = Link::Start;
        true
    }

    /// Has everything listed anew after a pause: something else has found that the view may be wrong.
    pub(super) fn list_after_failure(&mut self) {
        self.settle();
        self.is_in_step = false;
        self.pause_before_beginning();
        self.link = Link::Start;
    }

    /// Waits for the next thing to tell; may be given up at any time without losing one.
    pub(super) async fn next(&mut self) -> Told<T> {
        loop {
            if let Some(pause) = &mut self.pause {
                pause.await;
                self.pause = None;
            }
            let told = match &mut self.link {
                Link::Start => {
                    self.listing_from = Some((self.now)());
                    let list = list(self.client.clone(), self.scope.clone());
                    self.link = Link::Listing(Box::pin(list));
                    None
                }
                Link::Listing(list) => {
                    let listed = list.await;
                    Some(self.on_listed(listed))
                }
                Link::Listed => {
                    self.link = Link::Opening(self.open());
                    None
                }
                Link::Opening(opening) => {
                    let opened = opening.await;
                    self.on_opened(opened)
                }
                Link::Following(following) => match following.next().await {
                    Some(Ok(event)) => self.on_event(event),
                    // The connection broke.
                    Some(Err(CallError::Unreachable(_) | CallError::Timeout)) | None => {
                        self.on_end();
                        None
                    }
                    Some(Err(_)) => {
                        // Nobody can read what was told, and from where the watch was it would be told again and again.
                        // A list says what is there, or that it cannot be read.
                        self.settle();
                        self.list_anew();
                        None
                    }
                },
            };
            if let Some(told) = told {
                return told;
            }
        }
    }

    fn open(&self) -> BoxFuture<'static, Result<EventStream<T>, CallError>> {
        let client = self.client.clone();
        let path = format!(
            "{}?{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECS}&resourceVersion={}",
            self.scope.path, self.scope.selector, self.version
        );
        Box::pin(async move { client.watch::<T>(&path).await })
    }

    fn on_listed(&mut self, listed: Result<(Vec<T>, String), CallError>) -> Told<T> {
        match listed {
            Ok((objects, version)) => {
                self.version = version;
                self.is_in_step = true;
                self.known_at = Some((self.now)());
                self.listed_at = self.known_at;
                self.listed_from = self.listing_from;
                self.link = Link::Listed;
                Told::Listed(objects)
            }
            Err(error) => {
                self.link = Link::Start;
                self.lost("list", error)
            }
        }
    }

    fn on_opened(&mut self, opened: Result<EventStream<T>, CallError>) -> Option<Told<T>> {
        match opened {
            Ok(events) => {
                let deadline = Duration::from_secs(WATCH_SECS + WATCH_GRACE_SECS);
                self.link = Link::Following(Following {
                    events,
                    opened_at: (self.now)(),
                    deadline: Box::pin(tokio::time::sleep(deadline)),
                });
                let was_in_step = std::mem::replace(&mut self.is_in_step, true);
                (!was_in_step).then_some(Told::InStep)
            }
            Err(error) => self.on_refused(error),
        }
    }

    fn on_event(&mut self, event: WatchEvent<T>) -> Option<Told<T>> {
        match event {
            WatchEvent::Added(object)
            | WatchEvent::Modified(object)
            | WatchEvent::Deleted(object)
                if is_older(object.version(), &self.version) =>
            {
                // A watch tells in order. One that does not has perhaps told of the end before the beginning.
                self.settle();
                self.list_anew();
                None
            }
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                object.version().clone_into(&mut self.version);
                Some(Told::Applied(object))
            }
            WatchEvent::Deleted(object) => {
                object.version().clone_into(&mut self.version);
                Some(Told::Deleted(object))
            }
            WatchEvent::Bookmark(bookmark) => {
                self.version = bookmark.metadata.resource_version;
                None
            }
            WatchEvent::Error(status) => {
                self.on_refused(CallError::refused(status.code, &status.message))
            }
        }
    }

    /// The server ended the watch, or the connection broke: what is known still holds, so it is opened
    /// again before anything is called lost.
    fn on_end(&mut self) {
        if !self.settle() {
            self.pause_before_beginning();
        }
        self.link = Link::Listed;
    }

    fn on_refused(&mut self, error: CallError) -> Option<Told<T>> {
        self.settle();
        if error.failure() == Failure::Gone {
            // The server has forgotten the changes since `version`: no loss of connection.
            self.list_anew();
            return None;
        }
        self.link = Link::Listed;
        Some(self.lost("watch", error))
    }

    /// Begins again with a list; a server that makes us do so each time must not be listed in a tight loop.
    fn list_anew(&mut self) {
        if self.relists > 0 {
            self.pause_before_beginning();
        }
        self.relists = self.relists.saturating_add(1);
        self.link = Link::Start;
    }

    /// Notes until when we were in step, forgets failures once a watch has lasted, and returns
    /// whether it has.
    fn settle(&mut self) -> bool {
        let Link::Following(following) = &self.link else {
            return false;
        };
        let now = (self.now)();
        self.known_at = Some(now);
        let has_lasted = now.millis_since(following.opened_at) >= WATCH_MIN_MS;
        if has_lasted {
            self.failures = 0;
            self.relists = 0;
        }
        has_lasted
    }

    fn lost(&mut self, verb: &'static str, error: CallError) -> Told<T> {
        self.is_in_step = false;
        let asked_for = match &error {
            CallError::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        };
        self.failures = self.failures.saturating_add(1);
        let pause = pause_asked(self.failures, self.seed, asked_for);
        self.pause = Some(Box::pin(tokio::time::sleep(pause)));
        Told::Lost(verb, error)
    }

    /// Pauses where the server answered, and yet we have to begin again.
    fn pause_before_beginning(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let pause = pause_after(self.failures, self.seed);
        self.pause = Some(Box::pin(tokio::time::sleep(pause)));
    }
}

/// Returns whether a version is older than another; versions that are no numbers cannot be compared.
///
/// Source: KEP-5504: versions of one resource are numbers that grow.
fn is_older(version: &str, than: &str) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    match (number(version), number(than)) {
        (Some(version), Some(than)) => version < than,
        _ => false,
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    metadata: PageMetadata,
    items: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

async fn list<T: Watched>(client: KubeClient, scope: Scope) -> Result<(Vec<T>, String), CallError> {
    let mut objects = Vec::new();
    let first = format!("{}?{}&limit={PAGE_LIMIT}", scope.path, scope.selector);
    let mut path = first.clone();
    loop {
        let page: Page<T> = client.get(&path).await?;
        objects.extend(page.items);
        if page.metadata.r#continue.is_empty() {
            return Ok((objects, page.metadata.resource_version));
        }
        path = format!(
            "{first}&continue={}",
            query_value(&page.metadata.r#continue)
        );
    }
}

/// Writes a text so that it can stand in a query.
pub(super) fn query_value(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
