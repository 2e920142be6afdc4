//! What the engine makes of an operator that does not do what it was asked for, and how it asks.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::{Engine, WEAK_POINTS};
use rayscaler::model::{Input, NodeStatus, PlacementStrategy, ReplicaBounds, ScaleDecision};
use std::path::Path;
use support::builders::{Cluster, group, lines, running};
use support::passes::{act, see, wait};

fn wide(name: &str, shape: &str) -> rayscaler::model::WorkerGroup {
    let mut group = group(name, shape);
    group.bounds = ReplicaBounds { min: 0, max: 5000 };
    group
}

/// Lets time pass with everything observed as before, and decides.
fn later(cluster: &mut Cluster, seconds: u64) -> ScaleDecision {
    for _ in 0..seconds {
        cluster.now = cluster.now.plus_ms(1000);
        let at = Some(cluster.now);
        let known = &mut cluster.snapshot.completeness;
        (known.gcs_at, known.pods_at, known.raycluster_at) = (at, at, at);
        let input = Input::Observed(&cluster.snapshot);
        cluster.history.absorb(&input, cluster.now);
    }
    cluster.decide()
}

fn holds(decision: &ScaleDecision) -> Vec<(&str, &str)> {
    let holds = decision.holds.iter();
    holds
        .map(|hold| (hold.group.as_ref().unwrap().as_str(), hold.code.as_str()))
        .collect()
}

/// The words of the table are those of the program; none of W1 to W29 is left out or blank.
#[test]
fn the_table_of_weak_points_is_whole_and_speaks_the_programs_words() {
    let ids: Vec<String> = (1..=29).map(|number| format!("W{number}")).collect();
    assert!(WEAK_POINTS.iter().map(|point| point.id).eq(ids.iter()));
    let source = sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
    for point in WEAK_POINTS {
        let cells = [point.what, point.detected_by, point.shown_as, point.done];
        assert!(
            cells.iter().all(|cell| cell.len() > 5),
            "{} is blank",
            point.id
        );
        let words = point.shown_as.split('`').skip(1).step_by(2);
        let is_code = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        for word in words.filter(is_code) {
            let is_known =
                source.contains(&format!("\"{word}\"")) || source.contains(&format!("pub {word}:"));
            assert!(is_known, "{}: nothing is called {word}", point.id);
        }
    }
}

/// Returns the text of all source files but that of the table.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if !path.ends_with("weak_points.rs") {
            text += &std::fs::read_to_string(&path).unwrap_or_default();
        }
    }
    text
}

#[test]
fn many_pods_are_asked_for_in_slices() {
    let mut cluster = Cluster::default()
        .group(wide("cpu4", "CPU=4"))
        .demand("CPU=4", 250);
    let mut asked = Vec::new();
    for _ in 0..4 {
        let decision = cluster.decide();
        asked.push(decision.groups[0].replicas_to);
        let waiting: u64 = decision.unserved.iter().map(|left| left.count).sum();
        let to = u64::from(*asked.last().unwrap());
        assert_eq!(waiting, 250 - to, "{:?}", decision.unserved);
        assert!(
            decision
                .unserved
                .iter()
                .all(|left| left.code == "growth_slice")
        );
        assert!(decision.infeasible.is_empty());
        cluster.apply(&decision);
        cluster.settle();
        // What runs has taken its share.
        for node in &mut cluster.snapshot.nodes {
            node.available = support::builders::resources("");
        }
        cluster.snapshot.demands.clear();
        if to < 250 {
            cluster = cluster.demand("CPU=4", 250 - to);
        }
    }
    assert_eq!(asked, [100, 200, 250, 250]);
}

/// A patch for every pod that appears would be a pass of the operator for each.
#[test]
fn what_follows_a_slice_comes_in_portions() {
    let asked = |pods: u32, demand: u64| {
        let mut cluster = Cluster::default()
            .group(wide("cpu4", "CPU=4"))
            .demand("CPU=4", demand);
        for pod in 0..pods {
            cluster = cluster.starting("cpu4", &format!("pod-{pod}"));
        }
        cluster.group_mut("cpu4").replicas = 100;
        cluster.decide().groups[0].replicas_to
    };
    assert_eq!(asked(24, 250), 100);
    assert_eq!(asked(25, 250), 125);
    assert_eq!(asked(60, 250), 160);
    assert_eq!(asked(24, 120), 120, "the last ones are no portion");
}

#[test]
fn a_change_of_mind_is_heard_between_two_slices() {
    let mut cluster = Cluster::default()
        .group(wide("cpu4", "CPU=4"))
        .demand("CPU=4", 600);
    let decision = cluster.decide();
    cluster.apply(&decision);
    cluster.snapshot.demands.clear();
    assert_eq!(cluster.decide().groups[0].replicas_to, 100);
}

#[test]
fn what_belongs_together_is_asked_for_whole() {
    let cluster = Cluster::default()
        .group(wide("cpu4", "CPU=4"))
        .gang("pg1", PlacementStrategy::StrictSpread, &[("CPU=4", 150)])
        .demand("CPU=4", 30);
    let decision = cluster.decide();
    assert_eq!(decision.groups[0].replicas_to, 150);
    let left: Vec<_> = decision.unserved.iter().map(|left| left.count).collect();
    assert_eq!(left, [30], "the tasks wait for their slice");
}

#[test]
fn a_group_without_its_pods_holds_no_other_group_back() {
    let mut other = wide("gpu", "GPU=1");
    other.index = 1;
    let mut cluster = Cluster::default()
        .group(wide("cpu4", "CPU=4"))
        .group(other)
        .demand("CPU=4", 300);
    let decision = cluster.decide();
    cluster.apply(&decision);
    let cluster = cluster.demand("GPU=1", 50);
    assert!(lines(&cluster.decide()).contains(&"gpu 0 -> 50: tasks".to_owned()));
}

#[test]
fn a_locked_group_is_named_with_its_pod() {
    let mut cluster = Cluster::default()
        .group(group("cpu4", "CPU=4"))
        .busy("cpu4", "w1");
    cluster.group_mut("cpu4").replicas = 0;
    cluster.group_mut("cpu4").workers_to_delete = vec!["w1".into()];
    cluster.node_mut("w1").status = NodeStatus::Terminating;
    let decision = later(&mut cluster, 10);
    assert_eq!(holds(&decision), [], "the usual grace period is no trap");
    let decision = later(&mut cluster, 40);
    assert_eq!(holds(&decision), [("cpu4", "group_locked")]);
    let detail = &decision.holds[0].detail;
    assert!(
        detail.contains("pod w1 was to be deleted 49 s ago"),
        "{detail}"
    );
    cluster
        .snapshot
        .nodes
        .retain(|node| node.name.as_str() != "w1");
    assert_eq!(holds(&later(&mut cluster, 1)), []);
}

#[test]
fn a_pod_that_nobodys_list_names_locks_nothing() {
    let mut cluster = Cluster::default()
        .group(group("cpu4", "CPU=4"))
        .busy("cpu4", "w1");
    cluster.group_mut("cpu4").replicas = 0;
    cluster.node_mut("w1").status = NodeStatus::Terminating;
    assert_eq!(holds(&later(&mut cluster, 60)), []);
}

/// A group that is locked by a pod on a dead machine, named and with nothing in its place, and another one.
fn locked_and_other(shape: &str) -> Cluster {
    let mut cluster = Cluster::default()
        .group(group("locked", shape))
        .group(group("other", "CPU=4"))
        .busy("locked", "w1");
    let locked = cluster.group_mut("locked");
    (locked.priority, locked.replicas) = (1, 0);
    locked.workers_to_delete = vec!["w1".into()];
    cluster.node_mut("w1").status = NodeStatus::Terminating;
    see(&mut cluster);
    cluster
}

#[test]
fn demand_goes_around_a_group_that_stays_locked_and_comes_back_when_it_is_not() {
    let engine = Engine::default();
    let mut cluster = locked_and_other("CPU=4").demand("CPU=4", 2);
    assert_eq!(act(&mut cluster, &engine), ["locked 0 -> 2: tasks"]);
    wait(&mut cluster, 34);
    assert!(act(&mut cluster, &engine).is_empty());
    wait(&mut cluster, 1);
    let around = [
        "locked 2 -> 0: group_locked",
        "other 0 -> 2: tasks",
        "hold group_locked",
    ];
    assert_eq!(act(&mut cluster, &engine), around);
    let mut cluster = cluster.starting("other", "o1").starting("other", "o2");
    cluster = cluster.replicas("other", 2).demand("CPU=4", 1);
    wait(&mut cluster, 5);
    let more = ["other 2 -> 3: tasks", "hold group_locked"];
    assert_eq!(act(&mut cluster, &engine), more);
    // The pod goes: the group that is preferred takes part again.
    cluster
        .snapshot
        .nodes
        .retain(|node| node.name.as_str() != "w1");
    cluster = cluster.demand("CPU=4", 1);
    wait(&mut cluster, 1);
    assert_eq!(act(&mut cluster, &engine), ["locked 0 -> 1: tasks"]);
}

#[test]
fn what_others_asked_for_in_a_locked_group_stays_asked_for_and_serves_nobody() {
    let engine = Engine::default();
    let mut cluster = locked_and_other("CPU=4").replicas("locked", 1);
    cluster.group_mut("locked").bounds.min = 1;
    let mut cluster = cluster.demand("CPU=4", 1);
    see(&mut cluster);
    assert!(act(&mut cluster, &engine).is_empty());
    wait(&mut cluster, 35);
    let around = ["other 0 -> 1: tasks", "hold group_locked"];
    assert_eq!(act(&mut cluster, &engine), around);
    wait(&mut cluster, 60);
    assert_eq!(act(&mut cluster, &engine), ["hold group_locked"]);
}

#[test]
fn what_fits_nowhere_but_in_a_locked_group_waits_for_it() {
    let engine = Engine::default();
    let mut cluster = locked_and_other("CPU=4 disk=1").demand("CPU=1 disk=1", 1);
    assert_eq!(act(&mut cluster, &engine), ["locked 0 -> 1: tasks"]);
    wait(&mut cluster, 35);
    let waits = "unserved 1 x {CPU: 1, disk: 1}: group_locked";
    let called_off = "locked 1 -> 0: group_locked";
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines, [called_off, waits, "hold group_locked"]);
    wait(&mut cluster, 600);
    assert_eq!(act(&mut cluster, &engine), [waits, "hold group_locked"]);
    assert!(cluster.decide().infeasible.is_empty());
    cluster
        .snapshot
        .nodes
        .retain(|node| node.name.as_str() != "w1");
    wait(&mut cluster, 1);
    assert_eq!(act(&mut cluster, &engine), ["locked 0 -> 1: tasks"]);
}

#[test]
fn an_operator_that_is_silent_is_named_once_it_is_late() {
    let mut cluster = Cluster::default()
        .group(group("cpu4", "CPU=4"))
        .replicas("cpu4", 2);
    cluster = cluster.demand("CPU=4", 2);
    assert_eq!(holds(&later(&mut cluster, 5)), []);
    let decision = later(&mut cluster, 30);
    assert_eq!(holds(&decision), [("cpu4", "operator_silent")]);
    let detail = &decision.holds[0].detail;
    assert!(
        detail.starts_with("2 pods asked for 34 s ago and none has come"),
        "{detail}"
    );
    // A pod that comes is a sign of life.
    let mut cluster = cluster.starting("cpu4", "w1");
    cluster.group_mut("cpu4").replicas = 2;
    assert_eq!(holds(&later(&mut cluster, 1)), []);
}

#[test]
fn a_spec_that_the_operator_refuses_is_the_cause_that_is_named() {
    let mut cluster = Cluster::default()
        .group(group("cpu4", "CPU=4"))
        .replicas("cpu4", 1);
    cluster = cluster.demand("CPU=4", 1);
    cluster.snapshot.problems.push(rayscaler::model::Problem {
        code: "operator_refuses".into(),
        detail: "metadata.name is X; accepted: y".into(),
    });
    let decision = later(&mut cluster, 31);
    let detail = &decision.holds[0].detail;
    assert!(
        detail.ends_with("leaves this RayCluster alone, since metadata.name is X; accepted: y"),
        "{detail}"
    );
}

#[test]
fn refused_pods_are_named_and_so_are_the_groups_behind_them() {
    let mut second = group("b", "GPU=1");
    second.index = 1;
    let mut cluster = Cluster::default()
        .group(group("a", "CPU=4"))
        .group(second)
        .replicas("a", 1)
        .replicas("b", 1)
        .demand("CPU=4", 1)
        .demand("GPU=1", 1);
    cluster.snapshot.replica_failure = Some("pods \"x\" is forbidden: exceeded quota".into());
    let decision = later(&mut cluster, 1);
    assert_eq!(
        holds(&decision),
        [("a", "pods_refused"), ("b", "behind_refused_pods")]
    );
    assert!(decision.holds[0].detail.contains("exceeded quota"));
}

#[test]
fn a_name_of_another_group_in_a_list_is_named() {
    let mut second = group("b", "GPU=1");
    second.index = 1;
    let mut cluster = Cluster::default()
        .group(group("a", "CPU=4"))
        .group(second)
        .busy("a", "w1");
    cluster.group_mut("b").workers_to_delete = vec!["w1".into(), "head".into()];
    let decision = later(&mut cluster, 1);
    assert_eq!(
        holds(&decision),
        [("b", "foreign_name"), ("b", "foreign_name")]
    );
}

/// Three busy workers, one of which is being evicted.
fn eviction(max: u32) -> Cluster {
    let mut cluster = Cluster::default().group(group("cpu", "CPU=4"));
    cluster.group_mut("cpu").bounds.max = max;
    for pod in ["w1", "w2", "w3"] {
        cluster = cluster.node(running("cpu", pod, ""));
    }
    cluster.node_mut("w2").status = NodeStatus::Terminating;
    see(&mut cluster);
    cluster
}

#[test]
fn an_evicted_pod_is_replaced_while_it_is_still_there_and_only_once() {
    let engine = Engine::default();
    let mut cluster = eviction(10);
    assert_eq!(cluster.group_mut("cpu").replicas, 3);
    assert_eq!(act(&mut cluster, &engine), ["cpu 3 -> 4: leaving"]);
    wait(&mut cluster, 1);
    assert!(act(&mut cluster, &engine).is_empty(), "it is on its way");
    // Work that comes meanwhile is asked for on top.
    cluster = cluster.demand("CPU=4", 3);
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines, ["cpu 4 -> 6: leaving, tasks, leaving"]);
    cluster.snapshot.demands.clear();
    // The new pods are there: the number goes back before the old pod goes.
    for pod in ["w4", "w5", "w6"] {
        cluster = cluster.starting("cpu", pod).replicas("cpu", 6);
    }
    wait(&mut cluster, 1);
    assert_eq!(act(&mut cluster, &engine), ["cpu 6 -> 5: leaving"]);
    wait(&mut cluster, 1);
    assert!(act(&mut cluster, &engine).is_empty());
    cluster
        .snapshot
        .nodes
        .retain(|node| node.name.as_str() != "w2");
    wait(&mut cluster, 1);
    assert!(act(&mut cluster, &engine).is_empty());
}

#[test]
fn what_somebody_asks_for_while_a_pod_is_replaced_is_what_is_wanted() {
    let engine = Engine::default();
    let mut cluster = eviction(10);
    assert_eq!(act(&mut cluster, &engine), ["cpu 3 -> 4: leaving"]);
    cluster = cluster.replicas("cpu", 5);
    cluster.group_mut("cpu").surge = 0;
    wait(&mut cluster, 1);
    assert_eq!(act(&mut cluster, &engine), ["cpu 5 -> 6: leaving"]);
    for pod in ["w4", "w5", "w6"] {
        cluster = cluster.starting("cpu", pod).replicas("cpu", 6);
    }
    wait(&mut cluster, 1);
    assert_eq!(act(&mut cluster, &engine), ["cpu 6 -> 5: leaving"]);
}

#[test]
fn an_evicted_pod_is_not_replaced_early_where_that_does_no_good() {
    let engine = Engine::default();
    // The maximum leaves no room: the operator makes no more pods than that.
    let mut cluster = eviction(3);
    assert!(act(&mut cluster, &engine).is_empty());
    // A named pod that is still there locks the group.
    let mut cluster = eviction(10);
    let list = vec!["w2".into()];
    cluster.group_mut("cpu").workers_to_delete = list;
    see(&mut cluster);
    let lines = act(&mut cluster, &engine);
    assert!(
        !lines.iter().any(|line| line.contains("leaving")),
        "{lines:?}"
    );
    // What nobody needs any more is not replaced at all.
    let mut cluster = eviction(10).replicas("cpu", 2);
    assert!(act(&mut cluster, &engine).is_empty());
    // Not on old knowledge: the number could not go back.
    let mut cluster = eviction(10);
    cluster.now = cluster.now.plus_ms(60_000);
    let lines = act(&mut cluster, &engine);
    assert!(
        !lines.iter().any(|line| line.contains("leaving")),
        "{lines:?}"
    );
}

#[test]
fn one_goes_as_idle_while_another_is_made_up_for() {
    let mut cluster = Cluster::default()
        .group(group("g", "CPU=1"))
        .idle("g", "w1", 900)
        .busy("g", "w2")
        .busy("g", "w3");
    cluster.node_mut("w3").status = NodeStatus::Terminating;
    // That it is stable is looked at in there.
    let decision = cluster.decide();
    assert_eq!(
        lines(&decision)[..2],
        ["g 3 -> 3: idle_timeout, leaving", "remove w1 (Idle)"],
        "{decision:#?}"
    );
}

/// Pods that the operator does not count stand as a group of their own: work there, and nothing to scale.
#[test]
fn pods_of_no_group_serve_and_raise_nothing() {
    let mut cluster = Cluster::default()
        .group(group("g", "CPU=4"))
        .busy("g", "a")
        .node(running("g-unlabelled", "old", "CPU=4"))
        .replicas("g", 1);
    cluster = cluster.demand("CPU=4", 1);
    let decision = cluster.decide();
    assert!(
        !decision.groups.iter().any(|group| group.is_change()),
        "{decision:#?}"
    );
    assert!(decision.unserved.is_empty() && decision.drains.is_empty());
}
