//! What goes wrong with containers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt as _;
use tokio::sync::mpsc;

use super::faults::{Board, FaultKind};
use crate::embedded::pods::{ContainerRuntime, ContainerStart, Exit, Exits};
use crate::embedded::ray::RayRuntime;

/// The container that KubeRay adds to the head's pod.
const AUTOSCALER: &str = "autoscaler";

/// Runs Ray's containers as the board lets them, and hands the autoscaler's to whoever plays it.
pub(super) struct FaultyRuntime {
    pub(super) ray: Arc<RayRuntime>,
    pub(super) board: Arc<Board>,
    pub(super) started: mpsc::UnboundedSender<ContainerStart>,
    /// Pods whose raylet has yet to start.
    pub(super) late: Arc<Mutex<BTreeSet<String>>>,
    /// Pods whose Ray container runs on when they are deleted.
    pub(super) left_running: Arc<Mutex<BTreeSet<String>>>,
}

impl FaultyRuntime {
    fn late(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the raylet much later than its container.
    fn start_late(&self, container: ContainerStart, exits: Exits) {
        let (ray, late) = (Arc::clone(&self.ray), Arc::clone(&self.late));
        let uid = container.pod.uid().unwrap_or_default();
        self.late().insert(uid.clone());
        let delay =
            Duration::from_millis(self.board.roll(&container.pod.name_any(), 3_000, 40_000));
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let is_awaited = late
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&uid);
            if is_awaited {
                let name = container.container.name.clone();
                if let Err(problem) = ray.start(container, exits.clone()).await {
                    exits.tell(crashed(name, problem));
                }
            }
        });
    }
}

fn crashed(container: String, problem: String) -> Exit {
    Exit {
        container,
        code: 1,
        reason: Some(problem),
    }
}

impl ContainerRuntime for FaultyRuntime {
    async fn start(&self, container: ContainerStart, exits: Exits) -> Result<(), String> {
        if container.container.name == AUTOSCALER {
            let told = self.started.send(container);
            return told.map_err(|_| "nobody plays the autoscaler".to_owned());
        }
        let is_worker = container
            .pod
            .labels()
            .get("ray.io/node-type")
            .is_some_and(|kind| kind == "worker");
        if !is_worker || !container.is_ray() {
            return self.ray.start(container, exits).await;
        }
        if self.board.hits(FaultKind::PodCreating, 80) {
            self.board.until_over(FaultKind::PodCreating).await;
        }
        if self.board.hits(FaultKind::PodCrash, 80) {
            exits.tell(crashed(container.container.name, "Error".to_owned()));
            return Ok(());
        }
        if self.board.hits(FaultKind::PodLate, 80) {
            self.start_late(container, exits);
            return Ok(());
        }
        self.ray.start(container, exits).await
    }

    async fn stop(&self, uid: &str, grace: Duration) {
        self.late().remove(uid);
        let left_running = self.left_running.lock();
        let is_left = left_running
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
        if !is_left {
            self.ray.stop(uid, grace).await;
        }
    }
}
