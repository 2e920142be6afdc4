//! What the nodes of a group are taken for once its spec was edited.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::Engine;
use rayscaler::model::PlacementStrategy;
use support::builders::{Cluster, group, resources, running};
use support::passes::{act, see, wait};

#[test]
fn a_task_that_fits_the_edited_template_is_served_although_an_older_node_runs() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=4"))
        .busy("cpu", "old");
    see(&mut cluster);
    assert!(act(&mut cluster, &engine).is_empty());
    cluster.group_mut("cpu").template.resources = resources("CPU=8");
    cluster = cluster.demand("CPU=8", 1);
    wait(&mut cluster, 5);
    assert_eq!(act(&mut cluster, &engine), ["cpu 1 -> 2: tasks"]);
    // And the other way round: nothing is asked for that could not serve.
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=8"))
        .busy("cpu", "old");
    see(&mut cluster);
    cluster.group_mut("cpu").template.resources = resources("CPU=4");
    cluster = cluster.demand("CPU=8", 1);
    wait(&mut cluster, 5);
    let lines = act(&mut cluster, &engine);
    assert!(
        !lines.iter().any(|line| line.starts_with("cpu")),
        "{lines:?}"
    );
}

/// Ray may cancel what is said to be infeasible, and the next node may be what its spec promises.
#[test]
fn what_the_spec_promises_is_never_infeasible() {
    let engine = Engine::default();
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=8"))
        .node(running("cpu", "less", "CPU=4"))
        .demand("CPU=8", 1)
        .gang("aa", PlacementStrategy::Pack, &[("CPU=8", 1)]);
    see(&mut cluster);
    let lines = act(&mut cluster, &engine);
    assert!(
        lines.contains(&"unserved 1 x {CPU: 8}: nodes_differ".to_owned()),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.contains("infeasible")),
        "{lines:?}"
    );
}
