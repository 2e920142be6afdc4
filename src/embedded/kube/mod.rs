//! A Kubernetes API in memory: what the sidecar and the other stand-ins talk to where there is no cluster.
//!
//! It answers as kube-apiserver does, which the same tests show on both: versions, watches with
//! bookmarks and `410 Gone`, every patch format, subresources, finalizers, graceful deletion, RBAC, and
//! the RayCluster resource with its schema. It is a `tower` service: [`KubeApi::client`] calls it in
//! memory, [`serve`] lets real connections in, and whoever wraps [`KubeApi::service`] sees every call.
//!
//! It has no thread, clock or randomness of its own: time comes from a [`Now`], names, uids and tokens
//! from a seed, timers from tokio, so that it runs under virtual time and repeats.
//!
//! Left out: admission plug-ins, quotas of anything but pods, garbage collection of dependents (the API server has none
//! either), protobuf, and rights that nobody holds being granted.

mod access;
mod apply;
mod body;
mod bootstrap;
mod decode;
mod delete;
mod discovery;
mod event_forms;
mod expiry;
mod field_set;
mod fields;
mod identity;
mod kinds;
mod lists;
mod managed;
mod members;
mod names;
mod openapi;
mod patch;
mod pod_checks;
mod pod_defaults;
mod pods;
mod printing;
mod quantity;
mod quota;
mod read;
mod refusal;
mod request;
mod rules;
mod schema;
mod selector;
mod serve;
mod service;
mod shape;
mod store;
mod watch;
mod write;

pub use body::KubeBody;
pub use serve::{CertificateError, ServingCertificate, kubeconfig, serve};
pub use service::KubeService;

use super::Now;
use expiry::Events;
use identity::Tokens;
use kube::Client;
use names::Seeded;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
pub use store::Held;
use store::Store;

/// Holds what may differ between API servers.
#[derive(Clone)]
pub struct Settings {
    /// Tells the time.
    pub now: Now,
    /// Where names, uids and tokens start from.
    pub seed: u64,
    /// How many changes are remembered; a watch that starts before them is told `410 Gone`.
    pub history: usize,
    /// How often a watch that wants bookmarks gets one.
    pub bookmark_every: Duration,
    /// The token of the administrator, who may do everything.
    pub admin_token: String,
}

impl Settings {
    /// Returns what a small cluster has.
    #[must_use]
    pub fn new(now: Now, seed: u64) -> Self {
        Self {
            now,
            seed,
            history: 10_000,
            bookmark_every: Duration::from_secs(60),
            admin_token: format!("admin-{:016x}", Seeded::new(seed).next()),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("seed", &self.seed)
            .field("history", &self.history)
            .field("bookmark_every", &self.bookmark_every)
            .finish_non_exhaustive()
    }
}

/// What all requests share.
struct Shared {
    settings: Settings,
    state: Mutex<State>,
}

/// All that the API server knows.
struct State {
    now: Now,
    store: Store,
    seeded: Seeded,
    tokens: Tokens,
    events: Events,
}

/// An API server; clones are the same one.
#[derive(Clone)]
pub struct KubeApi {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for KubeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeApi")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

impl KubeApi {
    /// Returns an API server with the namespaces and roles that a new cluster has.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut state = State {
            now: settings.now.clone(),
            store: Store::new(settings.history),
            seeded: Seeded::new(settings.seed),
            tokens: Tokens::new(&settings.admin_token),
            events: Events::default(),
        };
        state.create_what_every_cluster_has();
        state.store.forget();
        let state = Mutex::new(state);
        Self {
            shared: Arc::new(Shared { settings, state }),
        }
    }

    /// Returns how much it holds.
    #[must_use]
    pub fn held(&self) -> Held {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner).store.held()
    }

    /// Forgets how all that is there has come about, as etcd does when it is compacted.
    ///
    /// Watches that have not told everything yet end with `410 Gone`.
    pub fn compact(&self) {
        let state = self.shared.state.lock();
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.store.forget();
    }

    /// Returns the service that answers every call; it expects a bearer token.
    #[must_use]
    pub fn service(&self) -> KubeService {
        KubeService::new(Arc::clone(&self.shared))
    }

    /// Returns a client in memory that holds `token`.
    #[must_use]
    pub fn client(&self, token: &str) -> Client {
        Client::new(self.service().with_token(token), "default")
    }

    /// Returns the token of the administrator.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.shared.settings.admin_token
    }
}
