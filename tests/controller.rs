//! The loop under virtual time: what is written when, and what holds it back.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod core;
#[path = "support/loop_world.rs"]
mod loop_world;

use std::sync::Arc;
use std::time::Duration;

use core::builders::{Cluster, NOW, group};
use loop_world::{World, done, failed, refused, seen, waiting};
use rayscaler::engine::{ChainEntry, Engine};
use rayscaler::model::{
    Departure, DepartureKind, History, Input, Intent, IntentSeen, NodeId, NodeStatus,
};
use rayscaler::observe::Observed;
use rayscaler::policy::Registry;
use rayscaler::wire::kube_client::CallError;

#[tokio::test(start_paused = true)]
async fn each_failure_holds_writing_for_its_time() {
    let unreachable = || failed(CallError::Unreachable("refused".to_owned()));
    let limited = |secs| {
        failed(CallError::RateLimited {
            status: 429,
            retry_after: Some(Duration::from_secs(secs)),
        })
    };
    let cases = [
        (vec![refused(422)], vec![0, 0]),
        (vec![refused(409)], vec![0, 0]),
        (vec![refused(404)], vec![0, 0]),
        (vec![failed(CallError::Timeout)], vec![0, 0]),
        (
            vec![failed(CallError::Malformed("eof".to_owned()))],
            vec![0, 0],
        ),
        (
            vec![refused(422), refused(422), refused(422)],
            vec![0, 0, 400, 1_200],
        ),
        (vec![refused(500), refused(503)], vec![0, 1_000, 2_000]),
        (vec![unreachable()], vec![0, 1_000]),
        (vec![refused(401)], vec![0, 1_000]),
        (vec![limited(7)], vec![0, 7_000]),
        (vec![limited(86_400)], vec![0, 60_000]),
        (vec![limited(0)], vec![0, 200]),
        (vec![refused(403)], vec![0, 5_000]),
        (vec![refused(413)], vec![0, 5_000]),
        (vec![refused(400)], vec![0, 5_000]),
    ];
    for (answers, acts) in cases {
        let what = format!("{answers:?}");
        let world = World::start(answers);
        world.tell(seen(waiting(3)));
        world.until(61_000).await;
        assert_eq!(world.times_of("act 3"), acts, "{what}");
        world.running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn after_every_failure_the_object_is_read_again_before_the_next_try() {
    let world = World::start(vec![refused(422), refused(500)]);
    world.tell(seen(waiting(2)));
    world.until(3_000).await;
    let expected = [
        (0, "act 2"),
        (0, "acted"),
        (0, "pass"),
        (0, "read"),
        (0, "act 2"),
        (0, "acted"),
        (0, "pass"),
        (0, "read"),
        (0, "pass backing_off"),
        (1_000, "act 2"),
        (1_000, "acted"),
        (1_000, "adopt {\"replicas\":2}"),
        (1_000, "pass"),
    ];
    let expected = expected.map(|(at, text)| (at, text.to_owned()));
    assert_eq!(world.notes(), expected);
}

#[tokio::test(start_paused = true)]
async fn news_during_a_back_off_is_decided_upon_but_not_written() {
    let world = World::start(vec![refused(403)]);
    world.tell(seen(waiting(3)));
    world.until(1_000).await;
    world.tell(seen(waiting(4)));
    world.until(1_001).await;
    assert_eq!(world.times_of("act"), [0, 0]);
    assert_eq!(world.times_of("pass backing_off"), [0, 1_000]);
    world.until(5_000).await;
    assert_eq!(world.times_of("act 4"), [5_000]);
}

#[tokio::test(start_paused = true)]
async fn another_group_waits_a_second_for_what_one_may_not_become() {
    let both = |gpus| {
        let cluster = Cluster::default()
            .group(group("cpu", "CPU=1"))
            .group(group("gpu", "GPU=1"));
        seen(cluster.demand("CPU=1", 3).demand("GPU=1", gpus))
    };
    let may_not = || {
        failed(CallError::refused(
            403,
            "admission webhook denied the request",
        ))
    };
    let no_right = || {
        failed(CallError::refused(
            403,
            "user cannot patch resource rayclusters",
        ))
    };
    for (answer, expected) in [(may_not(), vec![0, 1_000]), (no_right(), vec![0, 5_000])] {
        let world = World::start(vec![answer, may_not(), may_not(), may_not()]);
        world.tell(both(0));
        world.until(300).await;
        for at in [400, 1_500, 2_500] {
            world.tell(both(1));
            world.until(at).await;
        }
        world.until(5_500).await;
        assert_eq!(world.times_of("act 3"), expected);
        world.running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn back_off_grows_to_five_seconds_and_starts_anew_after_a_success() {
    let mut answers: Vec<_> = (0..12).map(|_| refused(500)).collect();
    answers.push(done(0, 3));
    answers.push(refused(500));
    let world = World::start(answers);
    world.tell(seen(waiting(3)));
    world.until(100_000).await;
    let acts = world.times_of("act 3");
    let pauses: Vec<u64> = acts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let expected = [
        1_000, 1_000, 1_000, 1_600, 3_200, 5_000, 5_000, 5_000, 5_000, 5_000, 5_000, 5_000,
    ];
    assert_eq!(pauses, expected);
    world.tell(seen(waiting(5)));
    world.until(102_000).await;
    assert_eq!(world.times_of("act 5"), [100_000, 101_000]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_tried_every_five_seconds() {
    let world = World::start((0..14).map(|_| failed(CallError::Timeout)).collect());
    world.tell(seen(waiting(3)));
    world.until(100_000).await;
    let acts = world.times_of("act 3");
    let pauses: Vec<u64> = acts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses.len(), 14, "{pauses:?}");
    assert_eq!(pauses.iter().max(), Some(&5_000), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn who_reads_what_is_no_more_tries_every_five_seconds() {
    let words = "the server rejected our request due to an error in our request";
    for (status, words) in [(422, words), (409, "the object has been modified")] {
        let refused = || failed(CallError::refused(status, words));
        let world = World::start((0..14).map(|_| refused()).collect());
        world.tell(seen(waiting(3)));
        world.until(60_000).await;
        let acts = world.times_of("act 3");
        let pauses: Vec<u64> = acts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.len() > 12, "{pauses:?}");
        assert_eq!(pauses.iter().max(), Some(&5_000), "{pauses:?}");
        world.running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_a_person_can_change_is_tried_every_half_minute() {
    let world = World::start((0..12).map(|_| refused(403)).collect());
    world.tell(seen(waiting(3)));
    world.until(200_000).await;
    let acts = world.times_of("act 3");
    let pauses: Vec<u64> = acts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let expected = [
        5_000, 5_000, 5_000, 5_000, 5_000, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000, 30_000,
    ];
    assert_eq!(pauses, expected);
}

#[tokio::test(start_paused = true)]
async fn once_the_right_to_write_is_back_nothing_waits_for_the_half_minute() {
    let mut answers: Vec<_> = (0..9).map(|_| refused(403)).collect();
    answers.extend([done(0, 3), refused(403)]);
    let world = World::start(answers);
    world.tell(seen(waiting(3)));
    world.until(80_000).await;
    assert_eq!(world.times_of("act 3").len(), 9);
    world.may_write.notify_one();
    world.until(80_001).await;
    assert_eq!(world.times_of("act 3").last(), Some(&80_000));
    // What is refused all the same waits as before.
    world.tell(seen(waiting(4)));
    world.until(80_002).await;
    world.may_write.notify_one();
    world.until(80_500).await;
    assert_eq!(world.times_of("act 4"), [80_001, 80_002]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_somebody_else_settled_is_forgotten() {
    let world = World::start(vec![refused(500), refused(422)]);
    world.tell(seen(waiting(3)));
    world.until(100).await;
    world.tell(seen(waiting(3).replicas("cpu", 3)));
    world.until(20_000).await;
    world.tell(seen(waiting(5).replicas("cpu", 3)));
    world.until(20_010).await;
    assert_eq!(world.times_of("act 5"), [20_000, 20_000]);
}

#[tokio::test(start_paused = true)]
async fn the_object_that_a_patch_returned_is_what_is_decided_on_next() {
    let world = World::start(Vec::new());
    world.tell(seen(waiting(3)));
    world.until(60_000).await;
    assert_eq!(world.times_of("adopt {\"replicas\":3}"), [0]);
    assert_eq!(world.times_of("act"), [0, 0], "{:?}", world.notes());
    assert!(world.times_of("read").is_empty());
}

#[tokio::test(start_paused = true)]
async fn paused_by_annotation_nothing_is_written_and_after_it_at_once() {
    let world = World::start(Vec::new());
    let mut paused = waiting(3);
    paused.snapshot.paused = Some("annotation".to_owned());
    world.tell(seen(paused));
    world.until(12_000).await;
    assert!(world.times_of("act").is_empty());
    assert_eq!(world.times_of("pass paused"), [0, 5_000, 10_000]);
    world.tell(seen(waiting(3)));
    world.until(12_001).await;
    assert_eq!(world.times_of("act 3"), [12_000]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_settings_takes_effect_at_once() {
    let world = World::start(Vec::new());
    world.change_settings(|settings| settings.scaling.paused = true);
    world.tell(seen(waiting(3)));
    world.until(1_234).await;
    assert!(world.times_of("act").is_empty());
    world.change_settings(|settings| settings.scaling.paused = false);
    world.until(1_235).await;
    assert_eq!(world.times_of("act 3"), [1_234]);
    let chain: Vec<ChainEntry> = Vec::new();
    let nothing = Engine::new(&chain, &Registry::default()).unwrap();
    world.tell(seen(waiting(7)));
    world.change_settings(|settings| settings.engine = Arc::new(nothing));
    world.until(20_000).await;
    assert!(world.times_of("act 7").is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_loop_wakes_for_the_next_check_the_report_and_the_heartbeat() {
    let world = World::start(Vec::new());
    world.until(11_000).await;
    assert_eq!(world.times_of("blind pass"), [5_000, 10_000]);
    *world.report_at.lock().unwrap() = Some(NOW.plus_ms(11_700));
    // Idle for 59 s; it goes after more than 60.
    let idle = Cluster::default().group(group("cpu", "CPU=1"));
    let mut idle = idle.idle("cpu", "w1", 0);
    idle.node_mut("w1").idle_since = Some(NOW.plus_ms(11_000).minus_ms(59_000));
    world.tell(seen(idle));
    world.until(12_000).await;
    assert_eq!(world.times_of("pass"), [11_000, 11_700]);
    // Then it is looked at once more.
    world.until(12_200).await;
    assert_eq!(world.times_of("act 0"), [12_101], "{:?}", world.notes());
}

#[tokio::test(start_paused = true)]
async fn a_patch_in_flight_is_finished_before_the_end() {
    let mut world = World::start(Vec::new());
    *world.act_takes_ms.lock().unwrap() = 800;
    world.tell(seen(waiting(3)));
    world.until(100).await;
    world.stop();
    world.until(700).await;
    assert!(!world.running.is_finished());
    assert!(world.times_of("acted").is_empty());
    world.until(900).await;
    assert_eq!(world.times_of("acted"), [800]);
    assert!(world.running.is_finished());
    assert_eq!(world.times_of("pass"), [800]);
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_while_nothing_happens_the_loop_returns_at_once() {
    let mut world = World::start(Vec::new());
    world.until(100).await;
    world.stop();
    world.until(101).await;
    assert!(world.running.is_finished());
}

#[tokio::test(start_paused = true)]
async fn what_the_loop_remembers_goes_with_the_gcs_it_was_about() {
    for (is_gcs_replaced, remembered) in [(false, 1), (true, 0)] {
        let mut world = World::start(Vec::new());
        let cluster = waiting(3).busy("cpu", "refusing").busy("cpu", "drained");
        world.tell(seen(cluster.clone()));
        world.until(1_000).await;
        assert_eq!(world.times_of("act"), [0, 0], "{:?}", world.notes());
        let after = cluster.replicas("cpu", 5);
        world.tell(Observed {
            is_gcs_replaced,
            ..seen(after)
        });
        world.until(2_000).await;
        world.stop();
        assert_eq!(world.running.await.unwrap(), remembered);
    }
}

/// Adds a node that Ray takes for alive although its pod is gone.
fn with_lost_node(mut cluster: Cluster) -> Cluster {
    cluster.snapshot.departures = vec![Departure {
        node_id: NodeId::from_bytes(&[7; 28]).unwrap(),
        pod: "w9".into(),
        pod_uid: "u9".to_owned(),
        group: "cpu".into(),
        kind: DepartureKind::Gone,
    }];
    cluster
}

#[tokio::test(start_paused = true)]
async fn ray_is_told_of_a_lost_node_at_once_and_again_only_after_a_while() {
    // A patch that may not be written is no reason to keep it to ourselves.
    let world = World::start(vec![refused(403)]);
    world.tell(seen(with_lost_node(waiting(3))));
    world.until(100).await;
    world.tell(seen(with_lost_node(waiting(4))));
    world.until(4_900).await;
    assert_eq!(world.times_of("tell w9 gone"), [0]);
    world.until(10_900).await;
    assert_eq!(world.times_of("tell w9 gone"), [0, 5_000, 10_000]);
    world.tell(seen(waiting(4)));
    world.until(11_000).await;
    world.tell(seen(with_lost_node(waiting(4))));
    world.until(11_100).await;
    assert_eq!(world.times_of("tell").last(), Some(&11_000));
}

#[tokio::test(start_paused = true)]
async fn ray_is_not_told_of_a_lost_node_while_anything_is_unsure() {
    type Spoil = fn(&mut Cluster);
    let reasons: [(&str, Spoil); 3] = [
        ("paused", |it| {
            it.snapshot.paused = Some("by hand".to_owned())
        }),
        ("no head", |it| it.snapshot.nodes.clear()),
        ("fenced", |it| {
            it.snapshot.writing.fenced = Some("by another".to_owned())
        }),
    ];
    for (what, spoil) in reasons {
        let world = World::start(Vec::new());
        let mut cluster = with_lost_node(waiting(3));
        spoil(&mut cluster);
        world.tell(seen(cluster));
        world.until(12_000).await;
        assert!(world.times_of("tell").is_empty(), "{what}");
        world.running.abort();
    }
    let world = World::start(Vec::new());
    world.tell(Observed {
        is_gcs_replaced: true,
        ..seen(with_lost_node(waiting(3)))
    });
    world.until(14_000).await;
    assert_eq!(world.times_of("tell"), [10_000], "the GCS is another one");
}

#[tokio::test(start_paused = true)]
async fn who_is_fenced_writes_nothing_until_it_is_over() {
    let world = World::start(Vec::new());
    let mut fenced = waiting(3);
    fenced.snapshot.writing.fenced = Some("a newer head".to_owned());
    world.tell(seen(fenced));
    world.until(6_000).await;
    assert_eq!(world.times_of("pass fenced"), [0, 5_000]);
    assert!(world.times_of("act").is_empty());
    world.tell(seen(waiting(3)));
    world.until(6_100).await;
    assert_eq!(world.times_of("act 3"), [6_000]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_head_is_succeeded_with_a_word_though_nothing_is_to_be_scaled() {
    let world = World::start(Vec::new());
    let mut inherited = waiting(3).replicas("cpu", 3);
    inherited.snapshot.writing.is_inherited = true;
    world.tell(seen(inherited.clone()));
    world.until(1_000).await;
    assert_eq!(world.times_of("act 3").first(), Some(&0));
    inherited.snapshot.writing.is_inherited = false;
    world.tell(seen(inherited));
    world.until(1_001).await;
    let before = world.times_of("act").len();
    world.until(20_000).await;
    assert_eq!(world.times_of("act").len(), before);
}

#[tokio::test(start_paused = true)]
async fn who_may_write_nothing_claims_nothing() {
    let world = World::start(Vec::new());
    let mut inherited = waiting(3).replicas("cpu", 3);
    inherited.snapshot.writing.is_inherited = true;
    inherited.snapshot.is_suspended = true;
    world.tell(seen(inherited.clone()));
    world.until(6_000).await;
    assert!(world.times_of("act").is_empty(), "{:?}", world.notes());
    inherited.snapshot.is_suspended = false;
    world.tell(seen(inherited));
    world.until(6_001).await;
    assert_eq!(world.times_of("act 3").first(), Some(&6_000));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_takes_too_long_makes_the_view_doubtful() {
    let mut cluster = waiting(0).busy("cpu", "w1");
    cluster.group_mut("cpu").workers_to_delete = vec!["w1".into()];
    cluster.node_mut("w1").status = NodeStatus::Terminating;
    let world = World::start(Vec::new());
    world.tell(seen(cluster));
    world.until(34_000).await;
    assert!(world.times_of("doubt").is_empty());
    world.until(41_000).await;
    assert!(!world.times_of("doubt").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_sidecar_left_waits_for_the_first_list_of_pods() {
    let mut left = History::default();
    left.absorb(&Input::DrainAccepted(&"w1".into()), NOW.minus_ms(500));
    let by = NOW.plus_ms(60_000);
    let told = "w2".into();
    left.absorb(&Input::ToldToGo { pod: &told, by }, NOW);
    let mut whole = waiting(0);
    whole = whole.busy("cpu", "w1").busy("cpu", "w2").busy("cpu", "w3");
    whole.group_mut("cpu").workers_to_delete = vec!["w3".into()];
    whole.node_mut("w3").status = NodeStatus::Deleting;
    whole.snapshot.writing.seen = IntentSeen::Text(Intent::of(&left, None, NOW).to_text());
    let mut early = whole.clone();
    early.snapshot.nodes.clear();
    early.snapshot.completeness.pods_at = None;
    let world = World::start(Vec::new());
    world.tell(seen(early));
    world.until(100).await;
    assert_eq!(world.times_of("pass"), [0], "that we wait is reported");
    assert!(world.times_of("act").is_empty());
    world.tell(seen(whole));
    world.until(200).await;
    let remembered = world.remembered.lock().unwrap().clone();
    assert!(remembered.drained_at.contains_key(&"w1".into()));
    assert_eq!(remembered.finish_by.get(&"w2".into()), Some(&by));
    // The predecessor's own name is not taken for somebody's order.
    assert!(remembered.followed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_waits_after_a_refusal_is_called_without_a_change() {
    let mut cluster = Cluster::default().group(group("cpu", "CPU=1"));
    cluster.group_mut("cpu").bounds.min = 2;
    let mut cluster = cluster.replicas("cpu", 2);
    cluster.snapshot.replica_failure = Some("exceeded quota".to_owned());
    let world = World::start(Vec::new());
    world.tell(seen(cluster));
    world.until(119_000).await;
    assert!(world.times_of("act").is_empty(), "{:?}", world.notes());
    world.until(121_000).await;
    assert_eq!(world.times_of("act 2").first(), Some(&120_000));
}
