//! The cluster of a scenario: API server, operator, kubelet and Ray head in this process, and one autoscaler.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::runtime::watcher::{Config as WatchConfig, Event as WatchEvent};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::sync::mpsc;

use super::SandboxError;
use super::manifest::{CLUSTER, NAMESPACE, ray_cluster};
use super::scenario::{LosePods, Scenario};
use crate::clock::Clock;
use crate::embedded::kube::{KubeApi, Settings as KubeSettings};
use crate::embedded::pods::{self, ContainerRuntime, ContainerStart, Exits};
use crate::embedded::ray::{RayHead, RayRuntime, RuntimeSettings, Settings as RaySettings};
use crate::embedded::{Now, operator, watched};
use crate::runtime::shutdown::Tasks;

/// The container that KubeRay adds to the head's pod.
const AUTOSCALER: &str = "autoscaler";

/// A cluster with an API server, an operator and a kubelet.
pub(super) struct Cluster {
    /// The API server.
    pub(super) api: KubeApi,
    /// Tells the time.
    pub(super) clock: Clock,
    /// The administrator's client.
    pub(super) client: Client,
    /// Everything that runs beside the player.
    pub(super) tasks: Tasks,
    starts: mpsc::UnboundedReceiver<ContainerStart>,
    pods: KnownPods,
}

/// Pods by name, as a watch tells them: a list would cost more than all the rest of a scenario.
type KnownPods = Arc<Mutex<BTreeMap<String, Pod>>>;

/// A cluster whose Ray is an embedded one.
pub(super) struct World {
    /// The cluster.
    pub(super) cluster: Cluster,
    /// The Ray head.
    pub(super) ray: RayHead,
}

impl World {
    /// Starts everything but the autoscaler.
    pub(super) async fn start(scenario: &Scenario, clock: Clock) -> Result<Self, SandboxError> {
        let ray = RayHead::new(RaySettings::default(), now(&clock));
        let settings = RuntimeSettings {
            join_delay: scenario.join.as_std(),
            ..RuntimeSettings::default()
        };
        let runtime = RayRuntime::new(ray.clone(), settings);
        let mut pods = pods::Settings::new(NAMESPACE);
        pods.boot_delay = scenario.boot.as_std();
        let mut cluster = Cluster::start(clock, pods, runtime);
        let head = ray.clone();
        cluster.tasks.spawn("ray", async move { head.run().await });
        cluster.apply(ray_cluster(scenario)).await?;
        Ok(Self { cluster, ray })
    }

    /// Has pods of a group vanish with everything that runs in them; returns their names.
    pub(super) async fn lose(&self, lose: &LosePods) -> Result<Vec<String>, kube::Error> {
        let pods = self.cluster.pod_api();
        let selector = format!("ray.io/group={}", lose.group);
        let parameters = ListParams::default().labels(&selector);
        let mut running = pods.list(&parameters).await?.items;
        running.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        running.sort_by_key(|pod| (pod.creation_timestamp(), pod.name_any()));
        let names: Vec<String> = running
            .iter()
            .take(usize::try_from(lose.count).unwrap_or(usize::MAX))
            .map(ResourceExt::name_any)
            .collect();
        for name in &names {
            // The machine goes with everything on it, and nobody is told but the API server.
            pods.delete(name, &DeleteParams::default().grace_period(0))
                .await?;
            let view = self.ray.view();
            for node in view.nodes.iter().filter(|node| node.pod == *name) {
                self.ray.kill_node(node.id);
            }
        }
        Ok(names)
    }
}

impl Cluster {
    /// Starts API server, operator and kubelet, whose Ray containers `ray` runs.
    pub(super) fn start(
        clock: Clock,
        settings: pods::Settings,
        ray: impl ContainerRuntime + 'static,
    ) -> Self {
        let now = now(&clock);
        let api = KubeApi::new(KubeSettings::new(Arc::clone(&now), 1));
        let client = api.client(api.admin_token());
        let mut tasks = Tasks::default();
        let (started, starts) = mpsc::unbounded_channel();
        let operator = operator::Settings::new(NAMESPACE);
        let operator = operator::run(client.clone(), operator, Arc::clone(&now));
        tasks.spawn("operator", operator);
        let kubelet = pods::run(client.clone(), settings, Runtime { ray, started }, now);
        tasks.spawn("kubelet", kubelet);
        let pods = KnownPods::default();
        tasks.spawn("pods", follow(client.clone(), Arc::clone(&pods)));
        Self {
            api,
            clock,
            client,
            tasks,
            starts,
            pods,
        }
    }

    /// Creates the RayCluster.
    pub(super) async fn apply(&self, raycluster: Value) -> Result<(), SandboxError> {
        let raycluster: DynamicObject = serde_json::from_value(raycluster)?;
        rayclusters(&self.client)
            .create(&PostParams::default(), &raycluster)
            .await?;
        Ok(())
    }

    /// Waits until the kubelet starts the autoscaler's container.
    pub(super) async fn autoscaler_starts(&mut self) -> Option<ContainerStart> {
        self.starts.recv().await
    }

    /// Returns the RayCluster.
    pub(super) async fn raycluster(&self) -> Result<DynamicObject, kube::Error> {
        rayclusters(&self.client).get(CLUSTER).await
    }

    /// Returns all pods.
    pub(super) fn pods(&self) -> Vec<Pod> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values().cloned().collect()
    }

    fn pod_api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

/// Returns the time as stand-ins want it.
pub(super) fn now(clock: &Clock) -> Now {
    let clock = clock.clone();
    Arc::new(move || clock.now())
}

async fn follow(client: Client, known: KnownPods) {
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let mut events = pin!(watched(pods, WatchConfig::default()));
    while let Some(event) = events.next().await {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            WatchEvent::Apply(pod) | WatchEvent::InitApply(pod) => {
                known.insert(pod.name_any(), pod);
            }
            WatchEvent::Delete(pod) => drop(known.remove(&pod.name_any())),
            // The whole list follows.
            WatchEvent::Init => known.clear(),
            WatchEvent::InitDone => {}
        }
    }
}

fn rayclusters(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), NAMESPACE, &operator::ray_cluster_resource())
}

/// Runs Ray's containers in name, and tells whoever plays the autoscaler when its turn has come.
struct Runtime<R> {
    ray: R,
    started: mpsc::UnboundedSender<ContainerStart>,
}

impl<R: ContainerRuntime> ContainerRuntime for Runtime<R> {
    async fn start(&self, container: ContainerStart, exits: Exits) -> Result<(), String> {
        if container.container.name == AUTOSCALER {
            return self
                .started
                .send(container)
                .map_err(|_| "nobody plays the autoscaler".to_owned());
        }
        self.ray.start(container, exits).await
    }

    fn stop(&self, uid: &str, grace: Duration) -> impl Future<Output = ()> + Send {
        self.ray.stop(uid, grace)
    }
}
