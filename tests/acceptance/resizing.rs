//! Pods that grow in place: the annotation `ray.io/ippr`, `pods/resize`, and the raylet that hears of it.

use kube::api::{Patch, PatchParams};
use rayscaler::embedded::pods::ResizeRoom;
use serde_json::{Value, json};

use super::options;
use crate::support::ray_venv::RayVersion;
use crate::support::raycluster::{Group, Manifest};
use crate::world::{World, cluster};

const GI: i64 = 1 << 30;

/// A group whose pods have one processor and 1 GiB, and may have `max_cpu` and 2 GiB.
fn growing(max_cpu: u32) -> Manifest {
    let limits = json!({"groups": {"small": {"max-cpu": max_cpu, "max-memory": "2Gi", "resize-timeout": 60}}});
    let amounts = json!({"cpu": "1", "memory": "1Gi"});
    let container = "/template/spec/containers/0/resources";
    let group = Group::new("small")
        .set("/rayStartParams", json!({}))
        .set(container, json!({"limits": amounts, "requests": amounts}));
    let annotations = json!({"ray.io/ippr": limits.to_string()});
    cluster("v2", 3)
        .set("/metadata/annotations", annotations)
        .group(group)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_grows_in_place_and_its_raylet_hears_of_it() {
    let world = World::start(growing(3), options()).await;
    world.user(&["actor", "one", "--num-cpus=1"]).await;
    let pods = world.pods_of("small", 1).await;
    world.user(&["actor", "two", "three", "--num-cpus=1"]).await;
    has_processors(&world, &pods[0], 3.0).await;
    is_settled(&world, &pods[0]).await;
    let pod = pod(&world, &pods[0]).await;
    let expected = json!({"cpu": "3", "memory": "2147483648"});
    let resources = &pod["spec"]["containers"][0]["resources"];
    assert_eq!(
        *resources,
        json!({"limits": expected, "requests": expected})
    );
    assert_eq!(world.replicas_now(0).await, 1);
    let nodes = world.nodes().await;
    let node = nodes.iter().find(|node| node.instance_id == pods[0]);
    assert_eq!(
        node.unwrap().total_resources["memory"],
        2.0 * 1_073_741_824.0
    );
    let metrics = world.admin("metrics").await;
    for step in ["ask", "tell"] {
        let line = format!(
            "rayscaler_pod_resizes_total{{group=\"small\",step=\"{step}\",outcome=\"done\""
        );
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    world.user(&["kill", "one", "two", "three"]).await;
    world.pods_of("small", 0).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_takes_what_its_machine_has_left() {
    let room = ResizeRoom {
        capacity: (8_000, 64 * GI),
        used: (6_000, 0),
    };
    let world = World::start(growing(4), options().resize_room(room)).await;
    world.user(&["actor", "one", "--num-cpus=1"]).await;
    let pods = world.pods_of("small", 1).await;
    world.user(&["actor", "two", "--num-cpus=1"]).await;
    has_processors(&world, &pods[0], 2.0).await;
    is_settled(&world, &pods[0]).await;
    let note = note(&pod(&world, &pods[0]).await);
    assert_eq!(note["suggested-max-cpu"], 2.0);
    assert_eq!(note["last-failed-at"], Value::Null);
    // It cannot grow any more, so that the next one needs a pod of its own.
    world.user(&["actor", "three", "--num-cpus=1"]).await;
    world.pods_of("small", 2).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_role_does_not_allow_it_nodes_are_added_and_it_is_said() {
    let world = World::start(growing(3), options()).await;
    world.user(&["actor", "one", "--num-cpus=1"]).await;
    let pods = world.pods_of("small", 1).await;
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "patch"]},
    ]);
    let namespace = &world.cluster.namespace;
    let roles: kube::Api<k8s_openapi::api::rbac::v1::Role> =
        kube::Api::namespaced(world.cluster.client.clone(), namespace);
    let patch = Patch::Merge(json!({"rules": rules}));
    let role = &world.cluster.name;
    roles
        .patch(role, &PatchParams::default(), &patch)
        .await
        .unwrap();
    world.user(&["actor", "two", "--num-cpus=1"]).await;
    world.pods_of("small", 2).await;
    is_settled(&world, &pods[0]).await;
    has_processors(&world, &pods[0], 1.0).await;
    let metrics = world.admin("metrics").await;
    let line = r#"rayscaler_input_problems{code="resize_refused""#;
    assert!(metrics.contains(line), "{metrics}");
    let log = world.sidecar_log();
    assert!(log.contains("cannot patch resource"), "{log}");
    world.end().await;
}

/// Until its raylet has heard of it a pod would count with what it is to have: for ever, where none can hear.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_ray_does_not_know_of_it_nodes_are_added_and_it_is_said() {
    let world = World::start(growing(3), options().ray(RayVersion::Oldest)).await;
    world.user(&["actor", "one", "--num-cpus=1"]).await;
    let pods = world.pods_of("small", 1).await;
    world.user(&["actor", "two", "--num-cpus=1"]).await;
    let pods = [pods, world.pods_of("small", 2).await].concat();
    assert_eq!(note(&pod(&world, &pods[0]).await), Value::Null);
    let metrics = world.admin("metrics").await;
    let line = r#"rayscaler_input_problems{code="resize_refused""#;
    assert!(metrics.contains(line), "{metrics}");
    // An earlier sidecar may have begun all the same.
    let begun = json!({"resizing-at": 1}).to_string();
    let annotations = json!({"ray.io/ippr-status": begun});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    let api = world.cluster.pods();
    for name in &pods {
        let params = PatchParams::default();
        api.patch(name, &params, &patch).await.unwrap();
    }
    world.user(&["actor", "three", "--num-cpus=1"]).await;
    world.pods_of("small", 3).await;
    let metrics = world.admin("metrics").await;
    let refused = metrics.lines().filter(|line| {
        line.starts_with("rayscaler_pod_resizes_total") && line.contains("not_allowed")
    });
    let refused = refused.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert!(refused.sum::<f64>() <= 4.0, "{metrics}");
    world.end().await;
}

async fn pod(world: &World, name: &str) -> Value {
    let pod = world.cluster.pods().get(name).await.unwrap();
    serde_json::to_value(pod).unwrap()
}

fn note(pod: &Value) -> Value {
    let text = pod["metadata"]["annotations"]["ray.io/ippr-status"].as_str();
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

/// Waits until nothing of a resize is left to do.
async fn is_settled(world: &World, name: &str) {
    world
        .eventually("a resize that is over", || async {
            let note = note(&pod(world, name).await);
            (note.is_object() && note["resizing-at"].is_null()).then_some(())
        })
        .await;
}

/// Waits until a node offers so many processors.
async fn has_processors(world: &World, name: &str, count: f64) {
    world
        .eventually(&format!("{count} processors of {name}"), || async {
            let nodes = world.nodes().await;
            let mut nodes = nodes.iter().filter(|node| node.instance_id == name);
            nodes
                .any(|node| node.total_resources["CPU"] == count)
                .then_some(())
        })
        .await;
}
