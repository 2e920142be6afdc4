//! A head to put questions to: a real one, or the embedded one.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rayscaler::embedded::news;
use rayscaler::embedded::ray::{Bundle, Ended, NodeSpec, PlacementGroup, RayHead, Settings, Tasks};
use rayscaler::model::{Labels, NodeId, PlacementStrategy, ResourceMap};
use rayscaler::wire::gcs::ray::rpc::GcsNodeInfo;
use rayscaler::wire::gcs::ray::rpc::node_death_info::Reason;
use rayscaler::wire::gcs::{GcsClient, GcsSettings, RayletClient};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support;
use crate::support::embedded_driver::{EmbeddedDriver, resource_map, selector};
use crate::support::process::{Program, Start as _};
use crate::support::ray::{self, Driver, HeadOptions, RayWorker, WorkerOptions};
use crate::support::ray_process::signal;
use crate::support::ray_venv::RayVersion;

const DRAINED_AT_DEADLINE: (Reason, &str) = (
    Reason::AutoscalerDrainPreempted,
    "Node received SIGTERM; draining before shutdown.",
);

/// A head with raylets and users.
pub(crate) trait Head: Sized {
    type Worker: Worker;

    /// How a node may end whose time to drain after SIGTERM is up: reason and words.
    const DEATHS_AT_DEADLINE: &'static [(Reason, &'static str)];

    fn start(options: HeadOptions) -> impl Future<Output = Self>;
    fn settings(&self) -> GcsSettings;
    fn worker(&self, options: WorkerOptions) -> impl Future<Output = Self::Worker>;

    /// Does what `acceptance.py` does, to its end.
    fn user(&self, words: &[&str]) -> impl Future<Output = String>;

    /// Does what `demand.py --labels` does, and keeps on asking.
    fn ask_for_everything(&self) -> impl Future<Output = ()>;

    /// Ends the head and starts another one at the same address.
    fn becomes_another_cluster(self) -> impl Future<Output = Self>;

    /// Returns what Ray's own `ray status` prints of it.
    fn ray_status(&self) -> impl Future<Output = String>;

    fn client(&self) -> GcsClient {
        GcsClient::new(self.settings())
    }

    /// Returns a client patient enough for a machine that runs many tests.
    fn raylets(&self) -> RayletClient {
        let settings = self.settings();
        RayletClient::new(settings.auth, settings.tls)
            .with_deadline(std::time::Duration::from_secs(5))
    }
}

/// A raylet beside the head's.
pub(crate) trait Worker {
    /// Returns what the GCS said when it was new.
    fn info(&self) -> &GcsNodeInfo;

    /// Ends it without a word.
    fn kill(&mut self);

    /// Sends SIGTERM to `ray start --block`.
    fn terminate(&self);

    /// Returns whether `ray start --block` has ended, which it does not when its raylet left gracefully.
    fn has_ended(&mut self) -> bool;

    fn id(&self) -> Vec<u8> {
        self.info().node_id.clone()
    }

    fn raylet_address(&self) -> String {
        let info = self.info();
        format!("{}:{}", info.node_manager_address, info.node_manager_port)
    }
}

/// A head of real Ray.
pub(crate) struct Real {
    head: ray::RayHead,
    drivers: Mutex<Vec<Driver>>,
}

impl Head for Real {
    type Worker = RayWorker;

    // A race inside Ray: the deadline, which the GCS enforces, and the raylet's own goodbye.
    const DEATHS_AT_DEADLINE: &'static [(Reason, &'static str)] = &[
        DRAINED_AT_DEADLINE,
        (Reason::ExpectedTermination, "received SIGTERM"),
    ];

    async fn start(options: HeadOptions) -> Self {
        let head = ray::RayHead::start(options).await;
        Self {
            head,
            drivers: Mutex::default(),
        }
    }

    fn settings(&self) -> GcsSettings {
        self.head.settings()
    }

    async fn worker(&self, options: WorkerOptions) -> RayWorker {
        self.head.start_worker(options).await
    }

    async fn user(&self, words: &[&str]) -> String {
        self.head.driver("acceptance.py", words).finish().await
    }

    async fn ask_for_everything(&self) {
        let mut driver = self.head.driver("demand.py", &["--labels"]);
        driver.prints("asked").await;
        self.drivers.lock().unwrap().push(driver);
    }

    async fn becomes_another_cluster(self) -> Self {
        let (_, port) = self.head.address().split_once(':').unwrap();
        let port = Some(port.parse().unwrap());
        drop(self);
        Self::start(HeadOptions {
            port,
            ..HeadOptions::default()
        })
        .await
    }

    async fn ray_status(&self) -> String {
        self.head.ray_status().await
    }
}

impl Worker for RayWorker {
    fn info(&self) -> &GcsNodeInfo {
        &self.info
    }

    fn kill(&mut self) {
        self.process.kill();
    }

    fn terminate(&self) {
        signal("TERM", [self.process.id()]);
    }

    fn has_ended(&mut self) -> bool {
        self.process.exit_status().is_some()
    }
}

/// The embedded head, behind sockets.
pub(crate) struct Embedded {
    head: RayHead,
    settings: GcsSettings,
    user: EmbeddedDriver,
    workers: AtomicU32,
    serving: Mutex<JoinSet<()>>,
}

impl Head for Embedded {
    type Worker = EmbeddedWorker;

    const DEATHS_AT_DEADLINE: &'static [(Reason, &'static str)] = &[DRAINED_AT_DEADLINE];

    async fn start(options: HeadOptions) -> Self {
        let variable = |name: &str| {
            let mut all = options.env.iter();
            all.find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        };
        let settings = Settings {
            autoscaler_v2: options.autoscaler_v2,
            token: variable("RAY_AUTH_TOKEN"),
            ..Settings::default()
        };
        let head = RayHead::new(settings, support::now());
        // As Ray does: its own tools take the machine's address for 127.0.0.1.
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (served, looked_after) = (head.serve_gcs(listener), head.clone());
        let settings = GcsSettings::from_environment(&address, &variable).unwrap();
        let embedded = Self {
            user: EmbeddedDriver::new(head.clone()),
            head,
            settings,
            workers: AtomicU32::new(0),
            serving: Mutex::default(),
        };
        embedded.serve(served);
        embedded.serve(async move { looked_after.run().await });
        let node = WorkerOptions {
            instance_id: "head-0".to_owned(),
            group: "headgroup".to_owned(),
            num_cpus: options.num_cpus,
            resources: String::new(),
            labels: options.labels,
        };
        embedded.node(node, true).await;
        embedded
    }

    fn settings(&self) -> GcsSettings {
        self.settings.clone()
    }

    async fn worker(&self, options: WorkerOptions) -> EmbeddedWorker {
        let id = self.node(options, false).await;
        let reply = self.client().get_all_node_info().await.unwrap();
        let mut nodes = reply.node_info_list.into_iter();
        let info = nodes.find(|node| node.node_id == id.as_bytes()).unwrap();
        EmbeddedWorker {
            ended: self.head.node_ended(id).unwrap(),
            head: self.head.clone(),
            id,
            info,
            is_terminated: AtomicBool::new(false),
        }
    }

    async fn user(&self, words: &[&str]) -> String {
        self.user.run(words).await
    }

    async fn ask_for_everything(&self) {
        let cpus = |amount: f64| resource_map(&BTreeMap::from([("CPU".to_owned(), amount)]));
        let group = |strategy, bundles: &[f64]| {
            let bundles = bundles.iter().map(|amount| Bundle {
                resources: cpus(*amount),
                ..Bundle::default()
            });
            self.head.create_placement_group(PlacementGroup {
                strategy,
                bundles: bundles.collect(),
            })
        };
        self.head.start_driver("");
        group(PlacementStrategy::StrictSpread, &[4.0, 4.0]);
        let pending = group(PlacementStrategy::Pack, &[16.0]);
        let hold = |resources, count| Tasks {
            resources,
            count,
            ..Tasks::default()
        };
        self.head.submit_tasks(hold(cpus(8.0), 3));
        self.head.submit_tasks(hold(cpus(1.0), 32));
        self.head.submit_tasks(Tasks {
            placement_group: Some(pending),
            ..hold(cpus(1.0), 1)
        });
        let selectors = [
            r#"{"zone": "in(z8,z7)", "tier": "!spot"}"#,
            r#"{"zone": "z6"}"#,
        ];
        self.head.submit_tasks(Tasks {
            selectors: selectors.map(selector).into(),
            ..hold(cpus(3.0), 1)
        });
        let gpus: ResourceMap = resource_map(&BTreeMap::from([("GPU".to_owned(), 2.0)]));
        self.head
            .request_resources(&[(cpus(1.0), 3), (gpus, 1), (cpus(1.0), 2)]);
    }

    async fn becomes_another_cluster(self) -> Self {
        self.head.stop_gcs();
        self.head.start_gcs(false);
        self
    }

    async fn ray_status(&self) -> String {
        let folder = tempfile::tempdir().unwrap();
        let programs = RayVersion::Newest.programs();
        let program = Program::new(programs.join("ray"), folder.path().join("status.log"));
        let running = program
            .arg("status")
            .arg(format!("--address={}", self.settings.address))
            .start();
        let code = running.wait(std::time::Duration::from_secs(90)).await;
        let printed = running.log_tail();
        assert_eq!(code, Some(0), "{printed}");
        printed
    }
}

impl Embedded {
    async fn node(&self, options: WorkerOptions, is_head: bool) -> NodeId {
        let address = format!(
            "127.0.0.{}",
            1 + self.workers.fetch_add(1, Ordering::Relaxed)
        );
        let listener = TcpListener::bind((address.as_str(), 0)).await.unwrap();
        let mut amounts: BTreeMap<String, f64> = match options.resources.as_str() {
            "" => BTreeMap::new(),
            json => serde_json::from_str(json).unwrap(),
        };
        amounts.insert("CPU".to_owned(), options.num_cpus.into());
        amounts.insert("memory".to_owned(), 1e9);
        amounts.insert("object_store_memory".to_owned(), 8e7);
        let pairs = options
            .labels
            .split(',')
            .filter_map(|pair| pair.split_once('='));
        let labels: Labels = pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let id = self.head.start_node(NodeSpec {
            pod: options.instance_id,
            group: options.group,
            resources: resource_map(&amounts),
            labels,
            address,
            port: listener.local_addr().unwrap().port(),
            is_head,
        });
        self.serve(self.head.serve_raylet(id, listener));
        id
    }

    fn serve(&self, serving: impl Future<Output = ()> + Send + 'static) {
        self.serving.lock().unwrap().spawn(serving);
    }
}

/// A raylet of the embedded head.
pub(crate) struct EmbeddedWorker {
    head: RayHead,
    id: NodeId,
    info: GcsNodeInfo,
    ended: news::Receiver<Option<Ended>>,
    is_terminated: AtomicBool,
}

impl Worker for EmbeddedWorker {
    fn info(&self) -> &GcsNodeInfo {
        &self.info
    }

    fn kill(&mut self) {
        self.head.kill_node(self.id);
    }

    fn terminate(&self) {
        self.is_terminated.store(true, Ordering::Relaxed);
        self.head.stop_node(self.id, 30_000);
    }

    fn has_ended(&mut self) -> bool {
        match self.ended.get() {
            None => false,
            Some(Ended::Crashed) => true,
            Some(Ended::Gracefully) => self.is_terminated.load(Ordering::Relaxed),
        }
    }
}
