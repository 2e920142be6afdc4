//! A Kubernetes API for tests: the real kube-apiserver, or the project's own in memory, behind one face.

use super::kube_embedded::EmbeddedKube;
use super::kube_real::RealKube;
use super::process::{Program, Running, Start as _};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

/// The token of the administrator.
pub const ADMIN_TOKEN: &str = "the-tests-own-token";

/// A busy machine takes ten times the usual two seconds.
const START_DEADLINE: Duration = Duration::from_secs(60);

static REAL: OnceCell<KubeApi> = OnceCell::const_new();
static EMBEDDED: OnceCell<KubeApi> = OnceCell::const_new();

/// Which API server a test talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// etcd and kube-apiserver, with RBAC on and the RayCluster resource installed.
    Real,
    /// The one that the sandbox uses, served on a socket like the real one.
    Embedded,
}

/// An API server of its own, ended when dropped.
#[derive(Debug)]
pub struct KubeApi {
    folder: PathBuf,
    port: u16,
    namespaces: AtomicU32,
    backend: Backend,
    /// Removes the folder in the end, even when the test process is killed.
    _guard: Running,
}

#[derive(Debug)]
enum Backend {
    Real(Box<RealKube>),
    Embedded(EmbeddedKube),
}

impl KubeApi {
    /// Returns the real API server that all tests of this test binary share; each takes a namespace of it.
    pub async fn shared() -> &'static Self {
        Self::shared_on(Server::Real).await
    }

    /// Returns the API server of this sort that all tests of this test binary share.
    pub async fn shared_on(server: Server) -> &'static Self {
        let shared = match server {
            Server::Real => &REAL,
            Server::Embedded => &EMBEDDED,
        };
        shared.get_or_init(|| Self::start_on(server)).await
    }

    /// Starts a real API server, waits until it serves and installs the RayCluster resource.
    pub async fn start() -> Self {
        Self::start_on(Server::Real).await
    }

    /// Starts an API server, waits until it serves and sees to it that it has the RayCluster resource.
    pub async fn start_on(server: Server) -> Self {
        let mut problem = String::new();
        // Somebody else may take a free port before we do.
        for _ in 0..3 {
            match Self::try_start(server).await {
                Ok(api) => return api,
                Err(log) => problem = log,
            }
        }
        panic!("the API server is not ready:\n{problem}");
    }

    /// Errors: the end of the API server's log.
    async fn try_start(server: Server) -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("rayscaler-kube-")
            .tempdir()
            .unwrap()
            .keep();
        let guard = Program::new("sleep", "/dev/null").arg("infinity");
        let guard = guard.removing(&folder).start();
        let (backend, port) = match server {
            Server::Real => {
                let (real, port) = RealKube::start(&folder);
                (Backend::Real(Box::new(real)), port)
            }
            Server::Embedded => {
                let embedded = EmbeddedKube::start(&folder);
                let port = embedded.port();
                (Backend::Embedded(embedded), port)
            }
        };
        let api = Self {
            folder,
            port,
            namespaces: AtomicU32::new(0),
            backend,
            _guard: guard,
        };
        api.wait_until_ready().await?;
        if server == Server::Real {
            api.install_resources().await;
        }
        Ok(api)
    }

    /// Returns which sort it is.
    pub fn server(&self) -> Server {
        match self.backend {
            Backend::Real(_) => Server::Real,
            Backend::Embedded(_) => Server::Embedded,
        }
    }

    /// Returns a client that may do everything.
    ///
    /// Each test takes one of its own, since a client lives on the runtime it was made on.
    pub async fn admin_client(&self) -> Client {
        self.client_for(ADMIN_TOKEN).await
    }

    /// Returns a client that holds `token`.
    pub async fn client_for(&self, token: &str) -> Client {
        Client::try_from(self.config_for(token).await).unwrap()
    }

    /// Returns a client that holds `token` and shows every answer: it does not try again by itself.
    pub async fn plain_client_for(&self, token: &str) -> Client {
        let mut config = self.config_for(token).await;
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    async fn config_for(&self, token: &str) -> Config {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig_text(token)).unwrap();
        let options = KubeConfigOptions::default();
        Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap()
    }

    /// Returns a token bound to a ServiceAccount, as the kubelet mounts it into a pod.
    pub async fn sidecar_token(&self, namespace: &str, service_account: &str) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin_client().await, namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(3600),
            ..Default::default()
        };
        let request = TokenRequest {
            spec,
            ..Default::default()
        };
        let answer = accounts
            .create_token_request(service_account, &PostParams::default(), &request)
            .await
            .unwrap();
        answer.status.unwrap().token
    }

    /// Writes a kubeconfig file that holds `token`, and returns its path.
    pub fn kubeconfig_for(&self, token: &str) -> PathBuf {
        let (_, path) = tempfile::Builder::new()
            .prefix("kubeconfig-")
            .tempfile_in(&self.folder)
            .unwrap()
            .keep()
            .unwrap();
        fs::write(&path, self.kubeconfig_text(token)).unwrap();
        path
    }

    /// Writes the kubeconfig file of the administrator, and returns its path.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.kubeconfig_for(ADMIN_TOKEN)
    }

    /// Makes a namespace that no other test uses, and returns its name.
    pub async fn new_namespace(&self) -> String {
        let number = self.namespaces.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{number}");
        let namespaces: Api<Namespace> = Api::all(self.admin_client().await);
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        name
    }

    /// Returns the address of the API server.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Returns the file with the certificates to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("certs/apiserver.crt")
    }

    /// Kills the API server, as a crash would.
    pub fn kill(&self) {
        match &self.backend {
            Backend::Real(real) => real.kill(),
            Backend::Embedded(embedded) => embedded.kill(),
        }
    }

    /// Kills the API server and what it keeps its objects in, which stay on the disk.
    pub fn kill_with_store(&self) {
        match &self.backend {
            Backend::Real(real) => real.kill_with_store(),
            Backend::Embedded(embedded) => embedded.kill(),
        }
    }

    /// Starts the API server again on the same port, after [`KubeApi::kill`], and waits until it serves.
    pub async fn restart(&self) {
        match &self.backend {
            Backend::Real(real) => real.restart(),
            Backend::Embedded(embedded) => embedded.restart(),
        }
        self.wait_until_ready().await.unwrap();
    }

    fn kubeconfig_text(&self, token: &str) -> String {
        let cluster = json!({"server": self.url(), "certificate-authority": self.ca_file()});
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }

    async fn wait_until_ready(&self) -> Result<(), String> {
        let ready = async {
            while !self.ca_file().exists() || !self.is_ready().await {
                if let Backend::Real(real) = &self.backend
                    && real.has_ended()
                {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            true
        };
        let is_ready = tokio::time::timeout(START_DEADLINE, ready)
            .await
            .unwrap_or(false);
        match &self.backend {
            _ if is_ready => Ok(()),
            Backend::Real(real) => Err(real.log_tail()),
            Backend::Embedded(_) => Err("the embedded one does not answer".to_owned()),
        }
    }

    async fn is_ready(&self) -> bool {
        let client = self.admin_client().await;
        let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
        client
            .request_text(request)
            .await
            .is_ok_and(|text| text == "ok")
    }

    /// Installs the resources of `RAYSCALER_TEST_KUBERAY_CRDS`, or our reduced RayCluster.
    async fn install_resources(&self) {
        let client = self.admin_client().await;
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/embedded/kube/crd");
        let folder = super::env("RAYSCALER_TEST_KUBERAY_CRDS").map_or(own, PathBuf::from);
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                install(&client, &fs::read(&path).unwrap()).await;
            }
        }
        let served = async {
            let list = || http::Request::get("/apis/ray.io/v1/rayclusters").body(Vec::new());
            while client.request_text(list().unwrap()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(START_DEADLINE, served).await.is_ok();
        assert!(
            in_time,
            "RayClusters are not served; is one in {}?",
            folder.display()
        );
    }
}

async fn install(client: &Client, yaml: &[u8]) {
    // YAML as it is: the real files are large, and a typed detour would drop what it does not know.
    let request = http::Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
        .header(http::header::CONTENT_TYPE, "application/yaml")
        .body(yaml.to_vec())
        .unwrap();
    client.request::<serde_json::Value>(request).await.unwrap();
}
