//! Follows what our Role allows: asks again when a call is refused, until all that KubeRay gives is there.
//!
//! The calls themselves go on and tell by their success that a right is back; this is for whoever
//! wants to know which one is missing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::observe::access::Access;
use crate::observe::cluster::ClusterName;
use crate::report::Metrics;
use crate::report::events::{Event, PermissionsChecked};
use crate::wire::kube_client::KubeClient;

/// Between two questions. A refused read comes again every few seconds; one question for some of them will do.
const PAUSE: Duration = Duration::from_secs(5);

/// Holds what it takes to ask.
pub(super) struct Rights {
    /// Asks.
    kube: KubeClient,
    /// The RayCluster that the rights are needed for.
    name: ClusterName,
    /// What shows the answer.
    metrics: Metrics,
    /// Is told when a call was refused.
    refused: Arc<Notify>,
    /// Is told when the RayCluster may be patched again: nothing else would be tried for half a minute.
    may_write: Arc<Notify>,
}

impl Rights {
    /// Returns what asks when `refused` tells that a call was, and what tells that the RayCluster may be patched again.
    pub(super) fn new(
        (kube, name): (&KubeClient, &ClusterName),
        metrics: &Metrics,
        refused: Arc<Notify>,
    ) -> (Self, Arc<Notify>) {
        let may_write = Arc::new(Notify::new());
        let rights = Self {
            kube: kube.clone(),
            name: name.clone(),
            metrics: metrics.clone(),
            refused,
            may_write: Arc::clone(&may_write),
        };
        (rights, may_write)
    }

    /// Follows for ever, from what was known at the start on.
    pub(super) async fn follow(self, mut known: Access) {
        loop {
            if !has_all_of_kuberay(&known) {
                tokio::time::sleep(PAUSE).await;
            } else {
                self.refused.notified().await;
            }
            // No answer tells nothing.
            if let Ok(now) = Access::ask(&self.kube, &self.name).await
                && now != known
            {
                tell(&now, &self.metrics);
                if may_write(&now) && !may_write(&known) {
                    self.may_write.notify_one();
                }
                known = now;
            } else if has_all_of_kuberay(&known) {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Shows which rights are missing.
pub(super) fn tell(access: &Access, metrics: &Metrics) {
    let missing = access.missing();
    let missing: Vec<(String, String)> = missing
        .map(|right| (right.verb.to_owned(), right.resource.to_owned()))
        .collect();
    PermissionsChecked { missing: &missing }.emit(metrics);
}

fn may_write(access: &Access) -> bool {
    access.may("patch", "rayclusters")
}

fn has_all_of_kuberay(access: &Access) -> bool {
    !access.missing().any(|right| right.is_default)
}
