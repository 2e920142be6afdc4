//! Runs pods as real processes: Ray nodes from a Ray installation, and the sidecar under test.
//!
//! Ray nodes may also be raylets of an embedded head, reached by sockets like the others.

use super::free_port;
use super::kube::KubeApi;
use super::process::{Program, Running, Start as _};
use kube::ResourceExt;
use rayscaler::embedded::pods::{
    ContainerRuntime, ContainerStart, Exits, Processes, RayProcessSettings, RayProcesses,
};
use rayscaler::embedded::ray::RayRuntime;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// What runs the Ray containers.
#[derive(Debug, Clone)]
pub enum RayNodes {
    /// Processes of the Ray installation with this `bin` folder.
    Installed(PathBuf),
    /// Raylets of an embedded head.
    Embedded(RayRuntime),
}

impl RayNodes {
    fn programs(&self) -> &Path {
        match self {
            Self::Installed(folder) => folder,
            Self::Embedded(_) => panic!("an embedded head has no programs"),
        }
    }
}

/// Where real pods get their programs from.
#[derive(Debug, Clone)]
pub struct Programs {
    /// What runs the Ray containers.
    pub ray: RayNodes,
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
    ray: Option<RayProcesses>,
    processes: Processes,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Ray's session, logs and the sidecar's names; a short path, since sockets lie in it.
    folder: PathBuf,
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
        let guard = Program::new("sleep", "/dev/null")
            .arg("infinity")
            .removing(&folder);
        let processes = Processes::default();
        let ray = match &programs.ray {
            RayNodes::Installed(installed) => {
                let settings = RayProcessSettings {
                    programs: installed.clone(),
                    folder: folder.clone(),
                    env: programs.env.clone(),
                    search_path: super::env("PATH").unwrap_or_default(),
                };
                Some(RayProcesses::new(settings, processes.clone()).expect("a Ray installation"))
            }
            RayNodes::Embedded(_) => None,
        };
        let shared = Arc::new(Shared {
            folder,
            _guard: guard.start(),
        });
        Self {
            api,
            programs,
            ray,
            processes,
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
        self.processes.pid(uid)
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
        let program = Program::new(self.programs.ray.programs().join(name), log)
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
}

impl ContainerRuntime for RealPods {
    async fn start(&self, mut start: ContainerStart, exits: Exits) -> Result<(), String> {
        if start.is_ray() {
            return match (&self.programs.ray, &self.ray) {
                (RayNodes::Embedded(runtime), _) => {
                    start.env.extend(self.programs.env.clone());
                    runtime.start(start, exits).await
                }
                (_, Some(ray)) => ray.start(start, exits).await,
                _ => Err("no Ray".to_owned()),
            };
        }
        if start.container.name != "autoscaler" {
            return Ok(());
        }
        let Some(program) = self.sidecar(&start).await? else {
            return Ok(());
        };
        let env = start.env.iter().chain(&self.programs.env);
        let program = env.fold(program, |program, (name, value)| program.env(name, value));
        self.processes.run(&program, &start, exits)
    }

    async fn stop(&self, uid: &str, grace: Duration) {
        let raylet = async {
            if let RayNodes::Embedded(runtime) = &self.programs.ray {
                runtime.stop(uid, grace).await;
            }
        };
        tokio::join!(raylet, self.processes.stop(uid, grace));
    }
}
