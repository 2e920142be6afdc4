//! Pods whose Ray containers are real Ray nodes: processes of a Ray installation.
//!
//! All share one machine, so each node gets its own loopback address and free ports; the rest of its
//! command is what the operator generated.

use super::processes::Processes;
use super::{ContainerRuntime, ContainerStart, Exits};
use crate::embedded::ports::free_port;
use crate::embedded::process::Program;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;

/// How often a worker looks whether the GCS is there, as its init container does.
const GCS_RETRY: Duration = Duration::from_millis(100);

/// Holds where nodes come from and where they keep their files.
#[derive(Debug, Clone)]
pub struct RayProcessSettings {
    /// The folder with `ray` and `python`.
    pub programs: PathBuf,
    /// Sockets, sessions and logs, `POD.CONTAINER.log`; a short path, since the names of sockets may not be long.
    pub folder: PathBuf,
    /// Environment on top of every container's own.
    pub env: BTreeMap<String, String>,
    /// What `PATH` holds besides the programs.
    pub search_path: String,
}

/// Runs Ray containers as processes, and other containers in name only.
#[derive(Debug, Clone)]
pub struct RayProcesses {
    settings: RayProcessSettings,
    has_socket_flags: bool,
    processes: Processes,
}

impl RayProcesses {
    /// Returns a runtime that has started nothing, and keeps what it starts among `processes`.
    ///
    /// # Errors
    ///
    /// The folder of the programs belongs to no Ray installation.
    pub fn new(settings: RayProcessSettings, processes: Processes) -> io::Result<Self> {
        Ok(Self {
            has_socket_flags: has_socket_flags(&settings.programs)?,
            settings,
            processes,
        })
    }

    /// A Ray node: the generated command with what one machine for all needs; later flags win.
    async fn node(&self, start: &ContainerStart) -> Result<Program, String> {
        let variable = |name: &str| start.env.get(name);
        let command = variable("KUBERAY_GEN_RAY_START_CMD").ok_or("no `ray start` command")?;
        let port = variable("RAY_PORT").ok_or("no GCS port")?;
        let gcs = format!("127.0.0.1:{port}");
        let free_port = || free_port().map_err(|error| error.to_string());
        let mut flags = vec![
            "--object-store-memory=100000000".to_owned(),
            "--disable-usage-stats".to_owned(),
            "--min-worker-port=0".to_owned(),
            "--max-worker-port=0".to_owned(),
            format!("--metrics-export-port={}", free_port()?),
            format!("--dashboard-agent-listen-port={}", free_port()?),
        ];
        let kind = start.pod.labels().get("ray.io/node-type");
        if kind.is_some_and(|kind| kind == "head") {
            let folder = self.settings.folder.display();
            flags.push("--node-ip-address=127.0.0.1".to_owned());
            flags.push("--include-dashboard=false".to_owned());
            flags.push(format!("--temp-dir={folder}/{port}"));
            // A container does not see the raylets of other pods. Here Ray would, and with this file of the head
            // before it take them for a cluster that runs already.
            let known = self.settings.folder.join(port).join("ray_current_cluster");
            std::fs::remove_file(known).unwrap_or_default();
        } else {
            // What the init container does that the stand-ins leave out.
            while TcpStream::connect(&gcs).await.is_err() {
                tokio::time::sleep(GCS_RETRY).await;
            }
            flags.extend(self.own_sockets(start.address));
            flags.push(format!("--node-ip-address={}", start.address));
            flags.push(format!("--address={gcs}"));
        }
        let programs = self.settings.programs.display();
        let path = format!("{programs}:{}", self.settings.search_path);
        let name = format!("{}.{}.log", start.pod.name_any(), start.container.name);
        let log = self.settings.folder.join(name);
        let mut program = Program::new("sh", log);
        program.args = vec![
            "-c".to_owned(),
            format!("exec {command} {}", flags.join(" ")),
        ];
        for (name, value) in &start.env {
            program = program.env(name, value);
        }
        program = program.env("RAY_ADDRESS", gcs).env("PATH", path);
        for (name, value) in &self.settings.env {
            program = program.env(name, value);
        }
        Ok(program)
    }

    /// Nodes that start at once would choose the same names for their sockets in the head's folder.
    fn own_sockets(&self, address: Ipv4Addr) -> Vec<String> {
        let own = self.settings.folder.join(address.to_string());
        if self.has_socket_flags {
            let flags = ["raylet", "plasma-store"];
            return flags
                .map(|name| format!("--{name}-socket-name={}.{name}", own.display()))
                .into();
        }
        vec![format!("--temp-dir={}", own.display())]
    }
}

impl ContainerRuntime for RayProcesses {
    async fn start(&self, start: ContainerStart, exits: Exits) -> Result<(), String> {
        if !start.is_ray() {
            return Ok(());
        }
        let program = self.node(&start).await?;
        self.processes.run(&program, &start, exits)
    }

    async fn stop(&self, uid: &str, grace: Duration) {
        self.processes.stop(uid, grace).await;
    }
}

/// Returns true for a Ray that takes names of sockets instead of a worker's own folder, such as 2.47.
fn has_socket_flags(programs: &Path) -> io::Result<bool> {
    for library in std::fs::read_dir(programs.join("../lib"))? {
        let script = library?.path().join("site-packages/ray/scripts/scripts.py");
        if let Ok(script) = std::fs::read_to_string(script) {
            return Ok(script.contains("--raylet-socket-name"));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}
