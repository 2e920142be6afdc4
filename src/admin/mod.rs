//! The admin port: probes, metrics, and what was decided and why.
//!
//! # Why it only shows
//!
//! The network namespace is shared with user code, and there is no one to ask for a password. So
//! nothing here changes anything, but for the log level where the configuration allows it.

mod handlers;
mod last_pass;
mod limits;
mod readiness;
mod state;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, put};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

pub use last_pass::LastPass;
pub use state::{AdminState, Decided, Now, Question, SetLogLevel, Summary};
pub use status::{
    Change, ClusterStatus, DemandStatus, GroupChange, GroupStatus, Mode, NodeCounts, Removed,
    ResourceUsage, SourceProblem, SourceStatus, Waiting, WaitingKind,
};

/// Wait before the port is tried again; a stock autoscaler that is about to go may still hold it.
const BIND_RETRY: Duration = Duration::from_secs(1);

/// Longest request body: a log filter.
const BODY_MAX: usize = 1_024;

/// Returns the routes.
pub fn router(state: Arc<AdminState>) -> Router {
    let mut router = Router::new()
        .route("/livez", get(handlers::livez))
        .route("/readyz", get(handlers::readyz))
        .route("/metrics", get(handlers::metrics));
    if state.answers(Question::Decision) {
        router = router
            .route("/v1/decision", get(handlers::decision))
            .route("/v1/pass", get(handlers::pass))
            .route("/v1/status", get(handlers::status))
            .route("/v1/snapshot", get(handlers::snapshot));
    }
    if state.answers(Question::History) {
        router = router.route("/v1/history", get(handlers::history));
    }
    if state.answers(Question::Config) {
        router = router.route("/v1/config", get(handlers::config));
    }
    if state.log_level().is_some() {
        router = router.route("/v1/log-level", put(handlers::log_level));
    }
    router
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(state)
}

/// Serves the port until `stop` becomes true.
///
/// A port that cannot be had is logged once and tried again: metrics are worth less than scaling.
pub async fn run(address: SocketAddr, state: Arc<AdminState>, mut stop: watch::Receiver<bool>) {
    let mut is_told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                serve(listener, &state, stop.clone()).await;
                is_told = false;
            }
            Err(error) if !is_told => {
                warn!(%address, %error, "admin port cannot be bound, trying again");
                is_told = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(BIND_RETRY) => {}
        }
    }
}

async fn serve(listener: TcpListener, state: &Arc<AdminState>, mut stop: watch::Receiver<bool>) {
    let address = listener.local_addr().ok();
    info!(address = ?address, "admin port listens");
    state.set_listening(address);
    let server = axum::serve(
        limits::LimitedListener::new(listener),
        router(Arc::clone(state)),
    );
    tokio::select! {
        biased;
        // Open connections are not waited for: at the end there is nothing worth reading.
        _ = stop.wait_for(|stop| *stop) => {}
        ended = server => if let Err(error) = ended {
            warn!(%error, "admin port ended");
        }
    }
    state.set_listening(None);
}
