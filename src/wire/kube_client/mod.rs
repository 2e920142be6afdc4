//! The way to the Kubernetes API: one client for every call, with deadlines, counted.
//!
//! # Why not `kube::Api` and `kube::runtime`
//!
//! The client's TLS, connection pool and watch decoding are kube's. Above them stand three methods of
//! our own ([`KubeClient::get`], [`KubeClient::send`], [`KubeClient::watch`]):
//!
//! - kube's typed calls lose `Retry-After`, and kube's own retries would hide a refusal from the one
//!   place that decides about retries (`act::outcome`, the controller);
//! - `kube::runtime::watcher` does not tell when a broken watch is in step again, only when the next
//!   object changes: in a quiet cluster our knowledge of the pods would look old for ever;
//! - it saves the packages of `kube-runtime` (considered 2026-11).

mod credentials;
mod error;
mod pod_identity;
mod service;
mod settings;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::{Method, Request, Response, header};
use kube::client::Body;
use kube::core::WatchEvent;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tower_service::Service;

pub use error::{CallError, Failure};
pub use pod_identity::pod_uid;
pub use service::CallObserver;
pub use settings::{ApiAccess, ClientCertificate, KubeSettings, PodAccess, SettingsError};

use credentials::Reloading;
use service::Metered;

/// Our name in `managedFields`, so that a change of `replicas` can be traced to us.
pub const FIELD_MANAGER: &str = "rayscaler";

/// A stream of watch events; it ends when the server ends the watch.
pub type EventStream<T> = BoxStream<'static, Result<WatchEvent<T>, CallError>>;

/// Calls the Kubernetes API; clones share connections.
#[derive(Clone)]
pub struct KubeClient {
    client: kube::Client,
    timeout: Duration,
}

impl std::fmt::Debug for KubeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeClient").finish_non_exhaustive()
    }
}

impl KubeClient {
    /// Returns a client for the API server that `settings` names; nothing is sent yet.
    ///
    /// Credentials are read again as soon as one of their files changes.
    ///
    /// # Errors
    ///
    /// A credential file that cannot be read or understood.
    pub async fn connect(
        settings: &KubeSettings,
        observer: CallObserver,
    ) -> Result<Self, SettingsError> {
        let service = Reloading::open(settings).await?;
        Ok(Self::over(service, observer, settings.request_timeout))
    }

    /// Returns a client that hands every request to `service`, which may live in memory.
    pub fn over<S, B>(service: S, observer: CallObserver, timeout: Duration) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let service = Metered::new(service, observer, timeout);
        Self {
            client: kube::Client::new(service, "default"),
            timeout,
        }
    }

    /// Returns the client underneath, for code that works with `kube::Api`.
    #[must_use]
    pub fn raw(&self) -> &kube::Client {
        &self.client
    }

    /// Returns the object or list at `path`.
    ///
    /// # Errors
    ///
    /// Any [`CallError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let request = Request::get(path).header(header::ACCEPT, "application/json");
        self.call(request.body(Body::empty())).await
    }

    /// Sends `body` and returns the answer.
    ///
    /// # Errors
    ///
    /// Any [`CallError`]; after [`CallError::Timeout`] the request may or may not have been carried out.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        (content_type, body): (&str, Vec<u8>),
    ) -> Result<T, CallError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, content_type);
        self.call(request.body(Body::from(body))).await
    }

    /// Opens the watch at `path`; the deadline covers the opening, not the stream.
    ///
    /// # Errors
    ///
    /// Any [`CallError`].
    pub async fn watch<T>(&self, path: &str) -> Result<EventStream<T>, CallError>
    where
        T: DeserializeOwned + Clone + Send + 'static,
    {
        let request = Request::get(path)
            .body(Vec::new())
            .map_err(|error| CallError::malformed(&error))?;
        let events = self.client.request_events::<T>(request);
        let events = tokio::time::timeout(self.timeout, events)
            .await
            .map_err(|_| CallError::Timeout)?
            .map_err(CallError::from)?;
        Ok(events.map(|event| event.map_err(CallError::from)).boxed())
    }

    async fn call<T: DeserializeOwned>(
        &self,
        request: Result<Request<Body>, http::Error>,
    ) -> Result<T, CallError> {
        let request = request.map_err(|error| CallError::malformed(&error))?;
        let answer = async {
            let response = self.client.send(request).await?;
            let status = response.status();
            let body = response.into_body().collect_bytes().await?;
            if status.is_success() {
                return serde_json::from_slice(&body).map_err(|error| CallError::malformed(&error));
            }
            Err(CallError::refused(status.as_u16(), &status_message(&body)))
        };
        tokio::time::timeout(self.timeout, answer)
            .await
            .unwrap_or(Err(CallError::Timeout))
    }
}

/// Returns the message of a `Status`, or the start of whatever was answered instead.
fn status_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    const LENGTH_MAX: usize = 500;
    match serde_json::from_slice::<Status>(body) {
        Ok(status) => status.message,
        Err(_) => String::from_utf8_lossy(body)
            .trim()
            .chars()
            .take(LENGTH_MAX)
            .collect(),
    }
}
