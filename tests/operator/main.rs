//! KubeRay's operator as we stand in for it: which pods come and go, and when not.
//!
//! Every test runs on a real API server and on the embedded one: what it shows holds on both, or one of
//! them is wrong.
//!
//! The same tests pass with KubeRay's own operator, see `OperatorUnderTest`. That nothing happens is
//! shown by something later that did: the operator takes groups in order, so when the canary, the last
//! group, has grown, the groups before it have had their turn.

#![expect(clippy::unwrap_used, reason = "test")]

mod on_embedded;
mod on_real;
#[path = "../support/mod.rs"]
mod support;

use kube::api::{Patch, PatchParams};
use serde_json::json;
use support::raycluster::{Group, Manifest};
use support::stand_ins::Cluster;

/// Returns a cluster with the given groups and the canary after them.
fn with_canary(groups: impl IntoIterator<Item = Group>) -> Manifest {
    let manifest = Manifest::new("c").autoscaler("v2");
    let manifest = groups.into_iter().fold(manifest, Manifest::group);
    manifest.group(Group::new("canary").replicas(0, 0, 100))
}

/// Makes the canary grow, so that the groups before it have been looked at since the last change.
async fn let_a_pass_go_by(cluster: &Cluster) {
    let groups = cluster.get().await["spec"]["workerGroupSpecs"].clone();
    let groups = groups.as_array().unwrap();
    let index = groups
        .iter()
        .position(|group| group["groupName"] == "canary")
        .unwrap();
    let replicas = groups[index]["replicas"].as_i64().unwrap() + 1;
    let path = format!("/spec/workerGroupSpecs/{index}/replicas");
    cluster
        .patch(json!([{"op": "add", "path": path, "value": replicas}]))
        .await;
    cluster
        .wait_for_pods("canary", usize::try_from(replicas).unwrap())
        .await;
}

/// Keeps a pod's object from going away.
async fn hold(cluster: &Cluster, pod: &str) {
    set_finalizers(cluster, pod, &["test.rayscaler.dev/hold"]).await;
}

/// Lets a held pod go.
async fn release(cluster: &Cluster, pod: &str) {
    set_finalizers(cluster, pod, &[]).await;
}

async fn set_finalizers(cluster: &Cluster, pod: &str, finalizers: &[&str]) {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    cluster
        .pods()
        .patch(pod, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Deletes a pod by hand.
async fn delete(cluster: &Cluster, pod: &str) {
    cluster
        .pods()
        .delete(pod, &Default::default())
        .await
        .unwrap();
}
