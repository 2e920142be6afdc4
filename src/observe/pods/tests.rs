//! The pod watch against an API server that answers as told.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{PodChange, PodWatch};
use crate::model::Timestamp;
use crate::observe::cluster::ClusterName;
use crate::observe::fake_api::{Answer, FakeApi, feed, now, stream};

fn pod(name: &str, version: &str, phase: &str) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": version}, "status": {"phase": phase}})
}

fn page(version: &str, next: &str, items: &[Value]) -> Answer {
    let metadata = json!({"resourceVersion": version, "continue": next});
    Answer::Json(
        200,
        json!({"kind": "PodList", "metadata": metadata, "items": items}),
    )
}

fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "metadata": {}, "status": "Failure", "message": message,
        "reason": "R", "code": code})
}

fn watch(api: &FakeApi) -> PodWatch {
    let cluster = ClusterName {
        namespace: "n".to_owned(),
        name: "c".to_owned(),
    };
    PodWatch::new(api.client(), &cluster, (now(), 7))
}

fn names(watch: &PodWatch) -> Vec<&str> {
    let pods = watch.pods();
    pods.map(|pod| pod.name.as_str()).collect()
}

/// Waits for a change, `None` when none comes within a minute of virtual time.
async fn next(watch: &mut PodWatch) -> Option<PodChange> {
    timeout(Duration::from_secs(60), watch.next()).await.ok()
}

async fn changed(watch: &mut PodWatch) {
    let change = next(watch).await;
    assert!(matches!(change, Some(PodChange::Changed)), "{change:?}");
}

async fn lost(watch: &mut PodWatch) -> String {
    match next(watch).await {
        Some(PodChange::Lost(error)) => format!("{}: {error}", error.kind()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn pages_are_listed_and_then_followed_from_their_version() {
    let (answer, events) = stream();
    let api = FakeApi::new([
        page("5", "to/ken=", &[pod("a", "3", "Pending")]),
        page("5", "", &[pod("b", "4", "Pending")]),
        answer,
    ]);
    let mut watch = watch(&api);
    assert_eq!(watch.known_at(Timestamp::from_ms(9)), None);
    changed(&mut watch).await;
    assert_eq!(names(&watch), ["a", "b"]);
    feed(&events, "ADDED", &pod("c", "6", "Pending"));
    feed(&events, "DELETED", &pod("a", "7", "Pending"));
    changed(&mut watch).await;
    assert_eq!(names(&watch), ["b", "c"]);
    let late = Timestamp::from_ms(9_000);
    assert_eq!(watch.known_at(late), Some(late));
    assert_eq!(
        api.requests(),
        [
            "/api/v1/namespaces/n/pods?labelSelector=ray.io/cluster%3Dc&limit=100",
            "/api/v1/namespaces/n/pods?labelSelector=ray.io/cluster%3Dc&limit=100&continue=to/ken%3D",
            "/api/v1/namespaces/n/pods?labelSelector=ray.io/cluster%3Dc&watch=true\
             &allowWatchBookmarks=true&timeoutSeconds=60&resourceVersion=5",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn only_fields_that_we_read_wake_anyone() {
    let (answer, events) = stream();
    let api = FakeApi::new([page("5", "", &[pod("a", "3", "Pending")]), answer]);
    let mut watch = watch(&api);
    changed(&mut watch).await;
    feed(&events, "MODIFIED", &pod("a", "6", "Pending"));
    feed(
        &events,
        "BOOKMARK",
        &json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"resourceVersion": "8"}}),
    );
    assert!(next(&mut watch).await.is_none());
    feed(&events, "MODIFIED", &pod("a", "9", "Running"));
    changed(&mut watch).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ended_is_remembered_when_it_is_gone() {
    let pod = |version: &str, phase: &str| {
        let mut pod = pod("a", version, phase);
        pod["metadata"]["labels"] = json!({"ray.io/node-type": "worker", "ray.io/group": "g"});
        pod
    };
    let (answer, events) = stream();
    let api = FakeApi::new([page("5", "", &[pod("3", "Running")]), answer]);
    let mut watch = watch(&api);
    changed(&mut watch).await;
    assert_eq!(watch.ended().count(), 0);
    feed(&events, "MODIFIED", &pod("6", "Failed"));
    feed(&events, "DELETED", &pod("7", "Failed"));
    changed(&mut watch).await;
    assert_eq!(watch.pods().len(), 0);
    let ended: Vec<&str> = watch.ended().map(|it| it.pod.as_str()).collect();
    assert_eq!(ended, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_cluster_is_in_step() {
    let api = FakeApi::new([page("5", "", &[])]);
    let mut watch = watch(&api);
    assert!(matches!(next(&mut watch).await, Some(PodChange::InStep)));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_is_opened_again_where_it_was() {
    let (first, events) = stream();
    let (second, more) = stream();
    let api = FakeApi::new([page("5", "", &[]), first, second]);
    let mut watch = watch(&api);
    next(&mut watch).await;
    feed(
        &events,
        "BOOKMARK",
        &json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"resourceVersion": "8"}}),
    );
    assert!(next(&mut watch).await.is_none());
    drop(events);
    feed(&more, "ADDED", &pod("a", "9", "Pending"));
    changed(&mut watch).await;
    let requests = api.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[2].ends_with("&resourceVersion=8"), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_not_opened_in_a_tight_loop() {
    let api = FakeApi::new([page("5", "", &[])]);
    for _ in 0..1000 {
        api.then([stream().0]);
    }
    let mut watch = watch(&api);
    next(&mut watch).await;
    assert!(next(&mut watch).await.is_none());
    let count = api.requests().len();
    assert!((5..20).contains(&count), "{count} requests in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_died_silently_is_noticed() {
    let (silent, events) = stream();
    let (answer, more) = stream();
    let api = FakeApi::new([page("5", "", &[]), silent, answer]);
    let mut watch = watch(&api);
    next(&mut watch).await;
    feed(&more, "ADDED", &pod("a", "9", "Pending"));
    assert!(next(&mut watch).await.is_none());
    changed(&mut watch).await;
    drop(events);
}

#[tokio::test(start_paused = true)]
async fn a_lost_server_is_told_once_a_try_and_found_again_without_a_list() {
    let (first, events) = stream();
    let (second, _open) = stream();
    let unavailable = Answer::Json(503, status(503, "starting"));
    let api = FakeApi::new([
        page("5", "", &[pod("a", "3", "Pending")]),
        first,
        Answer::Refuse,
        unavailable,
        second,
    ]);
    let mut watch = watch(&api);
    changed(&mut watch).await;
    assert!(timeout(Duration::from_secs(5), watch.next()).await.is_err());
    drop(events);
    assert!(
        lost(&mut watch)
            .await
            .starts_with("unreachable: cannot watch pods")
    );
    let late = Timestamp::from_ms(1_000_000);
    assert_eq!(watch.known_at(late), Some(Timestamp::from_ms(5_000)));
    assert!(lost(&mut watch).await.starts_with("server_error"));
    assert_eq!(watch.known_at(late), Some(Timestamp::from_ms(5_000)));
    assert!(matches!(next(&mut watch).await, Some(PodChange::InStep)));
    assert_eq!(watch.known_at(late), Some(late));
    assert_eq!(names(&watch), ["a"]);
    let lists = api
        .requests()
        .iter()
        .filter(|uri| uri.contains("limit="))
        .count();
    assert_eq!(lists, 1);
}

/// Ten seconds after it is back, capacity is to be right.
#[tokio::test(start_paused = true)]
async fn however_long_a_server_is_away_it_is_tried_every_five_seconds() {
    let api = FakeApi::new([page("5", "", &[pod("a", "3", "Pending")]), stream().0]);
    for _ in 0..30 {
        api.then([Answer::Refuse]);
    }
    let (back, _open) = stream();
    api.then([back]);
    let mut watch = watch(&api);
    changed(&mut watch).await;
    let at_most = Duration::from_millis(5_001);
    for _ in 0..30 {
        let told = timeout(at_most, watch.next()).await;
        assert!(matches!(told, Ok(PodChange::Lost(_))), "{told:?}");
    }
    let told = timeout(at_most, watch.next()).await;
    assert!(matches!(told, Ok(PodChange::InStep)), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn forgotten_changes_are_listed_anew() {
    let (first, events) = stream();
    let (second, _open) = stream();
    let gone = Answer::Json(410, status(410, "too old"));
    let api = FakeApi::new([
        page(
            "5",
            "",
            &[pod("a", "3", "Pending"), pod("b", "4", "Pending")],
        ),
        first,
        page("50", "", &[pod("b", "4", "Pending")]),
        gone,
        page("60", "", &[pod("b", "4", "Running")]),
        second,
    ]);
    let mut watch = watch(&api);
    changed(&mut watch).await;
    feed(&events, "ERROR", &status(410, "too old"));
    changed(&mut watch).await;
    assert_eq!(names(&watch), ["b"]);
    changed(&mut watch).await;
    assert!(next(&mut watch).await.is_none());
    assert!(
        api.requests()
            .last()
            .unwrap()
            .ends_with("resourceVersion=60")
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_is_no_end_of_the_watch() {
    let (first, events) = stream();
    let (second, _open) = stream();
    let odd = json!({"metadata": {"name": 7}});
    let listed = |items: &[Value]| page("5", "", items);
    let api = FakeApi::new([
        listed(&[pod("a", "3", "Pending")]),
        first,
        listed(std::slice::from_ref(&odd)),
        listed(&[pod("b", "4", "Pending")]),
        second,
    ]);
    let mut watch = watch(&api);
    changed(&mut watch).await;
    feed(&events, "ADDED", &odd);
    // Nobody can read what is there: that is said.
    let told = lost(&mut watch).await;
    assert!(told.starts_with("malformed: "), "{told}");
    changed(&mut watch).await;
    assert_eq!(names(&watch), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgets_everything_is_not_listed_in_a_tight_loop() {
    let api = FakeApi::default();
    for _ in 0..1000 {
        api.then([
            page("5", "", &[]),
            Answer::Json(410, status(410, "too old")),
        ]);
    }
    let mut watch = watch(&api);
    next(&mut watch).await;
    assert!(next(&mut watch).await.is_none());
    let count = api.requests().len();
    assert!((5..40).contains(&count), "{count} requests in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_is_named() {
    let api = FakeApi::new([Answer::Json(403, status(403, "no"))]);
    assert_eq!(
        lost(&mut watch(&api)).await,
        "forbidden: may not list pods in namespace `n`: the Role of our ServiceAccount lacks it"
    );
}

#[tokio::test(start_paused = true)]
async fn waiting_can_be_given_up_and_taken_up_again() {
    let (answer, events) = stream();
    let list = json!({"metadata": {"resourceVersion": "5"}, "items": [pod("a", "3", "Pending")]});
    let api = FakeApi::new([Answer::Late(Duration::from_secs(1), list), answer]);
    let mut watch = watch(&api);
    let mut tries = 0;
    while timeout(Duration::from_millis(100), watch.next())
        .await
        .is_err()
    {
        tries += 1;
        assert!(tries < 20);
    }
    assert!((9..=11).contains(&tries), "{tries}");
    feed(&events, "ADDED", &pod("b", "6", "Pending"));
    changed(&mut watch).await;
    assert_eq!(api.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_change() {
    let (answer, events) = stream();
    let api = FakeApi::new([page("5", "", &[]), answer]);
    let mut watch = watch(&api);
    next(&mut watch).await;
    for number in 0..100 {
        feed(
            &events,
            "ADDED",
            &pod(&format!("p{number}"), "6", "Pending"),
        );
    }
    changed(&mut watch).await;
    assert_eq!(watch.pods().len(), 100);
    assert!(next(&mut watch).await.is_none());
}

/// Returns how many lists were asked for since the last call.
fn lists(api: &FakeApi) -> usize {
    let requests = api.requests();
    requests.iter().filter(|uri| uri.contains("limit=")).count()
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_tells_out_of_order_is_not_believed() {
    let (first, events) = stream();
    let (second, _open) = stream();
    let api = FakeApi::new([
        page("5", "", &[pod("a", "3", "Running")]),
        first,
        page("8", "", &[]),
        second,
    ]);
    let mut watch = watch(&api);
    changed(&mut watch).await;
    feed(&events, "DELETED", &pod("a", "7", "Running"));
    feed(&events, "MODIFIED", &pod("a", "6", "Running"));
    changed(&mut watch).await;
    assert!(next(&mut watch).await.is_none());
    assert_eq!(watch.pods().len(), 0);
    assert_eq!(lists(&api), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_end_was_never_told_is_found_gone_on_doubt() {
    let (first, _events) = stream();
    let (second, _open) = stream();
    let api = FakeApi::new([
        page("5", "", &[pod("a", "3", "Running")]),
        first,
        page("8", "", &[]),
        second,
    ]);
    let mut watch = watch(&api);
    changed(&mut watch).await;
    assert!(!watch.doubt(), "the list is new");
    assert!(next(&mut watch).await.is_none());
    assert_eq!(names(&watch), ["a"]);
    assert!(watch.doubt());
    assert!(!watch.doubt(), "once a minute");
    changed(&mut watch).await;
    assert_eq!(watch.pods().len(), 0);
    assert!(!watch.doubt(), "once a minute");
    assert_eq!(lists(&api), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_went_is_told_of_for_five_minutes_though_no_other_one_goes() {
    let of_version = |version: &str| {
        let mut pod = pod("a", version, "Running");
        pod["metadata"]["uid"] = json!("u1");
        pod
    };
    let (answer, events) = stream();
    let api = FakeApi::new([page("5", "", &[of_version("3")]), answer]);
    let mut watch = watch(&api);
    changed(&mut watch).await;
    assert_eq!(watch.departed("a"), None);
    feed(&events, "DELETED", &of_version("6"));
    changed(&mut watch).await;
    assert_eq!(watch.departed("a"), Some("u1"));
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(watch.departed("a"), Some("u1"));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(watch.is_in_step());
    assert_eq!(watch.departed("a"), None);
}

#[tokio::test(start_paused = true)]
async fn whoever_needs_a_newer_list_gets_it_at_once_and_one_at_a_time() {
    let (first, _events) = stream();
    let (second, _open) = stream();
    let api = FakeApi::new([
        page("5", "", &[pod("a", "3", "Running")]),
        first,
        page("8", "", &[]),
        second,
    ]);
    let mut watch = watch(&api);
    assert!(!watch.relist(), "the first list is under way");
    changed(&mut watch).await;
    let before = watch.listed_from();
    tokio::time::advance(Duration::from_millis(10)).await;
    assert!(watch.relist());
    assert!(!watch.relist(), "a list is under way");
    changed(&mut watch).await;
    assert!(watch.listed_from() > before);
    assert_eq!((watch.pods().len(), lists(&api)), (0, 2));
}
