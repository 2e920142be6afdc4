//! Containers that run in name only.

use super::{ContainerRuntime, ContainerStart, Exit, Exits};
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Running = BTreeMap<String, (String, Exits)>;

/// A runtime without processes: containers run until they are stopped or made to fail.
#[derive(Debug, Clone, Default)]
pub struct Pretend {
    running: Arc<Mutex<Running>>,
    stop_takes: Duration,
}

impl Pretend {
    /// Returns a runtime whose pods take this long to stop, or their grace period if that is shorter.
    #[must_use]
    pub fn stopping_in(stop_takes: Duration) -> Self {
        Self {
            stop_takes,
            ..Self::default()
        }
    }

    /// Ends a container of the running pod of this name; returns false when there is none.
    pub fn end(&self, pod: &str, exit: Exit) -> bool {
        let running = self.running();
        let found = running.values().find(|(name, _)| name == pod);
        found.is_some_and(|(_, exits)| {
            exits.tell(exit);
            true
        })
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ContainerRuntime for Pretend {
    async fn start(&self, container: ContainerStart, exits: Exits) -> Result<(), String> {
        let pod = &container.pod;
        self.running()
            .insert(pod.uid().unwrap_or_default(), (pod.name_any(), exits));
        Ok(())
    }

    async fn stop(&self, uid: &str, grace: Duration) {
        let was_running = self.running().remove(uid).is_some();
        if was_running {
            tokio::time::sleep(self.stop_takes.min(grace)).await;
        }
    }
}
