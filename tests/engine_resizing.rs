//! Pods that grow in place: what is launched for them, and what is counted while they grow.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::invariants::{self, Again};
use rayscaler::engine::{ChainEntry, Engine, Profile};
use rayscaler::model::{
    Completeness, Input, NodeId, PodResize, PodSize, ResizeBasis, ResizeFailure, ResizeNote,
    ResizeState, ScaleDecision,
};
use rayscaler::policy::{PolicyContext, Registry};
use serde_json::json;
use support::builders::{Cluster, group, resources};

const BASE: PodSize = PodSize::of((4_000, 16_000_000_000));
const MAX: PodSize = PodSize::of((8_000, 32_000_000_000));

/// Returns a cluster with a group whose pods have four processors and may have eight.
fn growable(replicas_max: u32) -> Cluster {
    let mut small = group("small", "CPU=4 memory=16e9");
    small.bounds.max = replicas_max;
    let mut cluster = Cluster::default().group(small);
    let groups = &mut cluster.snapshot.resizing.groups;
    groups.insert("small".into(), MAX);
    cluster
}

/// Says how far the resize of a pod has come.
fn note(
    cluster: &mut Cluster,
    pod: &str,
    (current, desired): (PodSize, PodSize),
    state: ResizeState,
) {
    let resize = PodResize {
        current,
        desired,
        max: MAX,
        state,
        basis: None,
    };
    cluster.snapshot.resizing.pods.insert(pod.into(), resize);
}

/// Gives a running pod a raylet.
fn with_raylet(cluster: &mut Cluster, pod: &str) {
    cluster.node_mut(pod).node_id = NodeId::from_bytes(&[7; 28]);
}

/// Takes a look at the cluster so much later, with the latest word of everybody.
fn look(cluster: &mut Cluster, seconds: u64) {
    cluster.now = cluster.now.plus_ms(seconds * 1_000);
    cluster.snapshot.completeness = Completeness {
        gcs_at: Some(cluster.now),
        pods_at: Some(cluster.now),
        raycluster_at: Some(cluster.now),
    };
    let seen = Input::Observed(&cluster.snapshot);
    cluster.history.absorb(&seen, cluster.now);
}

fn replicas(decision: &ScaleDecision, name: &str) -> (u32, u32) {
    let group = decision.group(&name.into()).unwrap();
    (group.replicas_from, group.replicas_to)
}

/// What a group is launched for at the size that it can grow to is enough while its pod comes and grows.
#[test]
fn one_replica_that_can_grow_is_launched_once_and_is_enough_at_every_stage() {
    for demand in [
        &[("CPU=1", 8)][..],
        &[("CPU=8", 1)],
        &[("CPU=5", 1), ("CPU=1", 3)],
    ] {
        let asked = |cluster: Cluster| {
            let demands = demand.iter();
            demands.fold(cluster, |cluster, (shape, count)| {
                cluster.demand(shape, *count)
            })
        };
        let mut cluster = asked(growable(10));
        let decision = cluster.decide();
        assert_eq!(
            replicas(&decision, "small"),
            (0, 1),
            "{demand:?}: nothing there"
        );
        cluster.apply(&decision);
        assert_eq!(
            replicas(&cluster.decide(), "small"),
            (1, 1),
            "{demand:?}: no pod"
        );
        let mut cluster = asked(growable(10).starting("small", "w"));
        note(&mut cluster, "w", (BASE, BASE), ResizeState::Settled);
        let decision = cluster.decide();
        assert_eq!(replicas(&decision, "small"), (1, 1), "{demand:?}: starting");
        assert_eq!(decision.resizes, [], "there is no raylet yet");
        for (sizes, state) in [
            ((BASE, BASE), ResizeState::Settled),
            ((BASE, MAX), ResizeState::Asked),
            ((MAX, MAX), ResizeState::Resized),
        ] {
            let mut cluster = asked(growable(10).idle("small", "w", 1));
            with_raylet(&mut cluster, "w");
            note(&mut cluster, "w", sizes, state);
            let decision = cluster.decide();
            assert_eq!(
                replicas(&decision, "small"),
                (1, 1),
                "{demand:?}: {state:?}"
            );
            let is_resized = decision.resizes.len() == 1;
            assert_eq!(
                is_resized,
                state == ResizeState::Settled,
                "{demand:?}: {state:?}"
            );
        }
    }
}

#[test]
fn a_group_that_can_grow_is_not_launched_to_its_maximum_while_another_starts() {
    let cluster = growable(12)
        .group(group("other", "CPU=1 other=1"))
        .starting("other", "o")
        .demand("CPU=8", 1);
    let decision = cluster.decide();
    assert_eq!(replicas(&decision, "small"), (0, 1));
    assert_eq!(replicas(&decision, "other"), (1, 1));
}

/// Small requests would fill pods that start before these can grow for large ones.
#[test]
fn two_replicas_that_can_grow_are_enough_while_their_pods_start() {
    let cluster = growable(10).demand("CPU=8", 1).demand("CPU=4", 2);
    let decision = cluster.decide();
    assert_eq!(replicas(&decision, "small"), (0, 2));
    for pods in 0..=2 {
        let mut cluster = cluster.clone();
        for name in ["w1", "w2"].into_iter().take(pods) {
            cluster = cluster.starting("small", name);
            note(&mut cluster, name, (BASE, BASE), ResizeState::Settled);
        }
        let cluster = cluster.replicas("small", 2);
        assert_eq!(replicas(&cluster.decide(), "small"), (2, 2), "{pods} pods");
    }
}

#[test]
fn hosts_of_a_replica_that_are_still_to_come_can_grow_too() {
    let mut cluster = growable(10);
    cluster.group_mut("small").num_of_hosts = 2;
    let mut cluster = cluster.starting("small", "w").demand("CPU=8", 2);
    note(&mut cluster, "w", (BASE, BASE), ResizeState::Settled);
    assert_eq!(replicas(&cluster.decide(), "small"), (1, 1));
}

#[test]
fn what_a_resize_has_no_room_for_is_launched_in_the_same_decision() {
    let mut cluster = growable(10).busy("small", "w").demand("CPU=2", 7);
    with_raylet(&mut cluster, "w");
    note(&mut cluster, "w", (BASE, BASE), ResizeState::Settled);
    let decision = cluster.decide();
    assert_eq!(replicas(&decision, "small"), (1, 3));
    let resizes: Vec<_> = decision
        .resizes
        .iter()
        .map(|it| (it.pod.as_str(), it.desired))
        .collect();
    assert_eq!(resizes, [("w", MAX)]);
    // It is under way from now on, and nothing is asked for a second time.
    cluster.apply(&decision);
    let decision = cluster.decide();
    assert_eq!(replicas(&decision, "small"), (3, 3));
    assert_eq!(decision.resizes, []);
}

/// The minimum is launched as all others are, and serves as they do.
#[test]
fn a_minimum_that_can_grow_serves_what_it_can_grow_to() {
    let mut cluster = growable(10).demand("CPU=1", 8);
    cluster.group_mut("small").bounds.min = 1;
    assert_eq!(replicas(&cluster.decide(), "small"), (0, 1));
}

/// Ray counts a node that was asked for as its template says, and never settles.
#[test]
fn the_profile_ray_counts_what_is_to_come_as_ray_does() {
    let chain = Profile::Ray.chain();
    let engine = Engine::new(&chain, &Registry::default());
    let engine = engine.unwrap().with_profile(Profile::Ray);
    let mut cluster = growable(10).demand("CPU=8", 1).replicas("small", 1);
    cluster.snapshot.sort();
    let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
    assert_eq!(replicas(&decision, "small"), (1, 2));
}

/// Between the word to the raylet and the GCS's next reply the node looks as small as it was.
#[test]
fn a_raylet_that_was_just_told_counts_with_what_its_pod_has() {
    let mut cluster = growable(10).busy("small", "w").demand("CPU=2", 1);
    with_raylet(&mut cluster, "w");
    cluster.node_mut("w").available = resources("CPU=1 memory=16e9");
    note(&mut cluster, "w", (MAX, MAX), ResizeState::Resized);
    assert!(!cluster.decide().is_change(), "it is to be told");
    look(&mut cluster, 0);
    note(&mut cluster, "w", (MAX, MAX), ResizeState::Settled);
    for seconds in [0, 1, 5] {
        let mut cluster = cluster.clone();
        look(&mut cluster, seconds);
        assert!(!cluster.decide().is_change(), "the GCS has not heard of it");
    }
    // A raylet that says something else for long is believed.
    look(&mut cluster, 60);
    assert_eq!(replicas(&cluster.decide(), "small"), (1, 2));
}

/// A pod that is full grows for what is asked of it, and nothing is launched beside it.
#[test]
fn a_busy_pod_that_grows_has_nothing_launched_beside_it() {
    for (sizes, state) in [
        ((BASE, BASE), ResizeState::Settled),
        ((BASE, MAX), ResizeState::Asked),
        ((MAX, MAX), ResizeState::Resized),
    ] {
        let mut cluster = growable(10).busy("small", "w").demand("CPU=1", 4);
        with_raylet(&mut cluster, "w");
        note(&mut cluster, "w", sizes, state);
        let decision = cluster.decide();
        assert_eq!(replicas(&decision, "small"), (1, 1), "{state:?}");
        look(&mut cluster, 1);
        let decision = cluster.decide();
        assert_eq!(replicas(&decision, "small"), (1, 1), "{state:?}");
    }
}

#[test]
fn a_pod_that_is_noted_to_grow_and_not_asked_yet_counts_with_what_it_will_have() {
    assert_eq!(replicas(&noted(None).decide(), "small"), (1, 1));
}

/// Kubernetes refused it, and the raylet is still to be told what it has.
#[test]
fn a_pod_that_was_refused_its_resize_counts_with_what_it_has() {
    let failure = ResizeFailure {
        at: Cluster::default().now,
        reason: "no room".to_owned(),
    };
    assert_eq!(replicas(&noted(Some(failure)).decide(), "small"), (1, 2));
}

/// A full pod that is noted to grow, and demand for what it would have then.
fn noted(failure: Option<ResizeFailure>) -> Cluster {
    let mut cluster = growable(10).busy("small", "w").demand("CPU=1", 4);
    with_raylet(&mut cluster, "w");
    note(&mut cluster, "w", (BASE, BASE), ResizeState::Resized);
    let pod = cluster.snapshot.resizing.pods.get_mut(&"w".into()).unwrap();
    pod.basis = Some(Box::new(ResizeBasis {
        uid: "uid".to_owned(),
        asked: BASE,
        cpu_gap: None,
        memory_gap: None,
        noted: None,
        note: ResizeNote {
            resizing_at: Some(cluster.now),
            failure,
            ..ResizeNote::default()
        },
    }));
    cluster
}

/// Equal pods are looked at once, however many of them have to grow.
#[test]
fn a_thousand_pods_that_grow_cost_steps_by_their_number_and_not_by_its_square() {
    const PODS: usize = 1_000;
    for is_running in [true, false] {
        let mut cluster = growable(3_000).demand("CPU=8", 1_100);
        for at in 0..PODS {
            let name = format!("w{at:04}");
            if is_running {
                cluster = cluster.idle("small", &name, 1);
                with_raylet(&mut cluster, &name);
            } else {
                cluster = cluster.starting("small", &name);
            }
            note(&mut cluster, &name, (BASE, BASE), ResizeState::Settled);
        }
        cluster.snapshot.sort();
        let (history, now) = (&cluster.history, cluster.now);
        let steps = 20 * u64::try_from(PODS).unwrap();
        let engine = Engine::default();
        let decision = engine.decide_within(&cluster.snapshot, history, now, steps);
        assert!(!decision.is_cut, "more than {steps} steps");
        assert_eq!(replicas(&decision, "small"), (1_000, 1_100));
        let resizes = if is_running { PODS } else { 0 };
        assert_eq!(decision.resizes.len(), resizes);
    }
}

/// Returns the decision where all groups together may have so many processors.
fn decide_capped(cluster: &mut Cluster, cpu_max: i64) -> ScaleDecision {
    let mut chain = ChainEntry::defaults();
    let entry = chain.iter_mut().find(|entry| entry.name == "maximum");
    entry.unwrap().settings = json!({"resources_max": {"CPU": cpu_max}});
    let engine = Engine::new(&chain, &Registry::default()).unwrap();
    cluster.snapshot.sort();
    let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
    let ctx = PolicyContext {
        snapshot: &cluster.snapshot,
        history: &cluster.history,
        now: cluster.now,
    };
    assert_eq!(invariants::check_of(&engine, ctx, &decision), []);
    for again in Again::ALL {
        assert_eq!(
            invariants::check_again(&engine, ctx, &decision, again),
            None
        );
    }
    decision
}

#[test]
fn pods_grow_within_the_caps_over_all_groups() {
    // By what is allowed: how many pods are resized, and how many there are then.
    for (cpu_max, expected) in [
        (7, (0, 1)),
        (8, (1, 1)),
        (11, (1, 1)),
        (12, (1, 2)),
        (16, (1, 2)),
        (20, (1, 3)),
    ] {
        let mut cluster = growable(10).busy("small", "w").demand("CPU=1", 20);
        with_raylet(&mut cluster, "w");
        note(&mut cluster, "w", (BASE, BASE), ResizeState::Settled);
        let decision = decide_capped(&mut cluster, cpu_max);
        let found = (decision.resizes.len(), replicas(&decision, "small").1);
        assert_eq!(found, expected, "{cpu_max}");
    }
}

/// Its pod would find the caps met by those that have grown, be idle and go, and be launched again.
#[test]
fn nothing_is_launched_whose_pod_the_caps_would_not_let_grow() {
    let asked = || growable(10).demand("CPU=8", 3);
    let mut cluster = asked();
    let decision = decide_capped(&mut cluster, 12);
    assert_eq!(replicas(&decision, "small"), (0, 1));
    cluster.apply(&decision);
    let decision = decide_capped(&mut cluster, 12);
    assert_eq!(replicas(&decision, "small"), (1, 1));
    let mut cluster = asked().starting("small", "w");
    note(&mut cluster, "w", (BASE, BASE), ResizeState::Settled);
    let decision = decide_capped(&mut cluster, 12);
    assert_eq!(replicas(&decision, "small"), (1, 1));
    let mut cluster = asked().idle("small", "w", 1);
    with_raylet(&mut cluster, "w");
    note(&mut cluster, "w", (BASE, BASE), ResizeState::Settled);
    let decision = decide_capped(&mut cluster, 12);
    assert_eq!(replicas(&decision, "small"), (1, 1));
    assert_eq!(decision.resizes.len(), 1);
    // One too many goes for good.
    let mut cluster = asked().busy("small", "w").idle("small", "x", 100_000);
    for (pod, size) in [("w", MAX), ("x", BASE)] {
        with_raylet(&mut cluster, pod);
        note(&mut cluster, pod, (size, size), ResizeState::Settled);
    }
    cluster.node_mut("w").total = resources("CPU=8 memory=32e9");
    let (pod, seen_at) = ("x".into(), cluster.now.minus_ms(1));
    cluster.history.removable.insert(pod, seen_at);
    let decision = decide_capped(&mut cluster, 12);
    assert_eq!(replicas(&decision, "small"), (2, 1));
}

/// What a pod would have once it has grown is too much for the caps: it serves as it is.
#[test]
fn a_group_that_may_not_grow_at_all_is_launched_as_its_template_says() {
    let mut cluster = growable(10).demand("CPU=1", 20);
    let decision = decide_capped(&mut cluster, 7);
    assert_eq!(replicas(&decision, "small"), (0, 1));
    let mut cluster = growable(10).demand("CPU=8", 1);
    let decision = decide_capped(&mut cluster, 7);
    assert_eq!(replicas(&decision, "small"), (0, 0));
}
