//! A group whose pods Kubernetes refuses, and the groups around it.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::Engine;
use support::builders::{Cluster, group};
use support::passes::{act, see, wait};

const REFUSAL: &str = "exceeded quota: pods=0";

/// A group that is preferred and whose pods will be refused.
fn quota() -> rayscaler::model::WorkerGroup {
    let mut quota = group("quota", "CPU=4");
    quota.priority = 1;
    quota
}

fn ask_for(cluster: &mut Cluster, count: u64) {
    cluster.snapshot.demands[0].count = count;
}

/// Says that `count` pods of a group are there, besides those that were.
fn come(mut cluster: Cluster, name: &str, count: u32) -> Cluster {
    let replicas = cluster.group_mut(name).replicas;
    for at in 0..count {
        cluster = cluster.starting(name, &format!("{name}-{at}"));
    }
    cluster.replicas(name, replicas)
}

#[test]
fn a_refused_group_gives_way_although_more_is_asked_of_it_all_the_time() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(quota())
        .group(group("free", "CPU=4 Custom=1"))
        .demand("CPU=4", 1);
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine), ["quota 0 -> 1: tasks"]);
    cluster.snapshot.replica_failure = Some(REFUSAL.to_owned());
    ask_for(&mut cluster, 2);
    wait(&mut cluster, 40);
    let more = ["quota 1 -> 2: tasks", "hold pods_refused"];
    assert_eq!(act(&mut cluster, &engine), more);
    ask_for(&mut cluster, 3);
    wait(&mut cluster, 19);
    let more = ["quota 2 -> 3: tasks", "hold pods_refused"];
    assert_eq!(act(&mut cluster, &engine), more);
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    let around = ["quota 3 -> 0: pods_refused", "free 0 -> 3: tasks"];
    assert_eq!(lines[..2], around, "{lines:?}");
}

#[test]
fn a_pod_that_comes_is_a_sign_that_not_all_are_refused() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(quota())
        .group(group("free", "CPU=4 Custom=1"))
        .demand("CPU=4", 3);
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine), ["quota 0 -> 3: tasks"]);
    cluster.snapshot.replica_failure = Some(REFUSAL.to_owned());
    let mut cluster = come(cluster, "quota", 1);
    wait(&mut cluster, 40);
    act(&mut cluster, &engine);
    wait(&mut cluster, 59);
    assert_eq!(act(&mut cluster, &engine), ["hold pods_refused"]);
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    let around = ["quota 3 -> 1: pods_refused", "free 0 -> 2: tasks"];
    assert_eq!(lines[..2], around, "{lines:?}");
}

/// What is taken back down to the minimum is no new attempt: the minimum serves nobody from then on.
#[test]
fn a_minimum_that_stays_refused_serves_nobody_when_more_was_taken_back() {
    let engine = Engine::default();
    let mut quota = quota();
    quota.bounds.min = 2;
    let cluster = Cluster::default()
        .group(group("free", "CPU=4 Custom=1"))
        .group(quota);
    let mut cluster = cluster.replicas("quota", 2).demand("CPU=4", 3);
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine), ["quota 2 -> 3: tasks"]);
    cluster.snapshot.replica_failure = Some(REFUSAL.to_owned());
    wait(&mut cluster, 60);
    let lines = act(&mut cluster, &engine);
    let around = ["free 0 -> 3: tasks", "quota 3 -> 2: pods_refused"];
    assert_eq!(lines[..2], around, "{lines:?}");
    let mut cluster = come(cluster, "free", 3);
    for seconds in [1, 20, 20, 20, 20] {
        wait(&mut cluster, seconds);
        let lines = act(&mut cluster, &engine);
        let is_change = lines.iter().any(|it| it.contains("->"));
        assert!(!is_change, "{lines:?}");
    }
}

/// The operator has not come to it yet: it is not refused before it was tried.
#[test]
fn the_group_behind_is_waited_for_anew_when_the_operator_gets_to_it() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(quota())
        .group(group("other", "GPU=1"))
        .demand("CPU=4", 1)
        .demand("GPU=1", 1);
    see(&mut cluster);
    let both = ["quota 0 -> 1: tasks", "other 0 -> 1: tasks"];
    assert_eq!(act(&mut cluster, &engine), both);
    cluster.snapshot.replica_failure = Some(REFUSAL.to_owned());
    for seconds in [1, 29, 29] {
        wait(&mut cluster, seconds);
        act(&mut cluster, &engine);
    }
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "quota 1 -> 0: pods_refused", "{lines:?}");
    // What the RayCluster says of a failure is that of the pass before.
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert!(!lines.iter().any(|it| it.contains("->")), "{lines:?}");
    wait(&mut cluster, 59);
    let lines = act(&mut cluster, &engine);
    assert!(
        lines.contains(&"other 1 -> 0: pods_refused".to_owned()),
        "{lines:?}"
    );
}

/// A group before it that has just been asked for more is about to get it.
#[test]
fn a_refused_group_stays_found_out_while_pods_of_a_group_before_it_come() {
    let engine = Engine::default();
    let mut quota = quota();
    quota.bounds.min = 1;
    let cluster = Cluster::default()
        .group(group("free", "CPU=4 Custom=1"))
        .group(quota);
    let mut cluster = cluster.replicas("quota", 1).demand("CPU=4", 1);
    cluster.snapshot.replica_failure = Some(REFUSAL.to_owned());
    see(&mut cluster);
    wait(&mut cluster, 60);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "free 0 -> 1: tasks", "{lines:?}");
    ask_for(&mut cluster, 2);
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "free 1 -> 2: tasks", "{lines:?}");
}

/// A group whose minimum of two is refused, with one before it and one behind it that is preferred; four tasks.
fn minimum_between(before_max: u32) -> Cluster {
    let mut before = group("before", "CPU=4 Custom=1");
    before.bounds.max = before_max;
    let mut minimum = group("minimum", "CPU=4");
    (minimum.bounds.min, minimum.replicas) = (2, 2);
    let mut behind = group("behind", "CPU=4");
    behind.priority = 1;
    let mut cluster = Cluster::default()
        .group(before)
        .group(minimum)
        .group(behind)
        .demand("CPU=4", 4);
    see(&mut cluster);
    let lines = act(&mut cluster, &Engine::default());
    assert_eq!(lines, ["behind 0 -> 2: tasks"]);
    cluster.snapshot.replica_failure = Some(REFUSAL.to_owned());
    wait(&mut cluster, 30);
    let lines = act(&mut cluster, &Engine::default());
    assert_eq!(lines, ["hold behind_refused_pods", "hold pods_refused"]);
    cluster
}

#[test]
fn demand_goes_around_the_groups_behind_a_minimum_that_is_refused() {
    let engine = Engine::default();
    let mut cluster = minimum_between(10);
    wait(&mut cluster, 29);
    let holds = ["hold behind_refused_pods", "hold pods_refused"];
    assert_eq!(act(&mut cluster, &engine), holds);
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    let around = [
        "before 0 -> 4: tasks",
        "behind 2 -> 0: behind_refused_pods",
        "hold behind_refused_pods",
        "hold pods_refused",
    ];
    assert_eq!(lines, around);
    let mut cluster = come(cluster, "before", 4);
    for seconds in [1, 30, 30, 600] {
        wait(&mut cluster, seconds);
        assert_eq!(act(&mut cluster, &engine), ["hold pods_refused"]);
    }
    // The refusal ends: the group that is preferred takes part again.
    cluster.snapshot.replica_failure = None;
    let mut cluster = come(cluster, "minimum", 2);
    ask_for(&mut cluster, 7);
    wait(&mut cluster, 1);
    assert_eq!(act(&mut cluster, &engine), ["behind 0 -> 1: tasks"]);
}

#[test]
fn what_no_group_before_a_refused_minimum_has_room_for_stays_asked_for_behind_it() {
    let engine = Engine::default();
    let mut cluster = minimum_between(1);
    wait(&mut cluster, 30);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "before 0 -> 1: tasks", "{lines:?}");
    assert!(lines[1].starts_with("behind 2 -> 3"), "{lines:?}");
    let mut cluster = come(cluster, "before", 1);
    for seconds in [1, 30, 30, 600] {
        wait(&mut cluster, seconds);
        let lines = act(&mut cluster, &engine);
        assert!(!lines.iter().any(|it| it.contains("->")), "{lines:?}");
    }
}

#[test]
fn what_fits_only_behind_a_refused_minimum_is_told_to_wait_for_it() {
    let engine = Engine::default();
    let mut minimum = group("minimum", "CPU=4");
    (minimum.bounds.min, minimum.replicas) = (2, 2);
    let mut cluster = Cluster::default()
        .group(group("before", "CPU=4"))
        .group(minimum)
        .group(group("behind", "GPU=1"))
        .demand("GPU=1", 2);
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine), ["behind 0 -> 2: tasks"]);
    cluster.snapshot.replica_failure = Some(REFUSAL.to_owned());
    wait(&mut cluster, 60);
    let lines = act(&mut cluster, &engine);
    let waits = "unserved 2 x {GPU: 1}: behind_refused_pods";
    assert_eq!(lines[..2], ["behind 2 -> 0: behind_refused_pods", waits]);
    wait(&mut cluster, 600);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines, [waits, "hold pods_refused"]);
    let mut cluster = come(cluster, "minimum", 2);
    wait(&mut cluster, 1);
    assert_eq!(act(&mut cluster, &engine), ["behind 0 -> 2: tasks"]);
}

#[test]
fn groups_in_which_pods_come_are_not_behind_a_refused_minimum() {
    let engine = Engine::default();
    let mut cluster = come(minimum_between(10), "behind", 1);
    let now = cluster.now;
    cluster.node_mut("behind-0").created_at = Some(now);
    wait(&mut cluster, 30);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "behind 2 -> 4: tasks", "{lines:?}");
}
