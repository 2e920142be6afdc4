//! Placement groups: what waits for them is kept, and what becomes of them when their pods are deleted by hand.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use super::options;
use crate::support::raycluster::Group;
use crate::world::{World, cluster};

const BUNDLES: &str = r#"--bundles=[{"CPU": 1}, {"CPU": 1}]"#;

/// How long a pod may take to end when a user deletes it; a raylet that holds a bundle takes it all.
const GRACE_SECONDS: u32 = 5;

/// The annotation of a pod that ends a watch.
const MARK: &str = "example.com/mark";

/// How long a worker may be idle where one waits for a gang.
const IDLE_SECONDS: u32 = 3;

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
    has_peaked(&world, pods).await;
    let listed = world.cluster.pods().list(&ListParams::default()).await;
    let version = listed.unwrap().metadata.resource_version.unwrap();
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
    let holders = holders(&world, "pg").await;
    assert_eq!(holders.len(), 2);
    let holders: BTreeSet<String> = holders.into_iter().collect();
    assert!(holders.is_subset(&new), "{holders:?} of {new:?}");
    let now = world.pods_of("small", pods).await;
    assert!(now.iter().all(|name| !old.contains(name)));
    assert_eq!(world.group(0).await["replicas"], Value::from(pods));
    // One replacement for each and no more, not even for a while; those that leave count until they are gone.
    let came = came_since(&world, &version, &now[0]).await;
    let now: BTreeSet<String> = now.into_iter().collect();
    assert_eq!(came, now, "{}", world.sidecar_log());
    has_peaked(&world, 2 * pods).await;
    world.end().await;
}

/// Checks the most replicas that were asked for so far.
async fn has_peaked(world: &World, most: usize) {
    let peak = world
        .eventually("a look of the guard", || async {
            Some(world.replicas_peak()).filter(|peak| *peak > 0)
        })
        .await;
    let is_right = usize::try_from(peak).unwrap() <= most;
    assert!(is_right, "{peak} > {most}\n{}", world.sidecar_log());
}

/// Returns the pods of the group that were made since this version, those that are gone again among them.
///
/// The API server tells of all of them in order; a mark on `pod`, which is still there, is the last word.
async fn came_since(world: &World, version: &str, pod: &str) -> BTreeSet<String> {
    let mark = Patch::Merge(json!({"metadata": {"annotations": {MARK: "1"}}}));
    let pods = world.cluster.pods();
    pods.patch(pod, &PatchParams::default(), &mark)
        .await
        .unwrap();
    let of_group = WatchParams::default().labels("ray.io/group=small");
    let mut events = pin!(pods.watch(&of_group, version).await.unwrap());
    let mut came = BTreeSet::new();
    let reading = async {
        while let Some(event) = events.next().await {
            match event.unwrap() {
                WatchEvent::Added(pod) => {
                    came.insert(pod.name_any());
                }
                WatchEvent::Modified(pod) if pod.annotations().contains_key(MARK) => return true,
                _ => {}
            }
        }
        false
    };
    let reading = tokio::time::timeout(Duration::from_secs(30), reading);
    assert_eq!(reading.await, Ok(true), "the mark was not seen");
    came
}

/// Waits until all bundles are placed and returns the ids of the nodes that hold them, bundle by bundle.
async fn holders(world: &World, gang: &str) -> Vec<String> {
    let printed = world.user(&["gang_nodes", gang]).await;
    serde_json::from_str(printed.lines().last().unwrap()).unwrap()
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

/// Lets a pod of a gated group start.
async fn ungate(world: &World, pod: &str) {
    let patch = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
    let pods = world.cluster.pods();
    pods.patch(pod, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// The second node takes longer to start than a worker may be idle; the first one waits for it.
async fn an_idle_worker_waits_for_its_gang(version: &str) {
    let gate = json!([{"name": "example.com/slow"}]);
    let manifest = cluster(version, IDLE_SECONDS).group(
        Group::new("small")
            .replicas(0, 0, 2)
            .set("/template/spec/schedulingGates", gate),
    );
    let world = World::start(manifest, options()).await;
    let first = ["gang", "first", r#"--bundles=[{"CPU": 1}]"#];
    let user = world.user_starts(&first);
    let waits = world.pods_of("small", 1).await.remove(0);
    ungate(&world, &waits).await;
    world.finishes(user, &first).await;
    let old = holders(&world, "first").await;
    // Asked for before the first one goes: no time passes in which nobody wants the worker.
    let strategy = "--strategy=STRICT_SPREAD";
    world
        .user(&["gang", "second", BUNDLES, strategy, "--no-wait"])
        .await;
    world.user(&["remove_gang", "first"]).await;
    let pods = world.pods_of("small", 2).await;
    let slow = pods.iter().find(|name| **name != waits).unwrap();
    let long = Duration::from_secs((3 * IDLE_SECONDS).into());
    world.idle_for("small", 1, long).await;
    assert!(world.named().await.is_empty(), "{}", world.sidecar_log());
    assert_eq!(world.replicas_now(0).await, 2, "{}", world.sidecar_log());
    ungate(&world, slow).await;
    let new = holders(&world, "second").await;
    assert_eq!(new.len(), 2);
    assert!(new.contains(&old[0]), "{new:?} and before {old:?}");
    assert_eq!(world.pods_of("small", 2).await, pods, "the same pods");
    assert_eq!(world.replicas_peak(), 2, "{}", world.sidecar_log());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_an_idle_worker_waits_for_its_gang() {
    an_idle_worker_waits_for_its_gang("v2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_an_idle_worker_waits_for_its_gang_with_v2_off() {
    an_idle_worker_waits_for_its_gang("v1").await;
}
