//! The service: a request in, an answer out, a watch as a body that goes on.

use super::access::Asked;
use super::body::{self, KubeBody};
use super::identity::User;
use super::read::ListOptions;
use super::refusal::Refusal;
use super::request::{Place, Query, Target, Verb};
use super::shape::Shape;
use super::watch::{self, Subject};
use super::write::WriteOptions;
use super::{Shared, State, discovery};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use serde_json::Value;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tower_service::Service;

/// The API server's own limit of a body.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

type BoxError = Box<dyn Error + Send + Sync>;

/// Answers the calls of one client, or of many that bring their tokens.
#[derive(Clone)]
pub struct KubeService {
    shared: Arc<Shared>,
    token: Option<HeaderValue>,
}

impl std::fmt::Debug for KubeService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeService").finish_non_exhaustive()
    }
}

impl KubeService {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let token = None;
        Self { shared, token }
    }

    /// Returns a service for callers that bring no token: it is theirs.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        let token = HeaderValue::try_from(format!("Bearer {token}")).ok();
        Self { token, ..self }
    }
}

impl<B> Service<Request<B>> for KubeService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<KubeBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<KubeBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (shared, token) = (Arc::clone(&self.shared), self.token.clone());
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            if let (Some(token), false) = (token, parts.headers.contains_key(header::AUTHORIZATION))
            {
                parts.headers.insert(header::AUTHORIZATION, token);
            }
            let body = body::collect(body).await?;
            let answer = Exchange::new(&shared, parts, body).answer();
            Ok(answer.unwrap_or_else(|refusal| {
                json_answer(refusal.status, refusal.to_value().to_string())
            }))
        })
    }
}

fn json_answer(status: StatusCode, mut text: String) -> Response<KubeBody> {
    text.push('\n');
    answer(status, "application/json", KubeBody::whole(text))
}

fn answer(status: StatusCode, content_type: &'static str, body: KubeBody) -> Response<KubeBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

fn page_not_found() -> Response<KubeBody> {
    let text = "404 page not found\n".to_owned();
    answer(
        StatusCode::NOT_FOUND,
        discovery::TEXT,
        KubeBody::whole(text),
    )
}

/// One request that is being answered.
struct Exchange<'a> {
    shared: &'a Arc<Shared>,
    parts: Parts,
    query: Query,
    body: Bytes,
}

impl<'a> Exchange<'a> {
    fn new(shared: &'a Arc<Shared>, parts: Parts, body: Bytes) -> Self {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        Self {
            shared,
            parts,
            query,
            body,
        }
    }

    fn answer(&self) -> Result<Response<KubeBody>, Refusal> {
        let mut state = self.state();
        let user = state.authenticate(header_of(&self.parts.headers, header::AUTHORIZATION))?;
        let path = self.parts.uri.path();
        match Place::parse(path) {
            Place::Resource(target) => self.on_resource(&mut state, &user, &target),
            Place::Review(review) => {
                state.authorize(&user, &Asked::review(&review))?;
                let review = state.review(&user, &review, self.json()?)?;
                Ok(json_answer(StatusCode::CREATED, review.to_string()))
            }
            Place::Unserved(unserved) => {
                let verb = unserved.verb(&self.parts.method, &self.query);
                state.authorize(&user, &Asked::unserved(&unserved, verb))?;
                if unserved.is_in_a_group {
                    return Err(Refusal::no_such_resource());
                }
                Ok(page_not_found())
            }
            Place::Other => {
                state.authorize(&user, &Asked::path(&self.parts.method, path))?;
                match discovery::answer(path, self.accept()) {
                    Some((content_type, text)) => {
                        Ok(answer(StatusCode::OK, content_type, KubeBody::whole(text)))
                    }
                    None => Ok(page_not_found()),
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'a, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn on_resource(
        &self,
        state: &mut State,
        user: &User,
        target: &Target,
    ) -> Result<Response<KubeBody>, Refusal> {
        let verb = Verb::of(&self.parts.method, target, &self.query);
        let verb = verb.ok_or_else(Refusal::method_not_allowed)?;
        state.authorize(user, &Asked::resource(verb, target, &self.query))?;
        if self.body.len() > BODY_BYTES_MAX {
            return Err(Refusal::body_too_large(BODY_BYTES_MAX));
        }
        let include = self.query.get("includeObject");
        let now = self.shared.settings.now.clone();
        let shape = Shape::new(target.kind, (self.accept(), include), now)?;
        let ok = |text| json_answer(StatusCode::OK, text);
        match verb {
            Verb::Get => Ok(ok(shape.text(&state.get(target, &self.query)?))),
            Verb::List => {
                let options = ListOptions::parse(target.kind, &self.query, false)?;
                Ok(ok(state.list(target, &options, &shape)?))
            }
            Verb::Watch => self.watch(state, target, shape),
            Verb::Create => {
                let created = state.create(target, self.json()?, &self.write_options())?;
                Ok(json_answer(StatusCode::CREATED, created.shown(&shape)))
            }
            Verb::Update => {
                let updated = state.update(target, self.json()?, &self.write_options())?;
                Ok(ok(shape.text(&updated)))
            }
            Verb::Patch => {
                let content_type = header_of(&self.parts.headers, header::CONTENT_TYPE);
                let patch = (content_type.unwrap_or_default(), self.body.as_ref());
                let (status, patched) = state.patch(target, patch, &self.write_options())?;
                Ok(json_answer(status, shape.text(&patched)))
            }
            Verb::Delete => {
                let deleted = state.delete(target, self.optional_json()?, &self.query)?;
                Ok(ok(deleted.shown(&shape)))
            }
            Verb::DeleteCollection => {
                let options = ListOptions::parse(target.kind, &self.query, false)?;
                let deletion = (self.optional_json()?, &self.query);
                Ok(ok(
                    state.delete_collection(target, &options, deletion, &shape)?
                ))
            }
        }
    }

    fn watch(
        &self,
        state: &State,
        target: &Target,
        shape: Shape,
    ) -> Result<Response<KubeBody>, Refusal> {
        let options = ListOptions::parse(target.kind, &self.query, true)?;
        let subject = Subject {
            scope: target.scope(),
            options,
            shape,
        };
        let start = state.start_watch(&subject);
        let body = watch::open(self.shared, subject, start, state.store.subscribe());
        Ok(answer(StatusCode::OK, "application/json", body))
    }

    fn accept(&self) -> &str {
        header_of(&self.parts.headers, header::ACCEPT).unwrap_or_default()
    }

    fn write_options(&self) -> WriteOptions {
        let agent = header_of(&self.parts.headers, header::USER_AGENT);
        WriteOptions::new(&self.query, agent.unwrap_or_default())
    }

    /// Reads the body, which may be JSON or YAML.
    fn json(&self) -> Result<Value, Refusal> {
        let content_type = header_of(&self.parts.headers, header::CONTENT_TYPE);
        let media_type = content_type.unwrap_or_default().split(';').next();
        match media_type.unwrap_or_default().trim() {
            "" | "application/json" => serde_json::from_slice(&self.body)
                .map_err(|error| Refusal::bad_request(format!("error decoding body: {error}"))),
            "application/yaml" => super::patch::yaml(&self.body),
            _ => Err(Refusal::unsupported_media_type(
                "application/json, application/yaml",
            )),
        }
    }

    fn optional_json(&self) -> Result<Value, Refusal> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        self.json()
    }
}

fn header_of(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
