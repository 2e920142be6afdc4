//! Answers of the admin port.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::state::AdminState;
use crate::report::metrics::CONTENT_TYPE;

type Shared = State<Arc<AdminState>>;

const JSON: &str = "application/json";

pub(super) async fn livez(State(state): Shared) -> Response {
    match state.readiness().stalled_ms(state.now()) {
        None => "ok\n".into_response(),
        Some(ms) => {
            let text = format!("the loop has stood still for {ms} ms\n");
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

pub(super) async fn readyz(State(state): Shared) -> Response {
    if state.readiness().is_ready() {
        "ok\n".into_response()
    } else {
        let text = "no complete snapshot was decided yet\n";
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

pub(super) async fn metrics(State(state): Shared) -> Response {
    let now = state.now();
    let shared = Arc::clone(&state);
    render(state.scrapes(), CONTENT_TYPE, move || {
        Some(shared.metrics().exposition(now))
    })
    .await
}

pub(super) async fn decision(State(state): Shared) -> Response {
    let decided = state.last_decided();
    render(state.renders(), JSON, move || {
        decided.as_ref().and_then(json)
    })
    .await
}

pub(super) async fn history(State(state): Shared) -> Response {
    let history = state.history();
    render(state.renders(), JSON, move || json(&history)).await
}

pub(super) async fn snapshot(State(state): Shared) -> Response {
    let pass = state.last_pass();
    render(state.renders(), JSON, move || {
        pass.and_then(|pass| json(&pass.snapshot))
    })
    .await
}

pub(super) async fn pass(State(state): Shared) -> Response {
    let pass = state.last_pass();
    render(state.renders(), JSON, move || pass.as_ref().and_then(json)).await
}

/// Answers before the first decision too: then it says which source is missing.
pub(super) async fn status(State(state): Shared) -> Response {
    let shared = Arc::clone(&state);
    render(state.renders(), JSON, move || json(&shared.status())).await
}

pub(super) async fn config(State(state): Shared) -> Response {
    let config = state.config();
    if config.is_empty() {
        return nothing_yet();
    }
    ([(header::CONTENT_TYPE, JSON)], config.to_string()).into_response()
}

pub(super) async fn log_level(State(state): Shared, level: String) -> Response {
    let Some(set) = state.log_level() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match set(level.trim()) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(problem) => (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response(),
    }
}

/// Makes a large answer beside the loop, which has only one thread, and a few at a time.
async fn render<F>(places: &Arc<Semaphore>, content_type: &'static str, make: F) -> Response
where
    F: FnOnce() -> Option<String> + Send + 'static,
{
    let Ok(permit) = Arc::clone(places).acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let made = tokio::task::spawn_blocking(move || {
        let text = make();
        drop(permit);
        text
    });
    match made.await {
        Ok(Some(text)) => ([(header::CONTENT_TYPE, content_type)], text).into_response(),
        Ok(None) => nothing_yet(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn nothing_yet() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "nothing to show yet\n").into_response()
}

fn json<T: Serialize>(value: &T) -> Option<String> {
    serde_json::to_string(value).ok()
}
