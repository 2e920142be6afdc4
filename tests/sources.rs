//! The task that asks Ray: beside a real head, and beside a server that answers nonsense.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/hostile_ray.rs"]
mod hostile_ray;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use hostile_ray::{Answer, Server, by_count, good_load, good_state, state_with};
use prost::Message as _;
use rayscaler::clock::Clock;
use rayscaler::observe::RayletSettings;
use rayscaler::observe::pace::PaceLimits;
use rayscaler::observe::ray::{RaySettings, RaySource, RayUpdate};
use rayscaler::observe::raylets::RayletBudget;
use rayscaler::wire::gcs::ray::rpc;
use rayscaler::wire::gcs::{GcsClient, RayletClient};
use support::ray::{HeadOptions, RayHead, RayVersion};
use support::ray_process::signal;
use support::wait::eventually;
use tokio::sync::watch;

struct Asking {
    updates: watch::Receiver<RayUpdate>,
    task: tokio::task::JoinHandle<()>,
    _settings: watch::Sender<RaySettings>,
}

impl Asking {
    fn start(gcs: GcsClient, raylets: RayletClient) -> Self {
        let budget = RayletBudget {
            all_up_to: 8,
            per_round: 8,
        };
        let (settings, seen) = watch::channel(RaySettings {
            pace: PaceLimits {
                interval_min_ms: 50,
                interval_max_ms: 200,
                budget_percent: 100,
            },
            raylets: Some(RayletSettings { budget }),
        });
        let (updates, updates_seen) = watch::channel(RayUpdate::default());
        let source = RaySource::new(gcs, raylets, Clock::system(), seen);
        Self {
            updates: updates_seen,
            task: tokio::spawn(source.run(updates)),
            _settings: settings,
        }
    }

    fn of(head: &RayHead) -> Self {
        Self::start(head.client(), head.raylets())
    }

    fn now(&self) -> RayUpdate {
        self.updates.borrow().clone()
    }

    async fn until(&self, what: &str, is_so: impl Fn(&RayUpdate) -> bool) -> RayUpdate {
        eventually(what, async || {
            assert!(!self.task.is_finished(), "the task ended");
            let update = self.now();
            is_so(&update).then_some(update)
        })
        .await
    }

    /// Waits until this error is told.
    async fn fails_with(&self, kind: &str) -> RayUpdate {
        self.until(kind, |update| {
            update
                .error
                .as_ref()
                .is_some_and(|error| error.kind == kind)
        })
        .await
    }

    async fn is_well(&self) -> RayUpdate {
        self.until("a good reply", |update| {
            update.error.is_none() && update.state.is_some()
        })
        .await
    }
}

/// Returns how many requests wait for each shape.
fn demand(update: &RayUpdate) -> BTreeMap<String, u64> {
    let demands = update.state.iter().flat_map(|state| &state.demands);
    let mut counts = BTreeMap::new();
    for demand in demands {
        *counts
            .entry(demand.request.resources.to_string())
            .or_default() += demand.count;
    }
    counts
}

async fn tasks_come_and_go(version: RayVersion) {
    let head = RayHead::start(HeadOptions {
        version,
        ..HeadOptions::default()
    })
    .await;
    let mut asking = Asking::of(&head);
    let update = asking
        .until("facts", |update| {
            update.facts.raylets_answered > 0 && !update.facts.head_ip.is_empty()
        })
        .await;
    assert_eq!(update.facts.is_v2, Some(true));
    let head_ip = update.facts.head_ip.as_str();
    assert_eq!(head.raylet_address().await.split(':').next(), Some(head_ip));
    if version == RayVersion::Newest {
        assert_eq!(
            update.facts.head_temp_dir,
            head.temp_dir().to_string_lossy()
        );
    }
    let is_more = |update: &RayUpdate| {
        let counts = demand(update);
        counts.get("{CPU: 8}") > Some(&3) || counts.get("{CPU: 1}") > Some(&32)
    };
    let watching = tokio::spawn({
        let mut updates = asking.updates.clone();
        async move {
            while updates.changed().await.is_ok() {
                let update = updates.borrow_and_update().clone();
                assert!(!is_more(&update), "{:?}", demand(&update));
            }
        }
    });
    let driver = head.driver("demand.py", &[]);
    asking
        .until("every task once", |update| {
            let counts = demand(update);
            counts.get("{CPU: 8}") == Some(&3) && counts.get("{CPU: 1}") == Some(&32)
        })
        .await;
    let update = asking
        .until("placement groups and request_resources", |update| {
            let state = update.state.as_ref().unwrap();
            state.gangs.len() == 2 && state.constraint.is_some()
        })
        .await;
    assert_eq!((update.replaced, update.restarted), (0, 0));
    drop(driver);
    asking
        .until("nothing", |update| demand(update).is_empty())
        .await;
    assert!(!watching.is_finished(), "a task was counted twice");
    watching.abort();

    // Nothing happens now: rounds go on and wake nobody.
    eventually("a quiet second", async || {
        let before = asking.updates.borrow_and_update().state.clone().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = asking.now().state.unwrap();
        assert!(after.state_version > before.state_version);
        (!asking.updates.has_changed().unwrap()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn tasks_are_seen_once_and_go_again() {
    tasks_come_and_go(RayVersion::Newest).await;
}

#[tokio::test]
async fn tasks_of_the_oldest_ray_are_seen_once_and_go_again() {
    tasks_come_and_go(RayVersion::Oldest).await;
}

#[tokio::test]
async fn a_task_is_seen_before_the_gcs_knows_of_it() {
    let head = RayHead::start(HeadOptions {
        // The GCS asks raylets for their load this often; ours are asked directly.
        env: vec![(
            "RAY_gcs_pull_resource_loads_period_milliseconds".to_owned(),
            "3600000".to_owned(),
        )],
        ..HeadOptions::default()
    })
    .await;
    let asking = Asking::of(&head);
    let mut driver = head.driver("hold_task.py", &[r#"{"CPU": 3}"#]);
    driver.prints("submitted").await;
    let update = asking
        .until("the task", |update| !demand(update).is_empty())
        .await;
    assert_eq!(
        demand(&update),
        BTreeMap::from([("{CPU: 3}".to_owned(), 1)])
    );
    let reply = head.client().get_cluster_resource_state().await.unwrap();
    let state = reply.cluster_resource_state.unwrap();
    assert!(state.pending_resource_requests.is_empty(), "{state:?}");
}

#[tokio::test]
async fn without_v2_the_constraint_comes_from_the_kv() {
    let head = RayHead::start(HeadOptions {
        autoscaler_v2: false,
        ..HeadOptions::default()
    })
    .await;
    let asking = Asking::of(&head);
    let update = asking.is_well().await;
    assert_eq!(update.facts.is_v2, Some(false));
    assert!(update.state.unwrap().constraint.is_none());
    let driver = head.driver("request_resources.py", &[r#"[{"CPU": 1}, {"GPU": 2}]"#]);
    driver.finish().await;
    let update = asking
        .until("the constraint", |update| {
            update.state.as_ref().unwrap().constraint.is_some()
        })
        .await;
    let asked = update.state.unwrap().constraint.clone().unwrap();
    assert_eq!(asked.demands.len(), 2);
}

#[tokio::test]
async fn a_dead_gcs_is_told_and_a_new_one_is_another_cluster() {
    let mut head = RayHead::start(HeadOptions::default()).await;
    let port: u16 = head.address().rsplit(':').next().unwrap().parse().unwrap();
    let asking = Asking::of(&head);
    let before = asking.is_well().await.state.unwrap();
    let members = head.process.members();
    let gcs = members
        .iter()
        .filter(|(_, words)| words.contains("gcs_server"));
    signal("KILL", gcs.map(|(id, _)| *id));
    let update = asking.fails_with("unreachable").await;
    let kept = update.state.unwrap();
    assert_eq!(kept.session_name, before.session_name);
    assert_eq!(kept.nodes.len(), before.nodes.len());
    head.process.kill();

    let mut updates = asking.updates.clone();
    let was_forgotten = tokio::spawn(async move {
        let forgotten = |update: &RayUpdate| update.replaced == 1 && update.state.is_none();
        updates.wait_for(forgotten).await.is_ok()
    });
    let options = HeadOptions {
        port: Some(port),
        ..HeadOptions::default()
    };
    let _new_head = RayHead::start(options).await;
    let update = asking
        .until("the new cluster", |update| {
            update.replaced == 1 && update.error.is_none() && update.state.is_some()
        })
        .await;
    assert!(was_forgotten.await.unwrap());
    assert_ne!(update.state.unwrap().session_name, before.session_name);
}

fn tasks(count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([("{CPU: 1}".to_owned(), count)])
}

#[tokio::test]
async fn whatever_the_gcs_answers_the_last_good_state_stays_and_asking_goes_on() {
    let (server, gcs, raylets) = Server::start();
    let asking = Asking::start(gcs, raylets);
    asking
        .until("what the raylet says", |update| demand(update) == tasks(3))
        .await;
    let whole = good_state().encode_to_vec();
    let truncated = whole[..whole.len() - 3].to_vec();
    let failures = [
        (Answer::Bytes(Vec::new()), "malformed"),
        (Answer::Bytes(truncated), "malformed"),
        (Answer::Bytes(vec![0xff; 100]), "malformed"),
        (Answer::Never, "timeout"),
        (Answer::Status(12), "rejected"),
        (Answer::Status(14), "unreachable"),
    ];
    for (failure, kind) in failures {
        server.set("GetClusterResourceState", failure);
        let update = asking.fails_with(kind).await;
        assert_eq!(update.state.unwrap().nodes.len(), 1, "{kind}");
        assert_eq!((update.replaced, update.restarted), (0, 0));
        server.set("GetClusterResourceState", Answer::of(&good_state()));
        asking.is_well().await;
    }
}

#[tokio::test]
async fn values_that_make_no_sense_are_left_out_and_named() {
    let (server, gcs, raylets) = Server::start();
    server.set("GetResourceLoad", Answer::Status(12));
    let asking = Asking::start(gcs, raylets);
    asking.is_well().await;
    let strange = state_with(
        99,
        vec![
            by_count(f64::NAN, 1),
            by_count(1.0, -7),
            by_count(-1.0, 1),
            by_count(f64::INFINITY, 1),
            by_count(2.0, i64::MAX),
            by_count(1e300, 1),
        ],
    );
    server.set("GetClusterResourceState", Answer::of(&strange));
    let update = asking
        .until("problems", |update| {
            !update.state.as_ref().unwrap().problems.is_empty()
        })
        .await;
    let counts = demand(&update);
    assert_eq!(counts["{CPU: 2}"], i64::MAX.unsigned_abs());
    assert!(!counts.contains_key("{CPU: 1}"), "{counts:?}");
    let state = update.state.unwrap();
    assert!(!state.nodes[0].status.is_alive());
    assert!(state.problems.len() >= 4, "{:?}", state.problems);
    assert!(update.error.is_none());
    server.set("GetClusterResourceState", Answer::of(&good_state()));
    asking
        .until("sense", |update| demand(update) == tasks(5))
        .await;
}

#[tokio::test]
async fn for_raylets_that_do_not_answer_the_gcs_speaks() {
    let strangers = rpc::GetResourceLoadReply {
        resources: Some(rpc::ResourcesData {
            node_id: vec![9; 28],
            ..rpc::ResourcesData::default()
        }),
    };
    let broken = vec![0xff; 40];
    let answers = [
        Answer::Status(12),
        Answer::Never,
        Answer::Bytes(broken),
        Answer::of(&strangers),
    ];
    for answer in answers {
        let (server, gcs, raylets) = Server::start();
        server.set("GetResourceLoad", answer);
        let asking = Asking::start(gcs, raylets);
        let update = asking
            .until("the raylet is silent", |update| {
                update.facts.raylets_silent == 1
            })
            .await;
        assert_eq!(demand(&update), tasks(5));
        assert!(update.error.is_none());
        server.set("GetResourceLoad", Answer::of(&good_load()));
        asking
            .until("the raylet speaks", |update| {
                update.facts.raylets_silent == 0 && demand(update) == tasks(3)
            })
            .await;
    }
}
