//! Which pods that do not go lock which group.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::Engine;
use rayscaler::model::NodeStatus;
use support::builders::{Cluster, group};
use support::passes::{act, see, wait};

/// A pod that has ended and that the operator deletes by itself, and another group.
fn ended_and_other() -> Cluster {
    let mut cluster = Cluster::default()
        .group(group("locked", "CPU=4"))
        .group(group("other", "CPU=4"))
        .busy("locked", "w1")
        .demand("CPU=4", 1);
    cluster.group_mut("locked").priority = 1;
    cluster.node_mut("w1").status = NodeStatus::Failed;
    let taken_down = &mut cluster.snapshot.taken_down;
    taken_down.insert("w1".into(), "locked".into());
    see(&mut cluster);
    cluster
}

#[test]
fn a_pod_that_has_ended_and_does_not_go_locks_its_group() {
    let engine = Engine::default();
    let mut cluster = ended_and_other();
    assert!(act(&mut cluster, &engine).is_empty(), "one is to come");
    wait(&mut cluster, 34);
    assert!(act(&mut cluster, &engine).is_empty());
    wait(&mut cluster, 1);
    let around = ["other 0 -> 1: tasks", "hold group_locked"];
    assert_eq!(act(&mut cluster, &engine), around);
    let mut cluster = cluster.starting("other", "o1").replicas("other", 1);
    for seconds in [1, 30, 600] {
        wait(&mut cluster, seconds);
        assert_eq!(act(&mut cluster, &engine), ["hold group_locked"]);
    }
    // It goes: the operator makes the one in its place, which serves again.
    cluster.snapshot.taken_down.clear();
    let is_there = |name: &str| name != "w1";
    let nodes = &mut cluster.snapshot.nodes;
    nodes.retain(|node| is_there(node.name.as_str()));
    cluster.snapshot.demands[0].count = 2;
    wait(&mut cluster, 1);
    assert!(act(&mut cluster, &engine).is_empty());
}

#[test]
fn an_evicted_pod_is_not_replaced_early_beside_one_that_has_ended() {
    let mut cluster = ended_and_other();
    cluster.snapshot.demands.clear();
    let mut cluster = cluster.busy("locked", "w2").busy("locked", "w3");
    cluster.node_mut("w2").status = NodeStatus::Terminating;
    see(&mut cluster);
    assert!(act(&mut cluster, &Engine::default()).is_empty());
    cluster.snapshot.taken_down.clear();
    see(&mut cluster);
    let early = ["locked 3 -> 4: leaving"];
    assert_eq!(act(&mut cluster, &Engine::default()), early);
}

/// A pod of one group that another group's list names.
fn named_elsewhere(status: NodeStatus) -> Cluster {
    let mut cluster = Cluster::default()
        .group(group("naming", "CPU=4"))
        .group(group("owner", "GPU=1"))
        .group(group("other", "CPU=4"))
        .busy("owner", "w1");
    cluster.group_mut("naming").priority = 1;
    see(&mut cluster);
    cluster.group_mut("naming").workers_to_delete = vec!["w1".into()];
    cluster.node_mut("w1").status = status;
    cluster
}

#[test]
fn a_pod_that_another_groups_list_names_locks_that_group_and_not_its_own() {
    let engine = Engine::default();
    let mut cluster = named_elsewhere(NodeStatus::Terminating)
        .demand("CPU=4", 1)
        .demand("GPU=1", 1);
    see(&mut cluster);
    // In its own group it counts until it is gone, like one that was evicted.
    let lines = act(&mut cluster, &engine);
    let asked = ["naming 0 -> 1: tasks", "owner 1 -> 2: leaving"];
    assert_eq!(lines[..2], asked, "{lines:?}");
    let mut cluster = cluster.starting("owner", "w2").replicas("owner", 2);
    wait(&mut cluster, 34);
    let lines = act(&mut cluster, &engine);
    assert_eq!(lines, ["owner 2 -> 1: leaving", "hold foreign_name"]);
    wait(&mut cluster, 1);
    let around = [
        "naming 1 -> 0: group_locked",
        "other 0 -> 1: tasks",
        "hold foreign_name",
        "hold group_locked",
    ];
    assert_eq!(act(&mut cluster, &engine), around);
    let is_gpu = |text: &str| text.contains("GPU");
    for demand in &mut cluster.snapshot.demands {
        if is_gpu(&demand.request.resources.to_string()) {
            demand.count = 2;
        }
    }
    wait(&mut cluster, 60);
    let lines = act(&mut cluster, &engine);
    assert!(lines[0].starts_with("owner 1 -> 3: tasks"), "{lines:?}");
    let locked: Vec<_> = cluster.decide().holds;
    let locked = locked.iter().filter(|hold| hold.code == "group_locked");
    let locked: Vec<_> = locked
        .map(|it| it.group.as_ref().unwrap().as_str())
        .collect();
    assert_eq!(locked, ["naming"]);
}

#[test]
fn the_list_of_a_multi_host_group_does_nothing_to_pods_of_others() {
    let mut cluster = named_elsewhere(NodeStatus::Terminating);
    cluster.group_mut("naming").num_of_hosts = 2;
    see(&mut cluster);
    wait(&mut cluster, 60);
    let holds = cluster.decide().holds;
    let codes: Vec<_> = holds.iter().map(|hold| hold.code.as_str()).collect();
    assert_eq!(codes, ["foreign_name"]);
}

#[test]
fn a_name_in_another_groups_list_changes_what_neither_is_to_have() {
    let mut cluster = named_elsewhere(NodeStatus::Deleting);
    cluster.group_mut("naming").workers_to_delete.clear();
    let mut cluster = cluster.busy("naming", "n1").replicas("naming", 2);
    see(&mut cluster);
    wait(&mut cluster, 1);
    cluster.group_mut("naming").workers_to_delete = vec!["w1".into()];
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &Engine::default());
    assert_eq!(lines, ["hold foreign_name"]);
}

#[test]
fn a_list_that_is_emptied_does_not_unlock_its_group() {
    let engine = Engine::default();
    let mut cluster = named_elsewhere(NodeStatus::Terminating).demand("CPU=4", 1);
    see(&mut cluster);
    cluster.group_mut("naming").workers_to_delete.clear();
    wait(&mut cluster, 35);
    let lines = act(&mut cluster, &engine);
    assert!(lines.contains(&"hold group_locked".to_owned()), "{lines:?}");
    assert!(
        lines.contains(&"other 0 -> 1: tasks".to_owned()),
        "{lines:?}"
    );
    cluster
        .snapshot
        .nodes
        .retain(|node| node.name.as_str() != "w1");
    wait(&mut cluster, 1);
    let lines = act(&mut cluster, &engine);
    assert!(
        !lines.contains(&"hold group_locked".to_owned()),
        "{lines:?}"
    );
}
