//! The cluster of a run: API server, operator, kubelet, Ray head and the whole sidecar, on one thread.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{Api, DeleteParams, DynamicObject, GetParams, ListParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::Value;
use tokio::sync::mpsc;

use super::SimulatorError;
use super::faults::Board;
use super::kube_body::Lossy;
use super::kube_layer::{Caller, FaultyKube};
use super::old_heads::OldHeads;
use super::pod_faults::FaultyRuntime;
use super::ray_faults::RayFaults;
use super::trace::Trace;
use super::witness::Witness;
use crate::admin::AdminState;
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::embedded::kube::{KubeApi, Settings as KubeSettings};
use crate::embedded::lean::PodOutline;
use crate::embedded::pods::{self, ContainerStart};
use crate::embedded::ray::{RayHead, RayRuntime, RuntimeSettings, Settings as RaySettings};
use crate::embedded::{Now, operator};
use crate::model::Timestamp;
use crate::runtime::shutdown::{Shutdown, Tasks, Trigger};
use crate::runtime::supervisor::Lineage;
use crate::runtime::telemetry::Telemetry;
use crate::runtime::{
    InProcessKube, InProcessRay, Inside, InsideParts, Network, RunOptions, Variables,
};
use crate::sandbox::manifest::{CLUSTER, NAMESPACE, ray_cluster};
use crate::sandbox::scenario::Scenario;
use crate::wire::kube_client::KubeClient;

/// Everything on which a run is played.
pub(super) struct World {
    pub(super) api: KubeApi,
    /// The administrator's client, for whom nothing goes wrong.
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) ray: RayHead,
    pub(super) board: Arc<Board>,
    pub(super) witness: Arc<Witness>,
    pub(super) trace: Arc<Trace>,
    /// The RayCluster as its user wrote it.
    pub(super) manifest: Value,
    pub(super) scenario: Scenario,
    pub(super) tasks: Tasks,
    /// How far the API server's clock is off. Units: milliseconds.
    pub(super) skew_ms: Arc<AtomicI64>,
    /// How far the sidecar's clock is off, from its next start on. Units: milliseconds.
    sidecar_skew_ms: i64,
    starts: mpsc::UnboundedReceiver<ContainerStart>,
    container: Option<ContainerStart>,
    token: Arc<Mutex<String>>,
    token_at: Timestamp,
    gcs_takes_ms: Arc<AtomicU64>,
    sidecar: Option<Sidecar>,
    /// How many heads there have been.
    heads: u64,
    pub(super) old_heads: OldHeads,
    /// UIDs of pods whose Ray container runs on though they are deleted.
    left_running: Arc<Mutex<BTreeSet<String>>>,
    config: Config,
    telemetry: Telemetry,
}

/// A sidecar at work.
#[derive(Debug)]
pub(super) struct Sidecar {
    /// Which head it is in: the first one has 1.
    pub(super) head: u64,
    pub(super) admin: Arc<AdminState>,
    clock: Clock,
    pub(super) tasks: Tasks,
    /// Without it, it would end.
    pub(super) trigger: Trigger,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// What a world is made of.
pub(super) struct Parts {
    pub(super) seed: u64,
    pub(super) scenario: Scenario,
    pub(super) clock: Clock,
    pub(super) config: Config,
    pub(super) telemetry: Telemetry,
    pub(super) keeps_trace: bool,
    /// How many changes the API server remembers, in place of its own default.
    pub(super) changes_max: Option<usize>,
}

impl World {
    /// Starts everything but the sidecar.
    pub(super) async fn start(parts: Parts) -> Result<Self, SimulatorError> {
        let Parts {
            seed,
            scenario,
            clock,
            config,
            telemetry,
            keeps_trace,
            changes_max,
        } = parts;
        let skew_ms = Arc::new(AtomicI64::new(0));
        let (now, skewed) = (plain(&clock), skewed(&clock, &skew_ms));
        let trace = Arc::new(Trace::new(&clock, keeps_trace));
        let settings = RaySettings {
            seed,
            ..RaySettings::default()
        };
        let ray = RayHead::new(settings, Arc::clone(&now));
        let board = Board::new(seed, now);
        let gcs_takes_ms = Arc::new(AtomicU64::new(0));
        ray.set_faults(Arc::new(RayFaults::new(
            Arc::clone(&board),
            Arc::clone(&trace),
            Arc::clone(&gcs_takes_ms),
        )));
        let witness = Witness::new(ray.clone(), clock.clone(), Arc::clone(&trace));
        let mut kube = KubeSettings::new(Arc::clone(&skewed), seed);
        kube.history = changes_max.unwrap_or(kube.history);
        let api = KubeApi::new(kube);
        let (started, starts) = mpsc::unbounded_channel();
        let client = api.client(api.admin_token());
        let mut world = Self {
            witness: Arc::new(witness),
            manifest: ray_cluster(&scenario),
            tasks: Tasks::default(),
            container: None,
            token: Arc::default(),
            token_at: clock.now(),
            gcs_takes_ms,
            sidecar: None,
            heads: 0,
            old_heads: OldHeads::default(),
            left_running: Arc::default(),
            api,
            client,
            clock,
            ray,
            board,
            trace,
            scenario,
            skew_ms,
            sidecar_skew_ms: 0,
            starts,
            config,
            telemetry,
        };
        world.run_stand_ins(started, skewed);
        let raycluster: DynamicObject = serde_json::from_value(world.manifest.clone())?;
        let created = world.rayclusters();
        created.create(&PostParams::default(), &raycluster).await?;
        Ok(world)
    }

    fn run_stand_ins(&mut self, started: mpsc::UnboundedSender<ContainerStart>, now: Now) {
        let settings = RuntimeSettings {
            join_delay: self.scenario.join.as_std(),
            ..RuntimeSettings::default()
        };
        let runtime = FaultyRuntime {
            ray: Arc::new(RayRuntime::new(self.ray.clone(), settings)),
            board: Arc::clone(&self.board),
            started,
            late: Arc::new(Mutex::new(BTreeSet::new())),
            left_running: Arc::clone(&self.left_running),
        };
        let operator = operator::Settings::new(NAMESPACE);
        let client = self.faulty_client(Caller::Operator);
        let running = operator::run(client, operator, Arc::clone(&now));
        self.tasks.spawn("operator", running);
        let mut pods = pods::Settings::new(NAMESPACE);
        pods.boot_delay = self.scenario.boot.as_std();
        let linux = ("kubernetes.io/os".to_owned(), "linux".to_owned());
        pods.node_labels.extend([linux]);
        let client = self.faulty_client(Caller::Kubelet);
        self.tasks
            .spawn("kubelet", pods::run(client, pods, runtime, now));
        let head = self.ray.clone();
        self.tasks.spawn("ray", async move { head.run().await });
    }

    fn faulty(&self, caller: Caller) -> FaultyKube {
        FaultyKube {
            caller,
            head: 0,
            service: self.api.service().with_token(self.api.admin_token()),
            token: None,
            board: Arc::clone(&self.board),
            witness: Arc::clone(&self.witness),
            stale: Arc::default(),
            lossy: Lossy::default(),
        }
    }

    fn faulty_client(&self, caller: Caller) -> Client {
        Client::new(self.faulty(caller), "default")
    }

    /// Takes in a container of the autoscaler's that was started; the sidecar in an older one is gone.
    pub(super) async fn follow_container(&mut self) -> Result<(), SimulatorError> {
        while let Ok(container) = self.starts.try_recv() {
            self.trace.say("sidecar's container starts");
            self.kill_sidecar();
            self.take_in(container);
            self.start_sidecar().await?;
        }
        Ok(())
    }

    /// Waits for the first container of the autoscaler's, and starts the sidecar.
    pub(super) async fn begin(&mut self) -> Result<(), SimulatorError> {
        if let Some(container) = self.starts.recv().await {
            self.take_in(container);
        }
        self.start_sidecar().await
    }

    fn take_in(&mut self, container: ContainerStart) {
        let uid = |container: &ContainerStart| container.pod.uid();
        if self.container.as_ref().map(uid) != Some(uid(&container)) {
            self.heads += 1;
            // The last head's sidecar keeps its own.
            self.token = Arc::default();
        }
        self.container = Some(container);
    }

    /// Starts the sidecar, where it has a container and does not run.
    pub(super) async fn start_sidecar(&mut self) -> Result<(), SimulatorError> {
        let Some(start) = self.container.clone().filter(|_| self.sidecar.is_none()) else {
            return Ok(());
        };
        self.renew_token().await?;
        let lookup = |name: &str| start.env.get(name).cloned();
        let environment = Environment::read(&lookup);
        let named = |name: &str, other: &str| lookup(name).unwrap_or_else(|| other.to_owned());
        let options = RunOptions {
            cluster_name: named("RAY_CLUSTER_NAME", CLUSTER),
            cluster_namespace: named("RAY_CLUSTER_NAMESPACE", NAMESPACE),
            config_path: None,
            overrides: environment.overrides,
            kubeconfig: None,
            variables: Variables::read(&lookup),
            notices: environment.notices,
            remarks: Vec::new(),
            lineage: Lineage::default(),
        };
        let clock = Clock::starting_at(moved(self.clock.now(), self.sidecar_skew_ms));
        let mut kube = self.faulty(Caller::Sidecar);
        kube.service = self.api.service();
        kube.token = Some(Arc::clone(&self.token));
        kube.head = self.heads;
        let in_process = InProcessKube::new(move |observer, timeout| {
            KubeClient::over(kube.clone(), observer, timeout)
        });
        let (head, raylets) = (self.ray.clone(), self.ray.clone());
        let inside = Inside::new(InsideParts {
            config: options.overrides.apply(self.config.clone()),
            options,
            telemetry: self.telemetry.clone(),
            clock: clock.clone(),
            network: Network {
                kube: Some(in_process.of_pod(start.pod.uid())),
                ray: Some(InProcessRay {
                    gcs: Arc::new(move || head.gcs_channel()),
                    raylets: Arc::new(move |address| raylets.raylet_channel(address)),
                }),
            },
            serves_admin: false,
        });
        let admin = inside.admin();
        let (trigger, shutdown) = Shutdown::new();
        let mut tasks = Tasks::default();
        tasks.spawn_local("sidecar", async move {
            if let Err(error) = inside.run(shutdown).await {
                tracing::error!(error = %error, "the sidecar ended");
            }
        });
        self.sidecar = Some(Sidecar {
            admin,
            clock,
            tasks,
            trigger,
            head: self.heads,
        });
        Ok(())
    }

    /// Ends the sidecar where it stands.
    pub(super) fn kill_sidecar(&mut self) {
        self.sidecar = None;
    }

    /// Ends the sidecar, and its container with it.
    pub(super) fn lose_container(&mut self) {
        (self.sidecar, self.container) = (None, None);
    }

    /// Loses the container, and lets the sidecar in it live on.
    pub(super) fn outlive(&mut self) {
        let container = self.container.take();
        if let Some((container, sidecar)) = container.zip(self.sidecar.take()) {
            self.old_heads.add(container.pod.name_any(), sidecar);
        }
    }

    /// Has the Ray container of a pod run on when the pod is deleted.
    pub(super) fn leave_running(&self, pod: &Pod) {
        let mut uids = self.left_running.lock();
        let uids = uids.as_mut().unwrap_or_else(|error| error.get_mut());
        uids.extend(pod.uid());
    }

    /// Returns the heads' pods.
    pub(super) async fn heads(&self) -> Result<Vec<Pod>, SimulatorError> {
        let heads = ListParams::default().labels("ray.io/node-type=head");
        Ok(self.pod_api().list(&heads).await?.items)
    }

    /// Deletes a pod without waiting for whatever runs in it; the operator may have done so since it was listed.
    pub(super) async fn forget_pod(&self, pod: &Pod) -> Result<(), SimulatorError> {
        let at_once = DeleteParams::default().grace_period(0);
        match self.pod_api().delete(&pod.name_any(), &at_once).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            deleted => Ok(deleted.map(drop)?),
        }
    }

    /// Returns what the sidecar shows; `None` while it does not run.
    pub(super) fn admin(&self) -> Option<&AdminState> {
        self.sidecar.as_ref().map(|sidecar| &*sidecar.admin)
    }

    /// Starts the sidecar again with a clock that is off by so much.
    pub(super) async fn turn_clock(&mut self, skew_ms: i64) -> Result<(), SimulatorError> {
        self.sidecar_skew_ms = skew_ms;
        self.kill_sidecar();
        self.start_sidecar().await
    }

    /// Returns how long ago the sidecar's last pass was; `None` before its first.
    pub(super) fn pass_age_ms(&self) -> Option<u64> {
        let sidecar = self.sidecar.as_ref()?;
        let pass = sidecar.admin.last_pass()?;
        Some(sidecar.clock.now().millis_since(pass.at))
    }

    /// Returns how far two passes are apart where nothing is slow.
    pub(super) fn pass_interval_ms(&self) -> u64 {
        self.config.poll.gcs.interval_min.as_ms()
    }

    /// Waits until then; returns what ended meanwhile that should run.
    pub(super) async fn sleep_until(&mut self, at: Timestamp) -> Option<String> {
        let Self {
            tasks,
            sidecar,
            clock,
            ..
        } = self;
        let sidecar = async {
            match sidecar {
                Some(sidecar) => sidecar.tasks.next_ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(ended) = tasks.next_ended() => Some(format!("{} ended: {ended:?}", ended.name)),
            Some(ended) = sidecar => Some(format!("the sidecar ended by itself: {ended:?}")),
            () = clock.sleep_until(at) => None,
        }
    }

    /// Gives the sidecar a new token, as the kubelet does.
    pub(super) async fn renew_token(&mut self) -> Result<(), SimulatorError> {
        // Between two heads there is nobody to give one to.
        let Some(container) = &self.container else {
            return Ok(());
        };
        let spec = container.pod.spec.as_ref();
        let account = spec.and_then(|spec| spec.service_account_name.as_deref());
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        let request = TokenRequest {
            spec: TokenRequestSpec::default(),
            ..TokenRequest::default()
        };
        let account = account.unwrap_or("default");
        let answer = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
        self.token_at = self.clock.now();
        Ok(())
    }

    /// Gives the sidecar the right to patch RayClusters, or takes it away.
    pub(super) async fn let_patch(&self, may: bool) -> Result<(), SimulatorError> {
        let verbs: &[&str] = if may { &["get", "patch"] } else { &["get"] };
        let roles: Api<Role> = Api::namespaced(self.client.clone(), NAMESPACE);
        for mut role in roles.list(&ListParams::default()).await?.items {
            for rule in role.rules.iter_mut().flatten() {
                let resources = rule.resources.iter().flatten();
                if resources.into_iter().any(|it| it == "rayclusters") {
                    rule.verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
                }
            }
            let name = role.metadata.name.clone().unwrap_or_default();
            roles.replace(&name, &PostParams::default(), &role).await?;
        }
        Ok(())
    }

    /// Returns how old the sidecar's token is.
    pub(super) fn token_age_ms(&self) -> u64 {
        self.clock.now().millis_since(self.token_at)
    }

    /// Has the GCS take so long to tell of its nodes.
    pub(super) fn set_gcs_takes_ms(&self, ms: u64) {
        self.gcs_takes_ms.store(ms, Ordering::Relaxed);
    }

    /// Returns a way to the RayCluster.
    pub(super) fn rayclusters(&self) -> Api<DynamicObject> {
        let kind = operator::ray_cluster_resource();
        Api::namespaced_with(self.client.clone(), NAMESPACE, &kind)
    }

    /// Returns the RayCluster as it is.
    pub(super) async fn raycluster(&self) -> Result<Value, SimulatorError> {
        let kind = operator::ray_cluster_resource();
        let request = Request::new(DynamicObject::url_path(&kind, Some(NAMESPACE)));
        let request = request.get(CLUSTER, &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        Ok(self.client.request(request).await?)
    }

    /// Returns a way to the pods.
    pub(super) fn pod_api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Returns the workers' pods, by name; of one group or of all.
    pub(super) async fn workers(&self, group: Option<&str>) -> Result<Vec<Pod>, SimulatorError> {
        let selector = match group {
            Some(group) => format!("ray.io/node-type=worker,ray.io/group={group}"),
            None => "ray.io/node-type=worker".to_owned(),
        };
        let listed: Api<PodOutline> = Api::namespaced(self.client.clone(), NAMESPACE);
        let params = ListParams::default().labels(&selector);
        let pods = listed.list(&params).await?.items.into_iter();
        let mut pods: Vec<Pod> = pods.map(PodOutline::into_pod).collect();
        pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Ok(pods)
    }

    /// Returns when this is so many milliseconds from now.
    pub(super) fn after(&self, ms: u64) -> Timestamp {
        self.clock.now().plus_ms(ms)
    }
}

fn plain(clock: &Clock) -> Now {
    let clock = clock.clone();
    Arc::new(move || clock.now())
}

fn skewed(clock: &Clock, skew_ms: &Arc<AtomicI64>) -> Now {
    let (clock, skew_ms) = (clock.clone(), Arc::clone(skew_ms));
    Arc::new(move || moved(clock.now(), skew_ms.load(Ordering::Relaxed)))
}

/// Returns a moment so much later, or earlier.
fn moved(at: Timestamp, by_ms: i64) -> Timestamp {
    if by_ms < 0 {
        at.minus_ms(by_ms.unsigned_abs())
    } else {
        at.plus_ms(by_ms.unsigned_abs())
    }
}
