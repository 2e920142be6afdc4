//! A cluster in this process, and sidecars that a test starts and ends.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use rayscaler::clock::Clock;
use rayscaler::config::Config;
use rayscaler::embedded::kube::{KubeApi, Settings as KubeSettings};
use rayscaler::embedded::pods::{self, ContainerRuntime, ContainerStart, Exits};
use rayscaler::embedded::ray::{
    Bundle, PlacementGroup, RayHead, RayRuntime, RuntimeSettings, Settings as RaySettings, Tasks,
};
use rayscaler::embedded::{Now, operator};
use rayscaler::model::{PlacementStrategy, Quantity, ResourceMap, ResourceName, Timestamp};
use rayscaler::runtime::shutdown::{Shutdown, Trigger};
use rayscaler::runtime::supervisor::Lineage;
use rayscaler::runtime::telemetry::Telemetry;
use rayscaler::runtime::{
    InProcessKube, InProcessRay, Inside, InsideParts, Network, RunOptions, Variables,
};
use rayscaler::wire::kube_client::KubeClient;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};

use crate::raycluster::Manifest;

const BEGAN: Timestamp = Timestamp::from_ms(1_700_000_000_000);
const NAMESPACE: &str = "default";
const CLUSTER: &str = "c";

/// Runs a test on this thread, where the sidecar has to stay.
pub async fn play(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// Returns `CPU=4` as amounts.
pub fn resources(text: &str) -> ResourceMap {
    let parts = text.split_whitespace();
    let amounts = parts.map(|part| {
        let (name, amount) = part.split_once('=').unwrap();
        let amount = Quantity::from_f64(amount.parse().unwrap()).unwrap();
        (ResourceName::from(name), amount)
    });
    amounts.collect()
}

/// API server, operator, kubelet and Ray.
pub struct World {
    pub clock: Clock,
    pub api: KubeApi,
    pub client: Client,
    pub ray: RayHead,
    starts: mpsc::UnboundedReceiver<ContainerStart>,
    tasks: Vec<JoinHandle<()>>,
    asked_max: Arc<Mutex<i64>>,
    /// Whether raylets take no notice when their pod is deleted, as those of old Ray.
    pub deaf: Arc<AtomicBool>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A sidecar that runs.
pub struct Sidecar {
    pub inside: Arc<rayscaler::admin::AdminState>,
    pub metrics: rayscaler::report::Metrics,
    pub trigger: Arc<Trigger>,
    pub task: JoinHandle<()>,
    polls: Arc<AtomicU64>,
    cut_at: Arc<AtomicU64>,
}

impl Sidecar {
    /// Returns how often its loop has been looked at, which is once more than it waited.
    pub fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// Ends it in the middle of whatever it waits for then, `polls` looks from now.
    pub fn cut_after(&self, polls: u64) {
        let at = self.polls().saturating_add(polls);
        self.cut_at.store(at, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it at once, wherever it is.
    pub fn kill(&self) {
        self.task.abort();
    }

    /// Returns the samples of a metric, one a line, without its help.
    pub fn samples(&self, name: &str, now: Timestamp) -> Vec<String> {
        let text = self.metrics.exposition(now);
        let of_name = text.lines().filter(|line| line.starts_with(name));
        of_name.map(str::to_owned).collect()
    }
}

impl Sidecar {
    /// Returns the counts of its patches, one for each sort of answer.
    pub fn patches(&self, now: Timestamp) -> Vec<String> {
        let mut calls = self.samples("rayscaler_api_calls_total{", now);
        calls.retain(|line| line.contains("verb=\"patch\""));
        calls
    }
}

impl World {
    /// Starts all but a sidecar; pods boot for this long.
    pub async fn start(manifest: Manifest, boot: Duration) -> Self {
        let clock = Clock::starting_at(BEGAN);
        let now: Now = {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let ray = RayHead::new(RaySettings::default(), Arc::clone(&now));
        let keeps = RuntimeSettings {
            keeps: true,
            ..RuntimeSettings::default()
        };
        let (started, starts) = mpsc::unbounded_channel();
        let deaf = Arc::new(AtomicBool::new(false));
        let runtime = Runtime {
            deaf: Arc::clone(&deaf),
            ray: RayRuntime::new(ray.clone(), keeps),
            started,
        };
        let api = KubeApi::new(KubeSettings::new(Arc::clone(&now), 1));
        let client = api.client(api.admin_token());
        let operator = operator::Settings::new(NAMESPACE);
        let mut settings = pods::Settings::new(NAMESPACE);
        settings.boot_delay = boot;
        let head = ray.clone();
        let mut world = Self {
            tasks: vec![
                tokio::spawn(operator::run(client.clone(), operator, Arc::clone(&now))),
                tokio::spawn(pods::run(client.clone(), settings, runtime, now)),
                tokio::spawn(async move { head.run().await }),
            ],
            clock,
            api,
            client,
            ray,
            starts,
            asked_max: Arc::default(),
            deaf,
        };
        let manifest = manifest.autoscaler("v2");
        let object: DynamicObject = serde_json::from_value(manifest.value().clone()).unwrap();
        let rayclusters = world.rayclusters();
        rayclusters
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        world.tasks.push(tokio::spawn(watch_replicas(
            rayclusters,
            Arc::clone(&world.asked_max),
        )));
        world
    }

    /// Returns how the next head pod starts its autoscaler.
    pub async fn autoscaler_starts(&mut self) -> ContainerStart {
        self.starts.recv().await.unwrap()
    }

    /// Starts the sidecar of a head pod.
    pub fn sidecar(&self, start: &ContainerStart) -> Sidecar {
        self.sidecar_with(start, Config::default())
    }

    pub fn sidecar_with(&self, start: &ContainerStart, config: Config) -> Sidecar {
        let lookup = |name: &str| start.env.get(name).cloned();
        let options = RunOptions {
            cluster_name: CLUSTER.to_owned(),
            cluster_namespace: NAMESPACE.to_owned(),
            config_path: None,
            overrides: rayscaler::config::Overrides::default(),
            kubeconfig: None,
            variables: Variables::read(&lookup),
            notices: Vec::new(),
            remarks: Vec::new(),
            lineage: Lineage::default(),
        };
        let (_, telemetry) = Telemetry::new(config.log, self.clock.clone(), std::io::sink, false);
        let (api, token) = (self.api.clone(), self.api.admin_token().to_owned());
        let (gcs, raylets) = (self.ray.clone(), self.ray.clone());
        let inside = Inside::new(InsideParts {
            options,
            config,
            telemetry,
            clock: self.clock.clone(),
            network: Network {
                kube: Some(InProcessKube::new(move |observer, timeout| {
                    KubeClient::over(api.service().with_token(&token), observer, timeout)
                })),
                ray: Some(InProcessRay {
                    gcs: Arc::new(move || gcs.gcs_channel()),
                    raylets: Arc::new(move |address| raylets.raylet_channel(address)),
                }),
            },
            serves_admin: false,
        });
        let (admin, metrics) = (inside.admin(), inside.metrics());
        let (trigger, shutdown) = Shutdown::new();
        let polls = Arc::new(AtomicU64::new(0));
        let cut_at = Arc::new(AtomicU64::new(u64::MAX));
        let run = Cuttable {
            future: Some(Box::pin(async move { inside.run(shutdown).await.unwrap() })),
            polls: Arc::clone(&polls),
            cut_at: Arc::clone(&cut_at),
        };
        Sidecar {
            inside: admin,
            metrics,
            trigger: Arc::new(trigger),
            task: tokio::task::spawn_local(run),
            polls,
            cut_at,
        }
    }

    pub fn rayclusters(&self) -> Api<DynamicObject> {
        let resource = operator::ray_cluster_resource();
        Api::namespaced_with(self.client.clone(), NAMESPACE, &resource)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Returns the RayCluster.
    pub async fn raycluster(&self) -> Value {
        serde_json::to_value(self.rayclusters().get(CLUSTER).await.unwrap()).unwrap()
    }

    /// Returns `replicas` of the first group.
    pub async fn replicas(&self) -> i64 {
        let raycluster = self.raycluster().await;
        raycluster["spec"]["workerGroupSpecs"][0]["replicas"]
            .as_i64()
            .unwrap_or(0)
    }

    /// Returns the most replicas that the first group ever had.
    pub fn asked_max(&self) -> i64 {
        *self.asked_max.lock().unwrap()
    }

    /// Changes the RayCluster as a user does.
    pub async fn patch(&self, operations: Value) {
        let patch = Patch::<()>::Json(serde_json::from_value(operations).unwrap());
        let parameters = PatchParams::default();
        let rayclusters = self.rayclusters();
        rayclusters
            .patch(CLUSTER, &parameters, &patch)
            .await
            .unwrap();
    }

    /// Returns the workers' pods that are not being deleted.
    pub async fn workers(&self) -> Vec<String> {
        let pods = self.pods_of("worker").await;
        let staying = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        staying.map(ResourceExt::name_any).collect()
    }

    pub async fn pods_of(&self, node_type: &str) -> Vec<Pod> {
        let selector = format!("ray.io/node-type={node_type}");
        let parameters = ListParams::default().labels(&selector);
        let mut pods = self.pods().list(&parameters).await.unwrap().items;
        pods.sort_by_key(ResourceExt::name_any);
        pods
    }

    /// Deletes a pod; without a grace period it is gone at once, and so is its raylet, without a word.
    pub async fn delete(&self, name: &str, grace_seconds: u32) {
        let parameters = DeleteParams::default().grace_period(grace_seconds);
        self.pods().delete(name, &parameters).await.unwrap();
        if grace_seconds == 0 {
            let view = self.ray.view();
            for node in view.nodes.iter().filter(|node| node.pod == name) {
                self.ray.kill_node(node.id);
            }
        }
    }

    /// Deletes a pod by force, without a word to whatever runs in it.
    pub async fn forget(&self, name: &str) {
        let parameters = DeleteParams::default().grace_period(0);
        self.pods().delete(name, &parameters).await.unwrap();
    }

    /// Submits tasks that run for ever.
    pub fn tasks(&self, shape: &str, count: u64) -> rayscaler::embedded::ray::WorkId {
        self.ray.submit_tasks(Tasks {
            resources: resources(shape),
            count,
            ..Tasks::default()
        })
    }

    /// Creates a placement group.
    pub fn gang(&self, strategy: PlacementStrategy, shapes: &[&str]) {
        let bundles = shapes.iter().map(|shape| Bundle {
            resources: resources(shape),
            ..Bundle::default()
        });
        self.ray.create_placement_group(PlacementGroup {
            strategy,
            bundles: bundles.collect(),
        });
    }

    pub async fn pass_ms(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Waits until something is so, for at most two minutes; returns after how many milliseconds.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, is_so: impl Fn() -> F) -> u64 {
        let began = self.clock.now();
        loop {
            let passed = self.clock.now().millis_since(began);
            if is_so().await {
                return passed;
            }
            assert!(passed < 120_000, "waited for {what} in vain");
            self.pass_ms(50).await;
        }
    }

    pub async fn until_workers(&self, count: usize) -> u64 {
        let what = format!("{count} workers");
        let run = |view: &rayscaler::embedded::ray::HeadView| {
            use rayscaler::embedded::ray::NodeCondition::{Dead, Draining, Lost};
            let alive = view
                .nodes
                .iter()
                .filter(|node| !node.is_head && !matches!(node.condition, Dead | Draining | Lost));
            alive.count()
        };
        self.until(&what, || async {
            self.workers().await.len() == count && run(&self.ray.view()) == count
        })
        .await
    }
}

/// Notes the most replicas that the first group is asked for.
async fn watch_replicas(rayclusters: Api<DynamicObject>, most: Arc<Mutex<i64>>) {
    use futures_util::StreamExt as _;
    let config = kube::runtime::watcher::Config::default();
    let mut events = Box::pin(kube::runtime::watcher(rayclusters, config));
    while let Some(event) = events.next().await {
        use kube::runtime::watcher::Event::{Apply, InitApply};
        if let Ok(Apply(object) | InitApply(object)) = event {
            let replicas = object.data["spec"]["workerGroupSpecs"][0]["replicas"].as_i64();
            let mut most = most.lock().unwrap();
            *most = (*most).max(replicas.unwrap_or(0));
        }
    }
}

/// Counts how often a future is looked at, and drops it when it is told to, as kill -9 would.
struct Cuttable {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    polls: Arc<AtomicU64>,
    cut_at: Arc<AtomicU64>,
}

impl Future for Cuttable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let polls = self.polls.fetch_add(1, Ordering::Relaxed);
        if polls >= self.cut_at.load(Ordering::Relaxed) {
            self.future = None;
        }
        match &mut self.future {
            Some(future) => future.as_mut().poll(context),
            None => Poll::Ready(()),
        }
    }
}

/// Runs Ray's containers, and tells of those that are the autoscaler's.
struct Runtime {
    ray: RayRuntime,
    started: mpsc::UnboundedSender<ContainerStart>,
    deaf: Arc<AtomicBool>,
}

impl ContainerRuntime for Runtime {
    async fn start(&self, container: ContainerStart, exits: Exits) -> Result<(), String> {
        if container.container.name == "autoscaler" {
            return self
                .started
                .send(container)
                .map_err(|error| error.to_string());
        }
        self.ray.start(container, exits).await
    }

    async fn stop(&self, uid: &str, grace: Duration) {
        if self.deaf.load(Ordering::Relaxed) {
            tokio::time::sleep(grace).await;
            return self.ray.stop(uid, Duration::ZERO).await;
        }
        self.ray.stop(uid, grace).await;
    }
}

/// Returns the annotations of a RayCluster.
pub fn annotations(raycluster: &Value) -> BTreeMap<String, String> {
    let annotations = raycluster["metadata"]["annotations"].clone();
    serde_json::from_value(annotations).unwrap_or_default()
}
