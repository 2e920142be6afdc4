//! What only the embedded API has to show: virtual time, repeatability, a history of a chosen length.

use crate::world::{config_map, pod};
use bytes::Bytes;
use futures_util::StreamExt;
use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use kube::client::Body;
use kube::core::{DynamicObject, WatchEvent};
use kube::runtime::watcher::{Config, Event, watcher};
use rayscaler::embedded::kube::{KubeApi, Settings};
use rayscaler::model::Timestamp;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// A clock that a test turns.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicI64>);

impl Hand {
    fn advance(&self, secs: i64) {
        self.0.fetch_add(secs * 1000, Ordering::Relaxed);
    }

    fn settings(&self, seed: u64) -> Settings {
        let hand = self.clone();
        let now = Arc::new(move || Timestamp::from_ms(hand.0.load(Ordering::Relaxed)));
        Settings::new(now, seed)
    }
}

fn api(seed: u64) -> KubeApi {
    KubeApi::new(Hand::default().settings(seed))
}

fn admin(api: &KubeApi) -> Client {
    api.client(api.admin_token())
}

async fn create(client: &Client, object: Value) -> ConfigMap {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let object = serde_json::from_value(object).unwrap();
    maps.create(&PostParams::default(), &object).await.unwrap()
}

async fn text(client: &Client, method: &str, path: &str, body: &Value) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Content-Type", "application/json")
        .body(Body::from(body.to_string().into_bytes()))
        .unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    (code, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_told_without_any_time_passing() {
    let api = api(1);
    let client = admin(&api);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let mut events = pin!(watcher(maps.clone(), Config::default()));
    let started = tokio::time::Instant::from_std(start());
    let mut next = async || match events.next().await.unwrap().unwrap() {
        Event::Init => "init".to_owned(),
        Event::InitDone => "done".to_owned(),
        Event::InitApply(map) => format!("initial {}", map.metadata.name.unwrap()),
        Event::Apply(map) => format!("applied {}", map.metadata.name.unwrap()),
        Event::Delete(map) => format!("deleted {}", map.metadata.name.unwrap()),
    };
    create(&client, config_map("a", &json!({}))).await;
    assert_eq!(
        (next().await, next().await, next().await),
        ("init".into(), "initial a".into(), "done".into())
    );
    create(&client, config_map("b", &json!({}))).await;
    assert_eq!(next().await, "applied b");
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(next().await, "deleted a");
    assert_eq!(
        tokio::time::Instant::from_std(start()),
        started,
        "no timer has run"
    );
}

/// Returns the moment that tokio's paused clock shows.
#[expect(
    clippy::disallowed_methods,
    reason = "the paused clock is what the test is about"
)]
fn start() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

#[tokio::test(start_paused = true)]
async fn bookmarks_and_the_end_of_a_watch_come_by_the_clock() {
    let api = api(1);
    let client = admin(&api);
    let path = "/api/v1/namespaces/default/configmaps?watch=true&allowWatchBookmarks=true\
                &resourceVersion=0&timeoutSeconds=200";
    let request = Request::get(path).body(Vec::new()).unwrap();
    let begun = start();
    let mut events = Box::pin(
        client
            .request_events::<DynamicObject>(request)
            .await
            .unwrap(),
    );
    let made = create(&client, config_map("a", &json!({}))).await;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        let secs = start().duration_since(begun).as_secs();
        told.push(match event.unwrap() {
            WatchEvent::Added(_) => format!("added at {secs}"),
            WatchEvent::Bookmark(bookmark) => {
                assert_eq!(
                    Some(bookmark.metadata.resource_version),
                    made.metadata.resource_version
                );
                format!("bookmark at {secs}")
            }
            other => panic!("{other:?}"),
        });
    }
    // One bookmark for one change; without news there are no more.
    assert_eq!(told, ["added at 0", "bookmark at 60"]);
    assert_eq!(start().duration_since(begun).as_secs(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_is_too_short_is_told_as_gone() {
    let mut settings = Hand::default().settings(1);
    settings.history = 3;
    let api = KubeApi::new(settings);
    let client = admin(&api);
    let first = create(&client, config_map("a", &json!({}))).await;
    let version = first.metadata.resource_version.unwrap();
    let (_, page) = text(&client, "GET", "/api/v1/configmaps?limit=1", &Value::Null).await;
    assert!(!page.contains("continue"));
    create(&client, config_map("b", &json!({}))).await;
    let (_, page) = text(&client, "GET", "/api/v1/configmaps?limit=1", &Value::Null).await;
    let page: Value = serde_json::from_str(&page).unwrap();
    let token = page["metadata"]["continue"].as_str().unwrap();
    let watch = |version: &str| {
        let path = format!("/api/v1/configmaps?watch=true&resourceVersion={version}");
        let (client, request) = (client.clone(), Request::get(path).body(Vec::new()).unwrap());
        async move {
            Box::pin(
                client
                    .request_events::<DynamicObject>(request)
                    .await
                    .unwrap(),
            )
        }
    };
    // A watch that is read too late loses the thread as well.
    let mut late = watch(&version).await;
    for name in ["c", "d", "e", "f"] {
        create(&client, config_map(name, &json!({}))).await;
    }
    let mut gone = watch(&version).await;
    for events in [&mut gone, &mut late] {
        match events.next().await.unwrap().unwrap() {
            WatchEvent::Error(status) => {
                assert_eq!((status.code, status.reason.as_str()), (410, "Expired"))
            }
            other => panic!("{other:?}"),
        }
        assert!(events.next().await.is_none());
    }
    for query in [
        format!("resourceVersion={version}&resourceVersionMatch=Exact"),
        format!("continue={token}"),
    ] {
        let (code, body) = text(
            &client,
            "GET",
            &format!("/api/v1/configmaps?{query}"),
            &Value::Null,
        )
        .await;
        assert_eq!(code, 410, "{body}");
        assert!(body.contains("\"reason\":\"Expired\""), "{body}");
    }
}

/// Makes and changes some objects, and returns everything that was answered.
async fn a_run(seed: u64) -> Vec<String> {
    let hand = Hand::default();
    let api = KubeApi::new(hand.settings(seed));
    let client = admin(&api);
    let mut answers = Vec::new();
    for (method, path, body) in [
        (
            "POST",
            "/api/v1/namespaces/default/pods",
            json!({"metadata": {"generateName": "p-"}, "spec": pod("p")["spec"]}),
        ),
        (
            "POST",
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"metadata": {"name": "sa"}}),
        ),
        (
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/sa/token",
            json!({"spec": {}}),
        ),
        ("DELETE", "/api/v1/namespaces/default/pods", json!({})),
        (
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            Value::Null,
        ),
    ] {
        hand.advance(1);
        answers.push(text(&client, method, path, &body).await.1);
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_bytes() {
    let first = a_run(7).await;
    assert_eq!(first, a_run(7).await);
    let other = a_run(8).await;
    assert!(first.iter().zip(&other).all(|(one, two)| one != two));
}

#[tokio::test(start_paused = true)]
async fn a_token_lives_as_long_as_it_says() {
    let hand = Hand::default();
    let api = KubeApi::new(hand.settings(1));
    let client = admin(&api);
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    text(
        &client,
        "POST",
        accounts,
        &json!({"metadata": {"name": "sa"}}),
    )
    .await;
    let request = json!({"spec": {"expirationSeconds": 600}});
    let (_, answer) = text(&client, "POST", &format!("{accounts}/sa/token"), &request).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let account = api.client(answer["status"]["token"].as_str().unwrap());
    hand.advance(599);
    assert_eq!(text(&account, "GET", "/version", &Value::Null).await.0, 200);
    hand.advance(1);
    assert_eq!(text(&account, "GET", "/version", &Value::Null).await.0, 401);
}

/// Counts calls, and refuses every second one.
#[derive(Clone)]
struct Flaky<S> {
    inner: S,
    calls: Arc<AtomicUsize>,
}

impl<S> Service<Request<Body>> for Flaky<S>
where
    S: Service<Request<Body>, Response = http::Response<rayscaler::embedded::kube::KubeBody>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Outer>;
    type Error = S::Error;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if self.calls.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            let refusal = http::Response::builder()
                .status(503)
                .body(Outer::None)
                .unwrap();
            return Box::pin(std::future::ready(Ok(refusal)));
        }
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(Outer::Some)) })
    }
}

/// The body of an answer that is passed on, or none.
enum Outer {
    Some(rayscaler::embedded::kube::KubeBody),
    None,
}

impl http_body::Body for Outer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Some(body) => std::pin::Pin::new(body).poll_frame(cx),
            Self::None => Poll::Ready(None),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_around_the_service_sees_every_call() {
    let api = api(1);
    let calls = Arc::new(AtomicUsize::new(0));
    let inner = api.service().with_token(api.admin_token());
    let flaky = Flaky {
        inner,
        calls: Arc::clone(&calls),
    };
    let client = Client::new(flaky, "default");
    let pods: Api<Pod> = Api::default_namespaced(client);
    assert_eq!(
        pods.get_opt("p")
            .await
            .unwrap()
            .map(|pod| pod.metadata.name),
        None
    );
    assert!(pods.get_opt("p").await.is_err());
    let object = serde_json::from_value(pod("p")).unwrap();
    let made = tokio::time::timeout(
        Duration::from_secs(1),
        pods.create(&PostParams::default(), &object),
    )
    .await;
    made.unwrap().unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_an_hour_after_it_was_made_when_the_next_one_comes() {
    let hand = Hand::default();
    let api = KubeApi::new(hand.settings(1));
    let client = admin(&api);
    let path = "/api/v1/namespaces/default/events";
    let make = async |name: &str| {
        let event = json!({
            "metadata": {"name": name}, "reason": "R", "type": "Normal",
            "involvedObject": {"namespace": "default", "name": "c", "kind": "Pod"},
        });
        assert_eq!(text(&client, "POST", path, &event).await.0, 201);
    };
    let names = async || {
        let (_, list) = text(&client, "GET", path, &Value::Null).await;
        let list: Value = serde_json::from_str(&list).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        let names = items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    make("a").await;
    hand.advance(1_800);
    make("b").await;
    hand.advance(1_799);
    make("c").await;
    assert_eq!(names().await, ["a", "b", "c"]);
    hand.advance(1);
    make("d").await;
    assert_eq!(names().await, ["b", "c", "d"]);
    let held = api.held();
    hand.advance(3_600);
    make("e").await;
    assert_eq!(names().await, ["e"]);
    assert_eq!(api.held().objects, held.objects - 2);
}
