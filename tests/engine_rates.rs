//! How fast groups may change, and what becomes of nodes that do not come.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::{ChainEntry, Engine};
use rayscaler::model::{Input, NodeStatus, PlacementStrategy, PodName, RemovalCause, ScaleEvent};
use rayscaler::policy::Registry;
use serde_json::{Value, json};
use support::builders::{Cluster, group, lines};
use support::passes::{act, engine, patched, see, wait};

/// Returns a cluster of one group with room for 1,000 and `count` idle nodes.
fn idle_cluster(count: usize) -> Cluster {
    let mut cluster = Cluster::default().group(group("cpu", "CPU=4"));
    cluster.group_mut("cpu").bounds.max = 1_000;
    for at in 0..count {
        cluster = cluster.idle("cpu", &format!("w{at:04}"), 120);
    }
    cluster
}

/// Decides, carries it out and returns how many replicas went.
fn removed(cluster: &mut Cluster, engine: &Engine) -> usize {
    let decision = cluster.decide_with(engine);
    let count = decision.groups.iter().map(|group| group.remove.len()).sum();
    patched(cluster, &decision);
    cluster.settle();
    see(cluster);
    count
}

#[test]
fn a_mass_of_idle_nodes_goes_by_parts() {
    let mut cluster = idle_cluster(100);
    see(&mut cluster);
    let engine = Engine::default();
    let decision = cluster.decide_with(&engine);
    let kept = decision.kept_idle.iter();
    assert_eq!(kept.filter(|kept| kept.code == "blast_radius").count(), 75);
    assert_eq!(decision.groups[0].replicas_to, 75);
    assert!(decision.next_check_at.unwrap() <= cluster.now.plus_ms(60_000));
    assert_eq!(removed(&mut cluster, &engine), 25);
    wait(&mut cluster, 59);
    assert_eq!(removed(&mut cluster, &engine), 0);
    wait(&mut cluster, 1);
    assert_eq!(removed(&mut cluster, &engine), 18);
    let mut minutes = 0;
    while !cluster.snapshot.replicas_of(&"cpu".into()).is_empty() {
        wait(&mut cluster, 60);
        removed(&mut cluster, &engine);
        minutes += 1;
        assert!(minutes < 20);
    }
    assert_eq!(minutes, 6);
}

#[test]
fn what_was_drained_and_could_not_be_named_counts_once_and_makes_no_room() {
    let mut cluster = idle_cluster(100);
    see(&mut cluster);
    let engine = Engine::default();
    let decision = cluster.decide_with(&engine);
    let going = decision.groups[0].remove.iter();
    let drained: Vec<PodName> = going.flat_map(|removal| removal.pods.clone()).collect();
    assert_eq!(drained.len(), 25);
    let event = ScaleEvent {
        removed: 25,
        ..ScaleEvent::default()
    };
    let paced = Input::Paced(&"cpu".into(), event);
    cluster.history.absorb(&paced, cluster.now);
    for pod in &drained {
        let accepted = Input::DrainAccepted(pod);
        cluster.history.absorb(&accepted, cluster.now);
        cluster.node_mut(pod.as_str()).status = NodeStatus::Stopped;
    }
    for (seconds, idle) in [(1, 0), (58, 0), (1, 18)] {
        wait(&mut cluster, seconds);
        let decision = cluster.decide_with(&engine);
        let of = |cause| {
            let removals = decision.groups[0].remove.iter();
            removals.filter(|removal| removal.cause == cause).count()
        };
        let found = (of(RemovalCause::Stopped), of(RemovalCause::Idle));
        assert_eq!(found, (25, idle), "after {seconds} s more");
    }
}

#[test]
fn the_limit_counts_what_went_pass_by_pass() {
    let engine = Engine::default();
    let mut cluster = idle_cluster(40);
    for node in cluster.snapshot.nodes.iter_mut().skip(9) {
        node.idle_since = None;
    }
    see(&mut cluster);
    assert_eq!(removed(&mut cluster, &engine), 8);
    wait(&mut cluster, 5);
    for node in cluster.snapshot.nodes.iter_mut().skip(1) {
        node.idle_since = Some(cluster.now.minus_ms(90_000));
    }
    assert_eq!(removed(&mut cluster, &engine), 2);
}

#[test]
fn all_groups_together_keep_a_limit_and_the_largest_gives_way() {
    let mut cluster = Cluster::default();
    for name in ["a", "b", "c"] {
        cluster = cluster.group(group(name, "CPU=4"));
        cluster.group_mut(name).bounds.max = 20;
        for at in 0..9 {
            cluster = cluster.idle(name, &format!("{name}{at}"), 120);
        }
    }
    for at in 0..6 {
        cluster = cluster.busy("a", &format!("busy{at}"));
    }
    see(&mut cluster);
    let decision = cluster.decide();
    let gone: Vec<usize> = decision
        .groups
        .iter()
        .map(|group| group.remove.len())
        .collect();
    assert_eq!(gone.iter().sum::<usize>(), 20);
    assert!(gone.iter().all(|count| (6..=7).contains(count)), "{gone:?}");
}

/// The replica of two hosts gives way last and takes two: what that leaves is not for the next decision to find.
#[test]
fn what_a_large_replica_leaves_of_a_limit_is_used_at_once() {
    let mut cluster = Cluster::default();
    for (name, idle) in [("small", 3), ("large", 4), ("new", 2)] {
        cluster = cluster.group(group(name, "CPU=4"));
        for at in 0..idle {
            cluster = cluster.idle(name, &format!("{name}{at}"), 120);
        }
    }
    cluster = cluster.group(group("slice", "CPU=4"));
    cluster.group_mut("slice").num_of_hosts = 2;
    for host in 0..2 {
        cluster = cluster.idle("slice", &format!("slice-{host}"), 120);
        let node = cluster.snapshot.nodes.last_mut().unwrap();
        (node.replica, node.host_index) = ("slice".into(), host);
    }
    cluster = cluster.replicas("slice", 1);
    see(&mut cluster);
    let limit = json!({"all": {"nodes": 7, "percent": 1}});
    let decision = cluster.decide_with(&engine(&[("blast_radius", limit)]));
    let removals = decision.groups.iter().flat_map(|group| &group.remove);
    assert_eq!(removals.map(|removal| removal.pods.len()).sum::<usize>(), 7);
}

#[test]
fn a_large_replica_goes_whole_although_it_is_more_than_the_limit() {
    let mut cluster = Cluster::default().group(group("tpu", "TPU=4"));
    cluster.group_mut("tpu").num_of_hosts = 16;
    for replica in ["r0", "r1"] {
        for host in 0..16 {
            cluster = cluster.idle("tpu", &format!("{replica}-{host:02}"), 120);
            let node = cluster.snapshot.nodes.last_mut().unwrap();
            (node.replica, node.host_index) = (replica.into(), host);
        }
    }
    cluster = cluster.replicas("tpu", 2);
    see(&mut cluster);
    let engine = Engine::default();
    assert_eq!(removed(&mut cluster, &engine), 1);
    wait(&mut cluster, 1);
    assert_eq!(removed(&mut cluster, &engine), 0);
    wait(&mut cluster, 60);
    assert_eq!(removed(&mut cluster, &engine), 1);
}

#[test]
fn a_lowered_maximum_is_an_order_and_is_not_limited() {
    let mut cluster = idle_cluster(100);
    see(&mut cluster);
    cluster.group_mut("cpu").bounds.max = 10;
    let decision = cluster.decide();
    let group = &decision.groups[0];
    let above = group
        .remove
        .iter()
        .filter(|removal| removal.cause == RemovalCause::AboveMax);
    assert_eq!(above.count(), 90);
    assert!(group.replicas_to <= 10);
}

fn up(each: Value, all: Value) -> Engine {
    engine(&[("rate_up", json!({"each": each, "all": all}))])
}

fn rate(kind: &str, value: u32, period: &str) -> Value {
    json!({"policies": [{"type": kind, "value": value, "period": period}]})
}

#[test]
fn growth_keeps_its_rate_and_a_minimum_does_not_wait() {
    let engine = up(rate("nodes", 3, "1m"), json!({}));
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .demand("CPU=4", 9);
    see(&mut cluster);
    let expected = ["cpu 0 -> 3: tasks", "unserved 6 x {CPU: 4}: rate_up"];
    assert_eq!(act(&mut cluster, &engine), expected);
    wait(&mut cluster, 59);
    assert_eq!(
        act(&mut cluster, &engine),
        ["unserved 6 x {CPU: 4}: rate_up"]
    );
    cluster.group_mut("cpu").bounds.min = 5;
    let expected = ["cpu 3 -> 5: minimum", "unserved 4 x {CPU: 4}: rate_up"];
    assert_eq!(act(&mut cluster, &engine), expected);
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert!(lines[0].starts_with("cpu 5 -> "), "{lines:?}");
}

#[test]
fn a_group_that_may_not_grow_leaves_demand_to_the_next() {
    let engine = up(rate("nodes", 2, "1m"), json!({}));
    let mut cluster = Cluster::default()
        .group(group("a", "CPU=4"))
        .group(group("b", "CPU=4"))
        .demand("CPU=4", 3);
    see(&mut cluster);
    assert_eq!(
        act(&mut cluster, &engine),
        ["a 0 -> 2: tasks", "b 0 -> 1: tasks"]
    );
}

#[test]
fn all_groups_together_keep_a_rate_and_a_placement_group_is_never_split() {
    let engine = up(json!({}), rate("nodes", 4, "1m"));
    let mut cluster = Cluster::default()
        .group(group("a", "CPU=4"))
        .group(group("b", "GPU=1"))
        .gang("pg", PlacementStrategy::StrictSpread, &[("CPU=4", 6)]);
    see(&mut cluster);
    // It is larger than the limit, which would keep it waiting for ever.
    assert_eq!(act(&mut cluster, &engine), ["a 0 -> 6: placement_group"]);
    cluster = cluster.gang("late", PlacementStrategy::Pack, &[("GPU=1", 2)]);
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert!(
        lines.iter().any(|line| line.ends_with(": rate_up")),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("b 0")),
        "{lines:?}"
    );
    wait(&mut cluster, 60);
    assert_eq!(act(&mut cluster, &engine), ["b 0 -> 2: placement_group"]);
}

#[test]
fn shrinking_keeps_its_rate() {
    let down = json!({"each": rate("percent", 10, "1m")});
    let engine = engine(&[("rate_down", down)]);
    let mut cluster = idle_cluster(50);
    see(&mut cluster);
    assert_eq!(removed(&mut cluster, &engine), 5);
    wait(&mut cluster, 30);
    assert_eq!(removed(&mut cluster, &engine), 0);
    let disabled = json!({"all": {"select": "disabled"}});
    let engine = super_engine(disabled);
    wait(&mut cluster, 60);
    assert_eq!(removed(&mut cluster, &engine), 0);
}

fn super_engine(down: Value) -> Engine {
    engine(&[("rate_down", down)])
}

#[test]
fn limits_that_make_no_sense_are_refused_by_name() {
    let mut chain = ChainEntry::of("rate_up");
    chain.settings = json!({"each": rate("nodes", 0, "1m")});
    let errors = Engine::new(&[chain.clone()], &Registry::default()).unwrap_err();
    assert!(
        errors[0]
            .problem
            .starts_with("settings.each.policies[0].value: 0"),
        "{errors:?}"
    );
    chain.settings = json!({"each": rate("pods", 1, "1m")});
    let errors = Engine::new(&[chain], &Registry::default()).unwrap_err();
    assert!(errors[0].problem.contains("pods"), "{errors:?}");
}

#[test]
fn launches_that_come_to_nothing_freeze_the_group_until_they_are_forgotten() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .group(group("other", "GPU=1"))
        .demand("CPU=4", 40);
    cluster.group_mut("cpu").bounds.max = 100;
    see(&mut cluster);
    // Somebody else lowers `replicas` again and again before a pod comes.
    for _ in 0..2 {
        assert_eq!(act(&mut cluster, &engine), ["cpu 0 -> 40: tasks"]);
        cluster = cluster.replicas("cpu", 0);
        wait(&mut cluster, 10);
    }
    cluster = cluster.demand("GPU=1", 1);
    let expected = [
        "other 0 -> 1: tasks",
        "unserved 40 x {CPU: 4}: runaway",
        "hold runaway",
    ];
    assert_eq!(act(&mut cluster, &engine), expected);
    wait(&mut cluster, 580);
    assert!(act(&mut cluster, &engine).contains(&"cpu 0 -> 40: tasks".to_owned()));
}

#[test]
fn a_group_that_goes_up_and_down_all_the_time_is_frozen() {
    let engine = engine(&[
        ("idle", json!({"timeout": "0s"})),
        ("runaway", json!({"turns": 5})),
    ]);
    let mut cluster = Cluster::default().group(group("cpu", "CPU=4"));
    see(&mut cluster);
    for _ in 0..3 {
        cluster = cluster.demand("CPU=4", 1);
        assert_eq!(act(&mut cluster, &engine), ["cpu 0 -> 1: tasks"]);
        cluster.snapshot.demands.clear();
        cluster.settle();
        let since = cluster.now;
        cluster.snapshot.nodes.last_mut().unwrap().idle_since = Some(since);
        wait(&mut cluster, 5);
        assert_eq!(removed(&mut cluster, &engine), 1);
        wait(&mut cluster, 5);
    }
    cluster = cluster.demand("CPU=4", 1);
    assert_eq!(act(&mut cluster, &engine), ["cpu 0 -> 1: tasks"]);
    cluster = cluster.idle("cpu", "w", 60).replicas("cpu", 1);
    cluster.snapshot.demands.clear();
    wait(&mut cluster, 5);
    assert_eq!(
        act(&mut cluster, &engine),
        ["kept w: runaway", "hold runaway"]
    );
    wait(&mut cluster, 600);
    assert_eq!(removed(&mut cluster, &engine), 1);
}

#[test]
fn growth_waits_for_the_lowest_and_shrinking_for_the_highest_number_of_a_window() {
    let engine = engine(&[("stabilization", json!({"up": "30s", "down": "5m"}))]);
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .demand("CPU=4", 4)
        .gang("pg", PlacementStrategy::Pack, &[("CPU=4", 1)]);
    see(&mut cluster);
    let decide = |cluster: &mut Cluster, seconds| {
        wait(cluster, seconds);
        let decision = cluster.decide_with(&engine);
        cluster
            .history
            .absorb(&Input::Decided(&decision), cluster.now);
        patched(cluster, &decision);
        decision
    };
    let first = decide(&mut cluster, 0);
    let expected = [
        "cpu 0 -> 1: placement_group, tasks, stabilization",
        "unserved 4 x {CPU: 4}: stabilization",
    ];
    assert_eq!(lines(&first), expected);
    assert_eq!(decide(&mut cluster, 29).groups[0].replicas_to, 1);
    cluster.snapshot.demands[0].count = 2;
    assert_eq!(decide(&mut cluster, 1).groups[0].replicas_to, 3);
    cluster.settle();
    cluster.snapshot.gangs.clear();
    cluster.snapshot.demands.clear();
    for node in cluster.snapshot.nodes.iter_mut().skip(1) {
        node.idle_since = Some(cluster.now);
    }
    let kept = decide(&mut cluster, 200);
    assert!(!kept.is_change());
    assert!(
        kept.kept_idle
            .iter()
            .all(|kept| kept.code == "stabilization")
    );
    assert_eq!(kept.kept_idle.len(), 3);
    assert_eq!(decide(&mut cluster, 99).groups[0].replicas_to, 3);
    assert_eq!(decide(&mut cluster, 1).groups[0].replicas_to, 0);
}

#[test]
fn a_short_cap_is_shared_between_the_groups_that_are_asked_for() {
    let engine = engine(&[("maximum", json!({"nodes_max": 10}))]);
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .group(group("gpu", "GPU=1"))
        .group(group("tpu", "TPU=4"))
        .group(group("small", "CPU=1"))
        .busy("gpu", "g0")
        .busy("gpu", "g1")
        .demand("CPU=4", 9)
        .demand("GPU=1", 9)
        .demand("TPU=4", 1);
    see(&mut cluster);
    let expected = [
        "cpu 0 -> 5: tasks",
        "gpu 2 -> 4: tasks",
        "tpu 0 -> 1: tasks",
        "unserved 4 x {CPU: 4}: fair_share",
        "unserved 7 x {GPU: 1}: fair_share",
    ];
    assert_eq!(act(&mut cluster, &engine), expected);
    // One group alone takes what there is, as before.
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .demand("CPU=4", 12);
    cluster.group_mut("cpu").bounds.max = 20;
    see(&mut cluster);
    let expected = ["cpu 0 -> 10: tasks", "unserved 2 x {CPU: 4}: at_total_cap"];
    assert_eq!(act(&mut cluster, &engine), expected);
}
