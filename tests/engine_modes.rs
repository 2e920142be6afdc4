//! What may go and what stays: modes, two looks at what is idle, protection and orders.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::{Engine, apply, invariants};
use rayscaler::model::{
    Input, NodeId, NodeStatus, Protection, RemovalCause, ReplicaBounds, ReplicaName, ScaleDecision,
    ScalingMode, Timestamp,
};
use support::builders::{Cluster, group, lines, running};

fn cpu() -> Cluster {
    Cluster::default().group(group("cpu", "CPU=1"))
}

/// Decides as the loop does: observe, decide, check, remember.
fn pass(cluster: &mut Cluster) -> ScaleDecision {
    cluster.snapshot.sort();
    let (snapshot, now) = (&cluster.snapshot, cluster.now);
    cluster.history.absorb(&Input::Observed(snapshot), now);
    let decision = Engine::default().decide(snapshot, &cluster.history, now);
    let broken = invariants::check(snapshot, &cluster.history, &decision);
    assert_eq!(broken, [], "{decision:#?}");
    let after = apply(snapshot, &decision);
    let again = Engine::default().decide(&after, &cluster.history, now);
    assert!(!again.is_change(), "{decision:#?} then {again:#?}");
    cluster.history.absorb(&Input::Decided(&decision), now);
    decision
}

/// Lets time pass; all sources are read at the end of it.
fn later(cluster: &mut Cluster, ms: u64) {
    cluster.now = cluster.now.plus_ms(ms);
    let at = Some(cluster.now);
    let known = &mut cluster.snapshot.completeness;
    (known.gcs_at, known.pods_at, known.raycluster_at) = (at, at, at);
}

fn codes(decision: &ScaleDecision) -> Vec<&str> {
    decision
        .holds
        .iter()
        .map(|hold| hold.code.as_str())
        .collect()
}

#[test]
fn an_idle_replica_goes_when_a_second_reply_agrees_and_not_before() {
    let mut cluster = cpu().idle("cpu", "w1", 100).idle("cpu", "w2", 100);
    let first = pass(&mut cluster);
    assert_eq!(lines(&first), ["kept w1: seen_once", "kept w2: seen_once"]);
    assert_eq!(first.next_check_at, Some(cluster.now.plus_ms(100)));
    // The same reply again is no second one.
    cluster.now = cluster.now.plus_ms(100);
    assert_eq!(lines(&pass(&mut cluster)), lines(&first));
    // A reply in which one of them had work in between.
    later(&mut cluster, 100);
    cluster.node_mut("w2").idle_since = None;
    let third = pass(&mut cluster);
    assert_eq!(
        lines(&third),
        ["cpu 2 -> 1: idle_timeout", "remove w1 (Idle)"]
    );
    let at = cluster.now;
    cluster.node_mut("w2").idle_since = Some(at.minus_ms(100_000));
    later(&mut cluster, 100);
    let fourth = lines(&pass(&mut cluster));
    assert_eq!(fourth[2], "kept w2: seen_once", "it starts anew");
}

#[test]
fn what_was_agreed_on_stays_so_while_writing_fails() {
    let mut cluster = cpu().idle("cpu", "w1", 100);
    pass(&mut cluster);
    for _ in 0..3 {
        later(&mut cluster, 100);
        assert_eq!(lines(&pass(&mut cluster))[0], "cpu 1 -> 0: idle_timeout");
    }
}

#[test]
fn modes_follow_from_ages_and_are_left_by_themselves() {
    let mut cluster = cpu().idle("cpu", "w1", 300).demand("CPU=1", 3);
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Normal);
    let fresh = cluster.now;
    let stale = Some(fresh.minus_ms(15_001));
    let old = Some(fresh.minus_ms(120_001));

    cluster.snapshot.completeness.pods_at = stale;
    let decision = pass(&mut cluster);
    assert_eq!(decision.mode, ScalingMode::NoScaleDown);
    assert_eq!(decision.groups[0].replicas_to, 3, "growth goes on");
    cluster.snapshot.completeness.pods_at = old;
    let decision = pass(&mut cluster);
    assert_eq!(decision.mode, ScalingMode::Frozen);
    assert!(!decision.is_change());
    cluster.snapshot.completeness.pods_at = Some(fresh);

    cluster.snapshot.completeness.raycluster_at = old;
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Frozen);
    cluster.snapshot.completeness.raycluster_at = None;
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Frozen);
    cluster.snapshot.completeness.raycluster_at = Some(fresh);

    cluster.snapshot.completeness.gcs_at = stale;
    let decision = pass(&mut cluster);
    assert_eq!(decision.mode, ScalingMode::NoScaleDown);
    assert!(!decision.is_change(), "demand that old may long be served");

    later(&mut cluster, 1);
    cluster.snapshot.unreadable = Some("may not get rayclusters".into());
    let decision = pass(&mut cluster);
    assert_eq!(decision.mode, ScalingMode::Frozen);
    assert!(codes(&decision).contains(&"unreadable"));
    cluster.snapshot.unreadable = None;
    cluster.snapshot.is_suspended = true;
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Frozen);
    cluster.snapshot.is_suspended = false;
    let decision = pass(&mut cluster);
    assert_eq!(decision.mode, ScalingMode::Normal);
    assert_eq!(decision.groups[0].replicas_to, 3);
}

#[test]
fn a_frozen_pass_wakes_when_only_time_freezes_it() {
    let mut cluster = cpu();
    cluster.snapshot.completeness.pods_at = Some(cluster.now.minus_ms(20_000));
    let frozen_at = cluster.now.plus_ms(100_001);
    cluster.snapshot.completeness.gcs_at = Some(frozen_at);
    cluster.snapshot.completeness.raycluster_at = Some(frozen_at);
    assert_eq!(pass(&mut cluster).next_check_at, Some(frozen_at));
}

/// A GCS that was away comes back before its nodes do.
fn after_an_outage() -> Cluster {
    let mut cluster = cpu().idle("cpu", "w1", 300).idle("cpu", "w2", 300);
    pass(&mut cluster);
    cluster.now = cluster.now.plus_ms(12_000);
    let at = Some(cluster.now);
    let known = &mut cluster.snapshot.completeness;
    (known.pods_at, known.raycluster_at) = (at, at);
    assert_eq!(
        pass(&mut cluster).mode,
        ScalingMode::Normal,
        "not stale yet"
    );
    later(&mut cluster, 1_000);
    cluster.node_mut("w2").status = NodeStatus::Starting;
    cluster.node_mut("w2").idle_since = None;
    cluster
}

#[test]
fn after_an_outage_missing_nodes_are_not_gone_and_idle_times_start_anew() {
    let mut cluster = after_an_outage();
    let back_at = cluster.now;
    let decision = pass(&mut cluster);
    assert_eq!(decision.mode, ScalingMode::Recovering);
    assert_eq!(codes(&decision), ["recovering"]);
    assert!(!decision.is_change());
    later(&mut cluster, 30_000);
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Recovering);
    // All are back: nothing waits any longer, but nobody has been idle for long.
    let at = cluster.now;
    cluster.node_mut("w2").status = NodeStatus::Running;
    cluster.node_mut("w2").idle_since = Some(at.minus_ms(400_000));
    later(&mut cluster, 100);
    let decision = pass(&mut cluster);
    assert_eq!(decision.mode, ScalingMode::Normal);
    let expected = ["kept w1: idle_timeout", "kept w2: idle_timeout"];
    assert_eq!(lines(&decision), expected);
    assert_eq!(decision.next_check_at, Some(cluster.now.plus_ms(15_001)));
    cluster.now = back_at;
    later(&mut cluster, 60_001);
    assert_eq!(lines(&pass(&mut cluster))[0], "kept w1: seen_once");
    later(&mut cluster, 100);
    assert_eq!(lines(&pass(&mut cluster))[0], "cpu 2 -> 0: idle_timeout");
}

#[test]
fn a_recovery_ends_though_a_node_never_comes_back() {
    let mut cluster = after_an_outage();
    pass(&mut cluster);
    later(&mut cluster, 59_999);
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Recovering);
    later(&mut cluster, 1);
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Normal);
}

#[test]
fn growth_goes_on_while_nodes_come_back() {
    let mut cluster = after_an_outage().demand("CPU=1", 5);
    let decision = pass(&mut cluster);
    // One runs, one is on its way back; the rest is launched.
    assert_eq!(decision.groups[0].replicas_to, 5, "{decision:#?}");
}

#[test]
fn another_gcs_or_head_is_an_outage_too() {
    let idle = || {
        let mut cluster = cpu().idle("cpu", "w1", 300).starting("cpu", "w2");
        cluster.node_mut("head").node_id = NodeId::from_bytes(&[1; 28]);
        pass(&mut cluster);
        assert_eq!(pass(&mut cluster).mode, ScalingMode::Normal);
        later(&mut cluster, 100);
        cluster
    };
    let mut cluster = idle();
    let now = cluster.now;
    cluster.history.absorb(&Input::GcsReplaced, now);
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Recovering);
    let mut cluster = idle();
    cluster.history.absorb(&Input::GcsRestarted, now);
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Recovering);
    let mut cluster = idle();
    cluster.node_mut("head").node_id = NodeId::from_bytes(&[2; 28]);
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Recovering);
    let mut cluster = idle();
    cluster.node_mut("head").created_at = Some(now);
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Recovering);
    // A sidecar that starts beside a head younger than the workers has nothing to compare with.
    let mut cluster = cpu().idle("cpu", "w1", 300).starting("cpu", "w2");
    cluster.node_mut("head").created_at = Some(now);
    assert_eq!(pass(&mut cluster).mode, ScalingMode::Recovering);
}

#[test]
fn a_pod_of_before_the_outage_is_no_failed_start() {
    let mut cluster = after_an_outage();
    let long_ago = Some(cluster.now.minus_ms(7_200_000));
    cluster.node_mut("w2").created_at = long_ago;
    pass(&mut cluster);
    assert!(cluster.history.start_failed_at.is_empty());
}

#[test]
fn a_protected_replica_stays_however_idle_and_whatever_the_maximum() {
    let mut cluster = cpu().idle("cpu", "w1", 900).idle("cpu", "w2", 300);
    let orders = &mut cluster.snapshot.orders;
    orders.protect.insert("w1".into(), Protection::ForGood);
    let expected = [
        "cpu 2 -> 1: idle_timeout",
        "remove w2 (Idle)",
        "kept w1: protected",
    ];
    assert_eq!(lines(&cluster.decide()), expected);

    let mut cluster = cpu().busy("cpu", "w1").busy("cpu", "w2").busy("cpu", "w3");
    cluster.group_mut("cpu").bounds = ReplicaBounds { min: 0, max: 1 };
    let orders = &mut cluster.snapshot.orders;
    for pod in ["w1", "w3"] {
        orders.protect.insert(pod.into(), Protection::ForGood);
    }
    let expected = [
        "cpu 3 -> 2: above_maximum",
        "remove w2 (AboveMax)",
        "hold protected",
    ];
    assert_eq!(lines(&cluster.decide()), expected);
}

#[test]
fn a_protection_ends_at_its_moment() {
    let mut cluster = cpu().idle("cpu", "w1", 900);
    let until = cluster.now.plus_ms(5_000);
    let orders = &mut cluster.snapshot.orders;
    orders.protect.insert("w1".into(), Protection::Until(until));
    let decision = cluster.decide();
    assert_eq!(lines(&decision), ["kept w1: protected"]);
    assert_eq!(decision.next_check_at, Some(until));
    later(&mut cluster, 5_000);
    assert_eq!(lines(&cluster.decide())[0], "cpu 1 -> 0: idle_timeout");
}

#[test]
fn one_protected_host_protects_its_replica() {
    let mut slice = group("slice", "CPU=1");
    slice.num_of_hosts = 2;
    let mut cluster = Cluster::default().group(slice);
    for (replica, host) in [("a", 0), ("a", 1), ("b", 0), ("b", 1)] {
        let pod = format!("{replica}-{host}");
        let mut node = running("slice", &pod, "CPU=1");
        node.replica = ReplicaName::from(replica);
        node.host_index = host;
        node.idle_since = Some(cluster.now.minus_ms(300_000));
        cluster = cluster.node(node);
    }
    let orders = &mut cluster.snapshot.orders;
    orders.protect.insert("a-1".into(), Protection::ForGood);
    let expected = [
        "slice 2 -> 1: idle_timeout",
        "remove b-0 b-1 (Idle)",
        "kept a-0: protected",
        "kept a-1: protected",
    ];
    assert_eq!(lines(&cluster.decide()), expected);
    // An order for one host is one for all, and comes before a protection.
    cluster.snapshot.orders.drain.insert("a-0".into(), None);
    let decision = cluster.decide();
    assert_eq!(lines(&decision)[1], "remove a-0 a-1 (Ordered)");
}

#[test]
fn an_ordered_replica_goes_busy_or_not_and_its_minimum_comes_anew() {
    let mut cluster = cpu().busy("cpu", "w1").busy("cpu", "w2");
    cluster
        .snapshot
        .orders
        .drain
        .insert("w1".into(), Some(7_000));
    let decision = cluster.decide();
    assert_eq!(
        lines(&decision),
        ["cpu 2 -> 1: ordered", "remove w1 (Ordered)"]
    );
    let removal = &decision.groups[0].remove[0];
    assert_eq!(removal.finish.within_ms, Some(7_000));
    assert_eq!(removal.finish.by, None);
    cluster.group_mut("cpu").bounds.min = 2;
    let expected = ["cpu 2 -> 2: ordered, minimum", "remove w1 (Ordered)"];
    assert_eq!(lines(&cluster.decide()), expected);
}

#[test]
fn a_replica_that_was_told_keeps_its_time_and_its_number_stays_lowered() {
    for cause in [RemovalCause::Ordered, RemovalCause::AboveMax] {
        let mut cluster = cpu().busy("cpu", "w1").busy("cpu", "w2");
        match cause {
            RemovalCause::Ordered => drop(cluster.snapshot.orders.drain.insert("w1".into(), None)),
            _ => cluster.group_mut("cpu").bounds.max = 1,
        }
        let decision = pass(&mut cluster);
        assert_eq!(decision.groups[0].remove[0].cause, cause);
        assert_eq!(decision.groups[0].replicas_to, 1);
        let by = cluster.now.plus_ms(30_000);
        let pod = &"w1".into();
        cluster
            .history
            .absorb(&Input::DrainAccepted(pod), cluster.now);
        cluster
            .history
            .absorb(&Input::ToldToGo { pod, by }, cluster.now);
        let mut cluster = cluster.replicas("cpu", 1);
        for status in [
            NodeStatus::Running,
            NodeStatus::Draining,
            NodeStatus::Stopped,
        ] {
            later(&mut cluster, 1_000);
            cluster.node_mut("w1").status = status;
            let decision = pass(&mut cluster);
            let group = &decision.groups[0];
            assert_eq!(
                (group.replicas_to, group.remove.len()),
                (1, 1),
                "{group:#?}"
            );
            assert_eq!(group.remove[0].pods, ["w1".into()]);
            let is_stopped = status == NodeStatus::Stopped;
            let finish = group.remove[0].finish.by;
            assert!(is_stopped || finish == Some(by), "{group:#?}");
        }
    }
}

#[test]
fn what_drains_for_an_order_is_not_named_early_when_the_order_is_taken_back() {
    let mut cluster = cpu().busy("cpu", "w1");
    let by = cluster.now.plus_ms(30_000);
    let pod = &"w1".into();
    cluster
        .history
        .absorb(&Input::DrainAccepted(pod), cluster.now);
    cluster
        .history
        .absorb(&Input::ToldToGo { pod, by }, cluster.now);
    cluster.node_mut("w1").status = NodeStatus::Draining;
    let decision = pass(&mut cluster);
    assert!(!decision.is_change(), "{decision:#?}");
    later(&mut cluster, 30_000);
    assert_eq!(lines(&pass(&mut cluster))[1], "remove w1 (Stopped)");
}

#[test]
fn a_pod_that_somebody_named_is_told_once_and_its_replica_is_taken_off() {
    let mut cluster = cpu().busy("cpu", "w1").busy("cpu", "w2");
    cluster.node_mut("w1").node_id = NodeId::from_bytes(&[1; 28]);
    pass(&mut cluster);
    cluster.group_mut("cpu").workers_to_delete = vec!["w1".into()];
    cluster.node_mut("w1").status = NodeStatus::Deleting;
    let decision = pass(&mut cluster);
    assert_eq!(lines(&decision), ["cpu 2 -> 1: ordered"]);
    assert_eq!(decision.drains, ["w1".into()]);
    cluster.apply(&decision);
    let now = cluster.now;
    let (group, from, to) = (&"cpu".into(), 2, 1);
    cluster
        .history
        .absorb(&Input::Scaled { group, from, to }, now);
    cluster
        .history
        .absorb(&Input::DrainRefused(&"w1".into()), now);
    later(&mut cluster, 1_000);
    assert!(pass(&mut cluster).drains.is_empty(), "not again at once");
    later(&mut cluster, 4_000);
    assert_eq!(pass(&mut cluster).drains, ["w1".into()]);
    cluster
        .history
        .absorb(&Input::DrainAccepted(&"w1".into()), now);
    cluster.node_mut("w1").status = NodeStatus::Terminating;
    let decision = pass(&mut cluster);
    assert!(
        decision.drains.is_empty() && !decision.is_change(),
        "{decision:#?}"
    );
}

#[test]
fn a_name_that_is_taken_back_keeps_its_pod_until_its_raylet_has_ended() {
    let mut cluster = cpu().busy("cpu", "w1").busy("cpu", "w2");
    cluster.node_mut("w1").node_id = NodeId::from_bytes(&[1; 28]);
    pass(&mut cluster);
    cluster.group_mut("cpu").workers_to_delete = vec!["w1".into()];
    cluster.node_mut("w1").status = NodeStatus::Deleting;
    assert_eq!(pass(&mut cluster).drains, ["w1".into()]);
    let told = Input::NamedTold(&"w1".into());
    cluster.history.absorb(&told, cluster.now);
    assert!(pass(&mut cluster).drains.is_empty(), "it is told once");
    // The operator has not acted; whatever the deadline was, the node may have work for an hour.
    cluster.group_mut("cpu").workers_to_delete.clear();
    for status in [NodeStatus::Running, NodeStatus::Draining] {
        cluster.node_mut("w1").status = status;
        for ms in [1_000, 40_000, 3_600_000] {
            later(&mut cluster, ms);
            let decision = pass(&mut cluster);
            assert!(!decision.is_change(), "{decision:#?}");
        }
    }
    cluster.node_mut("w1").status = NodeStatus::Stopped;
    later(&mut cluster, 1_000);
    assert!(!pass(&mut cluster).is_change(), "its raylet may come back");
    later(&mut cluster, 30_000);
    assert_eq!(lines(&pass(&mut cluster))[1], "remove w1 (Stopped)");
}

#[test]
fn the_check_knows_what_may_be_taken_and_what_not() {
    let mut cluster = cpu().busy("cpu", "w1").idle("cpu", "w2", 900);
    cluster.snapshot.sort();
    let mut decision = cluster.decide();
    let found = |cluster: &Cluster, decision: &ScaleDecision| -> Vec<String> {
        let broken = invariants::check(&cluster.snapshot, &cluster.history, decision);
        broken.iter().map(ToString::to_string).collect()
    };
    decision.groups[0].remove[0].pods = vec!["w1".into()];
    decision.groups[0].remove[0].replica = "w1".into();
    for cause in [RemovalCause::Idle, RemovalCause::Stopped] {
        decision.groups[0].remove[0].cause = cause;
        assert_eq!(found(&cluster, &decision), ["I7: w1 is busy"]);
    }
    decision.groups[0].remove[0].cause = RemovalCause::Ordered;
    assert_eq!(
        found(&cluster, &decision),
        ["I7: nobody has ordered w1 away"]
    );
    decision.groups[0].remove[0].cause = RemovalCause::AboveMax;
    assert_eq!(
        found(&cluster, &decision),
        ["I7: cpu: 1 above maxReplicas, of 0"]
    );
    cluster.group_mut("cpu").bounds.max = 1;
    assert!(found(&cluster, &decision).is_empty());
    let far = Timestamp::from_ms(i64::MAX);
    for protection in [Protection::ForGood, Protection::Until(far)] {
        let orders = &mut cluster.snapshot.orders;
        orders.protect.insert("w1".into(), protection);
        assert_eq!(found(&cluster, &decision), ["I7: w1 is protected"]);
    }
    cluster.snapshot.orders.drain.insert("w1".into(), None);
    decision.groups[0].remove[0].cause = RemovalCause::Ordered;
    assert!(found(&cluster, &decision).is_empty());
    decision.mode = ScalingMode::Recovering;
    assert_eq!(
        found(&cluster, &decision),
        ["I6: cpu shrinks on stale knowledge"]
    );
}
