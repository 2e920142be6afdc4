//! A Kubernetes API for unit tests: it answers requests in turn, and streams what it is given.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Now;
use crate::model::Timestamp;
use crate::wire::kube_client::KubeClient;

/// What becomes of one request.
pub(super) enum Answer {
    Json(u16, Value),
    Stream(UnboundedReceiver<Bytes>),
    /// The connection is refused.
    Refuse,
    /// Nothing ever comes back.
    Silence,
    /// An answer that takes its time.
    Late(Duration, Value),
}

/// Answers requests, by what is asked for.
type Answers = Box<dyn FnMut(&str) -> Answer + Send>;

/// Holds the answers to come and the requests that came.
#[derive(Clone, Default)]
pub(super) struct FakeApi {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    otherwise: Arc<Mutex<Option<Answers>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeApi {
    pub(super) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let api = Self::default();
        api.then(answers);
        api
    }

    /// Adds answers; without any left, nothing ever comes back.
    pub(super) fn then(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap().extend(answers);
    }

    /// Says what comes when no answers are left.
    pub(super) fn otherwise(&self, answers: impl FnMut(&str) -> Answer + Send + 'static) {
        *self.otherwise.lock().unwrap() = Some(Box::new(answers));
    }

    pub(super) fn client(&self) -> KubeClient {
        KubeClient::over(self.clone(), Arc::new(|_, _| {}), Duration::from_secs(10))
    }

    /// Returns the requests since the last call.
    pub(super) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Returns a watch and what feeds it.
pub(super) fn stream() -> (Answer, UnboundedSender<Bytes>) {
    let (sender, receiver) = unbounded_channel();
    (Answer::Stream(receiver), sender)
}

pub(super) fn feed(sender: &UnboundedSender<Bytes>, kind: &str, object: &Value) {
    let line = format!("{}\n", serde_json::json!({"type": kind, "object": object}));
    sender.send(Bytes::from(line)).unwrap();
}

/// Tells tokio's time, which tests pause.
#[expect(clippy::disallowed_methods, reason = "the clock of a test")]
pub(super) fn now() -> Now {
    let start = tokio::time::Instant::now();
    Arc::new(move || {
        let ms = start.elapsed().as_millis();
        Timestamp::from_ms(i64::try_from(ms).unwrap())
    })
}

pub(super) enum FakeBody {
    Once(Option<Bytes>),
    Stream(UnboundedReceiver<Bytes>),
}

impl http_body::Body for FakeBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match &mut *self {
            Self::Once(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(receiver) => receiver
                .poll_recv(cx)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }
}

impl tower_service::Service<Request<Body>> for FakeApi {
    type Response = Response<FakeBody>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let line = request.uri().to_string();
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.or_else(|| {
            let mut otherwise = self.otherwise.lock().unwrap();
            otherwise.as_mut().map(|answers| answers(&line))
        });
        self.requests.lock().unwrap().push(line);
        Box::pin(async move {
            let json = |status: u16, value: Value| {
                let bytes = Bytes::from(value.to_string());
                let body = FakeBody::Once(Some(bytes));
                Ok(Response::builder().status(status).body(body).unwrap())
            };
            match answer.unwrap_or(Answer::Silence) {
                Answer::Json(status, value) => json(status, value),
                Answer::Stream(receiver) => Ok(Response::new(FakeBody::Stream(receiver))),
                Answer::Refuse => Err(std::io::ErrorKind::ConnectionRefused.into()),
                Answer::Silence => std::future::pending().await,
                Answer::Late(delay, value) => {
                    tokio::time::sleep(delay).await;
                    json(200, value)
                }
            }
        })
    }
}
