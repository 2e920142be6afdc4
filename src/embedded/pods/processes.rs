//! Containers that are programs of this machine.

use super::{ContainerStart, Exit, Exits};
use crate::embedded::process::{Program, Running};
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The programs of all pods, by the pod's uid; all are ended when the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    running: Arc<Mutex<BTreeMap<String, Vec<Running>>>>,
}

impl Processes {
    /// Starts a program as a container of a pod, and has `exits` told when it ends.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn run(
        &self,
        program: &Program,
        start: &ContainerStart,
        exits: Exits,
    ) -> Result<(), String> {
        let running = program.spawn().map_err(|error| error.to_string())?;
        let mut exited = running.exited();
        let container = start.container.name.clone();
        tokio::spawn(async move {
            if let Ok(code) = exited.wait_for(Option::is_some).await.map(|code| *code) {
                exits.tell(Exit {
                    container,
                    code: code.unwrap_or(0),
                    reason: None,
                });
            }
        });
        let uid = start.pod.uid().unwrap_or_default();
        self.running().entry(uid).or_default().push(running);
        Ok(())
    }

    /// Ends all programs of the pod with this uid, by force after `grace`.
    pub async fn stop(&self, uid: &str, grace: Duration) {
        let Some(containers) = self.running().remove(uid) else {
            return;
        };
        for container in &containers {
            // One that has ended needs no signal.
            container.signal("TERM").unwrap_or_default();
        }
        let all_ended = async {
            for container in &containers {
                container.wait(grace).await;
            }
        };
        drop(tokio::time::timeout(grace, all_ended).await);
        // Ends what is left of the sessions, and waits for that.
        drop(tokio::task::spawn_blocking(move || drop(containers)).await);
    }

    /// Returns the process id of a pod's first program, once it runs.
    #[must_use]
    pub fn pid(&self, uid: &str) -> Option<u32> {
        self.running().get(uid)?.first().map(Running::pid)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
