//! A RayCluster with a head, raylets and the sidecar under test, and a guard that watches whether a
//! worker with work is ever named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rayscaler::embedded::pods;
use rayscaler::wire::gcs::ray::rpc::autoscaler::{NodeState, NodeStatus};
use rayscaler::wire::gcs::{GcsClient, GcsSettings};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use guard::{Guard, has_work, named_in};

use crate::support;
use crate::support::kube::{KubeApi, Server};
use crate::support::process::Start as _;
use crate::support::ray_venv::RayVersion;
use crate::support::raycluster::Manifest;
use crate::support::real_pods::{Programs, RayNodes, RealPods};
use crate::support::stand_ins::{Cluster, StandIns};
use crate::support::users::{EmbeddedRay, User};

// By its path, since this file is part of several programs.
#[path = "guard.rs"]
mod guard;

/// Whole clusters at a time: each is a dozen processes, and the machine may have two cores.
const WORLDS_AT_ONCE: usize = 2;

/// The users' script.
const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/ray/acceptance.py");

/// A node that the GCS has given up.
const DEAD: i32 = NodeStatus::Dead as i32;

/// Returns a cluster without groups that removes nodes after this many seconds without work.
pub(crate) fn cluster(version: &str, idle_timeout: u32) -> Manifest {
    Manifest::new("c")
        .set("/spec/autoscalerOptions/idleTimeoutSeconds", idle_timeout)
        .autoscaler(version)
}

/// What a world is made of; the sidecar is a real process in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// kube-apiserver and Ray.
    Real,
    /// The embedded API server and the embedded head, behind sockets.
    Embedded,
}

/// How a world differs from the usual one.
pub(crate) struct Options {
    /// What it is made of.
    pub parts: Parts,
    /// Ray's version.
    pub ray: RayVersion,
    /// Its API server, `None` for the one that all tests share.
    pub api: Option<&'static KubeApi>,
    /// Environment of every container.
    pub env: BTreeMap<String, String>,
    /// Whether a worker with work is named, by a lowered maximum or by a user.
    ///
    /// Then the guard must have seen it, which shows that the guard sees.
    pub names_busy: bool,
    /// What the node can give to a pod that is resized; `None` for anything.
    pub resize_room: Option<pods::ResizeRoom>,
}

impl Options {
    /// Returns the usual world, made of these parts.
    pub fn of(parts: Parts) -> Self {
        Self {
            parts,
            ..Self::default()
        }
    }

    /// Chooses Ray's version.
    pub fn ray(mut self, ray: RayVersion) -> Self {
        self.ray = ray;
        self
    }

    /// Expects that a worker with work is named.
    pub fn names_busy(mut self) -> Self {
        self.names_busy = true;
        self
    }

    /// Limits what the node can give to a pod that is resized.
    pub fn resize_room(mut self, room: pods::ResizeRoom) -> Self {
        self.resize_room = Some(room);
        self
    }

    /// Sets a variable in every container and in every client.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            parts: Parts::Real,
            ray: RayVersion::Newest,
            api: None,
            env: BTreeMap::new(),
            names_busy: false,
            resize_room: None,
        }
    }
}

/// One cluster at work.
pub(crate) struct World {
    /// The cluster.
    pub cluster: Cluster,
    /// Its processes.
    pub pods: RealPods,
    /// The head's pod.
    pub head: String,
    /// Where the sidecar serves metrics.
    pub admin_port: u16,
    gcs_port: String,
    /// Its API server.
    pub api: &'static KubeApi,
    embedded: Option<EmbeddedRay>,
    env: BTreeMap<String, String>,
    stand_ins: Option<StandIns>,
    guard: Guard,
    names_busy: bool,
    _permit: OwnedSemaphorePermit,
}

impl World {
    /// Returns operator and kubelet.
    pub fn stand_ins(&mut self) -> &mut StandIns {
        self.stand_ins.as_mut().unwrap()
    }

    /// Starts operator, kubelet, head and sidecar, and waits for the first decision.
    pub async fn start(manifest: Manifest, options: Options) -> Self {
        static WORLDS: std::sync::OnceLock<Arc<Semaphore>> = std::sync::OnceLock::new();
        let worlds = WORLDS.get_or_init(|| Arc::new(Semaphore::new(WORLDS_AT_ONCE)));
        let permit = Arc::clone(worlds).acquire_owned().await.unwrap();
        let api = match (options.api, options.parts) {
            (Some(api), _) => api,
            (None, Parts::Real) => KubeApi::shared_on(Server::Real).await,
            (None, Parts::Embedded) => KubeApi::shared_on(Server::Embedded).await,
        };
        let embedded = (options.parts == Parts::Embedded).then(|| EmbeddedRay::new(options.ray));
        let admin_port = support::free_port();
        let mut env = options.env.clone();
        env.insert("AUTOSCALER_METRIC_PORT".to_owned(), admin_port.to_string());
        let programs = Programs {
            ray: match &embedded {
                Some(ray) => RayNodes::Embedded(ray.runtime.clone()),
                None => RayNodes::Installed(options.ray.programs()),
            },
            sidecar: Some(sidecar()),
            env,
        };
        let pods = RealPods::new(api, programs);
        let mut settings = pods::Settings::new(api.new_namespace().await);
        settings.first_address = RealPods::first_address();
        settings.resize_room = options.resize_room;
        let stand_ins = StandIns::start_on(api, settings, pods.clone()).await;
        let gcs_port = support::free_port().to_string();
        let manifest = manifest
            .head_param("port", &gcs_port)
            .set("/spec/rayVersion", options.ray.number());
        let cluster = stand_ins.create(&manifest).await;
        let head = cluster.wait_for_pods("headgroup", 1).await.remove(0);
        let (port, env) = (gcs_port.clone(), options.env.clone());
        let guard = Guard::start(cluster.clone(), move || gcs(&port, &env));
        let mut world = Self {
            cluster,
            pods,
            head,
            admin_port,
            gcs_port,
            api,
            embedded,
            env: options.env,
            stand_ins: Some(stand_ins),
            guard,
            names_busy: options.names_busy,
            _permit: permit,
        };
        world.wait_until_ready().await;
        // A first head may have found its port taken; the operator replaces it.
        world.head = world.cluster.wait_for_pods("headgroup", 1).await.remove(0);
        world
    }

    /// Returns a client of the head's GCS.
    pub fn gcs(&self) -> GcsClient {
        gcs(&self.gcs_port, &self.env)
    }

    /// Returns the port of the head's GCS.
    pub fn gcs_port(&self) -> String {
        self.gcs_port.clone()
    }

    /// Writes a kubeconfig with the rights of the sidecar and returns its path.
    pub async fn kubeconfig(&self) -> PathBuf {
        let token = self
            .api
            .sidecar_token(&self.cluster.namespace, &self.cluster.name)
            .await;
        self.api.kubeconfig_for(&token)
    }

    /// Runs the users' script to its end and returns what it printed.
    pub async fn user(&self, arguments: &[&str]) -> String {
        let user = self.user_starts(arguments);
        self.finishes(user, arguments).await
    }

    /// Starts the users' script and lets it run.
    pub fn user_starts(&self, arguments: &[&str]) -> User {
        if let Some(ray) = &self.embedded {
            return ray.user_starts(arguments);
        }
        let script = std::fs::read_to_string(Path::new(DRIVER)).unwrap();
        let mut program = self.pods.driver(&script, &self.gcs_port);
        for argument in arguments {
            program = program.arg(*argument);
        }
        User::Script(program.start())
    }

    /// Waits until the users' script has ended well and returns what it printed.
    pub async fn finishes(&self, user: User, arguments: &[&str]) -> String {
        match tokio::time::timeout(Duration::from_secs(180), user.finish()).await {
            Ok(Ok(printed)) => printed,
            Ok(Err(printed)) => panic!("{arguments:?}: {printed}\n{}", self.sidecar_log()),
            Err(_) => panic!("{arguments:?} did not end\n{}", self.sidecar_log()),
        }
    }

    /// Waits until the groups' wish, in pods, is this many.
    pub async fn desired(&self, pods: u64) {
        let what = format!("desiredWorkerReplicas {pods}");
        self.eventually(&what, || async {
            let cluster = self.cluster.get().await;
            (cluster["status"]["desiredWorkerReplicas"]
                .as_u64()
                .unwrap_or(0)
                == pods)
                .then_some(())
        })
        .await;
    }

    /// Waits until a group has so many pods, none of them going, and returns their names.
    pub async fn pods_of(&self, group: &str, count: usize) -> Vec<String> {
        let what = format!("{count} pods of {group}");
        self.eventually(&what, || async {
            let (pods, names) = (
                self.cluster.pods_of(group).await,
                self.cluster.names_of(group).await,
            );
            (pods.len() == count && names.len() == count).then_some(names)
        })
        .await
    }

    /// Returns the pods that are named for removal.
    pub async fn named(&self) -> BTreeSet<String> {
        named_in(&self.cluster.get().await)
    }

    /// Waits until no pod is named for removal any more.
    pub async fn nothing_named(&self) {
        self.eventually("an empty workersToDelete", || async {
            self.named().await.is_empty().then_some(())
        })
        .await;
    }

    /// Returns the nodes that the GCS has not given up, those that drain among them.
    pub async fn nodes(&self) -> Vec<NodeState> {
        let reply = self.gcs().get_cluster_resource_state().await;
        let state = reply.unwrap_or_default().cluster_resource_state;
        let mut nodes = state.unwrap_or_default().node_states;
        nodes.retain(|node| node.status != DEAD);
        nodes
    }

    /// Waits until this many of a group's nodes have had no work for so long.
    pub async fn idle_for(&self, group: &str, count: usize, time: Duration) {
        let what = format!("{count} nodes of {group} without work for {time:?}");
        let time = i64::try_from(time.as_millis()).unwrap();
        self.eventually(&what, || async {
            let nodes = self.nodes().await;
            let idle = nodes
                .iter()
                .filter(|node| node.ray_node_type_name == group && node.idle_duration_ms >= time);
            (idle.count() == count).then_some(())
        })
        .await;
    }

    /// Waits until this many nodes have work, and the guard has seen that they do.
    pub async fn busy(&self, count: usize) {
        let what = format!("{count} nodes with work");
        self.eventually(&what, || async {
            let nodes = self.nodes().await;
            let busy: Vec<_> = nodes.iter().filter(|node| has_work(node)).collect();
            let is_seen = busy
                .iter()
                .all(|node| self.guard.saw_busy(&node.instance_id));
            (busy.len() == count && is_seen).then_some(())
        })
        .await;
    }

    /// Changes a member of the group at `index`, as a user does.
    pub async fn set_group(&self, index: usize, member: &str, value: i64) {
        let path = format!("/spec/workerGroupSpecs/{index}/{member}");
        self.cluster
            .patch(json!([{"op": "add", "path": path, "value": value}]))
            .await;
    }

    /// Runs one of Ray's command line tools and returns what it printed.
    pub async fn ray(&self, arguments: &[&str]) -> String {
        let mut program = self.pods.ray_tool(&self.gcs_port);
        for argument in arguments {
            program = program.arg(*argument);
        }
        let running = program.start();
        let code = running.wait(Duration::from_secs(120)).await;
        assert_eq!(code, Some(0), "{arguments:?}: {}", running.log_tail());
        running.log_tail()
    }

    /// Returns a log of Ray's, by its path below the head's log folder.
    pub fn ray_log(&self, path: &str) -> String {
        self.pods.ray_log(&self.gcs_port, path)
    }

    /// Waits until `replicas` of the group at `index` is this.
    pub async fn replicas(&self, index: usize, replicas: i64) {
        let what = format!("replicas {replicas} of group {index}");
        self.eventually(&what, || async {
            (self.replicas_now(index).await == replicas).then_some(())
        })
        .await;
    }

    /// Returns `replicas` of the group at `index`.
    pub async fn replicas_now(&self, index: usize) -> i64 {
        self.group(index).await["replicas"].as_i64().unwrap_or(0)
    }

    /// Returns the group at `index`.
    pub async fn group(&self, index: usize) -> Value {
        self.cluster.get().await["spec"]["workerGroupSpecs"][index].clone()
    }

    /// Returns the object's generation, which every change of its `spec` raises.
    pub async fn generation(&self) -> i64 {
        let object = self.cluster.get().await;
        object["metadata"]["generation"].as_i64().unwrap()
    }

    /// Returns the last decision with what came of it; null before the first.
    pub async fn decided(&self) -> Value {
        serde_json::from_str(&self.admin("v1/decision").await).unwrap_or_default()
    }

    /// Returns the most replicas that the first group was ever asked to have.
    pub fn replicas_peak(&self) -> i64 {
        self.guard.replicas_peak()
    }

    /// Returns the most requests of tasks and actors that Ray ever told of at once.
    pub fn requests_peak(&self) -> i64 {
        self.guard.requests_peak()
    }

    /// Has both peaks begin anew.
    pub fn forget_peaks(&self) {
        self.guard.forget_peaks();
    }

    /// Returns what the admin port answers.
    pub async fn admin(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}/{path}", self.admin_port);
        match reqwest::get(url).await {
            Ok(reply) => reply.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Returns the end of the sidecar's log.
    pub fn sidecar_log(&self) -> String {
        let log = self.pods.log(&self.head, "autoscaler");
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Waits for something, and shows the sidecar's log when it does not come.
    pub async fn eventually<T, F>(&self, what: &str, mut ask: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let asking = async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(120), asking).await {
            Ok(answer) => answer,
            Err(_) => {
                let decision = self.admin("v1/decision").await;
                panic!(
                    "waited for {what} in vain\n{decision}\n{}",
                    self.sidecar_log()
                )
            }
        }
    }

    /// Ends everything and says whether a worker with work was ever named.
    pub async fn end(mut self) {
        if let Some(stand_ins) = self.stand_ins.take() {
            stand_ins.end().await;
        }
        let named = self.guard.end();
        assert_eq!(
            !named.is_empty(),
            self.names_busy,
            "named while busy: {named:?}\n{}",
            self.sidecar_log()
        );
    }

    async fn wait_until_ready(&self) {
        self.eventually("the first decision", || async {
            (self.admin("readyz").await.trim() == "ok").then_some(())
        })
        .await;
    }
}

/// Returns the program under test: what cargo built, or another build of it by path.
pub fn sidecar() -> PathBuf {
    let built = support::env("RAYSCALER_TEST_SIDECAR");
    PathBuf::from(built.unwrap_or_else(|| env!("CARGO_BIN_EXE_rayscaler").to_owned()))
}

fn gcs(port: &str, env: &BTreeMap<String, String>) -> GcsClient {
    let lookup = |name: &str| env.get(name).cloned();
    let settings = GcsSettings::from_environment(&format!("127.0.0.1:{port}"), &lookup);
    GcsClient::new(settings.unwrap())
}
