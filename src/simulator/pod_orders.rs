//! What people ask for single pods: to finish and go, or to stay.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::SimulatorError;
use super::world::World;
use crate::wire::pod::LABEL_REPLICA_NAME;

const DRAIN: &str = "rayscaler.io/drain";
const PROTECT: &str = "rayscaler.io/protect";

/// Asks that a pod finishes and goes; all hosts of its replica go with it.
pub(super) async fn drain(world: &World, pod: &Pod) -> Result<(), SimulatorError> {
    let replica = pod.labels().get(LABEL_REPLICA_NAME);
    let siblings = world.workers(None).await?;
    let siblings = siblings.iter().filter(|other| {
        let name = other.labels().get(LABEL_REPLICA_NAME);
        name.is_some() && name == replica
    });
    for name in siblings.map(Pod::name_any).chain([pod.name_any()]) {
        world.witness.on_order(&name);
    }
    annotate(world, &pod.name_any(), DRAIN, json!("true")).await
}

/// Asks that a pod stays.
pub(super) async fn protect(world: &World, pod: &Pod) -> Result<(), SimulatorError> {
    world.witness.on_protected(&pod.name_any());
    annotate(world, &pod.name_any(), PROTECT, json!("true")).await
}

/// Lets all pods go again that were to stay.
pub(super) async fn let_go(world: &World) -> Result<(), SimulatorError> {
    for pod in world.witness.unprotect_all() {
        annotate(world, &pod, PROTECT, Value::Null).await?;
    }
    Ok(())
}

/// Returns whether somebody wants a pod to finish and go.
pub(super) fn is_to_go(pod: &Pod) -> bool {
    pod.annotations().contains_key(DRAIN)
}

async fn annotate(world: &World, pod: &str, key: &str, value: Value) -> Result<(), SimulatorError> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
    let params = PatchParams::default();
    match world.pod_api().patch(pod, &params, &patch).await {
        // It has gone meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}
