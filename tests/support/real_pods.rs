//! Runs pods as real processes: Ray nodes from a Ray installation, and the sidecar under test.
//!
//! All share one machine, so each Ray node gets its own loopback address and free ports; the rest of its
//! command is what the operator generated.

use super::free_port;
use super::kube::KubeApi;
use super::process::{Program, Running};
use kube::ResourceExt;
use rayscaler::embedded::pods::{ContainerRuntime, ContainerStart, Exit, Exits};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;

/// Where real pods get their programs from.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The `bin` folder of a Ray installation.
    pub ray: PathBuf,
    /// The sidecar; `None` leaves the container without a process.
    pub sidecar: Option<PathBuf>,
    /// Environment on top of every container's own.
    pub env: BTreeMap<String, String>,
}

/// A runtime of real processes; all are ended when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct RealPods {
    api: &'static KubeApi,
    programs: Programs,
    has_socket_flags: bool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Ray's session, logs and the sidecar's names; a short path, since sockets lie in it.
    folder: PathBuf,
    running: Mutex<BTreeMap<String, Vec<Running>>>,
    /// Removes the folder, even when the test process is killed.
    _guard: Running,
}

impl RealPods {
    /// Returns a runtime that has started nothing.
    pub fn new(api: &'static KubeApi, programs: Programs) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("rs-")
            .rand_bytes(4)
            .tempdir();
        let folder = folder.unwrap().keep();
        if let Some(sidecar) = &programs.sidecar {
            // The names that the container's command may start it by.
            for name in ["autoscaler", "rayscaler", "ray", "bash"] {
                symlink(sidecar, folder.join(name)).unwrap();
            }
        }
        let running = Mutex::new(BTreeMap::new());
        let guard = Program::new("sleep", "/dev/null")
            .arg("infinity")
            .removing(&folder);
        let shared = Arc::new(Shared {
            folder,
            running,
            _guard: guard.start(),
        });
        let has_socket_flags = has_socket_flags(&programs.ray);
        Self {
            api,
            programs,
            has_socket_flags,
            shared,
        }
    }

    /// Returns the first of 253 loopback addresses that no other test process uses.
    pub fn first_address() -> Ipv4Addr {
        static TAKEN: AtomicU8 = AtomicU8::new(0);
        let [.., high, low] = std::process::id().to_be_bytes();
        let second = 64 | (high & 0x3f);
        Ipv4Addr::new(
            127,
            second,
            low.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)),
            2,
        )
    }

    /// Returns the log of a container.
    pub fn log(&self, pod: &str, container: &str) -> String {
        std::fs::read_to_string(self.log_file(pod, container)).unwrap_or_default()
    }

    /// Returns a log of Ray's, by its path below the log folder of the head whose GCS has this port.
    pub fn ray_log(&self, port: &str, path: &str) -> String {
        let folder = self.shared.folder.join(port).join("session_latest/logs");
        std::fs::read_to_string(folder.join(path)).unwrap_or_default()
    }

    /// Returns the process id of a pod's main container, once it runs.
    pub fn pid(&self, uid: &str) -> Option<u32> {
        self.shared
            .running
            .lock()
            .unwrap()
            .get(uid)?
            .first()
            .map(Running::pid)
    }

    /// Returns a Python program that runs as a Ray driver of the cluster whose GCS has this port.
    pub fn driver(&self, script: &str, port: &str) -> Program {
        self.client("python", port).arg("-c").arg(script)
    }

    /// Returns the `ray` command for the cluster whose GCS has this port.
    pub fn ray_tool(&self, port: &str) -> Program {
        self.client("ray", port)
    }

    fn client(&self, name: &str, port: &str) -> Program {
        let log = self
            .shared
            .folder
            .join(format!("client-{}.log", free_port()));
        let program = Program::new(self.programs.ray.join(name), log)
            .env("RAY_ADDRESS", format!("127.0.0.1:{port}"))
            .env("PYTHONUNBUFFERED", "1");
        let own = self.programs.env.iter();
        own.fold(program, |program, (name, value)| program.env(name, value))
    }

    fn log_file(&self, pod: &str, container: &str) -> PathBuf {
        self.shared.folder.join(format!("{pod}.{container}.log"))
    }

    /// The sidecar, under the name and with the arguments that the pod has for it.
    async fn sidecar(&self, start: &ContainerStart) -> Result<Option<Program>, String> {
        if self.programs.sidecar.is_none() {
            return Ok(None);
        }
        let (name, args) = start.argv.split_first().ok_or("no command")?;
        let name = Path::new(name)
            .file_name()
            .ok_or("the command is no program")?;
        let path = self.shared.folder.join(name);
        if !path.exists() {
            return Err(format!("no `{}` in the sidecar's image", path.display()));
        }
        let account = start
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone());
        let account = account.ok_or("no ServiceAccount")?;
        let namespace = start.pod.namespace().unwrap_or_default();
        let token = self.api.sidecar_token(&namespace, &account).await;
        let log = self.log_file(&start.pod.name_any(), &start.container.name);
        let mut program = Program::new(path, log);
        program.args = args.to_vec();
        program = program.env(
            "KUBECONFIG",
            self.api.kubeconfig_for(&token).display().to_string(),
        );
        Ok(Some(program))
    }

    /// Nodes that start at once would choose the same names for their sockets in the head's folder.
    fn own_sockets(&self, address: Ipv4Addr) -> Vec<String> {
        let own = self.shared.folder.join(address.to_string());
        if self.has_socket_flags {
            let flags = ["raylet", "plasma-store"];
            return flags
                .map(|name| format!("--{name}-socket-name={}.{name}", own.display()))
                .into();
        }
        vec![format!("--temp-dir={}", own.display())]
    }

    /// A Ray node: the generated command with what one machine for all needs; later flags win.
    async fn ray_node(&self, start: &ContainerStart) -> Result<Program, String> {
        let command = start
            .env
            .get("KUBERAY_GEN_RAY_START_CMD")
            .ok_or("no `ray start` command")?;
        let port = start.env.get("RAY_PORT").ok_or("no GCS port")?;
        let gcs = format!("127.0.0.1:{port}");
        let mut flags = vec![
            "--object-store-memory=100000000".to_owned(),
            "--disable-usage-stats".to_owned(),
            "--min-worker-port=0".to_owned(),
            "--max-worker-port=0".to_owned(),
            format!("--metrics-export-port={}", free_port()),
            format!("--dashboard-agent-listen-port={}", free_port()),
        ];
        if start
            .pod
            .labels()
            .get("ray.io/node-type")
            .is_some_and(|kind| kind == "head")
        {
            let folder = self.shared.folder.display();
            flags.push("--node-ip-address=127.0.0.1".to_owned());
            flags.push("--include-dashboard=false".to_owned());
            flags.push(format!("--temp-dir={folder}/{port}"));
        } else {
            // What the init container does that the stand-ins leave out.
            while TcpStream::connect(&gcs).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            flags.extend(self.own_sockets(start.address));
            flags.push(format!("--node-ip-address={}", start.address));
            flags.push(format!("--address={gcs}"));
        }
        let path = format!(
            "{}:{}",
            self.programs.ray.display(),
            super::env("PATH").unwrap_or_default()
        );
        let log = self.log_file(&start.pod.name_any(), &start.container.name);
        let mut program = Program::new("sh", log);
        program.args = vec![
            "-c".to_owned(),
            format!("exec {command} {}", flags.join(" ")),
        ];
        for (name, value) in &start.env {
            program = program.env(name, value);
        }
        Ok(program.env("RAY_ADDRESS", gcs).env("PATH", path))
    }
}

/// Returns true for a Ray that takes names of sockets instead of a worker's own folder, such as 2.47.
fn has_socket_flags(ray: &Path) -> bool {
    let libraries = std::fs::read_dir(ray.join("../lib"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let scripts = libraries.map(|folder| folder.join("site-packages/ray/scripts/scripts.py"));
    let script = scripts
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .next();
    script
        .expect("a Ray installation")
        .contains("--raylet-socket-name")
}

impl ContainerRuntime for RealPods {
    async fn start(&self, start: ContainerStart, exits: Exits) -> Result<(), String> {
        let containers = start.pod.spec.as_ref().map(|spec| &spec.containers);
        let is_ray = containers.and_then(|all| all.first()) == Some(&start.container);
        let program = if is_ray {
            Some(self.ray_node(&start).await?)
        } else if start.container.name == "autoscaler" {
            let program = self.sidecar(&start).await?;
            program.map(|program| {
                start
                    .env
                    .iter()
                    .fold(program, |p, (name, value)| p.env(name, value))
            })
        } else {
            None
        };
        let Some(mut program) = program else {
            return Ok(());
        };
        for (name, value) in &self.programs.env {
            program = program.env(name, value);
        }
        let running = program.start();
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
        self.shared
            .running
            .lock()
            .unwrap()
            .entry(uid)
            .or_default()
            .push(running);
        Ok(())
    }

    async fn stop(&self, uid: &str, grace: Duration) {
        let Some(containers) = self.shared.running.lock().unwrap().remove(uid) else {
            return;
        };
        for container in &containers {
            container.signal("TERM");
        }
        let all_ended = async {
            for container in &containers {
                container.wait(grace).await;
            }
        };
        drop(tokio::time::timeout(grace, all_ended).await);
        // Ends what is left of the sessions, and waits for that.
        tokio::task::spawn_blocking(move || drop(containers))
            .await
            .unwrap();
    }
}
