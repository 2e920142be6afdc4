//! Nodes that are lost or being deleted, and what stays for their work.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::model::{Departure, DepartureKind, NodeId, NodeStatus};
use support::builders::{Cluster, NOW, group, lines};

/// Returns four replicas that have been idle for longer than their timeout, the later ones younger, and busy ones
/// besides.
fn cluster(busy: &[&str]) -> Cluster {
    let mut cluster = Cluster::default().group(group("cpu", "CPU=4"));
    for (age, pod) in [(400_u64, "a"), (300, "d"), (200, "b"), (100, "c")] {
        // The one that is idle for the longest time is not the oldest one.
        cluster = cluster.idle("cpu", pod, if pod == "b" { 90 } else { 80 });
        cluster.node_mut(pod).created_at = Some(NOW.minus_ms(age * 1_000));
    }
    for (at, pod) in (1..).zip(busy) {
        cluster = cluster.busy("cpu", pod);
        cluster.node_mut(pod).node_id = NodeId::from_bytes(&[at; 28]);
    }
    cluster
}

/// Says that somebody deletes a pod, and that it takes its time.
fn evicted(cluster: &mut Cluster, pod: &str) {
    cluster.node_mut(pod).status = NodeStatus::Terminating;
    let replicas = &mut cluster.group_mut("cpu").replicas;
    *replicas = replicas.saturating_sub(1);
}

/// Says that a pod is gone and that Ray does not know.
fn vanished(cluster: &mut Cluster, pod: &str) {
    evicted(cluster, pod);
    let node = cluster.node_mut(pod);
    node.status = NodeStatus::Lost;
    let departure = Departure {
        node_id: node.node_id.unwrap(),
        pod: pod.into(),
        pod_uid: "u".to_owned(),
        group: "cpu".into(),
        kind: DepartureKind::Gone,
    };
    cluster.snapshot.departures.push(departure);
}

/// Returns which of the idle ones go, and which stay for lost work.
fn fates(cluster: &Cluster) -> (Vec<String>, Vec<String>) {
    let lines = lines(&cluster.decide());
    let of = |start: &str, end: &str| {
        let names = lines
            .iter()
            .filter_map(|line| line.strip_prefix(start)?.strip_suffix(end));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    };
    (of("remove ", " (Idle)"), of("kept ", ": replaces_lost"))
}

fn names(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn as_many_idle_replicas_stay_as_have_work_to_move_the_youngest() {
    let mut none = cluster(&["x", "y"]);
    assert_eq!(fates(&none), (names("a b c d"), names("")));
    evicted(&mut none, "x");
    assert_eq!(fates(&none), (names("a b d"), names("c")));
    vanished(&mut none, "y");
    assert_eq!(fates(&none), (names("a d"), names("b c")));
    let mut all = cluster(&["v", "w", "x", "y", "z"]);
    for pod in ["v", "w", "x", "y", "z"] {
        vanished(&mut all, pod);
    }
    assert_eq!(fates(&all), (names(""), names("a b c d")));
}

#[test]
fn a_replacement_stays_for_as_long_as_the_evicted_one_may_take() {
    let mut cluster = cluster(&["x"]);
    evicted(&mut cluster, "x");
    for _ in 0..30 {
        cluster.now = cluster.now.plus_ms(120_000);
        let fresh = Some(cluster.now);
        let known = &mut cluster.snapshot.completeness;
        (known.gcs_at, known.pods_at, known.raycluster_at) = (fresh, fresh, fresh);
        let (_, kept) = fates(&cluster);
        assert_eq!(kept, names("c"));
        let decision = cluster.decide();
        cluster.apply(&decision);
        let nodes = &mut cluster.snapshot.nodes;
        nodes.retain(|node| node.status != NodeStatus::Deleting);
    }
}

#[test]
fn what_is_not_idle_for_long_enough_or_needed_does_not_stand_in_for_the_replacement() {
    // The youngest are taken by waiting work, or were busy a moment ago: others stay.
    let mut cluster = cluster(&["x"]).demand("CPU=4", 1);
    cluster.node_mut("b").idle_since = Some(NOW.minus_ms(1_000));
    evicted(&mut cluster, "x");
    let (gone, kept) = fates(&cluster);
    assert_eq!((gone.len(), kept.len()), (1, 1), "{gone:?} {kept:?}");
}

#[test]
fn a_replica_of_several_hosts_counts_once() {
    let mut cluster = cluster(&["x", "y"]);
    for pod in ["x", "y"] {
        evicted(&mut cluster, pod);
        cluster.node_mut(pod).replica = "xy".into();
    }
    assert_eq!(fates(&cluster), (names("a b d"), names("c")));
}
