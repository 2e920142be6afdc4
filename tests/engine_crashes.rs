//! Pods that end before their raylets have registered, and that the operator makes anew for ever.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::Engine;
use rayscaler::model::{FailedStart, NodeStatus};
use support::builders::{Cluster, group};
use support::passes::{act, see, wait};

/// Says that the pods of a group that were asked for have come, ended and been deleted by the operator.
fn pods_end(cluster: &mut Cluster, name: &str, attempt: u32) {
    let created_at = cluster.now;
    wait(cluster, 10);
    let fresh = cluster.now.plus_ms(500);
    cluster.snapshot.failed_starts = vec![FailedStart {
        ended_at: cluster.now,
        pod: format!("{name}-{attempt}").as_str().into(),
        group: name.into(),
        created_at,
    }];
    cluster.now = fresh;
    see(cluster);
}

#[test]
fn a_group_whose_pods_end_again_and_again_is_opened_and_others_are_asked() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(group("broken", "CPU=4"))
        .group(group("steady", "CPU=4"))
        .demand("CPU=4", 2);
    cluster.group_mut("broken").priority = 1;
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine), ["broken 0 -> 2: tasks"]);
    for attempt in 1..=2 {
        pods_end(&mut cluster, "broken", attempt);
        assert_eq!(act(&mut cluster, &engine), [] as [&str; 0], "{attempt}");
        wait(&mut cluster, 1);
    }
    pods_end(&mut cluster, "broken", 3);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "broken 2 -> 0: pods_end", "{lines:?}");
    assert!(
        lines.contains(&"steady 0 -> 2: tasks".to_owned()),
        "{lines:?}"
    );
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert!(lines.contains(&"hold group_open".to_owned()), "{lines:?}");
    // After the pause one may try; when it ends, too, the pause is longer.
    cluster.settle();
    cluster.snapshot.failed_starts.clear();
    cluster = cluster.demand("CPU=4", 2);
    wait(&mut cluster, 15);
    let early = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
    let broken = early.group(&"broken".into());
    assert_eq!(broken.map(|group| group.replicas_to), Some(0));
    wait(&mut cluster, 5);
    let lines = act(&mut cluster, &engine);
    assert!(
        lines.contains(&"broken 0 -> 1: tasks".to_owned()),
        "{lines:?}"
    );
    wait(&mut cluster, 1);
    pods_end(&mut cluster, "broken", 4);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "broken 1 -> 0: pods_end", "{lines:?}");
}

/// The operator makes a pod that has ended anew at once, and each of them has to end before it is counted.
#[test]
fn what_the_operator_has_made_anew_is_taken_back_but_not_the_minimum() {
    for (min, expected) in [(0, "broken 3 -> 1: pods_end"), (3, "")] {
        let engine = Engine::default();
        let mut cluster = Cluster::default()
            .group(group("broken", "CPU=4"))
            .starting("broken", "slow")
            .replicas("broken", 3)
            .demand("CPU=4", 3);
        cluster.group_mut("broken").bounds.min = min;
        see(&mut cluster);
        for attempt in 1..=2 {
            pods_end(&mut cluster, "broken", attempt);
            assert_eq!(act(&mut cluster, &engine), [] as [&str; 0], "{attempt}");
            wait(&mut cluster, 1);
        }
        pods_end(&mut cluster, "broken", 3);
        let now = cluster.now;
        cluster = cluster.starting("broken", "anew").replicas("broken", 3);
        cluster.node_mut("anew").created_at = Some(now);
        see(&mut cluster);
        let lines = act(&mut cluster, &engine);
        if expected.is_empty() {
            let is_changed = lines.iter().any(|line| line.starts_with("broken"));
            assert!(!is_changed, "{lines:?}");
        } else {
            assert_eq!(lines[0], expected, "{lines:?}");
            assert_eq!(lines[1], "remove anew (Stuck)");
            let failed = cluster.history.starts.failed[&"broken".into()];
            assert_eq!(failed.count, 3, "counted when it ended");
        }
        let name = "slow".into();
        assert!(
            cluster
                .snapshot
                .nodes
                .iter()
                .any(|it| it.name == name && it.status == NodeStatus::Starting)
        );
    }
}

#[test]
fn a_minimum_whose_pods_end_again_and_again_serves_nobody_while_it_has_no_pods() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(group("broken", "CPU=4"))
        .group(group("steady", "CPU=4"));
    cluster.group_mut("broken").bounds.min = 2;
    cluster = cluster.replicas("broken", 2).demand("CPU=4", 2);
    see(&mut cluster);
    for attempt in 1..=2 {
        pods_end(&mut cluster, "broken", attempt);
        assert_eq!(act(&mut cluster, &engine), [] as [&str; 0], "{attempt}");
        wait(&mut cluster, 1);
    }
    pods_end(&mut cluster, "broken", 3);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "steady 0 -> 2: tasks", "{lines:?}");
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert!(!lines.iter().any(|it| it.contains("->")), "{lines:?}");
    assert_eq!(cluster.group_mut("broken").replicas, 2);
}
