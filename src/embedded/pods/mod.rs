//! What scheduler and kubelet do with the pods of a namespace, as a client of any Kubernetes API.
//!
//! Pods are bound to one node, which exists in name only, boot for a while, run and report, and end
//! within their grace period. What running means is up to a [`ContainerRuntime`]: real processes, or
//! nothing at all. A pod whose node selector the node does not meet stays pending, as on a cluster that
//! has no such node. Left out: probes, init containers, volumes, eviction.

mod environment;
mod life;
mod node;
mod pod_status;
mod pretend;
mod processes;
mod ray_processes;
mod resize;

pub use pretend::Pretend;
pub use processes::Processes;
pub use ray_processes::{RayProcessSettings, RayProcesses};
pub use resize::ResizeRoom;

use super::lean::PodToRun;
use super::{Now, watched};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::Api;
use kube::runtime::watcher::{Config, Event};
use kube::{Client, ResourceExt};
use life::{Life, Update};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Holds what may differ between clusters.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespace whose pods are run.
    pub namespace: String,
    /// The labels of the node, which decide whose node selector it meets.
    pub node_labels: BTreeMap<String, String>,
    /// The time from binding a pod to running containers.
    pub boot_delay: Duration,
    /// The time from a container's end to its next start, where the pod's policy allows one.
    pub restart_delay: Duration,
    /// The first pod's address; each further pod gets the next one.
    pub first_address: Ipv4Addr,
    /// What the node can give to a pod that is resized; `None` for anything.
    pub resize_room: Option<ResizeRoom>,
}

impl Settings {
    /// Returns settings for pods that run at once.
    #[must_use]
    pub fn new(namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            node_labels: BTreeMap::new(),
            boot_delay: Duration::ZERO,
            restart_delay: Duration::from_secs(1),
            first_address: Ipv4Addr::new(10, 244, 0, 2),
            resize_room: None,
        }
    }
}

/// Runs containers.
pub trait ContainerRuntime: Send + Sync {
    /// Starts one container, and has `exits` told when it ends.
    ///
    /// Errors: what the kubelet would show; the container counts as ended.
    fn start(
        &self,
        container: ContainerStart,
        exits: Exits,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Ends all containers of the pod with this uid, by force after `grace`.
    fn stop(&self, uid: &str, grace: Duration) -> impl Future<Output = ()> + Send;
}

/// Holds what it takes to start a container.
#[derive(Debug, Clone)]
pub struct ContainerStart {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container's part of the pod's spec.
    pub container: Container,
    /// Its environment: later entries of one name win, references are resolved.
    pub env: BTreeMap<String, String>,
    /// Command and arguments, with `$(NAME)` replaced.
    pub argv: Vec<String>,
    /// The pod's address.
    pub address: Ipv4Addr,
}

impl ContainerStart {
    /// Returns whether this is the container that runs Ray: the first one of its pod.
    #[must_use]
    pub fn is_ray(&self) -> bool {
        let containers = self.pod.spec.as_ref().map(|spec| &spec.containers);
        containers.and_then(|all| all.first()) == Some(&self.container)
    }
}

/// How a container has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its name.
    pub container: String,
    /// Its exit code.
    pub code: i32,
    /// A word for it, such as `OOMKilled`; without one it follows from the code.
    pub reason: Option<String>,
}

/// Takes word of containers that have ended.
#[derive(Debug, Clone)]
pub struct Exits(mpsc::UnboundedSender<Exit>);

impl Exits {
    /// Returns what tells `sender` of containers that have ended.
    #[must_use]
    pub const fn telling(sender: mpsc::UnboundedSender<Exit>) -> Self {
        Self(sender)
    }

    /// Tells that a container has ended; nobody listens any more once its pod is gone.
    pub fn tell(&self, exit: Exit) {
        drop(self.0.send(exit));
    }
}

/// What all pods of a run share.
struct Kubelet<R> {
    client: Client,
    pods: Api<PodToRun>,
    settings: Settings,
    runtime: R,
    now: Now,
    addresses: AtomicU32,
}

impl<R> Kubelet<R> {
    fn next_address(&self) -> Ipv4Addr {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed);
        Ipv4Addr::from_bits(self.settings.first_address.to_bits().saturating_add(number))
    }
}

/// Runs the pods of one namespace until it is dropped; what runs then is the runtime's to end.
pub async fn run<R: ContainerRuntime>(client: Client, settings: Settings, runtime: R, now: Now) {
    let pods: Api<PodToRun> = Api::namespaced(client.clone(), &settings.namespace);
    let addresses = AtomicU32::new(0);
    let kubelet = Kubelet {
        client,
        pods: pods.clone(),
        settings,
        runtime,
        now,
        addresses,
    };
    node::create(&kubelet.client, &kubelet.settings, (kubelet.now)()).await;
    let mut events = pin!(watched(pods, Config::default()));
    let mut lives = FuturesUnordered::new();
    let mut known = Known::default();
    loop {
        tokio::select! {
            biased;
            Some(event) = events.next() => {
                if let Some(life) = known.on_event(event) {
                    lives.push(life.run(&kubelet));
                }
            }
            Some(uid) = lives.next() => known.forget(&uid),
        }
    }
}

/// The pods that are being run, by uid: a name may come again.
#[derive(Debug, Default)]
struct Known {
    updates: BTreeMap<String, watch::Sender<Update>>,
    listed: BTreeSet<String>,
}

impl Known {
    /// Passes an event on, and returns the life of a pod that is new.
    fn on_event(&mut self, event: Event<PodToRun>) -> Option<Life> {
        match event {
            Event::Apply(pod) => self.on_pod(pod),
            Event::InitApply(pod) => {
                self.listed.extend(pod.uid());
                self.on_pod(pod)
            }
            Event::Delete(pod) => {
                self.on_gone(&pod.uid()?);
                None
            }
            Event::Init => {
                self.listed.clear();
                None
            }
            Event::InitDone => {
                let known: Vec<String> = self.updates.keys().cloned().collect();
                for uid in known.iter().filter(|uid| !self.listed.contains(*uid)) {
                    self.on_gone(uid);
                }
                None
            }
        }
    }

    fn on_pod(&mut self, pod: PodToRun) -> Option<Life> {
        let uid = pod.uid()?;
        let pod = Arc::new(pod.into_pod());
        if let Some(updates) = self.updates.get(&uid) {
            updates.send_replace(Update::Changed(pod));
            return None;
        }
        let (sender, receiver) = watch::channel(Update::Changed(pod.clone()));
        self.updates.insert(uid.clone(), sender);
        Some(Life::new(uid, pod, receiver))
    }

    fn on_gone(&self, uid: &str) {
        if let Some(updates) = self.updates.get(uid) {
            updates.send_replace(Update::Gone);
        }
    }

    fn forget(&mut self, uid: &str) {
        self.updates.remove(uid);
    }
}
