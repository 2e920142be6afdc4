//! The service below the client: it counts calls, gives up in time and keeps `Retry-After`.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, header};
use kube::client::Body;
use tower_service::Service;

/// Is told of every call: the API's verb and the HTTP status, 0 when there was no answer.
pub type CallObserver = Arc<dyn Fn(&'static str, u16) + Send + Sync>;

type BoxError = Box<dyn Error + Send + Sync>;
pub(super) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The server asks for a pause.
#[derive(Debug, thiserror::Error)]
#[error("the API server asks for a pause")]
pub(super) struct Throttled {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
}

/// The server did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer in time")]
pub(super) struct TimedOut;

/// Counts calls, gives up in time, and keeps `Retry-After`, which kube's errors do not carry.
pub(super) struct Metered<S> {
    inner: S,
    observer: CallObserver,
    timeout: Duration,
}

impl<S> Metered<S> {
    pub(super) fn new(inner: S, observer: CallObserver, timeout: Duration) -> Self {
        Self {
            inner,
            observer,
            timeout,
        }
    }
}

impl<S, B> Service<Request<Body>> for Metered<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let verb = verb_of(request.method(), request.uri());
        let observer = Arc::clone(&self.observer);
        let answer = tokio::time::timeout(self.timeout, self.inner.call(request));
        Box::pin(async move {
            let answer: Result<Response<B>, BoxError> = match answer.await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(TimedOut.into()),
            };
            observer(verb, answer.as_ref().map_or(0, |ok| ok.status().as_u16()));
            let response = answer?;
            let (status, retry_after) =
                (response.status().as_u16(), retry_after(response.headers()));
            if status == 429 || (status == 503 && retry_after.is_some()) {
                return Err(Throttled {
                    status,
                    retry_after,
                }
                .into());
            }
            Ok(response)
        })
    }
}

/// Returns `Retry-After` in its form of seconds; the API server sends no dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Returns the verb as RBAC and the API server's own metrics name it.
fn verb_of(method: &Method, uri: &http::Uri) -> &'static str {
    match method.as_str() {
        "GET" => {
            let query = uri.query().unwrap_or_default();
            if query.split('&').any(|pair| pair == "watch=true") {
                return "watch";
            }
            if is_collection(uri.path()) {
                "list"
            } else {
                "get"
            }
        }
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    }
}

/// `/api/v1/namespaces/N/pods` and `/apis/G/V/namespaces/N/R` end with a resource, not with a name.
fn is_collection(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let prefix = if parts.next() == Some("api") { 1 } else { 2 };
    let rest: Vec<&str> = parts.skip(prefix).collect();
    matches!(rest.as_slice(), ["namespaces", _, _] | [_])
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, pending, ready};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use http::{Method, Request, Response};
    use kube::client::Body;

    use super::super::{CallError, CallObserver, KubeClient};
    use super::verb_of;

    type Seen = Arc<Mutex<Vec<(&'static str, u16)>>>;

    fn observer() -> (CallObserver, Seen) {
        let seen = Seen::default();
        let copy = Arc::clone(&seen);
        let observer: CallObserver =
            Arc::new(move |verb, status| copy.lock().unwrap().push((verb, status)));
        (observer, seen)
    }

    /// Answers every request alike.
    #[derive(Clone)]
    struct Canned(u16, Option<&'static str>, &'static str);

    impl tower_service::Service<Request<Body>> for Canned {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Body>, Infallible>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let mut response = Response::builder().status(self.0);
            if let Some(pause) = self.1 {
                response = response.header("Retry-After", pause);
            }
            ready(Ok(response
                .body(Body::from(self.2.as_bytes().to_vec()))
                .unwrap()))
        }
    }

    /// Never answers.
    struct Silent;

    impl tower_service::Service<Request<Body>> for Silent {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Response<Body>, Infallible>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            pending()
        }
    }

    async fn ask(service: Canned) -> (Result<serde_json::Value, CallError>, Seen) {
        let (observer, seen) = observer();
        let client = KubeClient::over(service, observer, Duration::from_secs(10));
        (client.get("/api/v1/namespaces/n/pods/p").await, seen)
    }

    #[tokio::test(start_paused = true)]
    async fn every_answer_is_counted_by_verb_and_status() {
        let (answer, seen) = ask(Canned(200, None, "{\"a\":1}")).await;
        assert_eq!(answer.unwrap()["a"], 1);
        assert_eq!(*seen.lock().unwrap(), [("get", 200)]);
        let (answer, seen) = ask(Canned(403, None, "{\"message\":\"no\"}")).await;
        assert_eq!(
            answer.unwrap_err().to_string(),
            "the API server answered 403: no"
        );
        assert_eq!(*seen.lock().unwrap(), [("get", 403)]);
        let (answer, _) = ask(Canned(200, None, "<html>")).await;
        assert_eq!(answer.unwrap_err().kind(), "malformed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_asked_for_is_kept() {
        for (status, pause, expected) in [
            (429, Some("7"), Some(7)),
            (429, None, None),
            (429, Some("Wed, 21 Oct 2026 07:28:00 GMT"), None),
            (503, Some("2"), Some(2)),
        ] {
            let (answer, seen) = ask(Canned(status, pause, "too busy")).await;
            match answer.unwrap_err() {
                CallError::RateLimited { retry_after, .. } => {
                    assert_eq!(retry_after, expected.map(Duration::from_secs));
                }
                other => panic!("{other}"),
            }
            assert_eq!(*seen.lock().unwrap(), [("get", status)]);
        }
        let (answer, _) = ask(Canned(503, None, "")).await;
        assert_eq!(answer.unwrap_err().kind(), "server_error");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_in_a_timeout_that_is_counted() {
        let (observer, seen) = observer();
        let client = KubeClient::over(Silent, observer, Duration::from_secs(10));
        let answer = client.get::<serde_json::Value>("/version").await;
        assert_eq!(answer.unwrap_err().kind(), "timeout");
        let watch = client.watch::<serde_json::Value>("/api/v1/namespaces/n/pods?watch=true");
        assert_eq!(watch.await.err().unwrap().kind(), "timeout");
        assert_eq!(*seen.lock().unwrap(), [("get", 0), ("watch", 0)]);
    }

    #[test]
    fn verbs_are_named_as_rbac_names_them() {
        let cases = [
            ("GET", "/api/v1/namespaces/n/pods/p", "get"),
            ("GET", "/api/v1/namespaces/n/pods?labelSelector=a", "list"),
            (
                "GET",
                "/api/v1/namespaces/n/pods?allowWatchBookmarks=true&watch=true",
                "watch",
            ),
            ("GET", "/apis/ray.io/v1/namespaces/n/rayclusters/c", "get"),
            ("GET", "/apis/ray.io/v1/namespaces/n/rayclusters", "list"),
            ("GET", "/api/v1/nodes", "list"),
            ("GET", "/version", "get"),
            (
                "PATCH",
                "/apis/ray.io/v1/namespaces/n/rayclusters/c",
                "patch",
            ),
            (
                "POST",
                "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
                "create",
            ),
        ];
        for (method, uri, verb) in cases {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(verb_of(&method, &uri.parse().unwrap()), verb, "{uri}");
        }
    }
}
