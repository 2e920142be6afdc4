//! Situations and the decisions they lead to.
//!
//! Single decisions stand in `scenarios/*.yaml`, one file per subject; transcripts over several
//! decisions stand here.
#![expect(clippy::unwrap_used, reason = "test")]

mod scenarios;
#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::{ChainEntry, Engine};
use rayscaler::model::{AntiAffinity, NodeStatus, PlacementStrategy, ReplicaBounds, UpscalingMode};
use rayscaler::policy::{Plan, Policy, PolicyContext, PolicyEntry, Registry, Stage};
use scenarios::run_file;
use support::builders::{Cluster, gang, group, lines, resources, running, tasks};
use support::passes;

#[test]
fn groups_are_chosen_as_ray_chooses_them() {
    run_file("choice.yaml");
}

#[test]
fn nodes_that_are_there_come_first() {
    run_file("running.yaml");
}

#[test]
fn placement_groups_are_placed_whole_or_not_at_all() {
    run_file("gangs.yaml");
}

#[test]
fn labels_decide_where_requests_go() {
    run_file("labels.yaml");
}

#[test]
fn idle_nodes_go_and_asked_for_ones_stay() {
    run_file("idle.yaml");
}

#[test]
fn a_replica_is_one_unit() {
    run_file("multi_host.yaml");
}

#[test]
fn replicas_follow_the_raycluster_and_the_pods() {
    run_file("replicas.yaml");
}

#[test]
fn a_rescheduled_strict_spread_bundle_avoids_nodes_of_its_group() {
    let mut cluster = Cluster::default().group(group("cpu4", "CPU=4"));
    cluster = cluster.idle("cpu4", "w1", 5);
    cluster
        .node_mut("w1")
        .labels
        .insert("_PG_pg1".into(), String::new());
    let mut bundle = tasks("CPU=1", 1);
    let (label_name, label_value) = ("_PG_pg1".to_owned(), String::new());
    bundle.request.anti_affinity = Some(AntiAffinity {
        label_name,
        label_value,
    });
    let mut gang = gang("pg1", PlacementStrategy::StrictSpread, &[("CPU=1", 1)]);
    gang.bundles = vec![bundle];
    cluster.snapshot.gangs.push(gang);
    let expected = ["cpu4 1 -> 2: placement_group", "kept w1: idle_timeout"];
    assert_eq!(lines(&cluster.decide()), expected);
}

/// KubeRay's `TestRayClusterAutoscaler`: two actors one after the other, then none.
#[test]
fn actors_come_and_go() {
    let mut cluster = Cluster::default()
        .group(group("small", "CPU=1"))
        .demand("CPU=1", 1);
    for to in [1, 2] {
        let decision = cluster.decide();
        assert_eq!(
            lines(&decision),
            [format!("small {} -> {to}: tasks", to - 1)]
        );
        cluster.apply(&decision);
        assert!(
            !cluster.decide().is_change(),
            "the node on its way takes the actor"
        );
        cluster.settle();
        for node in cluster
            .snapshot
            .nodes
            .iter_mut()
            .filter(|node| node.name.as_str() != "head")
        {
            node.available = resources("");
        }
    }
    cluster.snapshot.demands.clear();
    let now = cluster.now;
    let workers = cluster
        .snapshot
        .nodes
        .iter_mut()
        .filter(|node| node.name.as_str() != "head");
    for node in workers {
        (node.available, node.idle_since) = (node.total.clone(), Some(now));
    }
    let waiting = cluster.decide();
    assert_eq!(waiting.kept_idle.len(), 2);
    cluster.now = now.plus_ms(60_001);
    let done = waiting.next_check_at.unwrap().min(cluster.now);
    assert_eq!(
        done,
        now.plus_ms(15_001),
        "the snapshot itself becomes stale first"
    );
    refresh(&mut cluster);
    let decision = cluster.decide();
    assert_eq!(lines(&decision)[0], "small 2 -> 0: idle_timeout");
    cluster.apply(&decision);
    cluster.history.absorb(
        &rayscaler::model::Input::Observed(&cluster.snapshot),
        cluster.now,
    );
    cluster.settle();
    cluster.history.absorb(
        &rayscaler::model::Input::Observed(&cluster.snapshot),
        cluster.now,
    );
    let forgetting = cluster.decide();
    assert_eq!(forgetting.groups[0].forget.len(), 2, "{forgetting:#?}");
    assert_eq!(forgetting.groups[0].replicas_to, 0);
}

fn refresh(cluster: &mut Cluster) {
    let at = Some(cluster.now);
    let known = &mut cluster.snapshot.completeness;
    (known.gcs_at, known.pods_at, known.raycluster_at) = (at, at, at);
}

/// KubeRay's `UpscalingModeConservative`: ten actors at once, ten nodes in the end.
#[test]
fn conservative_doubles_at_most_whatever_the_speed_of_the_loop() {
    let mut cluster = Cluster::default()
        .group(group("small", "CPU=1"))
        .demand("CPU=1", 10);
    cluster.snapshot.upscaling_mode = UpscalingMode::Conservative;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let decision = cluster.decide();
        seen.push(decision.groups[0].replicas_to);
        cluster.apply(&decision);
        assert!(
            !cluster.decide().is_change(),
            "a faster loop changes nothing"
        );
        cluster.settle();
    }
    assert_eq!(seen, [1, 2, 4, 8, 10]);
}

#[test]
fn what_conservative_cuts_is_reported() {
    let mut cluster = Cluster::default()
        .group(group("small", "CPU=1"))
        .demand("CPU=1", 10);
    cluster.snapshot.upscaling_mode = UpscalingMode::Conservative;
    let decision = cluster.decide();
    let expected = [
        "small 0 -> 1: tasks, upscaling_mode",
        "unserved 9 x {CPU: 1}: upscaling_mode",
    ];
    assert_eq!(lines(&decision), expected);
}

#[test]
fn old_knowledge_removes_nothing_and_missing_knowledge_does_nothing() {
    let cluster = Cluster::default()
        .group(group("cpu4", "CPU=4"))
        .idle("cpu4", "w1", 100);
    let mut stale = cluster.clone().demand("CPU=4", 2);
    stale.snapshot.completeness.pods_at = Some(stale.now.minus_ms(15_001));
    assert_eq!(
        lines(&stale.decide()),
        [
            "cpu4 1 -> 2: tasks",
            "kept w1: needed_by_demand",
            "hold stale"
        ]
    );
    stale.snapshot.demands.clear();
    assert_eq!(lines(&stale.decide()), ["kept w1: stale", "hold stale"]);
    let mut blind = cluster.clone().demand("CPU=4", 2);
    blind.snapshot.completeness.gcs_at = Some(blind.now.minus_ms(15_001));
    assert_eq!(lines(&blind.decide()), ["hold stale"]);
    blind.snapshot.completeness.gcs_at = None;
    assert_eq!(lines(&blind.decide()), ["hold incomplete"]);
    let mut headless = cluster.clone().demand("CPU=4", 2);
    headless.node_mut("head").status = NodeStatus::Starting;
    assert_eq!(lines(&headless.decide()), ["hold head_not_running"]);
    let mut suspended = cluster.clone();
    suspended.snapshot.is_suspended = true;
    assert_eq!(lines(&suspended.decide()), ["hold suspended"]);
    let mut paused = cluster;
    paused.snapshot.paused = Some("annotation".into());
    assert_eq!(
        lines(&paused.decide()),
        [
            "cpu4 1 -> 0: idle_timeout",
            "remove w1 (Idle)",
            "hold paused"
        ]
    );
}

#[test]
fn a_refused_drain_is_not_asked_again_at_once() {
    let mut cluster = Cluster::default()
        .group(group("cpu4", "CPU=4"))
        .idle("cpu4", "w1", 100);
    cluster
        .history
        .drain_refused_at
        .insert("w1".into(), cluster.now);
    let decision = cluster.decide();
    assert_eq!(lines(&decision), ["kept w1: drain_refused"]);
    assert_eq!(decision.next_check_at, Some(cluster.now.plus_ms(5_000)));
    cluster.now = cluster.now.plus_ms(5_000);
    assert_eq!(
        lines(&cluster.decide()),
        ["cpu4 1 -> 0: idle_timeout", "remove w1 (Idle)"]
    );
}

#[test]
fn a_zombie_is_replaced_in_the_patch_that_names_it() {
    let mut only = group("cpu4", "CPU=4");
    only.bounds = ReplicaBounds { min: 1, max: 1 };
    let mut zombie = running("cpu4", "w1", "");
    zombie.status = NodeStatus::Stopped;
    let mut cluster = Cluster::default().group(only).node(zombie);
    let since = cluster.now.minus_ms(20_000);
    cluster.history.stopped_since.insert("w1".into(), since);
    let waiting = cluster.decide();
    assert!(
        !waiting.is_change(),
        "at the maximum nothing replaces a raylet that may come back"
    );
    cluster.now = since.plus_ms(30_000);
    let decision = cluster.decide();
    assert_eq!(
        lines(&decision),
        ["cpu4 1 -> 1: stopped, minimum", "remove w1 (Stopped)"]
    );
}

#[test]
fn names_are_forgotten_when_their_pods_are_gone_and_the_operator_had_its_time() {
    let mut listed = group("cpu4", "CPU=4");
    listed.workers_to_delete = vec!["seen".into(), "strange".into(), "here".into()];
    let mut here = running("cpu4", "here", "CPU=4");
    here.status = NodeStatus::Deleting;
    let mut cluster = Cluster::default().group(listed).node(here);
    cluster.history.named_seen.insert("seen".into());
    cluster
        .history
        .listed_without_pod_since
        .insert("strange".into(), cluster.now);
    let decision = cluster.decide();
    assert_eq!(lines(&decision), ["cpu4 0 -> 0", "forget seen"]);
    assert_eq!(decision.next_check_at, Some(cluster.now.plus_ms(5_000)));
    cluster.now = cluster.now.plus_ms(5_000);
    assert_eq!(
        lines(&cluster.decide()),
        ["cpu4 0 -> 0", "forget seen", "forget strange"]
    );
}

#[test]
fn hostile_numbers_get_an_answer() {
    let mut wide = group("wide", "CPU=4");
    wide.bounds.max = 2_147_483_647;
    let cluster = Cluster::default()
        .group(wide.clone())
        .demand("CPU=1", u64::MAX)
        .demand("", u64::MAX);
    let at_once = passes::engine(&[("growth_slices", serde_json::json!({"pods": null}))]);
    let decision = cluster.decide_with(&at_once);
    assert_eq!(decision.groups[0].replicas_to, 2_147_483_647);
    let mut hosts = wide.clone();
    (hosts.num_of_hosts, hosts.bounds.max) = (u32::MAX, u32::MAX);
    let cluster = Cluster::default()
        .group(hosts)
        .demand("CPU=1", u64::MAX)
        .constraint("CPU=3", u64::MAX);
    assert!(cluster.decide_with(&at_once).groups[0].replicas_to > 0);
    // A shape that stays pending beside the one that is launched for must not make single steps of it.
    let mut three = group("three", "CPU=1");
    (three.num_of_hosts, three.bounds.max) = (3, 2_147_483_647);
    let other = group("other", "CPU=0.5 special=1");
    let cluster = Cluster::default()
        .group(three)
        .group(other)
        .demand("CPU=1", u64::MAX)
        .demand("CPU=0.1 special=0.1", 70);
    assert_eq!(
        cluster.decide_with(&at_once).groups[0].replicas_to,
        2_147_483_647
    );
    let mut asked = wide;
    asked.replicas = u32::MAX;
    let mut negative = running("wide", "w1", "CPU=4");
    negative.available = resources("CPU=-9e14");
    let cluster = Cluster::default()
        .group(asked)
        .node(negative.clone())
        .demand("CPU=3", 1_000_000_000_000);
    assert_eq!(
        cluster.decide_with(&at_once).groups[0].replicas_to,
        2_147_483_647
    );
    let empty = Cluster {
        snapshot: rayscaler::model::ClusterSnapshot::default(),
        ..Cluster::default()
    };
    assert!(!empty.decide().is_change());
}

#[test]
fn a_thousand_nodes_and_a_thousand_tasks_are_decided_at_once() {
    let mut cluster = Cluster::default().group(group("cpu8", "CPU=8 memory=3.2e10"));
    cluster.group_mut("cpu8").bounds.max = 5_000;
    for at in 0..1_000_u32 {
        let mut node = running("cpu8", &format!("w{at:04}"), "CPU=8 memory=3.2e10");
        node.available = resources(&format!("CPU={} memory=1.6e10", at % 8));
        node.total.set(
            format!("node:10.0.{}.{}", at / 256, at % 256)
                .as_str()
                .into(),
            rayscaler::model::Quantity::from_whole(1),
        );
        cluster = cluster.node(node);
    }
    for shape in 1..=8 {
        cluster = cluster.demand(&format!("CPU={shape}"), 125);
    }
    let at_once = passes::engine(&[("growth_slices", serde_json::json!({"pods": null}))]);
    let decision = cluster.decide_with(&at_once);
    assert!(decision.groups[0].replicas_to > 1_000 && decision.unserved.is_empty());
}

/// Keeps every group at its size for a minute after it was scaled up.
struct Quiet;

impl Policy for Quiet {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        for group in plan.groups() {
            let scaled = ctx.history.scaled_up_at.get(&group);
            let is_quiet = scaled.is_some_and(|at| ctx.now.millis_since(*at) < 60_000);
            let from = plan.replicas_from(&group);
            if is_quiet && plan.replicas_to(&group) != from {
                plan.retarget(&group, from, "quiet");
            }
        }
    }
}

#[test]
fn a_policy_from_outside_joins_the_chain() {
    let registry = Registry::default().register(PolicyEntry {
        name: "quiet",
        stage: Stage::Guard,
        summary: "rest after growth",
        build: |_| Ok(Box::new(Quiet)),
        default_settings: || serde_json::Value::Null,
        schema: schemars::Schema::default,
    });
    let mut chain = ChainEntry::defaults();
    chain.insert(0, ChainEntry::of("quiet"));
    let engine = Engine::new(&chain, &registry).unwrap();
    let mut shrinking = Cluster::default()
        .group(group("cpu4", "CPU=4"))
        .idle("cpu4", "w1", 100);
    let mut growing = Cluster::default()
        .group(group("cpu4", "CPU=4"))
        .demand("CPU=4", 2);
    for cluster in [&mut shrinking, &mut growing] {
        assert!(cluster.decide_with(&engine).is_change());
        cluster
            .history
            .scaled_up_at
            .insert("cpu4".into(), cluster.now.minus_ms(1_000));
        assert!(!cluster.decide_with(&engine).is_change());
    }
    assert_eq!(lines(&shrinking.decide_with(&engine)), ["kept w1: quiet"]);
    assert_eq!(
        lines(&growing.decide_with(&engine)),
        ["unserved 2 x {CPU: 4}: quiet"]
    );
}

/// While many pods go one by one, a patch for each would be more than the names cost.
#[test]
fn few_names_of_many_wait_for_others() {
    let forgotten = |gone: usize, listed: usize| {
        let names = (0..listed).map(|number| format!("pod-{number}"));
        let mut cluster = Cluster::default().group(group("cpu4", "CPU=4"));
        for name in names.clone().skip(gone) {
            let mut pod = running("cpu4", &name, "CPU=4");
            pod.status = NodeStatus::Deleting;
            cluster = cluster.node(pod);
        }
        let names: Vec<_> = names.map(|name| name.as_str().into()).collect();
        cluster
            .history
            .named_seen
            .extend(names.iter().take(gone).cloned());
        cluster.group_mut("cpu4").workers_to_delete = names;
        cluster.group_mut("cpu4").replicas = 0;
        cluster.decide().groups[0].forget.len()
    };
    assert_eq!((forgotten(1, 4), forgotten(1, 5)), (1, 0));
    assert_eq!((forgotten(24, 100), forgotten(25, 100)), (0, 25));
    assert_eq!((forgotten(1, 1), forgotten(100, 100)), (1, 100));
}
