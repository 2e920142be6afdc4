//! Placement groups, and what becomes of them when their pods are deleted by hand.

use std::collections::BTreeSet;

use kube::api::DeleteParams;
use serde_json::Value;

use super::options;
use crate::support::raycluster::Group;
use crate::world::{World, cluster};

const BUNDLES: &str = r#"--bundles=[{"CPU": 1}, {"CPU": 1}]"#;

/// How long a pod may take to end when a user deletes it; a raylet that holds a bundle takes it all.
const GRACE_SECONDS: u32 = 5;

/// A group of two bundles gets `pods`, and as many new ones when those are deleted.
async fn a_placement_group_survives_its_pods(strategy: &str, cpus: &str, pods: usize) {
    let manifest = cluster("v2", 10).group(
        Group::new("small")
            .replicas(0, 0, 4)
            .param("num-cpus", cpus),
    );
    let world = World::start(manifest, options()).await;
    let strategy = format!("--strategy={strategy}");
    world.user(&["gang", "pg", BUNDLES, &strategy]).await;
    let old = world.pods_of("small", pods).await;
    let delete = DeleteParams::default().grace_period(GRACE_SECONDS);
    for name in &old {
        world.cluster.pods().delete(name, &delete).await.unwrap();
    }
    let what = format!("{pods} nodes on other pods than {old:?}");
    let new = world
        .eventually(&what, || async {
            let nodes = world.nodes().await;
            let of_group = nodes
                .iter()
                .filter(|node| node.ray_node_type_name == "small");
            let (gone, new): (Vec<_>, Vec<_>) =
                of_group.partition(|node| old.contains(&node.instance_id));
            let ids: BTreeSet<String> = new.iter().map(|node| hex(&node.node_id)).collect();
            (gone.is_empty() && ids.len() == pods).then_some(ids)
        })
        .await;
    let printed = world.user(&["gang_nodes", "pg"]).await;
    let last = printed.lines().last().unwrap();
    let holders: Vec<String> = serde_json::from_str(last).unwrap();
    assert_eq!(holders.len(), 2);
    let holders: BTreeSet<String> = holders.into_iter().collect();
    assert!(holders.is_subset(&new), "{holders:?} of {new:?}");
    let now = world.pods_of("small", pods).await;
    assert!(now.iter().all(|name| !old.contains(name)));
    assert_eq!(world.group(0).await["replicas"], Value::from(pods));
    world.end().await;
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_strictly_packed_bundles_get_one_node_again() {
    a_placement_group_survives_its_pods("STRICT_PACK", "2", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_packed_bundles_get_one_node_again() {
    a_placement_group_survives_its_pods("PACK", "2", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_strictly_spread_bundles_get_two_nodes_again() {
    a_placement_group_survives_its_pods("STRICT_SPREAD", "1", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_spread_bundles_get_two_nodes_again() {
    a_placement_group_survives_its_pods("SPREAD", "1", 2).await;
}
