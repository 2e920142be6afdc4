//! Decisions that are cut short: the next one goes on where this one stopped.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::{Engine, invariants};
use rayscaler::model::{Input, NodeStatus, PlacementStrategy, ScaleDecision};
use support::builders::{Cluster, group};
use support::passes::{patched, see};

/// Decides within a budget, carries it out and remembers, as the controller does.
fn pass(cluster: &mut Cluster, engine: &Engine, steps: u64) -> ScaleDecision {
    let decision = engine.decide_within(&cluster.snapshot, &cluster.history, cluster.now, steps);
    let broken = invariants::check(&cluster.snapshot, &cluster.history, &decision);
    assert_eq!(broken, [], "{decision:?}");
    let decided = Input::Decided(&decision);
    cluster.history.absorb(&decided, cluster.now);
    patched(cluster, &decision);
    decision
}

/// Placement groups that need a node each, and tasks that come after all of them.
fn many(gangs: usize) -> Cluster {
    let mut cluster = Cluster::default()
        .group(group("gangs", "CPU=4"))
        .group(group("tasks", "GPU=1"))
        .demand("GPU=1", 3);
    for at in 0..gangs {
        let id = format!("{at:04}");
        cluster = cluster.gang(&id, PlacementStrategy::StrictPack, &[("CPU=4", 1)]);
    }
    cluster.group_mut("gangs").bounds.max = 1_000;
    see(&mut cluster);
    cluster
}

fn replicas(cluster: &Cluster) -> Vec<u32> {
    let groups = cluster.snapshot.groups.iter();
    groups.map(|group| group.replicas).collect()
}

#[test]
fn what_one_pass_cannot_look_at_is_served_by_the_next_ones() {
    let engine = Engine::default();
    let mut cluster = many(100);
    let mut passes = 0;
    while replicas(&cluster) != [100, 3] {
        let decision = pass(&mut cluster, &engine, 60);
        assert!(decision.is_cut, "{decision:?}");
        passes += 1;
        assert!(passes <= 10, "{:?}", replicas(&cluster));
    }
    assert!(passes > 2, "the budget is no limit: {passes} passes");
    // Nobody asks for more when it begins again.
    for _ in 0..20 {
        pass(&mut cluster, &engine, 60);
        assert_eq!(replicas(&cluster), [100, 3]);
    }
}

#[test]
fn a_lowered_maximum_is_an_order_however_much_is_left_to_look_at() {
    let engine = Engine::default();
    let mut cluster = many(100).group(group("lowered", "CPU=1"));
    for pod in ["w1", "w2", "w3"] {
        cluster = cluster.busy("lowered", pod);
    }
    cluster.group_mut("lowered").bounds.max = 1;
    see(&mut cluster);
    // The twenty passes that it takes to come round with so small a budget.
    for _ in 0..20 {
        let decision = pass(&mut cluster, &engine, 20);
        assert!(decision.is_cut, "{decision:?}");
    }
    assert_eq!(replicas(&cluster).last(), Some(&1));
    let named = cluster.group_mut("lowered").workers_to_delete.len();
    assert_eq!(named, 2);
}

#[test]
fn what_makes_up_for_an_evicted_pod_stays_asked_for_in_decisions_that_are_cut() {
    let engine = Engine::default();
    let mut cluster = many(100).group(group("evicted", "CPU=1"));
    for pod in ["w1", "w2", "w3"] {
        cluster = cluster.busy("evicted", pod);
    }
    cluster.node_mut("w3").status = NodeStatus::Terminating;
    see(&mut cluster);
    pass(&mut cluster, &engine, u64::MAX);
    assert_eq!(replicas(&cluster).last(), Some(&4));
    for gang in 100..200 {
        let id = format!("{gang:04}");
        cluster = cluster.gang(&id, PlacementStrategy::StrictPack, &[("CPU=4", 1)]);
    }
    see(&mut cluster);
    for _ in 0..5 {
        let decision = pass(&mut cluster, &engine, 20);
        assert!(decision.is_cut, "{decision:?}");
        assert_eq!(replicas(&cluster).last(), Some(&4));
    }
}

#[test]
fn a_budget_for_nothing_at_all_still_comes_round() {
    let engine = Engine::default();
    let mut cluster = many(3);
    let mut nexts = Vec::new();
    for _ in 0..6 {
        let decision = pass(&mut cluster, &engine, 0);
        let resume = serde_json::to_value(&decision.resume).unwrap();
        let details = resume["next"]["gang"]["details"].as_str();
        nexts.push(details.and_then(|text| text.get(..4)).map(str::to_owned));
    }
    let gang = |id: &str| Some(id.to_owned());
    // The first is tried twice, since nobody knows that it is too much; tasks have no name here.
    assert_eq!(
        nexts,
        [
            gang("0000"),
            gang("0001"),
            gang("0002"),
            None,
            None,
            gang("0000")
        ]
    );
}

#[test]
fn a_pass_that_has_time_for_everything_begins_at_the_start_again() {
    let engine = Engine::default();
    let mut cluster = many(100);
    let first = pass(&mut cluster, &engine, 60);
    assert!(first.resume.is_some());
    // It looks at the rest, and the next one at everything.
    let second = pass(&mut cluster, &engine, u64::MAX);
    assert!(second.is_cut && second.resume.is_none());
    assert_eq!(replicas(&cluster), [100, 3]);
    let third = pass(&mut cluster, &engine, u64::MAX);
    assert!(!third.is_cut && !third.is_change() && third.unserved.is_empty());
}

/// An idle node of no use goes, and only then there is room for another: that takes a second round.
#[test]
fn what_is_not_marked_as_cut_is_the_whole_decision() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(group("cpu4", "CPU=4"))
        .busy("cpu4", "w1")
        .busy("cpu4", "w2")
        .demand("CPU=4", 2)
        .constraint("CPU=1", 1);
    cluster.group_mut("cpu4").bounds.max = 2;
    cluster.node_mut("w2").idle_since = Some(cluster.now.minus_ms(120_000));
    let now = cluster.now;
    cluster
        .history
        .removable
        .insert("w2".into(), now.minus_ms(1));
    let decide = |steps| engine.decide_within(&cluster.snapshot, &cluster.history, now, steps);
    let whole = decide(u64::MAX);
    assert_eq!(whole.groups[0].remove.len(), 1, "{whole:#?}");
    assert_eq!(whole.groups[0].replicas_to, 2, "{whole:#?}");
    let mut cut = 0;
    for steps in 0..whole.steps {
        let decision = decide(steps);
        let is_marked = decision.holds.iter().any(|hold| hold.code == "work_budget");
        assert_eq!(is_marked, decision.is_cut);
        assert!(
            decision.is_cut || decision == whole,
            "{steps} steps: {decision:#?}"
        );
        cut += u64::from(decision.is_cut && decision.groups[0].remove.len() == 1);
    }
    assert!(cut > 0, "no second round was cut");
}
