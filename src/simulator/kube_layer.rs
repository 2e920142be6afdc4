//! The layer around the API server's service: it lets calls fail, and shows the sidecar's writes to a witness.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use kube::client::Body;
use serde_json::{Value, json};
use tower_service::Service;

use super::faults::{Board, FaultKind};
use super::kube_body::{BoxError, FaultyBody, Lossy, collect};
use super::witness::{Witness, Write};
use crate::embedded::kube::{KubeBody, KubeService};

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    Sidecar,
    Operator,
    Kubelet,
}

/// The API server as one caller meets it.
#[derive(Clone)]
pub(super) struct FaultyKube {
    pub(super) caller: Caller,
    /// Which head the sidecar is in; 0 for others.
    pub(super) head: u64,
    pub(super) service: KubeService,
    /// The token of whoever calls, as its file has it now; without one the service has it.
    pub(super) token: Option<Arc<Mutex<String>>>,
    pub(super) board: Arc<Board>,
    pub(super) witness: Arc<Witness>,
    /// What reads showed when they began to be stale, by path.
    pub(super) stale: Arc<Mutex<BTreeMap<String, Bytes>>>,
    /// Paths of which watches have lost events, and were not told so yet.
    pub(super) lossy: Lossy,
}

/// Refusals: kind, code, reason, `Retry-After`, and whether reads and writes meet it.
const REFUSALS: &[(FaultKind, u16, &str, bool, bool)] = &[
    (FaultKind::Api401, 401, "Unauthorized", true, true),
    (FaultKind::Api403, 403, "Forbidden", true, true),
    (FaultKind::Api404, 404, "NotFound", true, true),
    (FaultKind::Api409, 409, "Conflict", false, true),
    (FaultKind::Api410, 410, "Expired", true, false),
    (FaultKind::Api422, 422, "Invalid", false, true),
    (FaultKind::Api429, 429, "TooManyRequests", true, true),
    (FaultKind::Api500, 500, "InternalError", true, true),
    (FaultKind::Api503, 503, "ServiceUnavailable", true, true),
];

/// What becomes of one call.
enum Fate {
    /// It is carried out.
    Well,
    /// It is refused.
    Refused(u16, &'static str),
    /// It breaks before it arrives.
    Breaks,
    /// It gets no answer, though it may have been carried out.
    NoAnswer { is_done: bool },
    /// It is carried out, and the answer lost.
    AnswerLost,
    /// It is carried out, and half of the answer arrives.
    HalfAnswer,
    /// It shows how things were.
    Stale,
}

impl FaultyKube {
    fn fate(&self, is_write: bool, is_watch: bool, path: &str) -> Fate {
        let board = &self.board;
        match self.caller {
            Caller::Operator if board.hits(FaultKind::OperatorDown, 100) => return Fate::Breaks,
            Caller::Kubelet
                if path.ends_with("/binding") && board.hits(FaultKind::PodPending, 100) =>
            {
                return Fate::Breaks;
            }
            Caller::Sidecar => {}
            _ => return Fate::Well,
        }
        for (kind, code, reason, on_read, on_write) in REFUSALS {
            let is_met = if is_write { *on_write } else { *on_read };
            if is_met && board.hits(*kind, 60) {
                return Fate::Refused(*code, reason);
            }
        }
        let is_done = is_write && board.roll(path, 0, 1) == 1;
        if board.hits(FaultKind::ApiHang, 50) {
            return Fate::NoAnswer { is_done };
        }
        if board.hits(FaultKind::ApiReset, 60) {
            return if is_done {
                Fate::AnswerLost
            } else {
                Fate::Breaks
            };
        }
        if !is_watch && board.hits(FaultKind::ApiPartial, 60) {
            return Fate::HalfAnswer;
        }
        if !is_watch && !is_write && board.hits(FaultKind::ApiStale, 100) {
            return Fate::Stale;
        }
        Fate::Well
    }

    /// Answers a call, and notes it.
    async fn answer(self, request: Request<Body>) -> Result<Response<FaultyBody>, BoxError> {
        let (caller, head, witness) = (self.caller, self.head, Arc::clone(&self.witness));
        let called = format!("{caller:?} {} {}", request.method(), request.uri());
        let answer = self.answer_late(request, &called).await;
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        let head = if head > 1 {
            format!(" of head {head}")
        } else {
            String::new()
        };
        witness.on_call(&format!("{called}{head}"), status);
        answer
    }

    async fn answer_late(
        mut self,
        request: Request<Body>,
        called: &str,
    ) -> Result<Response<FaultyBody>, BoxError> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default();
        let is_watch = query.split('&').any(|pair| pair == "watch=true");
        let is_write = request.method() != Method::GET;
        if self.caller == Caller::Sidecar {
            let is_slow = self.board.hits(FaultKind::ApiSlow, 100);
            let (low, high) = if is_slow { (1_000, 1_500) } else { (2, 30) };
            let late = Duration::from_millis(self.board.roll(called, low, high));
            tokio::time::sleep(late).await;
        }
        if !self.board.is_on(FaultKind::ApiStale) {
            self.stale().clear();
        }
        match self.fate(is_write, is_watch, &path) {
            Fate::Refused(code, reason) => {
                let pause = self.board.roll(called, 1, 3);
                Ok(refused(code, reason, pause))
            }
            Fate::Breaks => Err("connection reset by peer".into()),
            Fate::NoAnswer { is_done } => {
                if is_done {
                    self.carry_out(request).await?;
                }
                std::future::pending().await
            }
            Fate::AnswerLost => {
                self.carry_out(request).await?;
                Err("connection reset by peer".into())
            }
            Fate::HalfAnswer => {
                let (parts, body) = self.carry_out(request).await?.into_parts();
                let body = FaultyBody::half(collect(body).await);
                Ok(Response::from_parts(parts, body))
            }
            Fate::Stale => self.stale_answer(request, path).await,
            Fate::Well => {
                let (parts, body) = self.carry_out(request).await?.into_parts();
                let body = if is_watch && self.caller == Caller::Sidecar {
                    FaultyBody::watch(body, (path, self.lossy), self.board)
                } else if is_watch {
                    FaultyBody::plain(body)
                } else {
                    FaultyBody::whole(collect(body).await)
                };
                Ok(Response::from_parts(parts, body))
            }
        }
    }

    async fn stale_answer(
        &mut self,
        request: Request<Body>,
        path: String,
    ) -> Result<Response<FaultyBody>, BoxError> {
        let (parts, body) = self.carry_out(request).await?.into_parts();
        let now = collect(body).await;
        let shown = self.stale().entry(path).or_insert(now).clone();
        Ok(Response::from_parts(parts, FaultyBody::whole(shown)))
    }

    /// Has the API server carry it out, before the witness where the sidecar writes.
    async fn carry_out(&mut self, request: Request<Body>) -> Result<Response<KubeBody>, BoxError> {
        let is_shown = self.caller == Caller::Sidecar && request.method() == Method::PATCH;
        if !is_shown || !request.uri().path().contains("/rayclusters/") {
            return self.service.call(request).await;
        }
        let (parts, body) = request.into_parts();
        let patch = body.collect_bytes().await?;
        let path = parts.uri.path().to_owned();
        let before = self.read(&path).await?;
        let request = Request::from_parts(parts, Body::from(patch.clone()));
        let answer = self.service.call(request).await?;
        let after = self.read(&path).await?;
        self.witness.on_write(&Write {
            head: self.head,
            patch: &serde_json::from_slice(&patch)?,
            status: answer.status().as_u16(),
            before: &before,
            after: &after,
        });
        Ok(answer)
    }

    async fn read(&mut self, path: &str) -> Result<Value, BoxError> {
        let request = Request::get(path).body(Body::empty())?;
        let answer = self.service.call(request).await?;
        Ok(serde_json::from_slice(&collect(answer.into_body()).await)?)
    }

    fn stale(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(code: u16, reason: &str, pause: u64) -> Response<FaultyBody> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "made to fail", "reason": reason, "code": code});
    let mut answer = Response::new(FaultyBody::whole(Bytes::from(status.to_string())));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if code == 429 {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(pause));
    }
    answer
}

impl Service<Request<Body>> for FaultyKube {
    type Response = Response<FaultyBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<FaultyBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut kube = self.clone();
        if let Some(token) = &self.token {
            let token = token.lock().unwrap_or_else(PoisonError::into_inner);
            kube.service = kube.service.with_token(&token);
        }
        Box::pin(kube.answer(request))
    }
}
