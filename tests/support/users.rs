//! Users at work: the script as a process beside real Ray, or its words done to an embedded head.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use rayscaler::embedded::ray::{
    CallFault, Callee, Faults, RayHead, RayRuntime, Reach, RuntimeSettings, Settings,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::embedded_driver::EmbeddedDriver;
use super::process::Running;
use super::ray_venv::RayVersion;

/// Longer than any test; the test's own deadline is shorter.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A user at work; dropped, it stops.
#[derive(Debug)]
pub enum User {
    /// The script.
    Script(Running),
    /// Its words, done to an embedded head.
    Words(JoinHandle<String>),
}

impl User {
    /// Waits for the end and returns what was printed.
    ///
    /// Errors: what was printed, where it did not end well.
    pub async fn finish(self) -> Result<String, String> {
        match self {
            Self::Script(running) => {
                let code = running.wait(FOR_EVER).await;
                let printed = running.log_tail();
                if code == Some(0) {
                    Ok(printed)
                } else {
                    Err(format!("{code:?}: {printed}"))
                }
            }
            Self::Words(task) => task.await.map_err(|error| error.to_string()),
        }
    }

    /// Returns what the script has printed so far.
    pub fn printed(&self) -> String {
        match self {
            Self::Script(running) => running.log_tail(),
            Self::Words(_) => String::new(),
        }
    }
}

/// A Ray that knows no resizing of raylets yet.
struct OldRay;

impl Faults for OldRay {
    fn on_call(&self, _callee: Callee, method: &str) -> Option<CallFault> {
        let is_unknown = method == "ResizeRayletResourceInstances";
        is_unknown.then_some(CallFault::Refused(tonic::Code::Unimplemented))
    }
}

/// An embedded head behind sockets, its raylets, and its users.
#[derive(Debug)]
pub struct EmbeddedRay {
    /// What runs the Ray containers.
    pub runtime: RayRuntime,
    user: Arc<EmbeddedDriver>,
    looked_after: JoinHandle<()>,
    _folder: TempDir,
}

impl EmbeddedRay {
    /// Returns a head whose GCS comes with the head's pod; of the oldest Ray it has what autoscalers notice.
    pub fn new(version: RayVersion) -> Self {
        // Where a sidecar beside a real head finds the logs of the session.
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("session_latest/logs")).unwrap();
        let settings = Settings {
            temp_dir: folder.path().display().to_string(),
            ..Settings::default()
        };
        let head = RayHead::new(settings, super::now());
        if version == RayVersion::Oldest {
            head.set_faults(Arc::new(OldRay));
        }
        let reach = Reach::Sockets {
            gcs: Ipv4Addr::LOCALHOST,
        };
        let settings = RuntimeSettings {
            reach,
            ..RuntimeSettings::default()
        };
        let looked_after = head.clone();
        Self {
            runtime: RayRuntime::new(head.clone(), settings),
            user: Arc::new(EmbeddedDriver::new(head)),
            looked_after: tokio::spawn(async move { looked_after.run().await }),
            _folder: folder,
        }
    }

    /// Does what the words say, beside the test.
    pub fn user_starts(&self, words: &[&str]) -> User {
        let user = Arc::clone(&self.user);
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        User::Words(tokio::spawn(async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            user.run(&words).await
        }))
    }
}

impl Drop for EmbeddedRay {
    fn drop(&mut self) {
        self.looked_after.abort();
    }
}
