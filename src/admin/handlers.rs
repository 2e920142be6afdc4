//! Answers of the admin port.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::state::{ANSWERS_KIB_MAX, AdminState};
use crate::report::metrics::CONTENT_TYPE;

type Shared = State<Arc<AdminState>>;

const JSON: &str = "application/json";

/// What a connection is given at one time.
const PART_BYTES: usize = 64 * 1024;

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
    let made = render(state.scrapes(), move || {
        Some(shared.metrics().exposition(now))
    });
    match made.await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(refused) => refused,
    }
}

pub(super) async fn decision(State(state): Shared) -> Response {
    let decided = state.last_decided();
    answer(&state, move || decided.as_ref().and_then(json)).await
}

pub(super) async fn history(State(state): Shared) -> Response {
    let history = state.history();
    answer(&state, move || json(&history)).await
}

pub(super) async fn snapshot(State(state): Shared) -> Response {
    let pass = state.last_pass();
    answer(&state, move || pass.and_then(|pass| json(&pass.snapshot))).await
}

pub(super) async fn pass(State(state): Shared) -> Response {
    let pass = state.last_pass();
    answer(&state, move || pass.as_ref().and_then(json)).await
}

/// Answers before the first decision too: then it says which source is missing.
pub(super) async fn status(State(state): Shared) -> Response {
    let shared = Arc::clone(&state);
    answer(&state, move || json(&shared.status())).await
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

/// Answers with a large text in parts, and holds no more of such than there is room for: whoever asks and does not read
/// would have us keep it.
async fn answer<F>(state: &AdminState, make: F) -> Response
where
    F: FnOnce() -> Option<String> + Send + 'static,
{
    let text = match render(state.renders(), make).await {
        Ok(text) => text,
        Err(refused) => return refused,
    };
    let kib = u32::try_from(text.len() / 1024).unwrap_or(u32::MAX);
    let room = Arc::clone(state.room());
    let Ok(room) = room.try_acquire_many_owned(kib.clamp(1, ANSWERS_KIB_MAX)) else {
        let text = "others have asked for as much as fits in memory, and have not read it yet\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let length = text.len();
    let parts = stream::unfold((Bytes::from(text), room), |(mut left, room)| async move {
        let part = left.split_to(left.len().min(PART_BYTES));
        (!part.is_empty()).then(|| (Ok::<_, Infallible>(part), (left, room)))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(JSON)),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    (headers, Body::from_stream(parts)).into_response()
}

/// Makes a large text beside the loop, which has only one thread, and a few at a time.
async fn render<F>(places: &Arc<Semaphore>, make: F) -> Result<String, Response>
where
    F: FnOnce() -> Option<String> + Send + 'static,
{
    let Ok(permit) = Arc::clone(places).acquire_owned().await else {
        return Err(StatusCode::SERVICE_UNAVAILABLE.into_response());
    };
    let made = tokio::task::spawn_blocking(move || {
        let text = make();
        drop(permit);
        text
    });
    match made.await {
        Ok(text) => text.ok_or_else(nothing_yet),
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
    }
}

fn nothing_yet() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "nothing to show yet\n").into_response()
}

fn json<T: Serialize>(value: &T) -> Option<String> {
    serde_json::to_string(value).ok()
}
