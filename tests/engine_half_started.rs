//! Replicas of several hosts of which some come up and others do not.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::Engine;
use rayscaler::model::{Input, NodeStatus, PlacementStrategy};
use support::builders::{Cluster, group, resources, running};
use support::passes::{act, pods_wait, see, wait};

/// A replica of two hosts, the first of which has registered and is idle; a placement group wants both.
fn half_started() -> Cluster {
    let mut slice = group("slice", "CPU=4");
    (slice.num_of_hosts, slice.priority) = (2, 1);
    let mut other = slice.clone();
    (other.name, other.priority) = ("other".into(), 0);
    let mut cluster = Cluster::default().group(slice).group(other).gang(
        "aa",
        PlacementStrategy::StrictSpread,
        &[("CPU=4", 2)],
    );
    see(&mut cluster);
    let lines = act(&mut cluster, &Engine::default());
    assert_eq!(lines, ["slice 0 -> 1: placement_group"]);
    half_starts(&mut cluster);
    cluster
}

/// Lets both hosts of the replica get their pods, and the first one register.
fn half_starts(cluster: &mut Cluster) {
    pods_wait(cluster, "slice", "ImagePullBackOff");
    wait(cluster, 1);
    let now = cluster.now;
    let nodes = cluster.snapshot.nodes.iter_mut();
    for node in nodes.filter(|node| node.group.as_str() == "slice" && node.host_index == 0) {
        node.status = NodeStatus::Running;
        node.waiting_reason = String::new();
        (node.total, node.available) = (resources("CPU=4"), resources("CPU=4"));
        node.idle_since = Some(now);
    }
    see(cluster);
}

#[test]
fn a_replica_of_which_one_host_does_not_come_is_given_up_whole_and_its_group_opened_in_the_end() {
    let engine = Engine::default();
    let mut cluster = half_started();
    for attempt in 1..=3 {
        wait(&mut cluster, 598);
        let lines = act(&mut cluster, &engine);
        assert!(
            !lines.iter().any(|line| line.starts_with("slice")),
            "{attempt}: {lines:?}"
        );
        wait(&mut cluster, 1);
        let lines = act(&mut cluster, &engine);
        if attempt == 3 {
            assert_eq!(lines[0], "slice 1 -> 0: no_container", "{lines:?}");
            let other = "other 0 -> 1: placement_group".to_owned();
            assert!(lines.contains(&other), "{lines:?}");
        } else {
            let anew = "slice 1 -> 1: no_container, placement_group";
            assert_eq!(lines[0], anew, "{attempt}: {lines:?}");
        }
        assert!(lines[1].starts_with("remove slice-new-"), "{lines:?}");
        assert!(lines[1].ends_with("-1 (HalfStarted)"), "{lines:?}");
        let failed = cluster.history.starts.failed.values().next();
        assert_eq!(failed.map(|failed| failed.count), Some(attempt));
        if attempt < 3 {
            half_starts(&mut cluster);
        }
    }
}

#[test]
fn a_replica_that_has_started_by_half_stays_while_it_has_work_or_refuses() {
    let engine = Engine::default();
    let working = |cluster: &mut Cluster| {
        let nodes = cluster.snapshot.nodes.iter_mut();
        for node in nodes.filter(|node| node.status == NodeStatus::Running) {
            node.idle_since = None;
        }
    };
    let mut cluster = half_started();
    working(&mut cluster);
    wait(&mut cluster, 899);
    let lines = act(&mut cluster, &engine);
    assert!(!lines.iter().any(|line| line.starts_with("remove")));

    let mut cluster = half_started();
    wait(&mut cluster, 599);
    let nodes = cluster.snapshot.nodes.iter();
    let first = nodes.clone().find(|node| node.idle_since.is_some());
    let pod = first.unwrap().name.clone();
    let refused = Input::DrainRefused(&pod);
    cluster.history.absorb(&refused, cluster.now);
    wait(&mut cluster, 4);
    let lines = act(&mut cluster, &engine);
    assert!(!lines.iter().any(|line| line.starts_with("remove")));
    wait(&mut cluster, 1);
    assert!(act(&mut cluster, &engine)[1].ends_with("(HalfStarted)"));
}

#[test]
fn a_replica_that_becomes_whole_closes_the_breaker_and_one_host_of_it_does_not() {
    let mut cluster = half_started();
    wait(&mut cluster, 599);
    act(&mut cluster, &Engine::default());
    half_starts(&mut cluster);
    assert_eq!(cluster.history.starts.failed.len(), 1);
    for node in &mut cluster.snapshot.nodes {
        node.status = NodeStatus::Running;
    }
    see(&mut cluster);
    assert!(cluster.history.starts.failed.is_empty());
}

/// A replica of three hosts: the first has accepted its drain, the second is idle, the third does not come.
fn half_drained() -> Cluster {
    let mut slice = group("slice", "CPU=4");
    slice.num_of_hosts = 3;
    let mut cluster = Cluster::default().group(slice);
    let hosts = [
        ("r-0", NodeStatus::Stopped),
        ("r-1", NodeStatus::Running),
        ("r-2", NodeStatus::Starting),
    ];
    for (at, (pod, status)) in (0..).zip(hosts) {
        let mut node = running("slice", pod, "CPU=4");
        (node.replica, node.host_index, node.status) = ("r".into(), at, status);
        node.idle_since = (status == NodeStatus::Running).then_some(cluster.now);
        cluster = cluster.node(node);
    }
    cluster = cluster.replicas("slice", 1);
    let drained = Input::DrainAccepted(&"r-0".into());
    cluster.history.absorb(&drained, cluster.now);
    wait(&mut cluster, 1);
    cluster
}

#[test]
fn of_a_replica_that_was_drained_in_part_the_rest_follows_once_it_has_no_work() {
    let engine = Engine::default();
    let goes = ["slice 1 -> 0: stopped", "remove r-0 r-1 r-2 (HalfStarted)"];
    let kept = ["kept r-1: replica_busy"];
    let mut cluster = half_drained();
    assert_eq!(act(&mut cluster, &engine), goes);

    let mut cluster = half_drained();
    let now = cluster.now;
    for pod in ["r-1", "r-2"] {
        cluster.node_mut("r-1").idle_since = None;
        assert_eq!(act(&mut cluster, &engine), [] as [&str; 0], "{pod}");
        cluster.node_mut("r-1").idle_since = Some(now);
        // One that has refused, or has registered unseen, is left alone for a while.
        let refused = Input::DrainRefused(&pod.into());
        cluster.history.absorb(&refused, cluster.now);
        wait(&mut cluster, 4);
        assert_eq!(act(&mut cluster, &engine), kept, "{pod}");
        wait(&mut cluster, 1);
    }
    assert_eq!(act(&mut cluster, &engine), goes);

    // The third comes after all, and gets work.
    let mut cluster = half_drained();
    cluster.node_mut("r-2").status = NodeStatus::Running;
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine), kept);
    let now = cluster.now;
    cluster.node_mut("r-2").idle_since = Some(now);
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine)[1], "remove r-0 r-1 r-2 (Idle)");
}
