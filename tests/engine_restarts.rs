//! What a sidecar that starts again makes of what the one before it has asked for.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::Engine;
use rayscaler::model::{History, Input, Intent};
use serde_json::json;
use support::builders::{Cluster, group, lines};
use support::passes::{act, engine, patched, pods_wait, see, wait};

/// Starts the sidecar anew: it knows what stands in the annotation, and nothing else.
fn restart(cluster: &mut Cluster) {
    let text = Intent::of(&cluster.history, None, cluster.now).to_text();
    cluster.history = History::default();
    let intent = Intent::parse(&text).unwrap();
    cluster
        .history
        .absorb(&Input::Restored(&intent), cluster.now);
    see(cluster);
}

/// Returns a group of two pods that a user has asked for long since, and three that we have just asked for;
/// none runs.
fn asked() -> Cluster {
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .starting("cpu", "user-1")
        .starting("cpu", "user-2")
        .demand("CPU=4", 5);
    see(&mut cluster);
    let decision = cluster.decide();
    assert_eq!(decision.groups[0].replicas_to, 5);
    patched(&mut cluster, &decision);
    wait(&mut cluster, 2);
    pods_wait(&mut cluster, "cpu", "Unschedulable");
    cluster
}

/// Returns what becomes of them a minute after nobody needs anything any more.
fn a_minute_later(mut cluster: Cluster) -> Vec<String> {
    cluster.snapshot.demands.clear();
    for seconds in [1, 25] {
        wait(&mut cluster, seconds);
        let decision = cluster.decide();
        assert!(!decision.is_change(), "{decision:?}");
        let decided = Input::Decided(&decision);
        cluster.history.absorb(&decided, cluster.now);
    }
    wait(&mut cluster, 6);
    act(&mut cluster, &Engine::default())
}

#[test]
fn what_was_asked_for_before_the_restart_is_withdrawn_as_if_there_had_been_none() {
    let unbroken = a_minute_later(asked());
    assert_eq!(unbroken[0], "cpu 5 -> 2: pending_idle", "{unbroken:?}");
    let withdrawn = unbroken[1..].iter();
    assert_eq!(withdrawn.filter(|it| it.contains("cpu-new")).count(), 3);
    for restarts in 1..3 {
        let mut cluster = asked();
        for _ in 0..restarts {
            wait(&mut cluster, 300);
            restart(&mut cluster);
            assert!(cluster.history.pace.events(&"cpu".into()).is_empty());
        }
        assert_eq!(a_minute_later(cluster), unbroken, "{restarts} restarts");
    }
}

#[test]
fn what_a_user_asks_for_after_the_restart_and_the_minimum_stay() {
    let mut cluster = asked();
    wait(&mut cluster, 200);
    restart(&mut cluster);
    cluster = cluster.replicas("cpu", 7);
    wait(&mut cluster, 2);
    pods_wait(&mut cluster, "cpu", "Unschedulable");
    let users = |cluster: &Cluster| {
        let created_at = Some(cluster.now);
        let nodes = cluster.snapshot.nodes.iter();
        let users = nodes.filter(|node| node.created_at == created_at);
        users.map(|node| node.name.clone()).collect::<Vec<_>>()
    };
    let users = users(&cluster);
    assert_eq!(users.len(), 2);
    let mut floored = cluster.clone();
    let lines = a_minute_later(cluster);
    assert_eq!(lines[0], "cpu 7 -> 4: pending_idle", "{lines:?}");
    assert!(
        !users
            .iter()
            .any(|user| lines.iter().any(|line| line.contains(user.as_str()))),
        "{lines:?}"
    );
    floored.group_mut("cpu").bounds.min = 6;
    let lines = a_minute_later(floored);
    assert_eq!(lines[0], "cpu 7 -> 6: pending_idle", "{lines:?}");
}

#[test]
fn a_limit_on_what_goes_within_an_hour_holds_beyond_the_restart() {
    let share = json!({"nodes": 2, "percent": 1});
    let limit = json!({"window": "1h", "each": share, "all": share});
    let engine = engine(&[("blast_radius", limit)]);
    let mut cluster = Cluster::default().group(group("cpu", "CPU=4"));
    for pod in ["a", "b", "c", "d", "e"] {
        cluster = cluster.idle("cpu", pod, 100);
    }
    see(&mut cluster);
    let removed = |cluster: &mut Cluster| {
        let decision = cluster.decide_with(&engine);
        patched(cluster, &decision);
        cluster.settle();
        let lines = lines(&decision);
        lines.iter().filter(|it| it.contains("(Idle)")).count()
    };
    assert_eq!(removed(&mut cluster), 2);
    for minutes in [4, 20, 34] {
        wait(&mut cluster, minutes * 60);
        restart(&mut cluster);
        assert_eq!(removed(&mut cluster), 0, "{minutes}");
    }
    wait(&mut cluster, 121);
    assert_eq!(removed(&mut cluster), 2);
}
