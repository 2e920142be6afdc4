//! What KubeRay's operator does with a RayCluster, as a client of any Kubernetes API.
//!
//! Written from what the operator 1.7 was seen to do, so that tests and the sandbox need none. It makes the
//! rights, the head pod with the autoscaler's container, and the worker pods; deletes the pods that
//! `workersToDelete` names, leaves a group alone while a deletion of its own is unfinished, and writes
//! the status. Left out: ingresses, serving, Redis clean-up, mutual TLS, network policies, batch
//! schedulers, and every Event but those about refused clusters.
//!
//! # Why it reads no cache
//!
//! The operator reads pods from a cache fed by watches, and its 30 second time-out for creations exists for
//! a cache that lags. The stand-in asks the API server, so what it sees is never older than its own
//! writes; the order of actions, locks and retries is the operator's (2026-11).

mod access;
mod autoscaler;
mod cluster;
mod controller;
mod expectations;
mod names;
mod pod_changes;
mod pod_template;
mod quantity;
mod ray_start;
mod redis;
mod status;
mod validation;
mod worker_groups;

pub use cluster::{RayCluster, Spec, Status, WorkerGroup, ray_cluster_resource};
pub use controller::run;

use super::Now;
use super::lean::PodOutline;
use expectations::Expectations;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde_json::json;
use std::time::Duration;
use thiserror::Error;

/// A change of the status calls for a second look soon: suspension goes on in steps.
const REQUEUE_AFTER_CHANGE: Duration = Duration::from_secs(2);
/// Without any event a cluster is still looked at now and then.
const REQUEUE_WHEN_IDLE: Duration = Duration::from_secs(300);

/// Holds what may differ between operators.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespace whose RayClusters are served.
    pub namespace: String,
    /// Where the endings of names start from.
    pub seed: u64,
    /// Deletes surplus pods although autoscaling is on, as the operator can be told to.
    pub deletes_surplus: bool,
}

impl Settings {
    /// Returns the operator's defaults for a namespace.
    #[must_use]
    pub fn new(namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            seed: 1,
            deletes_surplus: false,
        }
    }
}

/// What can end a pass over a cluster; the next one is tried after a growing delay.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// A call that makes no pod and deletes none.
    #[error("cannot {doing}")]
    Api {
        /// What the call was for.
        doing: &'static str,
        /// What the API server or the connection said.
        source: kube::Error,
    },
    /// A pod could not be made or deleted; shown in the status.
    #[error("{reason}")]
    Pod {
        /// The word for it in the condition `ReplicaFailure`.
        reason: &'static str,
        /// What the API server or the connection said.
        source: kube::Error,
    },
    /// The pass ends on purpose and is to be taken up again.
    #[error("{0}")]
    Again(String),
    /// The user has named a ServiceAccount that is not there.
    #[error("service account `{0}` does not exist")]
    NoServiceAccount(String),
    /// An object has fields of the wrong type.
    #[error("cannot read or make `{name}`")]
    Malformed {
        /// The object's name.
        name: String,
        /// Where the mistake is.
        source: serde_json::Error,
    },
}

impl OperatorError {
    fn api(doing: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { doing, source }
    }
}

/// When to look at a cluster again, if nothing happens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeue {
    /// After this time.
    After(Duration),
    /// Only when the cluster itself changes: it is gone, refused or somebody else's.
    OnChange,
}

/// An operator for the clusters of one namespace.
///
/// What it remembers, the changes it waits for, is lost with it, as in a restart of the operator.
pub struct Operator {
    client: Client,
    settings: Settings,
    now: Now,
    endings: names::Endings,
    expectations: Expectations,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Operator {
    /// Returns an operator that expects nothing yet.
    #[must_use]
    pub fn new(client: Client, settings: Settings, now: Now) -> Self {
        let endings = names::Endings::new(settings.seed);
        Self {
            client,
            settings,
            now,
            endings,
            expectations: Expectations::default(),
        }
    }

    /// Takes one pass over the cluster of this name.
    ///
    /// # Errors
    ///
    /// When a call failed or the pass was ended on purpose; groups before that point are done.
    pub async fn reconcile(&mut self, name: &str) -> Result<Requeue, OperatorError> {
        let clusters = self.clusters();
        let doing = OperatorError::api("read the RayCluster");
        let Some(object) = clusters.get_opt(name).await.map_err(doing)? else {
            self.expectations.forget(name);
            return Ok(Requeue::OnChange);
        };
        let malformed = |source| OperatorError::Malformed {
            name: name.to_owned(),
            source,
        };
        let cluster = RayCluster::read(object).map_err(malformed)?;
        let is_foreign = |manager: &str| manager != "ray.io/kuberay-operator";
        if cluster.spec.managed_by.as_deref().is_some_and(is_foreign) {
            return Ok(Requeue::OnChange);
        }
        if let Err(invalid) = validation::validate(&cluster) {
            self.warn(&cluster, invalid.reason, &invalid.message)
                .await?;
            return Ok(Requeue::OnChange);
        }
        if cluster.metadata.deletion_timestamp.is_some() {
            return Ok(Requeue::OnChange);
        }
        let done = self.reconcile_all(&cluster).await;
        if let Err(OperatorError::NoServiceAccount(account)) = &done {
            self.warn(&cluster, "AutoscalerServiceAccountNotFound", account)
                .await?;
        }
        let has_changed = self.update_status(&cluster, done.as_ref().err()).await;
        done?;
        Ok(Requeue::After(if has_changed? {
            REQUEUE_AFTER_CHANGE
        } else {
            REQUEUE_WHEN_IDLE
        }))
    }

    async fn reconcile_all(&mut self, cluster: &RayCluster) -> Result<(), OperatorError> {
        self.reconcile_surroundings(cluster).await?;
        self.reconcile_pods(cluster).await
    }

    /// Writes the status where it differs, and returns whether it did.
    async fn update_status(
        &self,
        cluster: &RayCluster,
        failure: Option<&OperatorError>,
    ) -> Result<bool, OperatorError> {
        let pods = self.pods_of(cluster, "").await?;
        let services: Api<Service> = self.api(cluster);
        let service = services.get_opt(&names::head_service(cluster.name())).await;
        let service = service.map_err(OperatorError::api("read the head's service"))?;
        let view = status::View {
            cluster,
            pods: &pods,
            service: service.as_ref(),
            failure,
        };
        let new = status::calculate(view, (self.now)());
        if !status::differs(&cluster.status, &new) {
            return Ok(false);
        }
        let patch = Patch::Merge(json!({"status": new}));
        let (clusters, params) = (self.clusters(), PatchParams::default());
        let written = clusters.patch_status(cluster.name(), &params, &patch).await;
        written.map_err(OperatorError::api("write the status"))?;
        Ok(true)
    }

    /// Returns the pods of a cluster that a further selector admits, which starts with a comma.
    async fn pods_of(&self, cluster: &RayCluster, more: &str) -> Result<Vec<Pod>, OperatorError> {
        let selector = format!("{}={}{more}", names::CLUSTER_LABEL, cluster.name());
        let pods: Api<PodOutline> = self.api(cluster);
        let listed = pods.list(&ListParams::default().labels(&selector)).await;
        let listed = listed.map_err(OperatorError::api("list pods"))?;
        let pods = listed.items.into_iter();
        Ok(pods.map(PodOutline::into_pod).collect())
    }

    /// Writes the Event that is the only sign of a refused cluster.
    async fn warn(
        &mut self,
        cluster: &RayCluster,
        reason: &'static str,
        note: &str,
    ) -> Result<(), OperatorError> {
        let at = jiff::Timestamp::from_millisecond((self.now)().as_ms()).unwrap_or_default();
        let event = json!({
            "metadata": {"name": format!("{}.{}", cluster.name(), self.endings.next())},
            "eventTime": MicroTime(at),
            "type": "Warning",
            "reason": reason,
            "note": note,
            "action": "Validate",
            "reportingController": "raycluster-controller",
            "reportingInstance": "rayscaler-sandbox",
            "regarding": {
                "apiVersion": "ray.io/v1", "kind": "RayCluster",
                "name": cluster.name(), "namespace": cluster.namespace(), "uid": cluster.metadata.uid,
            },
        });
        let malformed = |source| OperatorError::Malformed {
            name: reason.to_owned(),
            source,
        };
        let event: Event = serde_json::from_value(event).map_err(malformed)?;
        let created = self
            .api::<Event>(cluster)
            .create(&PostParams::default(), &event)
            .await;
        created
            .map(|_| ())
            .map_err(OperatorError::api("write an Event"))
    }

    fn clusters(&self) -> Api<DynamicObject> {
        let resource = ray_cluster_resource();
        Api::namespaced_with(self.client.clone(), &self.settings.namespace, &resource)
    }

    fn api<K>(&self, cluster: &RayCluster) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), cluster.namespace())
    }
}
