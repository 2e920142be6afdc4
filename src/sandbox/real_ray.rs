//! `--ray`: a real Ray head with real raylets as workers, for whoever has a script of their own.
//!
//! Only Kubernetes is a stand-in then, and time is real.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::autoscaler::{Autoscaler, Sidecar};
use super::manifest::{NAMESPACE, ray_cluster};
use super::play::{Frame, Screen, group_sizes, hold, wait_until_ready};
use super::scenario::Scenario;
use super::tally::{Tally, count};
use super::timeline::Timeline;
use super::world::Cluster;
use super::{SandboxError, io_error};
use crate::clock::Clock;
use crate::embedded::pods::{Processes, RayProcessSettings, RayProcesses, Settings as PodSettings};
use crate::embedded::ports::free_port;
use crate::embedded::process::{Program, Running};
use crate::embedded::ray::NodeCondition;
use crate::model::{ClusterSnapshot, NodeStatus};

/// How often the screen is given something new. Units: milliseconds.
const STEP_MS: u64 = 200;

/// Where the nodes of a sandbox have their addresses; not where tests have theirs.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 42, 0, 2);

/// Holds what it takes to run Ray's programs.
#[derive(Debug, Clone)]
pub struct RayInstallation {
    /// The folder that has `ray` and its `python`.
    pub programs: PathBuf,
    /// `PATH` of this process.
    pub search_path: String,
}

/// A cluster whose Ray is a real one.
pub(super) struct RealRay {
    /// The cluster.
    pub(super) cluster: Cluster,
    /// The port of the GCS.
    port: u16,
    /// Removes what the processes leave, when everything else has ended.
    _folder: Running,
}

impl RealRay {
    /// Starts everything but the autoscaler; the groups are those of the scenario.
    pub(super) async fn start(
        scenario: &Scenario,
        installation: &RayInstallation,
    ) -> Result<Self, SandboxError> {
        let port = free_port().map_err(io_error("find a free port"))?;
        let folder = std::env::temp_dir().join(format!("rs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(io_error("make a folder for Ray"))?;
        let guard = Program::new("sleep", "/dev/null")
            .arg("infinity")
            .removing(&folder)
            .spawn()
            .map_err(io_error("start programs (setsid, sh)"))?;
        let settings = RayProcessSettings {
            programs: installation.programs.clone(),
            folder,
            env: BTreeMap::new(),
            search_path: installation.search_path.clone(),
        };
        let doing = "use the Ray installation, `--ray-bin` names the folder with `ray`";
        let runtime = RayProcesses::new(settings, Processes::default()).map_err(io_error(doing))?;
        let mut pods = PodSettings::new(NAMESPACE);
        pods.first_address = FIRST_ADDRESS;
        let cluster = Cluster::start(Clock::system(), pods, runtime);
        let mut raycluster = ray_cluster(scenario);
        raycluster["spec"]["headGroupSpec"]["rayStartParams"]["port"] = json!(port.to_string());
        cluster.apply(raycluster).await?;
        Ok(Self {
            cluster,
            port,
            _folder: guard,
        })
    }

    /// Returns how a script finds the cluster.
    pub(super) fn hint(&self) -> String {
        format!("RAY_ADDRESS=127.0.0.1:{} python your_script.py", self.port)
    }

    /// Starts the sidecar as its container says, and waits until it has decided once.
    pub(super) async fn autoscale(&mut self, sidecar: Sidecar) -> Result<Autoscaler, SandboxError> {
        let start = self.cluster.autoscaler_starts().await;
        let start = start.ok_or(SandboxError::NoAutoscaler)?;
        let autoscaler = Autoscaler::rayscaler((&mut self.cluster, None), &start, sidecar).await?;
        wait_until_ready(&mut self.cluster, &autoscaler).await?;
        Ok(autoscaler)
    }

    /// Shows what happens until the user leaves.
    pub(super) async fn show(
        &mut self,
        autoscaler: &Autoscaler,
        scenario: &Scenario,
        screen: &mut impl Screen,
    ) -> Result<(), SandboxError> {
        let began_at = self.cluster.clock.now();
        let (mut timeline, mut tally) = (Timeline::default(), Tally::default());
        loop {
            let now = self.cluster.clock.now();
            let Some(admin) = autoscaler.admin() else {
                return Ok(());
            };
            let snapshot = admin.snapshot();
            let conditions = snapshot.as_deref().map(conditions).unwrap_or_default();
            let workers = count(&self.cluster.pods(), &conditions);
            timeline.decisions(began_at, &admin.history());
            if let Some(decided) = admin.last_decided() {
                timeline.waiting(&decided);
                timeline.holds(&decided);
            }
            timeline.workers(now, &workers);
            tally.add(&workers, STEP_MS);
            let frame = Frame {
                name: "a real Ray head",
                duration_ms: None,
                groups: &group_sizes(scenario, snapshot.as_deref()),
                began_at,
                now,
                asked: &[],
                workers: &workers,
                snapshot,
                timeline: &timeline,
                tally: &tally,
            };
            if screen.show(&frame).is_break() || hold(screen, now).await.is_break() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(STEP_MS)) => {}
                _ = tokio::signal::ctrl_c() => return Ok(()),
                Some(ended) = self.cluster.tasks.next_ended() => {
                    return Err(SandboxError::TaskEnded(ended.name));
                }
            }
        }
    }
}

/// Returns what the node of each pod does, as the sidecar sees it.
fn conditions(snapshot: &ClusterSnapshot) -> BTreeMap<String, NodeCondition> {
    let nodes = snapshot.nodes.iter().filter_map(|node| {
        let condition = match node.status {
            NodeStatus::Starting => return None,
            NodeStatus::Running if node.idle_since.is_some() => NodeCondition::Idle,
            NodeStatus::Running => NodeCondition::Busy,
            NodeStatus::Draining => NodeCondition::Draining,
            _ => NodeCondition::Dead,
        };
        Some((node.name.as_str().to_owned(), condition))
    });
    nodes.collect()
}
