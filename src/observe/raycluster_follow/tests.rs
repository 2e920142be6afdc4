//! Following the RayCluster against an API server that answers as told.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{RayClusterChange, RayClusterFollow};
use crate::model::Timestamp;
use crate::observe::PollBounds;
use crate::observe::cluster::{ClusterName, FollowSettings};
use crate::observe::fake_api::{Answer, FakeApi, feed, now, stream};

fn object(version: &str, replicas: i64) -> Value {
    let group = json!({"groupName": "g", "replicas": replicas, "template": {}});
    json!({"apiVersion": "ray.io/v1", "kind": "RayCluster",
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": version},
        "spec": {"headGroupSpec": {"template": {}}, "workerGroupSpecs": [group]}})
}

fn ok(version: &str, replicas: i64) -> Answer {
    Answer::Json(200, object(version, replicas))
}

fn list(version: &str, items: &[Value]) -> Answer {
    Answer::Json(
        200,
        json!({"metadata": {"resourceVersion": version}, "items": items}),
    )
}

fn follow(api: &FakeApi, may_watch: bool) -> RayClusterFollow {
    let cluster = ClusterName {
        namespace: "n".to_owned(),
        name: "c".to_owned(),
    };
    let settings = FollowSettings {
        poll: PollBounds::default(),
        seed: 7,
        now: now(),
    };
    RayClusterFollow::new(api.client(), cluster, may_watch, &settings)
}

async fn next(follow: &mut RayClusterFollow) -> Option<RayClusterChange> {
    timeout(Duration::from_secs(60), follow.next()).await.ok()
}

async fn changed(follow: &mut RayClusterFollow) {
    let change = next(follow).await;
    assert!(
        matches!(change, Some(RayClusterChange::Changed)),
        "{change:?}"
    );
}

async fn lost(follow: &mut RayClusterFollow) -> &'static str {
    match next(follow).await {
        Some(RayClusterChange::Lost(error)) => error.kind(),
        other => panic!("{other:?}"),
    }
}

fn replicas(follow: &RayClusterFollow) -> i64 {
    let groups = &follow.current().unwrap().spec.worker_groups;
    groups[0].as_ref().unwrap().replicas
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_is_read_at_most_fifteen_times_a_minute_and_wakes_nobody() {
    let api = FakeApi::default();
    for version in 1..100 {
        api.then([ok(&version.to_string(), 1)]);
    }
    let mut follow = follow(&api, false);
    changed(&mut follow).await;
    assert!(next(&mut follow).await.is_none());
    let count = api.requests().len();
    assert!((10..=15).contains(&count), "{count}");
}

#[tokio::test(start_paused = true)]
async fn an_edit_is_seen_and_the_next_look_comes_soon() {
    let api = FakeApi::new([ok("1", 1), ok("1", 1), ok("2", 3), ok("3", 4)]);
    let mut follow = follow(&api, false);
    changed(&mut follow).await;
    changed(&mut follow).await;
    assert_eq!(replicas(&follow), 3);
    let soon = timeout(Duration::from_millis(1_100), follow.next()).await;
    assert!(matches!(soon, Ok(RayClusterChange::Changed)));
}

#[tokio::test(start_paused = true)]
async fn what_a_patch_answered_is_not_undone_by_a_read_that_began_before() {
    let old = Answer::Late(Duration::from_secs(2), object("1", 1));
    let api = FakeApi::new([ok("1", 1), old, ok("5", 7)]);
    let mut follow = follow(&api, false);
    changed(&mut follow).await;
    assert!(
        timeout(Duration::from_secs(2), follow.next())
            .await
            .is_err()
    );
    assert_eq!(api.requests().len(), 2);
    assert!(follow.adopt(&object("5", 7)).unwrap());
    assert!(!follow.adopt(&object("5", 7)).unwrap());
    assert!(
        timeout(Duration::from_secs(5), follow.next())
            .await
            .is_err()
    );
    assert_eq!(replicas(&follow), 7);
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_keeps_the_view_and_lets_it_grow_old() {
    let broken = Answer::Json(200, json!({"kind": "Pod", "apiVersion": "v1"}));
    let missing = Answer::Json(404, json!({"message": "no"}));
    let api = FakeApi::new([ok("1", 1), missing, Answer::Refuse, broken, ok("1", 1)]);
    let mut follow = follow(&api, false);
    changed(&mut follow).await;
    assert_eq!(lost(&mut follow).await, "not_found");
    assert_eq!(lost(&mut follow).await, "unreachable");
    assert_eq!(lost(&mut follow).await, "malformed");
    assert_eq!(replicas(&follow), 1);
    let late = Timestamp::from_ms(900_000);
    assert_eq!(follow.known_at(late), Some(Timestamp::from_ms(0)));
    assert!(matches!(
        next(&mut follow).await,
        Some(RayClusterChange::InStep)
    ));
    assert!(follow.known_at(late) > Some(Timestamp::from_ms(2_000)));
}

#[tokio::test(start_paused = true)]
async fn it_can_be_read_at_any_time() {
    let api = FakeApi::new([ok("1", 1), ok("2", 2), Answer::Refuse]);
    let mut follow = follow(&api, false);
    assert!(follow.get_now().await.unwrap());
    assert!(follow.get_now().await.unwrap());
    assert_eq!(replicas(&follow), 2);
    assert_eq!(follow.get_now().await.unwrap_err().kind(), "unreachable");
}

#[tokio::test(start_paused = true)]
async fn where_it_may_be_watched_it_is_not_read() {
    let (answer, events) = stream();
    let api = FakeApi::new([list("4", &[object("1", 1)]), answer]);
    let mut follow = follow(&api, true);
    changed(&mut follow).await;
    feed(&events, "MODIFIED", &object("6", 2));
    changed(&mut follow).await;
    assert!(follow.adopt(&object("9", 5)).unwrap());
    feed(&events, "MODIFIED", &object("8", 4));
    assert!(next(&mut follow).await.is_none());
    assert_eq!(replicas(&follow), 5);
    feed(&events, "DELETED", &object("10", 5));
    assert_eq!(lost(&mut follow).await, "not_found");
    let requests = api.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].contains("fieldSelector=metadata.name%3Dc&watch=true"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_forbidden_gives_way_to_reading() {
    let forbidden = Answer::Json(403, json!({"message": "no"}));
    let api = FakeApi::new([forbidden, ok("1", 1)]);
    let mut follow = follow(&api, true);
    assert_eq!(lost(&mut follow).await, "forbidden");
    assert!(!follow.is_watching());
    changed(&mut follow).await;
    assert!(api.requests()[1].ends_with("/rayclusters/c"));
}

/// A patch fails, and so does the read that follows it; then all is well again and nobody edits anything.
#[tokio::test(start_paused = true)]
async fn a_read_that_failed_beside_a_watch_is_made_up_for() {
    let (answer, events) = stream();
    let forbidden = || Answer::Json(403, json!({"message": "no"}));
    let (listed, again) = (list("4", &[object("1", 1)]), list("4", &[object("1", 1)]));
    let (second, more) = stream();
    let api = FakeApi::new([listed, answer, forbidden(), again, second]);
    let mut follow = follow(&api, true);
    changed(&mut follow).await;
    assert!(next(&mut follow).await.is_none(), "nothing happens");
    assert_eq!(follow.get_now().await.unwrap_err().kind(), "forbidden");
    let change = next(&mut follow).await;
    assert!(
        matches!(change, Some(RayClusterChange::InStep)),
        "{change:?}"
    );
    assert!(follow.is_watching());
    drop((events, more));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_was_forbidden_is_tried_again_and_nobody_is_alarmed() {
    let list = || list("4", &[object("4", 1)]);
    let (opened, events) = stream();
    let (again, more) = stream();
    let api = FakeApi::new([list(), opened]);
    let mut follow = follow(&api, true);
    changed(&mut follow).await;
    assert!(next(&mut follow).await.is_none());
    // Reading is allowed all the time, listing for nobody until it has been refused twice.
    let (mut refusals, mut watch) = (0, Some(again));
    api.otherwise(move |path| {
        if path.ends_with("/rayclusters/c") {
            return ok("4", 1);
        }
        if refusals < 2 {
            refusals += 1;
            return Answer::Json(403, json!({"code": 403, "message": "no"}));
        }
        if path.contains("watch=true") {
            return watch.take().unwrap_or(Answer::Silence);
        }
        list()
    });
    api.requests();
    drop(events);
    for _ in 0..11 {
        let change = next(&mut follow).await;
        assert!(change.is_none(), "{change:?}");
    }
    let requests = api.requests();
    let reads = requests
        .iter()
        .filter(|it| it.ends_with("/rayclusters/c"))
        .count();
    assert_eq!(requests.len() - reads, 4, "{requests:?}");
    assert!(reads > 100, "{requests:?}");
    assert!(follow.is_watching(), "{requests:?}");
    drop(more);
}
