//! Nodes on their way: withdrawn when nothing needs them, replaced when they do not come.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use std::collections::BTreeSet;

use rayscaler::act::patch::plan;
use rayscaler::engine::{ChainEntry, Engine};
use rayscaler::model::{Input, NodeStatus, PlacementStrategy};
use rayscaler::policy::Registry;
use serde_json::json;
use support::builders::{Cluster, group, lines};
use support::passes::{act, engine, patched, pods_wait, see, wait};

#[test]
fn what_nobody_needs_any_more_is_withdrawn_before_it_runs_newest_first() {
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .demand("CPU=4", 3);
    see(&mut cluster);
    let decision = cluster.decide();
    assert_eq!(decision.groups[0].replicas_to, 3);
    patched(&mut cluster, &decision);
    for pod in ["w1", "w2", "w3"] {
        wait(&mut cluster, 1);
        cluster = cluster.starting("cpu", pod).replicas("cpu", 3);
        let now = cluster.now;
        cluster.node_mut(pod).created_at = Some(now);
    }
    cluster.snapshot.demands[0].count = 1;
    let seen = |cluster: &mut Cluster, seconds| {
        wait(cluster, seconds);
        let decision = cluster.decide();
        cluster
            .history
            .absorb(&Input::Decided(&decision), cluster.now);
        decision
    };
    assert!(!seen(&mut cluster, 1).is_change());
    // It comes back in time, and goes again: the clock starts anew, nothing is asked for twice.
    cluster.snapshot.demands[0].count = 3;
    assert!(!seen(&mut cluster, 29).is_change());
    cluster.snapshot.demands[0].count = 1;
    assert!(!seen(&mut cluster, 1).is_change());
    assert!(!seen(&mut cluster, 30).is_change());
    let decision = seen(&mut cluster, 1);
    let expected = [
        "cpu 3 -> 1: pending_idle",
        "remove w2 (Withdrawn)",
        "remove w3 (Withdrawn)",
    ];
    assert_eq!(lines(&decision), expected, "the newest go");
}

#[test]
fn what_has_no_pod_yet_is_taken_back_when_nothing_needs_it_but_not_what_others_asked_for() {
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .replicas("cpu", 2)
        .demand("CPU=4", 5);
    see(&mut cluster);
    let decision = cluster.decide();
    assert_eq!(decision.groups[0].replicas_to, 5);
    patched(&mut cluster, &decision);
    cluster.snapshot.demands.clear();
    let engine = Engine::default();
    wait(&mut cluster, 1);
    assert!(act(&mut cluster, &engine).is_empty());
    let decision = cluster.decide();
    cluster
        .history
        .absorb(&Input::Decided(&decision), cluster.now);
    wait(&mut cluster, 31);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines, ["cpu 5 -> 2: pending_idle"]);
    wait(&mut cluster, 300);
    assert!(act(&mut cluster, &engine).is_empty());
}

/// A slip of a user's hand must cost neither memory nor time, when it is taken back either.
#[test]
fn billions_that_nobody_needs_any_more_are_taken_back_at_once() {
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .demand("CPU=4", 2_000_000_000);
    cluster.group_mut("cpu").bounds.max = i32::MAX.unsigned_abs();
    see(&mut cluster);
    // All at once.
    let chain = ChainEntry::defaults().into_iter();
    let chain: Vec<ChainEntry> = chain.filter(|it| it.name != "growth_slices").collect();
    let engine = Engine::new(&chain, &Registry::default()).unwrap();
    let decision = cluster.decide_with(&engine);
    assert_eq!(decision.groups[0].replicas_to, 2_000_000_000);
    patched(&mut cluster, &decision);
    cluster.snapshot.demands.clear();
    wait(&mut cluster, 1);
    assert!(act(&mut cluster, &engine).is_empty());
    let decision = cluster.decide_with(&engine);
    cluster
        .history
        .absorb(&Input::Decided(&decision), cluster.now);
    let remembered = cluster.history.unneeded_since.values().map(Vec::len);
    assert!(remembered.sum::<usize>() <= 10_000);
    wait(&mut cluster, 31);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines, ["cpu 2000000000 -> 0: pending_idle"]);
}

#[test]
fn a_group_whose_pods_are_refused_gives_way_to_the_groups_behind_it() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(group("quota", "CPU=4"))
        .group(group("free", "CPU=4 Custom=1"))
        .demand("CPU=4", 3);
    cluster.group_mut("quota").priority = 1;
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine), ["quota 0 -> 3: tasks"]);
    cluster.snapshot.replica_failure = Some("exceeded quota: pods=0".to_owned());
    wait(&mut cluster, 59);
    assert_eq!(act(&mut cluster, &engine), ["hold pods_refused"]);
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "quota 3 -> 0: pods_refused", "{lines:?}");
    assert!(
        lines.contains(&"free 0 -> 3: tasks".to_owned()),
        "{lines:?}"
    );
    cluster.snapshot.replica_failure = None;
    cluster.settle();
    cluster = cluster.demand("CPU=4", 4);
    wait(&mut cluster, 30);
    let lines = act(&mut cluster, &engine);
    assert!(
        lines.contains(&"free 3 -> 7: tasks".to_owned()),
        "{lines:?}"
    );
    // After the pause one may try again; while it is refused the pause grows, to five minutes.
    cluster.settle();
    for pause in [30, 120, 240, 300, 300] {
        cluster = cluster.demand("CPU=4", 1);
        wait(&mut cluster, pause);
        let lines = act(&mut cluster, &engine);
        assert!(
            lines.contains(&"quota 0 -> 1: tasks".to_owned()),
            "{pause}: {lines:?}"
        );
        cluster.snapshot.replica_failure = Some("exceeded quota: pods=0".to_owned());
        wait(&mut cluster, 60);
        let lines = act(&mut cluster, &engine);
        assert_eq!(lines[0], "quota 1 -> 0: pods_refused", "{pause}: {lines:?}");
        cluster.snapshot.replica_failure = None;
        cluster.settle();
    }
}

#[test]
fn a_minimum_whose_pods_are_refused_is_still_asked_for() {
    let engine = Engine::default();
    let mut cluster = Cluster::default().group(group("quota", "CPU=4"));
    cluster.group_mut("quota").bounds.min = 2;
    cluster = cluster.replicas("quota", 2).demand("CPU=4", 4);
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine), ["quota 2 -> 4: tasks"]);
    cluster.snapshot.replica_failure = Some("exceeded quota: pods=0".to_owned());
    wait(&mut cluster, 60);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "quota 4 -> 2: pods_refused", "{lines:?}");
    wait(&mut cluster, 5);
    let lines = act(&mut cluster, &engine);
    assert!(
        !lines.iter().any(|line| line.starts_with("quota")),
        "{lines:?}"
    );
}

#[test]
fn a_placement_group_may_try_whole_in_a_group_that_was_given_up() {
    let engine = Engine::default();
    let mut cluster = Cluster::default().group(group("gpu", "CPU=4")).gang(
        "aa",
        PlacementStrategy::StrictSpread,
        &[("CPU=4", 3)],
    );
    see(&mut cluster);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines, ["gpu 0 -> 3: placement_group"]);
    for _ in 1..=3 {
        pods_wait(&mut cluster, "gpu", "ImagePullBackOff");
        wait(&mut cluster, 600);
        act(&mut cluster, &engine);
    }
    cluster.settle();
    wait(&mut cluster, 60);
    let lines = act(&mut cluster, &engine);
    assert!(lines.contains(&"hold group_open".to_owned()), "{lines:?}");
    wait(&mut cluster, 240);
    let lines = act(&mut cluster, &engine);
    assert!(
        lines.contains(&"gpu 0 -> 3: placement_group".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn replicas_that_somebody_else_asked_for_come_up_although_nothing_needs_them() {
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .starting("cpu", "w1")
        .starting("cpu", "w2");
    for _ in 0..4 {
        wait(&mut cluster, 60);
        let decision = cluster.decide();
        assert!(!decision.is_change(), "{:?}", lines(&decision));
        cluster
            .history
            .absorb(&Input::Decided(&decision), cluster.now);
    }
}

#[test]
fn a_pod_that_does_not_come_up_is_made_anew_and_its_group_opened_in_the_end() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(group("spot", "CPU=4"))
        .group(group("steady", "CPU=4"))
        .demand("CPU=4", 1);
    cluster.group_mut("spot").priority = 1;
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine), ["spot 0 -> 1: tasks"]);
    for attempt in 1..=2 {
        pods_wait(&mut cluster, "spot", "Unschedulable");
        wait(&mut cluster, 899);
        let lines = act(&mut cluster, &engine);
        assert!(lines.is_empty(), "{lines:?}");
        wait(&mut cluster, 1);
        let lines = act(&mut cluster, &engine);
        assert_eq!(
            lines[0], "spot 1 -> 1: unschedulable, recycled",
            "attempt {attempt}"
        );
        assert!(lines[1].starts_with("remove spot-new") && lines[1].ends_with("(Stuck)"));
    }
    pods_wait(&mut cluster, "spot", "Unschedulable");
    wait(&mut cluster, 900);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "spot 1 -> 0: unschedulable", "{lines:?}");
    assert!(
        lines.contains(&"steady 0 -> 1: tasks".to_owned()),
        "{lines:?}"
    );
    cluster.settle();
    cluster = cluster.demand("CPU=4", 2);
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert!(
        lines.contains(&"steady 1 -> 3: tasks".to_owned()),
        "{lines:?}"
    );
    assert!(lines.contains(&"hold group_open".to_owned()), "{lines:?}");
    // After the pause one replica may try, and the node that joins closes the breaker.
    cluster.settle();
    cluster = cluster.demand("CPU=4", 4);
    wait(&mut cluster, 240);
    let lines = act(&mut cluster, &engine);
    assert!(
        lines.contains(&"spot 0 -> 1: tasks".to_owned()),
        "{lines:?}"
    );
    pods_wait(&mut cluster, "spot", "ContainerCreating");
    wait(&mut cluster, 5);
    assert!(
        !act(&mut cluster, &engine)
            .iter()
            .any(|line| line.starts_with("spot"))
    );
    for node in &mut cluster.snapshot.nodes {
        node.status = NodeStatus::Running;
    }
    cluster = cluster.demand("CPU=4", 20);
    wait(&mut cluster, 5);
    let lines = act(&mut cluster, &engine);
    assert!(!lines.contains(&"hold group_open".to_owned()), "{lines:?}");
    assert!(lines[0].starts_with("spot 1 -> 10"), "{lines:?}");
}

#[test]
fn each_kind_of_pod_that_hangs_has_its_own_patience() {
    let cases = [
        ("CrashLoopBackOff", 300, "crash_loop"),
        ("ImagePullBackOff", 600, "no_container"),
        ("Unschedulable", 900, "unschedulable"),
        ("", 1_800, "unregistered"),
    ];
    for (reason, seconds, code) in cases {
        let mut cluster = Cluster::default()
            .group(group("cpu", "CPU=4"))
            .replicas("cpu", 1);
        pods_wait(&mut cluster, "cpu", reason);
        wait(&mut cluster, seconds - 1);
        assert!(!cluster.decide().is_change(), "{reason}");
        wait(&mut cluster, 1);
        let lines = lines(&cluster.decide());
        assert_eq!(lines[0], format!("cpu 1 -> 1: {code}, recycled"));
    }
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .replicas("cpu", 1);
    pods_wait(&mut cluster, "cpu", "SchedulingGated");
    wait(&mut cluster, 86_400);
    assert!(!cluster.decide().is_change());
}

#[test]
fn a_group_that_is_given_up_is_not_asked_again_by_the_same_decision() {
    let engine = engine(&[("recycle", json!({"attempts": 1}))]);
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .demand("CPU=4", 1);
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine), ["cpu 0 -> 1: tasks"]);
    pods_wait(&mut cluster, "cpu", "ImagePullBackOff");
    wait(&mut cluster, 600);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "cpu 1 -> 0: no_container");
    assert_eq!(lines[2], "unserved 1 x {CPU: 4}: group_open");
    cluster.settle();
    wait(&mut cluster, 59);
    let unserved = "unserved 1 x {CPU: 4}: group_open";
    assert_eq!(act(&mut cluster, &engine), [unserved, "hold group_open"]);
    wait(&mut cluster, 1);
    assert_eq!(act(&mut cluster, &engine)[0], "cpu 0 -> 1: tasks");
}

/// Nodes on their way that one request fits, and another one that comes before it.
fn in_the_way() -> Cluster {
    let cluster = Cluster::default()
        .group(group("large", "CPU=8 memory=8 disk=1"))
        .group(group("licensed", "CPU=4 memory=1 license=1"))
        .starting("large", "w1")
        .starting("licensed", "w2");
    cluster.demand("CPU=4 memory=1", 1)
}

#[test]
fn a_request_that_the_maximum_leaves_waiting_gets_the_place_that_others_can_do_without() {
    let mut cluster = in_the_way().demand("CPU=3 license=1", 2);
    cluster.group_mut("licensed").bounds.max = 2;
    let decision = cluster.decide();
    assert_eq!(lines(&decision)[0], "licensed 1 -> 2: tasks");
    cluster.apply(&decision);
    let decision = cluster.decide();
    assert!(decision.unserved.is_empty(), "{:?}", decision.unserved);
}

/// Nothing that seemed needed is called off for a better plan, which is one only as long as it is there.
#[test]
fn a_node_that_only_the_other_plan_uses_stays() {
    let cluster = Cluster::default()
        .group(group("licensed", "CPU=4 memory=1 license=1 disk=1"))
        .group(group("large", "CPU=8 memory=8 junk=1"))
        .group(group("disky", "CPU=1 disk=1"))
        .starting("licensed", "w1")
        .starting("large", "w2")
        .starting("disky", "w3");
    let cluster = cluster.demand("CPU=4 memory=1", 1);
    let cluster = cluster
        .demand("CPU=3 license=1", 1)
        .demand("CPU=1 disk=1", 1);
    let mut cluster = cluster;
    for seconds in [0, 20, 20, 20] {
        wait(&mut cluster, seconds);
        let now = cluster.now;
        let decision = cluster.decide();
        cluster.history.absorb(&Input::Decided(&decision), now);
        assert_eq!(lines(&decision), [] as [&str; 0]);
    }
}

/// The operator makes pods group by group: what it has not come to yet must not look worse than what it has.
#[test]
fn in_whatever_order_pods_appear_nothing_more_is_asked_for() {
    let asked = || {
        Cluster::default()
            .group(group("cpu", "CPU=8"))
            .group(group("gpu", "CPU=8 GPU=1"))
            .gang("aa", PlacementStrategy::Pack, &[("CPU=8", 1)])
            .gang("bb", PlacementStrategy::Pack, &[("CPU=8 GPU=1", 1)])
    };
    for order in [["cpu", "gpu"], ["gpu", "cpu"]] {
        let mut cluster = asked();
        let decision = cluster.decide();
        cluster.apply(&decision);
        for name in order {
            let pod = format!("{name}-1");
            cluster = cluster
                .starting(name, &pod)
                .replicas("cpu", 1)
                .replicas("gpu", 1);
            let decision = cluster.decide();
            assert!(
                !decision.is_change(),
                "{order:?}, {name}: {:?}",
                lines(&decision)
            );
        }
    }
}

/// What a slice holds back of one group is not what another group is asked for.
#[test]
fn the_part_of_a_group_that_waits_for_its_slice_has_no_other_group_launched_for_it() {
    let engine = engine(&[("growth_slices", json!({"pods": 3}))]);
    let mut cluster = Cluster::default()
        .group(group("large", "CPU=8 memory=16"))
        .group(group("small", "CPU=3 memory=4"))
        .demand("CPU=2 memory=1", 16)
        .demand("CPU=3", 1);
    see(&mut cluster);
    let decision = cluster.decide_with(&engine);
    assert_eq!(
        lines(&decision),
        [
            "large 0 -> 3: tasks, growth_slice",
            "small 0 -> 1: tasks",
            "unserved 4 x {CPU: 2, memory: 1}: growth_slice"
        ]
    );
    cluster.apply(&decision);
    wait(&mut cluster, 1);
    assert!(!cluster.decide_with(&engine).is_change());
}

/// Its raylet calls itself by another name, or the GCS does not say who lives: what stays needs nobody in its place.
#[test]
fn stuck_pods_that_may_not_go_are_not_replaced_and_not_asked_about_in_every_pass() {
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .replicas("cpu", 2);
    pods_wait(&mut cluster, "cpu", "");
    wait(&mut cluster, 1_800);
    let decision = cluster.decide();
    assert_eq!(
        lines(&decision)[0],
        "cpu 2 -> 2: unregistered, recycled",
        "{decision:?}"
    );
    assert_eq!(decision.groups[0].remove.len(), 2);
    let nobody = BTreeSet::new();
    assert_eq!(plan(&cluster.snapshot, &decision, &nobody), None);
    let refused = decision.groups[0].remove[0].pods[0].clone();
    let other = decision.groups[0].remove[1].pods[0].clone();
    cluster
        .history
        .absorb(&Input::DrainRefused(&refused), cluster.now);
    wait(&mut cluster, 4);
    let decision = cluster.decide();
    let removed = &decision.groups[0].remove;
    assert_eq!((removed.len(), &removed[0].pods[0]), (1, &other));
    assert_eq!(decision.groups[0].replicas_to, 2);
    wait(&mut cluster, 1);
    assert_eq!(cluster.decide().groups[0].remove.len(), 2);
}

#[test]
fn a_minimum_whose_pods_are_refused_serves_nobody_meanwhile() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(group("quota", "CPU=4"))
        .group(group("free", "CPU=4 Custom=1"));
    cluster.group_mut("quota").bounds.min = 2;
    cluster = cluster.replicas("quota", 2).demand("CPU=4", 2);
    see(&mut cluster);
    assert_eq!(act(&mut cluster, &engine), [] as [&str; 0]);
    cluster.snapshot.replica_failure = Some("exceeded quota: pods=0".to_owned());
    wait(&mut cluster, 59);
    assert_eq!(act(&mut cluster, &engine), ["hold pods_refused"]);
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines[0], "free 0 -> 2: tasks", "{lines:?}");
    wait(&mut cluster, 5);
    let lines = act(&mut cluster, &engine);
    assert!(!lines.iter().any(|it| it.contains("->")), "{lines:?}");
    assert_eq!(cluster.group_mut("quota").replicas, 2);
}
