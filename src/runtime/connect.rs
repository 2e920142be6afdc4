//! Finds the API server, the RayCluster and the GCS, and waits for each as long as it takes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::rights;
use super::sidecar::Builder;
use super::telemetry::chain;
use crate::admin::SourceProblem;
use crate::observe::PollBounds;
use crate::observe::access::Access;
use crate::observe::cluster::{ClusterChange, ClusterName, ClusterWatch, FollowSettings};
use crate::report::events::{ApiCalled, Event, GcsCalled, RayletsCalled};
use crate::wire::gcs::{GcsClient, GcsSettings, Observer, RayletClient};
use crate::wire::kube_client::{KubeClient, KubeSettings};

/// Between two tries to build a client: what is missing (a token, a file) may appear any moment.
const CONNECT: Backoff = Backoff {
    first_ms: 200,
    max_ms: 5_000,
};

/// The head's containers start together, and people wait for the GCS. Units: milliseconds.
const GCS_PAUSE_MAX_MS: u64 = 1_000;

/// While waiting, says this often that we wait rather than hang.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// Waits for `work`, beating meanwhile: whoever waits for the API server or the GCS is alive, and
/// to be started again would not bring them sooner.
pub(super) async fn beating<T>(beat: impl Fn(), work: impl Future<Output = T>) -> T {
    let mut timer = tokio::time::interval(BEAT_EVERY);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = timer.tick() => beat(),
        }
    }
}

impl Builder<'_> {
    /// Returns the client; `refused` is told of every call that the Role does not allow.
    pub(super) async fn connect_kube(&self, refused: &Arc<Notify>) -> KubeClient {
        let (metrics, refused) = (self.metrics.clone(), Arc::clone(refused));
        let observer: crate::wire::kube_client::CallObserver = Arc::new(move |verb, status| {
            if status == 403 {
                refused.notify_one();
            }
            let text = if status == 0 {
                "none".to_owned()
            } else {
                status.to_string()
            };
            ApiCalled {
                verb,
                status: &text,
            }
            .emit(&metrics);
        });
        if let Some(kube) = &self.network.kube {
            return kube.client(observer, self.config.kubernetes.request_timeout.as_std());
        }
        let lookup = |name: &str| self.options.variables.get(name).map(str::to_owned);
        let mut failures = 0;
        let mut told = String::new();
        loop {
            let settings = KubeSettings::read(self.options.kubeconfig.as_deref(), &lookup);
            let error = match settings {
                Ok((mut settings, warnings)) => {
                    settings.request_timeout = self.config.kubernetes.request_timeout.as_std();
                    for warning in warnings.iter().filter(|_| failures == 0) {
                        warn!(warning, "kubernetes settings");
                    }
                    match KubeClient::connect(&settings, Arc::clone(&observer)).await {
                        Ok(client) => return client,
                        Err(error) => chain(&error),
                    }
                }
                Err(error) => chain(&error),
            };
            failures += 1;
            if error != told {
                warn!(error, "cannot reach the kubernetes api yet");
                self.show_wait("raycluster", &error);
                told = error;
            }
            tokio::time::sleep(Duration::from_millis(CONNECT.delay_ms(failures))).await;
        }
    }

    /// Shows whoever asks what the start waits for; the first pass replaces it.
    fn show_wait(&self, source: &str, message: &str) {
        self.admin.sources_failed(vec![SourceProblem {
            source: source.to_owned(),
            message: message.to_owned(),
        }]);
    }

    pub(super) async fn ask_access(&self, kube: &KubeClient, name: &ClusterName) -> Access {
        let access = match Access::ask(kube, name).await {
            Ok(access) => access,
            Err(error) => {
                warn!(
                    error = chain(&error),
                    "cannot ask for our rights, assuming those that KubeRay gives"
                );
                Access::default()
            }
        };
        rights::tell(&access, &self.metrics);
        access
    }

    pub(super) fn watch_cluster(
        &self,
        kube: &KubeClient,
        name: &ClusterName,
        access: &Access,
    ) -> ClusterWatch {
        let (clock, poll) = (self.clock.clone(), &self.config.poll.ray_cluster);
        let settings = FollowSettings {
            poll: PollBounds {
                interval_min_ms: poll.interval_min.as_ms(),
                interval_max_ms: poll.interval_max.as_ms(),
            },
            seed: self.seed(),
            now: Arc::new(move || clock.now()),
        };
        let default_access = Access::default();
        let access = if self.config.kubernetes.watch_ray_cluster {
            access
        } else {
            &default_access
        };
        ClusterWatch::new(kube, name, access, &settings)
    }

    /// Finds the GCS: the flag, else the RayCluster's port on the loopback address, else the pod's.
    pub(super) async fn connect_ray(
        &self,
        mut cluster: ClusterWatch,
    ) -> Result<(GcsClient, RayletClient, ClusterWatch), String> {
        if let Some(address) = &self.config.ray.gcs_address {
            let (gcs, raylets) = self.ray_clients(address)?;
            return Ok((gcs, raylets, cluster));
        }
        let mut failures = 0;
        loop {
            for address in self.gcs_addresses(&mut cluster).await {
                let (gcs, raylets) = self.ray_clients(&address)?;
                let Err(error) = gcs.refresh_cluster_id().await else {
                    info!(address, "found the gcs");
                    return Ok((gcs, raylets, cluster));
                };
                self.show_wait("gcs", &chain(&error));
                if failures == 0 {
                    info!(address, "waiting for the gcs");
                }
            }
            failures += 1;
            let pause = Duration::from_millis(CONNECT.delay_ms(failures).min(GCS_PAUSE_MAX_MS));
            let pause = tokio::time::sleep(pause);
            tokio::pin!(pause);
            // The watch goes on meanwhile: the port or the pod's address may change.
            loop {
                tokio::select! {
                    biased;
                    () = &mut pause => break,
                    _ = cluster.next() => {}
                }
            }
        }
    }

    /// Returns where the GCS may be, once the RayCluster can be read.
    async fn gcs_addresses(&self, cluster: &mut ClusterWatch) -> Vec<String> {
        let mut is_told = false;
        let port = loop {
            if let Some(raycluster) = cluster.raycluster().current() {
                break raycluster.gcs_port();
            }
            if let ClusterChange::Lost(_, error) = cluster.next().await {
                let error = chain(&error);
                self.show_wait("raycluster", &error);
                if !std::mem::replace(&mut is_told, true) {
                    warn!(error, "cannot read the raycluster yet");
                }
            }
        };
        let head = cluster
            .pods()
            .pods()
            .find(|pod| pod.node_type == "head" && !pod.pod_ip.is_empty());
        let hosts = std::iter::once("127.0.0.1").chain(head.map(|pod| pod.pod_ip.as_str()));
        let address = |host: &str| {
            if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            }
        };
        hosts.map(address).collect()
    }

    fn ray_clients(&self, address: &str) -> Result<(GcsClient, RayletClient), String> {
        let metrics = self.metrics.clone();
        let gcs_observer: Observer =
            Arc::new(move |method, status| GcsCalled { method, status }.emit(&metrics));
        let metrics = self.metrics.clone();
        let raylet_observer: Observer = Arc::new(move |method, status| {
            RayletsCalled {
                method,
                status,
                count: 1,
            }
            .emit(&metrics)
        });
        let settings = self.gcs_settings(address)?;
        let (gcs, raylets) = match &self.network.ray {
            None => {
                let raylets = RayletClient::new(settings.auth.clone(), settings.tls.clone());
                (GcsClient::new(settings), raylets)
            }
            Some(ray) => {
                let raylets = RayletClient::over(ray.raylets.clone(), settings.auth.clone());
                (GcsClient::over((ray.gcs)(), settings.auth), raylets)
            }
        };
        Ok((
            gcs.observed_by(gcs_observer)
                .with_deadline(self.config.ray.deadline.as_std()),
            raylets
                .observed_by(raylet_observer)
                .with_deadline(self.config.poll.raylets.deadline.as_std()),
        ))
    }

    fn gcs_settings(&self, address: &str) -> Result<GcsSettings, String> {
        let lookup = |name: &str| self.options.variables.get(name).map(str::to_owned);
        GcsSettings::from_environment(address, &lookup).map_err(|errors| {
            errors
                .iter()
                .map(|error| chain(error))
                .collect::<Vec<_>>()
                .join("; ")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::beating;

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_not_taken_for_standing_still() {
        let beats = Cell::new(0);
        let wait = tokio::time::sleep(Duration::from_secs(600));
        beating(|| beats.set(beats.get() + 1), wait).await;
        assert_eq!(beats.get(), 120);
    }
}
