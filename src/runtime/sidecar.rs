//! Builds the sidecar from its parts and runs it: clock, network and settings come in from here.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tracing::warn;

use super::connect::beating;
use super::controller::{Act, Controller, ControllerSettings, Observe};
use super::courier::Courier;
use super::herald;
use super::network::Network;
use super::options::RunOptions;
use super::reporting::{Identity, Reporting, ReportingParts};
use super::resizing::Resizing;
use super::rights::Rights;
use super::shutdown::{Shutdown, Tasks};
use super::telemetry::Telemetry;
use super::terminating::Terminating;
use crate::act::kube::KubeAct;
use crate::act::{
    Applied, DrainSettings, Drainer, Order, ResizeOrder, Resizer, SidecarAct, Teller, Terminator,
    WriteMode,
};
use crate::admin::{self, AdminState};
use crate::clock::Clock;
use crate::config::Config;
use crate::model::{Departure, TerminationPolicy, Timestamp};
use crate::observe::access::Access;
use crate::observe::cluster::ClusterName;
use crate::observe::fence::OwnHead;
use crate::observe::pace::PaceLimits;
use crate::observe::ray::{RaySettings, RaySource, RayUpdate};
use crate::observe::raylets::RayletBudget;
use crate::observe::resizing::ResizeOff;
use crate::observe::termination::TerminationRefused;
use crate::observe::{Observed, RayletSettings, Sources};
use crate::report::events::{ChildRestarted, Event, Started};
use crate::report::kube_events::EventTarget;
use crate::report::{Metrics, Report as Reports, ReportOptions};
use crate::wire::gcs::GcsClient;
use crate::wire::kube_client::{ApiAccess, KubeClient, KubeSettings, pod_uid};

/// The loop turns every few seconds at least; standing still for this long is not slowness.
const BEAT_AGE_MAX_MS: u64 = 60_000;

/// Raylets asked per round for each percent of the time they may take: a call takes 0.2 ms, a round
/// comes every 100 ms, so one percent would be five; eight leaves room for faster ones.
const RAYLETS_PER_PERCENT: f64 = 8.0;

/// What the running parts are told when the config changes.
#[derive(Debug)]
pub(super) struct Settings {
    ray: watch::Sender<RaySettings>,
    controller: watch::Sender<ControllerSettings>,
    mode: watch::Sender<WriteMode>,
    admin: Arc<AdminState>,
}

impl Settings {
    /// Puts a changed config in force; what is only read at the start stays as it is.
    pub(super) fn apply(&self, config: &Config) {
        self.ray.send_replace(ray_settings(config));
        match ControllerSettings::of(config) {
            Ok(settings) => drop(self.controller.send_replace(settings)),
            // The config was accepted with the same check; this cannot differ.
            Err(problem) => warn!(problem, "policies not used, the last good ones stay"),
        }
        self.mode.send_replace(mode_of(config));
        self.admin.set_config(&shown(config));
    }
}

/// Holds what the sidecar is built from.
pub(super) struct Builder<'a> {
    /// What it was started with.
    pub(super) options: &'a RunOptions,
    /// The config in force.
    pub(super) config: &'a Config,
    /// The log.
    pub(super) telemetry: Telemetry,
    /// Tells the time.
    pub(super) clock: Clock,
    /// The metrics.
    pub(super) metrics: Metrics,
    /// Hears of the end.
    pub(super) shutdown: Shutdown,
    /// How the others are reached.
    pub(super) network: Network,
    /// What the admin port shows.
    pub(super) admin: Arc<AdminState>,
    /// Whether the admin port is served.
    pub(super) serves_admin: bool,
}

/// A sidecar that is ready to run.
pub(super) struct Sidecar {
    controller: Controller<Sources, SidecarAct, Reporting>,
    /// Everything that runs beside the loop.
    pub(super) tasks: Tasks,
    /// What can be changed while it runs.
    pub(super) settings: Settings,
}

impl Sidecar {
    /// Splits into the loop and what its owner keeps.
    pub(super) fn split(self) -> (Controller<Sources, SidecarAct, Reporting>, Tasks, Settings) {
        (self.controller, self.tasks, self.settings)
    }
}

impl Builder<'_> {
    /// Builds everything; waits for the API server and the RayCluster as long as it takes.
    pub(super) async fn build(self) -> Result<Sidecar, String> {
        let (clock, options) = (self.clock.clone(), self.options);
        self.tell_start();
        let admin = Arc::clone(&self.admin);
        let mut tasks = Tasks::default();
        if self.serves_admin {
            self.serve_admin(&admin, &mut tasks);
        }
        let name = ClusterName {
            namespace: options.cluster_namespace.clone(),
            name: options.cluster_name.clone(),
        };
        let forbidden = Arc::new(Notify::new());
        let found = async {
            let kube = self.connect_kube(&forbidden).await;
            let access = self.ask_access(&kube, &name).await;
            let cluster = self.watch_cluster(&kube, &name, &access);
            let ray = self.connect_ray(cluster).await;
            (kube, access, ray)
        };
        let (kube, access, ray) = beating(|| admin.beat(clock.now()), found).await;
        let (gcs, raylets, cluster) = ray?;
        let may_write = self.follow_rights((&kube, &name, &access), forbidden, &mut tasks);
        let (ray_settings, ray_settings_seen) = watch::channel(ray_settings(self.config));
        let (updates, updates_seen) = watch::channel(RayUpdate::default());
        let (wants_drivers, drivers_wanted) = watch::channel(false);
        let (to_ask, when) = (gcs.clone(), clock.clone());
        let source = RaySource::new(to_ask, raylets.clone(), when, ray_settings_seen)
            .asking_drivers(drivers_wanted);
        tasks.spawn("ray", source.run(updates));
        let (mode, mode_seen) = watch::channel(mode_of(self.config));
        let drainer = Drainer::new(&gcs, raylets, clock.clone(), drain_settings(self.config));
        let (resizer, resize_off) = self.resizer((&gcs, &kube), &mut tasks);
        let (terminator, refused) = self.terminator((&gcs, &kube), &mut tasks);
        let act = self
            .hands(drainer, &kube, mode_seen.clone())
            .told_by(self.herald((&gcs, &kube), &mut tasks))
            .resized_by(resizer)
            .ended_by(terminator);
        let reporting = self.reporting((&admin, &access), (gcs, &kube), mode_seen, &mut tasks);
        let (controller_settings, controller_seen) =
            watch::channel(ControllerSettings::of(self.config)?);
        let sources = Sources::new(updates_seen, cluster, clock.clone())
            .in_head(self.own_head())
            .resizing(resize_off)
            .terminating(refused, wants_drivers)
            .remembering(act.intent_refused());
        let controller = Controller::new((sources, act, reporting), clock, controller_seen)
            .retried_on(may_write);
        admin.set_config(&shown(self.config));
        let settings = Settings {
            ray: ray_settings,
            controller: controller_settings,
            mode,
            admin,
        };
        Ok(Sidecar {
            controller,
            tasks,
            settings,
        })
    }

    /// Tells that we run, and how often others did before.
    fn tell_start(&self) {
        Started {
            version: env!("CARGO_PKG_VERSION"),
            is_dry_run: self.config.scaling.dry_run,
            at: self.clock.now(),
        }
        .emit(&self.metrics);
        for (cause, count) in self.options.lineage.restarts() {
            ChildRestarted {
                cause: cause.as_str(),
                count,
            }
            .emit(&self.metrics);
        }
    }

    /// Returns what is known of our own pod.
    fn own_head(&self) -> OwnHead {
        let variables = &self.options.variables;
        let lookup = |name: &str| variables.get(name).map(str::to_owned);
        let uid = match &self.network.kube {
            Some(kube) => kube.pod_uid().map(str::to_owned),
            None => match KubeSettings::read(self.options.kubeconfig.as_deref(), &lookup) {
                Ok((
                    KubeSettings {
                        access: ApiAccess::Pod(access),
                        ..
                    },
                    _,
                )) => {
                    // Whoever has no token is known by name.
                    let token = std::fs::read_to_string(access.token_path).unwrap_or_default();
                    pod_uid(&token)
                }
                _ => None,
            },
        };
        OwnHead::new(variables.get("RAY_HEAD_POD_NAME"), uid.as_deref())
    }

    /// Returns hands that drain and patch.
    fn hands(
        &self,
        drainer: Drainer,
        kube: &KubeClient,
        mode: watch::Receiver<WriteMode>,
    ) -> SidecarAct {
        let (namespace, name) = (&self.options.cluster_namespace, &self.options.cluster_name);
        let kube_act = KubeAct::new(kube.clone(), namespace, name);
        SidecarAct::new(drainer, kube_act, (mode, self.shutdown.receiver()))
    }

    /// Starts what asks for our rights again when one is refused; it tells when we may write again.
    fn follow_rights(
        &self,
        (kube, name, access): (&KubeClient, &ClusterName, &Access),
        refused: Arc<Notify>,
        tasks: &mut Tasks,
    ) -> Arc<Notify> {
        let (rights, may_write) = Rights::new((kube, name), &self.metrics, refused);
        tasks.spawn("rights", rights.follow(access.clone()));
        may_write
    }

    /// Starts what tells the GCS of nodes that left.
    fn herald(
        &self,
        (gcs, kube): (&GcsClient, &KubeClient),
        tasks: &mut Tasks,
    ) -> mpsc::Sender<Vec<Departure>> {
        let (notices, notices_seen) = mpsc::channel(64);
        let namespace = &self.options.cluster_namespace;
        let teller = Teller::new(gcs, kube.clone(), namespace, self.clock.clone());
        let metrics = self.metrics.clone();
        tasks.spawn("herald", herald::run(teller, metrics, notices_seen));
        notices
    }

    /// Starts what resizes pods; it tells the sources when nobody lets it.
    fn resizer(
        &self,
        (gcs, kube): (&GcsClient, &KubeClient),
        tasks: &mut Tasks,
    ) -> (
        mpsc::Sender<Vec<ResizeOrder>>,
        watch::Receiver<Option<ResizeOff>>,
    ) {
        let (orders, orders_seen) = mpsc::channel(64);
        let (off, off_seen) = watch::channel(None);
        let namespace = &self.options.cluster_namespace;
        let resizing = Resizing {
            resizer: Resizer::new(gcs, kube.clone(), namespace, self.clock.clone()),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            off,
        };
        tasks.spawn("resizer", resizing.run(orders_seen));
        (orders, off_seen)
    }

    /// Starts what ends the cluster; it tells the sources when nobody lets it.
    fn terminator(
        &self,
        (gcs, kube): (&GcsClient, &KubeClient),
        tasks: &mut Tasks,
    ) -> (
        mpsc::Sender<(TerminationPolicy, String)>,
        watch::Receiver<Option<TerminationRefused>>,
    ) {
        let (orders, orders_seen) = mpsc::channel(1);
        let (refused, refused_seen) = watch::channel(None);
        let (namespace, name) = (&self.options.cluster_namespace, &self.options.cluster_name);
        let terminating = Terminating {
            terminator: Terminator::new(gcs, kube.clone(), namespace, name),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            refused,
        };
        tasks.spawn("terminator", terminating.run(orders_seen));
        (orders, refused_seen)
    }

    fn serve_admin(&self, admin: &Arc<AdminState>, tasks: &mut Tasks) {
        let (stop, stopped) = watch::channel(false);
        let shutdown = self.shutdown.clone();
        tasks.spawn("admin stop", async move {
            shutdown.requested().await;
            stop.send_replace(true);
        });
        tasks.spawn(
            "admin",
            admin::run(self.config.admin.bind, Arc::clone(admin), stopped),
        );
    }

    fn reporting(
        &self,
        (admin, access): (&Arc<AdminState>, &Access),
        (gcs, kube): (GcsClient, &KubeClient),
        mode: watch::Receiver<WriteMode>,
        tasks: &mut Tasks,
    ) -> Reporting {
        let (letters, letters_seen) = mpsc::channel(64);
        let (delivered, deliveries) = mpsc::channel(64);
        let courier = Courier {
            gcs,
            kube: kube.raw().clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            listening: admin.listening(),
        };
        tasks.spawn("courier", courier.run(letters_seen, delivered));
        let identity = Identity {
            hostname: self
                .options
                .variables
                .get("RAY_HEAD_POD_NAME")
                .unwrap_or_default()
                .to_owned(),
            pid: self.pid(),
            seed: self.seed(),
        };
        let may_write_events =
            self.config.report.kubernetes_events && access.may("create", "events");
        let reports = Reports::new(
            self.metrics.clone(),
            ReportOptions {
                pid: identity.pid,
                interval_ms: Some(self.config.report.interval.as_ms()),
                event_target: may_write_events.then(|| EventTarget {
                    api_version: crate::wire::raycluster::API_VERSION.to_owned(),
                    namespace: self.options.cluster_namespace.clone(),
                    name: self.options.cluster_name.clone(),
                    reporting_instance: identity.hostname.clone(),
                }),
                ..ReportOptions::default()
            },
        );
        Reporting::new(ReportingParts {
            reports,
            metrics: self.metrics.clone(),
            admin: Arc::clone(admin),
            telemetry: self.telemetry.clone(),
            letters,
            deliveries,
            mode,
            monitor_log: self.config.report.monitor_log.clone(),
            may_tell_drivers: self.config.report.driver_events,
            identity,
        })
    }

    /// Differs between sidecars, so that they do not come back all at once; not a secret.
    pub(super) fn seed(&self) -> u64 {
        let now = self.clock.now().as_ms().unsigned_abs();
        now.rotate_left(17) ^ u64::from(self.pid())
    }

    /// Inside another program it has no process of its own, and is to do the same again.
    fn pid(&self) -> u32 {
        let is_inside = self.network.kube.is_some();
        if is_inside { 1 } else { std::process::id() }
    }
}

/// Returns what the admin port of a sidecar with these settings shows: nothing yet.
pub(super) fn admin_state(
    (options, config): (&RunOptions, &Config),
    (metrics, clock, telemetry): (&Metrics, &Clock, &Telemetry),
) -> Arc<AdminState> {
    let now = clock.clone();
    let state = AdminState::new(
        metrics.clone(),
        Arc::new(move || now.now()),
        BEAT_AGE_MAX_MS,
    )
    .of_cluster(&options.cluster_namespace, &options.cluster_name);
    let questions = config
        .admin
        .questions
        .iter()
        .map(|question| match question {
            crate::config::Question::Decision => admin::Question::Decision,
            crate::config::Question::History => admin::Question::History,
            crate::config::Question::Config => admin::Question::Config,
        });
    let state = state.answer_only(questions.collect());
    if !config.admin.log_level_change {
        return Arc::new(state);
    }
    let telemetry = telemetry.clone();
    Arc::new(state.allow_log_level(Arc::new(move |level| {
        let level = crate::config::LogLevel::from_name(level)
            .ok_or_else(|| format!("`{level}`; accepted are error, warn, info, debug and trace"))?;
        telemetry.set_level(level);
        Ok(())
    })))
}

impl Observe for Sources {
    async fn next(&mut self, wake_at: Option<Timestamp>) -> Observed {
        Self::next(self, wake_at).await
    }

    fn adopt(&mut self, raycluster: Option<&serde_json::Value>) {
        Self::adopt(self, raycluster);
    }

    fn doubt(&mut self) {
        Self::doubt(self);
    }
}

impl Act for SidecarAct {
    async fn act(&mut self, order: &Order<'_>, now: Timestamp) -> Applied {
        Self::act(self, order, now).await
    }

    fn tell(&mut self, notices: &[Departure]) {
        Self::tell(self, notices);
    }

    fn resize(&mut self, order: &Order<'_>) {
        Self::resize(self, order);
    }

    fn end(&mut self, order: &Order<'_>) {
        Self::end(self, order);
    }
}

fn ray_settings(config: &Config) -> RaySettings {
    let (gcs, raylets) = (&config.poll.gcs, &config.poll.raylets);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts from float saturate"
    )]
    let per_round = (raylets.budget_percent * RAYLETS_PER_PERCENT).ceil() as usize;
    let budget = RayletBudget {
        all_up_to: per_round,
        per_round,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts from float saturate"
    )]
    let budget_percent = gcs.budget_percent.ceil() as u64;
    RaySettings {
        pace: PaceLimits {
            interval_min_ms: gcs.interval_min.as_ms(),
            interval_max_ms: gcs.interval_max.as_ms(),
            budget_percent,
        },
        raylets: raylets.enabled.then_some(RayletSettings { budget }),
    }
}

fn drain_settings(config: &Config) -> DrainSettings {
    DrainSettings {
        // A healthy raylet answers in 5 ms; one that crashed is not answered for before the GCS notices.
        answer_ms: 2_000,
        preemption_ms: config.ray.drain_deadline.as_ms(),
        alive_within_ms: 2_000,
    }
}

fn mode_of(config: &Config) -> WriteMode {
    if config.scaling.dry_run {
        WriteMode::DryRun
    } else {
        WriteMode::Write
    }
}

fn shown(config: &Config) -> String {
    serde_json::to_string(config).unwrap_or_default()
}
