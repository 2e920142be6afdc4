//! A namespace with an operator and a kubelet, and the RayClusters in it.

use super::kube::{KubeApi, Server};
use super::process::{Program, Running, Start as _};
use super::raycluster::Manifest;
use super::{free_port, now};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use rayscaler::embedded::operator::{self, ray_cluster_resource};
use rayscaler::embedded::pods::{self, ContainerRuntime};
use serde_json::{Value, json};
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The longest a test waits for something that takes well under a second on an idle machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The operator that a run of the tests is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorUnderTest {
    /// The project's own stand-in.
    Ours,
    /// KubeRay's, by its path.
    Real(PathBuf),
}

impl OperatorUnderTest {
    /// Returns the real operator when its path is given, else ours, and says so once.
    pub fn from_env() -> Self {
        static SAID: Once = Once::new();
        let path = super::env("RAYSCALER_TEST_KUBERAY_OPERATOR");
        if let Some(path) = path {
            let crds = super::env("RAYSCALER_TEST_KUBERAY_CRDS");
            assert!(
                crds.is_some(),
                "the real operator needs RAYSCALER_TEST_KUBERAY_CRDS, too"
            );
            return Self::Real(PathBuf::from(path));
        }
        SAID.call_once(|| {
            let text = "left out: the run with KubeRay's own operator; \
                        set RAYSCALER_TEST_KUBERAY_OPERATOR and RAYSCALER_TEST_KUBERAY_CRDS for it";
            writeln!(std::io::stdout().lock(), "{text}").unwrap();
        });
        Self::Ours
    }

    /// The embedded API server has not all the kinds that KubeRay's operator looks for.
    fn for_server(server: Server) -> Self {
        match server {
            Server::Real => Self::from_env(),
            Server::Embedded => Self::Ours,
        }
    }

    fn start(&self, api: &KubeApi, client: Client, namespace: &str, seed: u64) -> RunningOperator {
        match self {
            Self::Ours => {
                let settings = operator::Settings {
                    seed,
                    ..operator::Settings::new(namespace)
                };
                RunningOperator::Ours(tokio::spawn(operator::run(client, settings, now())))
            }
            Self::Real(path) => {
                let folder = tempfile::Builder::new()
                    .prefix("rayscaler-operator-")
                    .tempdir();
                let folder = folder.unwrap().keep();
                let log = folder.join("operator.log");
                let program = Program::new(path, log.clone())
                    .env("KUBECONFIG", api.admin_kubeconfig().display().to_string())
                    .arg("--enable-leader-election=false")
                    .arg(format!("--watch-namespace={namespace}"))
                    .arg("--metrics-addr=0")
                    .arg(format!(
                        "--health-probe-bind-address=127.0.0.1:{}",
                        free_port()
                    ))
                    .removing(&folder);
                RunningOperator::Real(program.start(), log)
            }
        }
    }
}

enum RunningOperator {
    Ours(JoinHandle<()>),
    Real(Running, PathBuf),
}

impl RunningOperator {
    async fn end(self) {
        match self {
            Self::Ours(task) => {
                task.abort();
                drop(task.await);
            }
            Self::Real(mut process, _) => process.end(),
        }
    }

    /// Waits until it looks at RayClusters.
    async fn works(&self) {
        if let Self::Real(_, log) = self {
            eventually("an operator at work", || async {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                text.contains("Starting workers").then_some(())
            })
            .await;
        }
    }
}

/// A namespace with an operator and a kubelet at work.
pub struct StandIns {
    /// The API server.
    pub api: &'static KubeApi,
    /// The administrator's client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    operator: Option<RunningOperator>,
    kubelet: JoinHandle<()>,
}

impl StandIns {
    /// Starts both in a new namespace of the shared API server of this sort; the pods run on `runtime`.
    pub async fn start(server: Server, runtime: impl ContainerRuntime + 'static) -> Self {
        let api = KubeApi::shared_on(server).await;
        let settings = pods::Settings::new(api.new_namespace().await);
        Self::start_on(api, settings, runtime).await
    }

    /// Starts both in the namespace that `settings` name.
    pub async fn start_on(
        api: &'static KubeApi,
        settings: pods::Settings,
        runtime: impl ContainerRuntime + 'static,
    ) -> Self {
        let client = api.admin_client().await;
        let namespace = settings.namespace.clone();
        let operator =
            OperatorUnderTest::for_server(api.server()).start(api, client.clone(), &namespace, 1);
        let kubelet = tokio::spawn(pods::run(client.clone(), settings, runtime, now()));
        Self {
            api,
            client,
            namespace,
            operator: Some(operator),
            kubelet,
        }
    }

    /// Ends the operator and starts another one.
    pub async fn restart_operator(mut self) -> Self {
        self.stop_operator().await;
        self.start_operator().await;
        self
    }

    /// Ends the operator where it stands.
    pub async fn stop_operator(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.end().await;
        }
    }

    /// Starts another operator and waits until it is at work.
    pub async fn start_operator(&mut self) {
        let under_test = OperatorUnderTest::for_server(self.api.server());
        let operator = under_test.start(self.api, self.client.clone(), &self.namespace, 1);
        operator.works().await;
        self.operator = Some(operator);
    }

    /// Creates a RayCluster.
    pub async fn create(&self, manifest: &Manifest) -> Cluster {
        let object: DynamicObject = serde_json::from_value(manifest.value().clone()).unwrap();
        let cluster = self.cluster(&object.name_any());
        cluster
            .api()
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        cluster
    }

    /// Returns the RayCluster of this name.
    pub fn cluster(&self, name: &str) -> Cluster {
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        Cluster {
            client,
            namespace,
            name: name.to_owned(),
        }
    }

    /// Stops operator and kubelet; pods and objects stay as they are.
    pub async fn end(mut self) {
        self.stop_operator().await;
        self.kubelet.abort();
        drop(self.kubelet.await);
    }
}

/// One RayCluster of a namespace.
#[derive(Clone)]
pub struct Cluster {
    /// The client it is reached with.
    pub client: Client,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Cluster {
    /// Returns the API of the namespace's RayClusters.
    pub fn api(&self) -> Api<DynamicObject> {
        let resource = ray_cluster_resource();
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Returns the API of the namespace's pods.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Reads the cluster.
    pub async fn get(&self) -> Value {
        serde_json::to_value(self.api().get(&self.name).await.unwrap()).unwrap()
    }

    /// Applies a JSON patch, given as the list of its operations.
    pub async fn patch(&self, operations: Value) {
        let patch = serde_json::from_value(operations).unwrap();
        let patch = Patch::<()>::Json(patch);
        self.api()
            .patch(&self.name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Sets replicas and the pods to delete of the group at `index`, as an autoscaler does.
    pub async fn scale(&self, index: usize, replicas: i32, workers_to_delete: &[String]) {
        let group = format!("/spec/workerGroupSpecs/{index}");
        let strategy = json!({"workersToDelete": workers_to_delete});
        self.patch(json!([
            {"op": "add", "path": format!("{group}/replicas"), "value": replicas},
            {"op": "add", "path": format!("{group}/scaleStrategy"), "value": strategy},
        ]))
        .await;
    }

    /// Lists the pods of a group, by name; the head's group is `headgroup`.
    pub async fn pods_of(&self, group: &str) -> Vec<Pod> {
        let selector = format!("ray.io/cluster={},ray.io/group={group}", self.name);
        let listed = self
            .pods()
            .list(&ListParams::default().labels(&selector))
            .await
            .unwrap();
        let mut pods = listed.items;
        pods.sort_by_key(ResourceExt::name_any);
        pods
    }

    /// Lists the names of a group's pods that are not being deleted.
    pub async fn names_of(&self, group: &str) -> Vec<String> {
        let pods = self.pods_of(group).await;
        let staying = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        staying.map(ResourceExt::name_any).collect()
    }

    /// Waits until a group has exactly `count` pods, none of them being deleted, and returns their names.
    pub async fn wait_for_pods(&self, group: &str, count: usize) -> Vec<String> {
        eventually(&format!("{count} pods in {group}"), || async {
            let pods = self.pods_of(group).await;
            let names = self.names_of(group).await;
            (pods.len() == count && names.len() == count).then_some(names)
        })
        .await
    }

    /// Waits until the status has a value at a JSON pointer.
    pub async fn wait_for_status(&self, pointer: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        eventually(&format!("status{pointer} = {expected}"), || async {
            let cluster = self.get().await;
            // KubeRay leaves numbers out that are zero.
            let zero = json!(0);
            let found = cluster["status"].pointer(pointer).unwrap_or(&zero);
            (*found == expected).then_some(())
        })
        .await;
    }
}

/// Asks again and again until there is an answer; panics with `what` after [`DEADLINE`].
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    let answer = tokio::time::timeout(DEADLINE, asking).await;
    answer.unwrap_or_else(|_| panic!("waited for {what} in vain"))
}
