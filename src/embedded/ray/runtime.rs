//! Pods whose Ray containers are raylets of an embedded head.

use super::RayHead;
use super::ray_start::node_of;
use super::raylet::{Ended, NodeSpec};
use crate::embedded::pods::{ContainerRuntime, ContainerStart, Exit, Exits};
use crate::model::NodeId;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long a raylet that got SIGTERM waits for its work, unless its pod's grace period is over before.
const SIGTERM_PATIENCE_MS: u64 = 30_000;

/// The port of raylets that are reached in memory only.
const RAYLET_PORT: u16 = 10_001;

/// The code with which `ray start --block` ends when a process of its died.
const CRASHED: i32 = 1;

/// Says how the head and its raylets are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// By channels of the [`RayHead`] only.
    InMemory,
    /// By sockets, too: the GCS at this address and the port that the pod's environment names, each raylet at
    /// its pod's address, which has to be one of this machine.
    Sockets {
        /// Where the GCS listens.
        gcs: Ipv4Addr,
    },
}

/// Holds what may differ between runtimes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// The time from a container's start until its raylet joins.
    pub join_delay: Duration,
    /// How the head and its raylets are reached.
    pub reach: Reach,
    /// Whether a new head pod finds in Redis what the last one knew.
    pub keeps: bool,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            join_delay: Duration::ZERO,
            reach: Reach::InMemory,
            keeps: false,
        }
    }
}

/// Runs Ray containers as raylets of one head, and other containers in name only.
///
/// The head's pod brings the GCS up and takes it down; its environment says whether v2 is on and which token
/// calls have to carry.
#[derive(Debug, Clone)]
pub struct RayRuntime {
    head: RayHead,
    settings: RuntimeSettings,
    pods: Arc<Mutex<BTreeMap<String, RayPod>>>,
}

/// A pod's Ray container.
#[derive(Debug)]
struct RayPod {
    is_head: bool,
    node: watch::Receiver<Option<NodeId>>,
    task: AbortHandle,
}

impl Drop for RayPod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RayRuntime {
    /// Returns a runtime without pods.
    #[must_use]
    pub fn new(head: RayHead, settings: RuntimeSettings) -> Self {
        Self {
            head,
            settings,
            pods: Arc::default(),
        }
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, RayPod>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_ray(&self, start: ContainerStart, exits: Exits) -> Result<(), String> {
        let spec = node_of(&start)?;
        let uid = start.pod.uid().unwrap_or_default();
        let (started, node) = watch::channel(None);
        let is_head = spec.is_head;
        let container = start.container.name.clone();
        let life = self.clone().life(spec, start, started);
        let task = tokio::spawn(async move {
            let reason = life.await.err();
            exits.tell(Exit {
                container,
                code: CRASHED,
                reason,
            });
        });
        let pod = RayPod {
            is_head,
            node,
            task: task.abort_handle(),
        };
        self.pods().insert(uid, pod);
        Ok(())
    }

    /// Runs a node until its processes have crashed; one that left gracefully stays as a container.
    async fn life(
        self,
        mut spec: NodeSpec,
        start: ContainerStart,
        started: watch::Sender<Option<NodeId>>,
    ) -> Result<(), String> {
        let gcs = self.gcs(&spec, &start).await?;
        self.wait_for_gcs().await;
        tokio::time::sleep(self.settings.join_delay).await;
        let listener = match self.settings.reach {
            Reach::InMemory => None,
            Reach::Sockets { .. } => Some(bind((start.address, 0)).await?),
        };
        let port = listener
            .as_ref()
            .and_then(|listener| Some(listener.local_addr().ok()?.port()));
        spec.port = port.unwrap_or(RAYLET_PORT);
        let id = self.head.start_node(spec);
        let ended = self.head.node_ended(id);
        started.send_replace(Some(id));
        let raylet = served(listener.map(|listener| self.head.serve_raylet(id, listener)));
        let end = async {
            let Some(mut ended) = ended else { return };
            let how = ended.wait_for(Option::is_some).await;
            if how == Ok(Some(Ended::Gracefully)) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = served(gcs) => {}
            () = raylet => {}
            () = end => {}
        }
        Ok(())
    }

    /// Brings the GCS up when this is the head's pod, and returns what serves it.
    async fn gcs(
        &self,
        spec: &NodeSpec,
        start: &ContainerStart,
    ) -> Result<Option<impl Future<Output = ()> + use<>>, String> {
        if !spec.is_head {
            return Ok(None);
        }
        let variable = |name: &str| start.env.get(name).map(String::as_str);
        let is_v2 = !matches!(variable("RAY_enable_autoscaler_v2"), Some("0" | "false"));
        let has_token = variable("RAY_AUTH_MODE") == Some("token");
        let token = variable("RAY_AUTH_TOKEN").filter(|_| has_token);
        self.head.configure(is_v2, token);
        self.head.start_gcs(self.settings.keeps);
        let Reach::Sockets { gcs } = self.settings.reach else {
            return Ok(None);
        };
        let port = variable("RAY_PORT").and_then(|port| port.parse().ok());
        let listener = bind((gcs, port.ok_or("no GCS port")?)).await?;
        Ok(Some(self.head.serve_gcs(listener)))
    }

    /// What the init container of a worker's pod does.
    async fn wait_for_gcs(&self) {
        let mut changes = self.head.changes();
        loop {
            changes.mark_unchanged();
            if self.head.has_gcs() || changes.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn bind(address: (Ipv4Addr, u16)) -> Result<TcpListener, String> {
    let address = SocketAddr::from(address);
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))
}

/// Serves, or waits for ever where there is nothing to serve.
async fn served(serving: Option<impl Future<Output = ()>>) {
    match serving {
        Some(serving) => serving.await,
        None => std::future::pending().await,
    }
}

impl ContainerRuntime for RayRuntime {
    async fn start(&self, start: ContainerStart, exits: Exits) -> Result<(), String> {
        let containers = start.pod.spec.as_ref().map(|spec| &spec.containers);
        let is_ray = containers.and_then(|all| all.first()) == Some(&start.container);
        if is_ray {
            self.start_ray(start, exits)
        } else {
            Ok(())
        }
    }

    async fn stop(&self, uid: &str, grace: Duration) {
        let Some(pod) = self.pods().remove(uid) else {
            return;
        };
        if pod.is_head {
            self.head.stop_gcs();
        }
        let id = *pod.node.borrow();
        let running = id.and_then(|id| Some((id, self.head.node_ended(id)?)));
        if let Some((id, mut ended)) = running {
            self.head.stop_node(id, SIGTERM_PATIENCE_MS);
            let end = ended.wait_for(Option::is_some);
            if tokio::time::timeout(grace, end).await.is_err() {
                self.head.kill_node(id);
            }
        }
    }
}
