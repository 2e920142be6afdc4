//! Placement groups that wait for nodes: what they hold, and when they let go of it.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::Engine;
use rayscaler::model::{Input, PlacementStrategy, ScaleDecision};
use serde_json::json;
use support::builders::{Cluster, group, lines, running};
use support::passes::{engine, patched, see, wait};

/// Two placement groups of three nodes each in a group that has four, of which three run.
fn two_halves() -> Cluster {
    let mut cluster = Cluster::default()
        .group(group("gpu", "CPU=4"))
        .gang("aa", PlacementStrategy::StrictSpread, &[("CPU=4", 3)])
        .gang("bb", PlacementStrategy::StrictSpread, &[("CPU=4", 3)]);
    for pod in ["w1", "w2"] {
        cluster = cluster.node(running("gpu", pod, "CPU=4"));
        let now = cluster.now;
        cluster.node_mut(pod).idle_since = Some(now);
    }
    see(&mut cluster);
    cluster
}

/// Decides, carries it out and remembers, as the controller does.
fn pass(cluster: &mut Cluster, engine: &Engine) -> ScaleDecision {
    let decision = cluster.decide_with(engine);
    cluster
        .history
        .absorb(&Input::Decided(&decision), cluster.now);
    patched(cluster, &decision);
    decision
}

fn waiting(decision: &ScaleDecision) -> Vec<(&str, &str)> {
    let unserved = decision.unserved.iter();
    unserved
        .map(|it| (it.what.as_str(), it.code.as_str()))
        .collect()
}

#[test]
fn a_group_that_stays_incomplete_lets_go_and_is_planned_again_after_a_pause() {
    let engine = Engine::default();
    let mut cluster = two_halves();
    let decision = pass(&mut cluster, &engine);
    assert_eq!(
        lines(&decision)[0],
        "gpu 2 -> 6: placement_group",
        "{decision:?}"
    );
    // Nothing comes for a quarter of an hour.
    wait(&mut cluster, 899);
    let decision = pass(&mut cluster, &engine);
    assert!(waiting(&decision).is_empty(), "{decision:?}");
    wait(&mut cluster, 1);
    let decision = pass(&mut cluster, &engine);
    assert_eq!(waiting(&decision), [("placement group bb", "incomplete")]);
    // The other one has its full time again, with what is left.
    let aa = &decision.gang_waits["aa"];
    assert_eq!((aa.since, aa.tries), (cluster.now, 0));
    let until = decision.gang_waits["bb"].paused_until.unwrap();
    let pause_ms = until.millis_since(cluster.now);
    assert!((120_000..=180_000).contains(&pause_ms), "{pause_ms}");
    assert!(decision.next_check_at.is_some_and(|at| at <= until));
    // What only it needed is given back meanwhile.
    wait(&mut cluster, 40);
    let decision = pass(&mut cluster, &engine);
    assert_eq!(lines(&decision)[0], "gpu 6 -> 3: pending_idle");
    // It is planned again after the pause, and holds on for its full time.
    wait(&mut cluster, 200);
    let decision = pass(&mut cluster, &engine);
    assert!(waiting(&decision).is_empty(), "{decision:?}");
    assert_eq!(lines(&decision)[0], "gpu 3 -> 6: placement_group");
    let bb = &decision.gang_waits["bb"];
    assert_eq!(
        (bb.since, bb.tries, bb.paused_until),
        (cluster.now, 1, None)
    );
}

#[test]
fn the_one_that_has_the_most_keeps_it_and_progress_gives_more_time() {
    let engine = Engine::default();
    let mut cluster = two_halves();
    pass(&mut cluster, &engine);
    wait(&mut cluster, 600);
    cluster = cluster
        .node(running("gpu", "w3", "CPU=4"))
        .replicas("gpu", 6);
    let now = cluster.now;
    cluster.node_mut("w3").idle_since = Some(now);
    see(&mut cluster);
    let decision = pass(&mut cluster, &engine);
    let waits: Vec<u64> = decision.gang_waits.values().map(|it| it.ready).collect();
    assert_eq!(waits, [3, 0], "the first has all that run");
    wait(&mut cluster, 300);
    let decision = pass(&mut cluster, &engine);
    assert_eq!(waiting(&decision), [("placement group bb", "incomplete")]);
    wait(&mut cluster, 599);
    let decision = pass(&mut cluster, &engine);
    assert!(!waiting(&decision).contains(&("placement group aa", "incomplete")));
}

#[test]
fn pauses_double_up_to_half_an_hour_and_differ_from_group_to_group() {
    let settings = json!({"incomplete_after": "1m"});
    let engine = engine(&[("gangs", settings)]);
    let mut cluster = Cluster::default().group(group("gpu", "CPU=4")).gang(
        "aa",
        PlacementStrategy::StrictSpread,
        &[("CPU=4", 3)],
    );
    see(&mut cluster);
    pass(&mut cluster, &engine);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        wait(&mut cluster, 60);
        let decision = pass(&mut cluster, &engine);
        let until = decision.gang_waits["aa"].paused_until.unwrap();
        let pause = until.millis_since(cluster.now) / 1_000;
        pauses.push(pause);
        wait(&mut cluster, pause + 1);
        let decision = pass(&mut cluster, &engine);
        assert!(waiting(&decision).is_empty(), "{decision:?}");
    }
    for (pause, least) in pauses.iter().zip([120, 240, 480, 960, 1_800, 1_800]) {
        assert!((least..=least * 3 / 2).contains(pause), "{pauses:?}");
    }
    assert_ne!(pauses[4], pauses[5], "jitter");
}

#[test]
fn without_a_limit_and_as_ray_does_it_a_group_waits_for_ever() {
    let engine = engine(&[("gangs", json!({"incomplete_after": null}))]);
    let mut cluster = two_halves();
    pass(&mut cluster, &engine);
    for _ in 0..10 {
        wait(&mut cluster, 3_600);
        let decision = pass(&mut cluster, &engine);
        assert!(waiting(&decision).is_empty(), "{decision:?}");
    }
}

/// With what has no pod yet after all others, the first placement group would take the node that the second one needs.
#[test]
fn no_placement_group_is_left_waiting_for_a_decision_that_launches_less() {
    let mut cluster = Cluster::default()
        .group(group("small", "CPU=4"))
        .group(group("large", "CPU=8"))
        .starting("large", "w1")
        .replicas("small", 1)
        .gang("aa", PlacementStrategy::Pack, &[("CPU=1", 3)])
        .gang("bb", PlacementStrategy::Pack, &[("CPU=8", 2)]);
    cluster.group_mut("large").bounds.max = 2;
    let decision = cluster.decide();
    assert_eq!(lines(&decision), ["large 1 -> 2: placement_group"]);
}
