//! Bodies of answers on which something went wrong on their way.

use std::collections::{BTreeSet, VecDeque};
use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http_body::{Body, Frame};

use super::faults::{Board, FaultKind};
use crate::embedded::kube::KubeBody;
use crate::embedded::news;

/// What went wrong with a connection.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// The body of an answer.
pub(super) struct FaultyBody(BoxStream<'static, Result<Bytes, BoxError>>);

impl Body for FaultyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = self.0.poll_next_unpin(context);
        next.map(|bytes| bytes.map(|bytes| bytes.map(Frame::data)))
    }
}

impl FaultyBody {
    /// Returns a body that is whole.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(stream::iter([Ok(bytes)]).boxed())
    }

    /// Returns a body that breaks off in the middle.
    pub(super) fn half(mut bytes: Bytes) -> Self {
        bytes.truncate(bytes.len() / 2);
        let broken = BoxError::from("the connection broke in the middle");
        Self(stream::iter([Ok(bytes), Err(broken)]).boxed())
    }

    /// Returns a body as it came.
    pub(super) fn plain(body: KubeBody) -> Self {
        Self(frames(body).map(Ok).boxed())
    }

    /// Returns a watch as this board lets it through.
    pub(super) fn watch(body: KubeBody, of: (String, Lossy), board: Arc<Board>) -> Self {
        let lines = Lines {
            of,
            changes: board.changes(),
            closes_in: None,
            board,
            body: Box::pin(frames(body)),
            queue: VecDeque::new(),
            held: None,
            is_over: false,
        };
        let lines = stream::unfold(lines, |mut lines| async {
            let line = lines.next().await?;
            Some((Ok(line), lines))
        });
        Self(lines.boxed())
    }
}

/// Returns all of a body.
pub(super) async fn collect(body: KubeBody) -> Bytes {
    let mut frames = pin!(frames(body));
    let mut whole = Vec::new();
    while let Some(bytes) = frames.next().await {
        whole.extend_from_slice(&bytes);
    }
    Bytes::from(whole)
}

fn frames(body: KubeBody) -> impl stream::Stream<Item = Bytes> + Send {
    stream::unfold(body, |mut body| async {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let bytes = frame?.ok()?.into_data().ok()?;
        Some((bytes, body))
    })
}

/// Remembers which watches have lost events, whoever opens them next.
#[derive(Clone, Default)]
pub(super) struct Lossy(Arc<Mutex<BTreeSet<String>>>);

impl Lossy {
    fn note(&self, path: &str) {
        self.paths().insert(path.to_owned());
    }

    /// Returns whether events were lost, and forgets it.
    fn take(&self, path: &str) -> bool {
        self.paths().remove(path)
    }

    fn paths(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines of a watch, one event each.
struct Lines {
    board: Arc<Board>,
    changes: news::Receiver<()>,
    closes_in: Option<Duration>,
    body: Pin<Box<dyn stream::Stream<Item = Bytes> + Send>>,
    queue: VecDeque<Bytes>,
    held: Option<Bytes>,
    of: (String, Lossy),
    is_over: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let is_silent = self.board.is_on(FaultKind::WatchSilent);
            if !is_silent && let Some(line) = self.queue.pop_front() {
                return Some(line);
            }
            if self.is_over && (!is_silent || self.queue.is_empty()) {
                return None;
            }
            self.changes.mark_unchanged();
            self.meet();
            if !is_silent && !self.queue.is_empty() {
                continue;
            }
            // A body is read no further than its end.
            let is_over = self.is_over;
            let closing = self.closes_in.filter(|_| !is_over);
            let close = async {
                match closing {
                    Some(after) => tokio::time::sleep(after).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                line = self.body.next(), if !is_over => match line {
                    Some(line) => self.take(line),
                    None => {
                        self.queue.extend(self.held.take());
                        self.is_over = true;
                    }
                },
                _changed = self.changes.changed() => {}
                () = close => {
                    self.board.count(FaultKind::WatchClosed);
                    self.queue.extend(self.held.take());
                    self.is_over = true;
                }
            }
        }
    }

    /// Lets happen what does not wait for an event.
    fn meet(&mut self) {
        let board = &self.board;
        let closes = board.is_on(FaultKind::WatchClosed);
        if !closes {
            self.closes_in = None;
        } else if self.closes_in.is_none() {
            self.closes_in = Some(Duration::from_millis(board.roll("close", 0, 3_000)));
        }
        if !board.is_on(FaultKind::WatchReordered) {
            self.queue.extend(self.held.take());
        }
        let is_gone = board.hits(FaultKind::WatchGone, 100);
        // Whoever watches on after a loss is told as well: the server knows what it has lost.
        let (path, lossy) = &self.of;
        let is_caught = !board.is_on(FaultKind::WatchDropped) && lossy.take(path);
        if !self.is_over && (is_gone || is_caught) {
            self.queue.push_back(Bytes::from_static(GONE.as_bytes()));
            self.is_over = true;
        }
    }

    fn take(&mut self, line: Bytes) {
        let board = Arc::clone(&self.board);
        if board.is_on(FaultKind::WatchSilent) {
            board.count(FaultKind::WatchSilent);
        }
        if board.hits(FaultKind::WatchDropped, 50) {
            let (path, lossy) = &self.of;
            lossy.note(path);
            return;
        }
        if self.held.is_none() && board.hits(FaultKind::WatchReordered, 50) {
            self.held = Some(line);
            return;
        }
        if board.hits(FaultKind::WatchDoubled, 50) {
            self.queue.push_back(line.clone());
        }
        self.queue.push_back(line);
        self.queue.extend(self.held.take());
    }
}

const GONE: &str = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\
\"status\":\"Failure\",\"message\":\"too old resource version\",\"reason\":\"Expired\",\"code\":410}}\n";
