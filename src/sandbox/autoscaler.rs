//! What plays the autoscaler of a sandbox: the sidecar itself, or the stock loop for comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};

use super::SandboxError;
use super::manifest::{CLUSTER, NAMESPACE};
use super::stock::StockAutoscaler;
use super::world::{Cluster, World};
use crate::admin::AdminState;
use crate::config::{Config, Environment};
use crate::embedded::pods::ContainerStart;
use crate::embedded::ray::RayHead;
use crate::runtime::shutdown::{Shutdown, Trigger};
use crate::runtime::supervisor::Lineage;
use crate::runtime::telemetry::Telemetry;
use crate::runtime::{
    InProcessKube, InProcessRay, Inside, InsideParts, Network, RunOptions, Variables,
};
use crate::wire::gcs::{AuthSettings, GcsClient};
use crate::wire::kube_client::{CallObserver, KubeClient};

/// What a request may take, as in the sidecar.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// An autoscaler that runs.
pub(super) enum Autoscaler {
    /// The sidecar, whole.
    Rayscaler {
        /// What its admin port shows.
        admin: Arc<AdminState>,
        /// Ends it when dropped.
        _trigger: Trigger,
    },
    /// The stock loop.
    Stock(Arc<AtomicBool>),
}

/// What the sidecar is given besides its container.
pub(super) struct Sidecar {
    /// Its settings.
    pub(super) config: Config,
    /// Its log.
    pub(super) telemetry: Telemetry,
    /// Whether its admin port is served.
    pub(super) serves_admin: bool,
}

impl Autoscaler {
    /// Returns whether it has seen everything and decided once.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Rayscaler { admin, .. } => {
                let snapshot = admin.snapshot();
                snapshot.is_some_and(|s| s.completeness.is_complete() && s.is_head_running())
            }
            Self::Stock(is_ready) => is_ready.load(Ordering::Relaxed),
        }
    }

    /// Returns what the sidecar's admin port shows; the stock autoscaler has none.
    pub(super) fn admin(&self) -> Option<&AdminState> {
        match self {
            Self::Rayscaler { admin, .. } => Some(admin),
            Self::Stock(_) => None,
        }
    }

    /// Starts the sidecar as its container says, with the rights of its pod.
    ///
    /// Without a way to `ray` it looks for the GCS as it does anywhere.
    pub(super) async fn rayscaler(
        (cluster, ray): (&mut Cluster, Option<&RayHead>),
        start: &ContainerStart,
        sidecar: Sidecar,
    ) -> Result<Self, SandboxError> {
        let lookup = |name: &str| start.env.get(name).cloned();
        let environment = Environment::read(&lookup);
        let options = RunOptions {
            cluster_name: lookup("RAY_CLUSTER_NAME").unwrap_or_else(|| CLUSTER.to_owned()),
            cluster_namespace: lookup("RAY_CLUSTER_NAMESPACE")
                .unwrap_or_else(|| NAMESPACE.to_owned()),
            config_path: None,
            overrides: environment.overrides,
            kubeconfig: None,
            variables: Variables::read(&lookup),
            notices: environment.notices,
            remarks: Vec::new(),
            lineage: Lineage::default(),
        };
        let config = options.overrides.apply(sidecar.config);
        let inside = Inside::new(InsideParts {
            options,
            config,
            telemetry: sidecar.telemetry,
            clock: cluster.clock.clone(),
            network: Network {
                kube: Some(kube(cluster, token(cluster, start).await?)),
                ray: ray.map(in_process),
            },
            serves_admin: sidecar.serves_admin,
        });
        let admin = inside.admin();
        let (trigger, shutdown) = Shutdown::new();
        cluster.tasks.spawn_local("sidecar", async move {
            if let Err(error) = inside.run(shutdown).await {
                tracing::error!(error = %error, "the sidecar ended");
            }
        });
        Ok(Self::Rayscaler {
            admin,
            _trigger: trigger,
        })
    }

    /// Starts the stock loop, with the rights of its pod.
    pub(super) async fn stock(
        world: &mut World,
        start: &ContainerStart,
    ) -> Result<Self, SandboxError> {
        let observer: CallObserver = Arc::new(|_, _| ());
        let cluster = &mut world.cluster;
        let kube = kube(cluster, token(cluster, start).await?);
        let stock = StockAutoscaler {
            kube: kube.client(observer, REQUEST_TIMEOUT),
            gcs: GcsClient::over(world.ray.gcs_channel(), AuthSettings::Disabled),
            clock: cluster.clock.clone(),
            raycluster_path: format!(
                "/apis/ray.io/v1/namespaces/{NAMESPACE}/rayclusters/{CLUSTER}"
            ),
            pods_path: format!(
                "/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=ray.io%2Fcluster%3D{CLUSTER}"
            ),
        };
        let is_ready = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_ready);
        let run = stock.run(move || told.store(true, Ordering::Relaxed));
        cluster.tasks.spawn("stock autoscaler", run);
        Ok(Self::Stock(is_ready))
    }
}

/// Returns a way to the API server that never leaves the process.
fn kube(cluster: &Cluster, token: String) -> InProcessKube {
    let api = cluster.api.clone();
    InProcessKube::new(move |observer, timeout| {
        KubeClient::over(api.service().with_token(&token), observer, timeout)
    })
}

/// Returns a way to Ray that never leaves the process.
fn in_process(ray: &RayHead) -> InProcessRay {
    let (head, raylets) = (ray.clone(), ray.clone());
    InProcessRay {
        gcs: Arc::new(move || head.gcs_channel()),
        raylets: Arc::new(move |address| raylets.raylet_channel(address)),
    }
}

/// Returns a token of the ServiceAccount under which the container runs.
async fn token(cluster: &Cluster, start: &ContainerStart) -> Result<String, SandboxError> {
    let spec = start.pod.spec.as_ref();
    let account = spec.and_then(|spec| spec.service_account_name.as_deref());
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let request = TokenRequest {
        spec: TokenRequestSpec::default(),
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request(
            account.unwrap_or("default"),
            &PostParams::default(),
            &request,
        )
        .await?;
    answer
        .status
        .map(|status| status.token)
        .ok_or(SandboxError::NoAutoscaler)
}
