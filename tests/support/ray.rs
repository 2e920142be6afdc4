//! Runs real Ray: a head, workers and drivers, each with processes of its own on loopback addresses.

use super::ray_process::ProcessTree;
pub use super::ray_venv::RayVersion;
use super::wait::{eventually, free_port};
use rayscaler::wire::gcs::ray::rpc::gcs_node_info::GcsNodeState;
use rayscaler::wire::gcs::ray::rpc::{GcsNodeInfo, autoscaler};
use rayscaler::wire::gcs::{GcsClient, GcsSettings, RayletClient};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Says what head to start.
#[derive(Debug, Clone)]
pub struct HeadOptions {
    pub version: RayVersion,
    /// `RAY_enable_autoscaler_v2`.
    pub autoscaler_v2: bool,
    /// Where the GCS listens, `None` for any free port.
    pub port: Option<u16>,
    pub num_cpus: u32,
    /// `key=value,…`, or empty.
    pub labels: String,
    /// More variables, for the head and for all that talk to it.
    pub env: Vec<(String, String)>,
    /// More words for `ray start`.
    pub arguments: Vec<String>,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self {
            version: RayVersion::Newest,
            autoscaler_v2: true,
            port: None,
            num_cpus: 0,
            labels: String::new(),
            env: Vec::new(),
            arguments: Vec::new(),
        }
    }
}

/// Says what worker to start.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// `RAY_CLOUD_INSTANCE_ID`, the name of the pod.
    pub instance_id: String,
    /// `RAY_NODE_TYPE_NAME`.
    pub group: String,
    pub num_cpus: u32,
    /// JSON, or empty.
    pub resources: String,
    /// `key=value,…`, or empty.
    pub labels: String,
}

impl WorkerOptions {
    /// Returns a worker of 2 CPUs in the group `small`.
    pub fn named(instance_id: &str) -> Self {
        Self {
            instance_id: instance_id.to_owned(),
            group: "small".to_owned(),
            num_cpus: 2,
            resources: String::new(),
            labels: String::new(),
        }
    }
}

/// Holds a head; ends it when dropped.
#[derive(Debug)]
pub struct RayHead {
    pub process: ProcessTree,
    address: String,
    programs: PathBuf,
    env: Vec<(String, String)>,
    workers: AtomicU32,
    files: AtomicU32,
    dir: TempDir,
}

impl RayHead {
    /// Starts a head and waits until its raylet is there.
    pub async fn start(options: HeadOptions) -> Self {
        // Short, because the path of a socket is limited to 107 bytes.
        let dir = tempfile::Builder::new()
            .prefix("rs")
            .tempdir_in("/tmp")
            .expect("folder");
        let port = options.port.unwrap_or_else(free_port);
        let mut env = options.env;
        env.push(("RAY_USAGE_STATS_ENABLED".to_owned(), "0".to_owned()));
        let is_v2 = u8::from(options.autoscaler_v2).to_string();
        let mut command = Command::new(options.version.programs().join("ray"));
        set_environment(&mut command, dir.path(), &env);
        command
            .env("RAY_enable_autoscaler_v2", is_v2)
            .env("RAY_CLOUD_INSTANCE_ID", "head-0")
            .env("RAY_NODE_TYPE_NAME", "headgroup")
            .args([
                "start",
                "--head",
                "--no-monitor",
                "--include-dashboard=false",
            ])
            .arg("--node-ip-address=127.0.0.1")
            .arg(format!("--port={port}"))
            .arg(format!("--ray-client-server-port={}", free_port()))
            .arg(format!("--temp-dir={}", dir.path().join("ray").display()));
        let node = NodeArguments {
            num_cpus: options.num_cpus,
            labels: &options.labels,
            resources: "",
        };
        node.add_to(&mut command);
        command.args(options.arguments);
        let log = dir.path().join("head.log");
        let mut head = Self {
            process: spawn_logged(&mut command, &log),
            address: format!("127.0.0.1:{port}"),
            programs: options.version.programs(),
            env,
            workers: AtomicU32::new(0),
            files: AtomicU32::new(0),
            dir,
        };
        let client = head.client();
        eventually("the head is alive", async || {
            if let Some(status) = head.process.exit_status() {
                panic!(
                    "head ended, {status}: {}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            alive_nodes(&client).await.into_iter().next()
        })
        .await;
        head
    }

    /// Returns `host:port` of the GCS.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns where the head keeps its sessions: `session_latest/logs` and so on.
    pub fn temp_dir(&self) -> PathBuf {
        self.dir.path().join("ray")
    }

    /// Returns how this head is reached, as read from the variables it was started with.
    pub fn settings(&self) -> GcsSettings {
        GcsSettings::from_environment(&self.address, &|name| {
            let found = self.env.iter().find(|(key, _)| key == name)?;
            Some(found.1.clone())
        })
        .expect("variables that Ray took")
    }

    /// Returns a new client.
    pub fn client(&self) -> GcsClient {
        GcsClient::new(self.settings())
    }

    /// Returns a new client of the raylets, patient enough for a machine that runs many tests.
    pub fn raylets(&self) -> RayletClient {
        let settings = self.settings();
        RayletClient::new(settings.auth, settings.tls)
            .with_deadline(std::time::Duration::from_secs(5))
    }

    /// Returns the head's own raylet, `ip:port`.
    pub async fn raylet_address(&self) -> String {
        let nodes = alive_nodes(&self.client()).await;
        let head = nodes.iter().find(|node| node.is_head_node).expect("a head");
        format!("{}:{}", head.node_manager_address, head.node_manager_port)
    }

    /// Starts a worker on a loopback address of its own and waits until the GCS knows it.
    pub async fn start_worker(&self, options: WorkerOptions) -> RayWorker {
        let ip = format!(
            "127.0.0.{}",
            2 + self.workers.fetch_add(1, Ordering::Relaxed)
        );
        let mut command = Command::new(self.programs.join("ray"));
        set_environment(&mut command, self.dir.path(), &self.env);
        command
            .env("RAY_CLOUD_INSTANCE_ID", &options.instance_id)
            .env("RAY_NODE_TYPE_NAME", &options.group)
            .args(["start", &format!("--address={}", self.address)])
            .arg(format!("--node-ip-address={ip}"));
        let node = NodeArguments {
            num_cpus: options.num_cpus,
            labels: &options.labels,
            resources: &options.resources,
        };
        node.add_to(&mut command);
        let mut process = spawn_logged(&mut command, &self.new_file("worker"));
        let client = self.client();
        let info = eventually("the worker is alive", async || {
            assert_eq!(process.exit_status(), None, "worker ended");
            let nodes = alive_nodes(&client).await;
            nodes
                .into_iter()
                .find(|node| node.instance_id == options.instance_id)
        })
        .await;
        RayWorker { process, info }
    }

    /// Starts a script of `tests/real/ray` as a driver.
    pub fn driver(&self, script: &str, arguments: &[&str]) -> Driver {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/ray");
        let mut command = Command::new(self.programs.join("python"));
        set_environment(&mut command, self.dir.path(), &self.env);
        command
            .env("RAY_ADDRESS", &self.address)
            .arg("-u")
            .arg(scripts.join(script))
            .args(arguments);
        let output = self.new_file("driver");
        Driver {
            process: spawn_logged(&mut command, &output),
            output,
        }
    }

    /// Returns what `ray status` prints.
    pub async fn ray_status(&self) -> String {
        let mut command = Command::new(self.programs.join("ray"));
        set_environment(&mut command, self.dir.path(), &self.env);
        command.args(["status", "--address", &self.address]);
        let output = self.new_file("status");
        Driver {
            process: spawn_logged(&mut command, &output),
            output,
        }
        .finish()
        .await
    }

    fn new_file(&self, name: &str) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        self.dir.path().join(format!("{name}-{number}.log"))
    }
}

impl Drop for RayHead {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("head.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            for line in last.into_iter().rev() {
                let _told = writeln!(std::io::stderr().lock(), "head: {line}");
            }
        }
    }
}

/// Holds a worker; ends it when dropped.
#[derive(Debug)]
pub struct RayWorker {
    pub process: ProcessTree,
    /// What the GCS said when it was new.
    pub info: GcsNodeInfo,
}

impl RayWorker {
    /// Returns `ip:port` of its raylet.
    pub fn raylet_address(&self) -> String {
        format!(
            "{}:{}",
            self.info.node_manager_address, self.info.node_manager_port
        )
    }

    /// Waits until its state in the GCS is what is asked for.
    pub async fn wait_until(
        &self,
        client: &GcsClient,
        is_so: impl Fn(&autoscaler::NodeState) -> bool,
    ) -> autoscaler::NodeState {
        eventually("the worker's state", async || {
            let reply = client.get_cluster_resource_state().await.expect("state");
            let nodes = reply.cluster_resource_state?.node_states;
            nodes
                .into_iter()
                .find(|node| node.node_id == self.info.node_id && is_so(node))
        })
        .await
    }
}

/// Holds a driver; ends it when dropped.
#[derive(Debug)]
pub struct Driver {
    process: ProcessTree,
    output: PathBuf,
}

impl Driver {
    /// Waits until it has printed `line`.
    pub async fn prints(&mut self, line: &str) {
        eventually(line, async || {
            let output = self.output();
            if output.lines().any(|printed| printed == line) {
                return Some(());
            }
            assert_eq!(self.process.exit_status(), None, "driver ended: {output}");
            None
        })
        .await;
    }

    /// Waits until it has ended well and returns what it printed.
    pub async fn finish(mut self) -> String {
        let status = eventually("the driver ends", async || self.process.exit_status()).await;
        let output = self.output();
        assert!(status.success(), "{status}: {output}");
        output
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }
}

struct NodeArguments<'a> {
    num_cpus: u32,
    labels: &'a str,
    resources: &'a str,
}

impl NodeArguments<'_> {
    /// Names every port that two nodes of one machine could share.
    fn add_to(&self, command: &mut Command) {
        command
            .args([
                "--block",
                "--disable-usage-stats",
                "--include-log-monitor=false",
            ])
            .args([
                "--min-worker-port=0",
                "--max-worker-port=0",
                "--object-store-memory=80000000",
            ])
            .arg(format!("--dashboard-agent-listen-port={}", free_port()))
            .arg(format!("--num-cpus={}", self.num_cpus));
        if !self.labels.is_empty() {
            command.arg(format!("--labels={}", self.labels));
        }
        if !self.resources.is_empty() {
            command.arg(format!("--resources={}", self.resources));
        }
    }
}

/// Keeps what the tester's own environment says about Ray away from it.
fn set_environment(command: &mut Command, home: &Path, env: &[(String, String)]) {
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home);
    command.envs(env.iter().map(|(key, value)| (key, value)));
}

fn spawn_logged(command: &mut Command, log: &Path) -> ProcessTree {
    let file = File::create(log).expect("log file");
    let errors = file.try_clone().expect("log file");
    ProcessTree::spawn(command.stdout(file).stderr(errors))
}

async fn alive_nodes(client: &GcsClient) -> Vec<GcsNodeInfo> {
    let Ok(reply) = client.get_all_node_info().await else {
        return Vec::new();
    };
    let nodes = reply.node_info_list.into_iter();
    nodes
        .filter(|node| node.state() == GcsNodeState::Alive)
        .collect()
}
