//! What the kubelet does with a pod whose resources were changed in place.
//!
//! It gives them at once, or puts the resize off because of other pods, or refuses it because the node
//! is too small; its words are those of Kubernetes 1.33.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::wire::KubeQuantity;

/// Holds what the node has, and what other pods request of it.
///
/// Units: processors in 1/1000, memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeRoom {
    /// Processors and memory of the node.
    pub capacity: (i64, i64),
    /// What other pods request.
    pub used: (i64, i64),
}

/// Why a resize is not done: reason and message of the condition `PodResizePending`.
pub(super) type Pending = (&'static str, String);

impl ResizeRoom {
    /// Returns why a pod cannot have what it requests; `None` when it can.
    pub(super) fn refuse(&self, pod: &Pod) -> Option<Pending> {
        let resources = [
            ("cpu", self.capacity.0, self.used.0),
            ("memory", self.capacity.1, self.used.1),
        ];
        for (name, capacity, used) in resources {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let requested: i64 = containers.map(|container| request(container, name)).sum();
            if requested > capacity {
                let message = format!(
                    "Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
                );
                return Some(("Infeasible", message));
            }
            if requested > capacity.saturating_sub(used) {
                let message = format!(
                    "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
                );
                return Some(("Deferred", message));
            }
        }
        None
    }
}

fn request(container: &Container, name: &str) -> i64 {
    let requests = container
        .resources
        .as_ref()
        .and_then(|it| it.requests.as_ref());
    let quantity = requests
        .and_then(|it| it.get(name))
        .and_then(|it| KubeQuantity::parse(&it.0));
    quantity.map_or(0, |it| {
        if name == "cpu" {
            it.millis()
        } else {
            it.whole()
        }
    })
}
