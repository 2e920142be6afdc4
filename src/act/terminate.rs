//! Ends a cluster that nobody uses: suspends or deletes its RayCluster.
//!
//! It cannot be taken back, so the GCS is asked for drivers and the API server for the RayCluster once
//! more just before, and every write is bound to what was read.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::model::TerminationPolicy;
use crate::wire::gcs::GcsClient;
use crate::wire::kube_client::{CallError, FIELD_MANAGER, Failure, KubeClient};

/// Tells the operator to clean up after a cluster that was deleted because nobody used it.
pub const FINALIZER: &str = "ray.io/idle-termination-cleanup-finalizer";

/// How long the GCS may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Says what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Terminated {
    /// It is done, or was done already.
    Done,
    /// Somebody uses the cluster, or changed it meanwhile.
    Stale,
    /// It cannot be done as things are: by the Role, or by the resource definition.
    Refused(String),
    /// Somebody did not answer.
    Failed(String),
}

impl Terminated {
    /// Returns the stable word for metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Stale => "stale",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }

    /// Returns the words of whoever did not want to; empty when all went well.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Done | Self::Stale => "",
            Self::Refused(text) | Self::Failed(text) => text,
        }
    }
}

/// Ends one RayCluster.
#[derive(Debug, Clone)]
pub struct Terminator {
    gcs: GcsClient,
    kube: KubeClient,
    namespace: String,
    name: String,
}

impl Terminator {
    /// Returns what ends the RayCluster `name` in `namespace`.
    #[must_use]
    pub fn new(gcs: &GcsClient, kube: KubeClient, namespace: &str, name: &str) -> Self {
        Self {
            gcs: gcs.clone().with_deadline(ANSWER),
            kube,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Does what `policy` says to the RayCluster of this UID; `is_used` says whether a reply has drivers.
    pub async fn end(
        &self,
        (policy, uid): (TerminationPolicy, &str),
        is_used: impl Fn(&crate::wire::gcs::ray::rpc::GetAllJobInfoReply) -> bool,
    ) -> Terminated {
        match self.gcs.get_all_job_info().await {
            Ok(reply) if is_used(&reply) => return Terminated::Stale,
            Ok(_) => {}
            Err(error) => return Terminated::Failed(error.to_string()),
        }
        let done = match policy {
            TerminationPolicy::Suspend => self.suspend(uid).await,
            TerminationPolicy::Delete => self.delete(uid).await,
        };
        done.err().unwrap_or(Terminated::Done)
    }

    async fn suspend(&self, uid: &str) -> Result<(), Terminated> {
        let found = self.read(uid).await?;
        let is_suspended = |cluster: &Value| cluster["spec"]["idleSuspend"] == true;
        if is_suspended(&found) {
            return Ok(());
        }
        let version = &found["metadata"]["resourceVersion"];
        let metadata = json!({"uid": uid, "resourceVersion": version});
        let body = json!({"metadata": metadata, "spec": {"idleSuspend": true}});
        let written = self.patch("application/merge-patch+json", &body).await?;
        if is_suspended(&written) {
            return Ok(());
        }
        let why = "cannot suspend the idle cluster: the RayCluster's definition does not know \
            spec.idleSuspend, which KubeRay up to 1.7 drops";
        Err(Terminated::Refused(why.to_owned()))
    }

    async fn delete(&self, uid: &str) -> Result<(), Terminated> {
        // Asked before the finalizer is there: one that nobody follows up only stands in the way.
        if !self.may_delete().await? {
            let why = "cannot delete the idle cluster: the Role of our ServiceAccount has no verb \
                `delete` on rayclusters, and KubeRay's own has none";
            return Err(Terminated::Refused(why.to_owned()));
        }
        let found = self.read(uid).await?;
        let finalizers = found["metadata"]["finalizers"].as_array();
        if !finalizers.is_some_and(|all| all.iter().any(|it| it == FINALIZER)) {
            let add = match finalizers {
                Some(_) => ("/metadata/finalizers/-", json!(FINALIZER)),
                None => ("/metadata/finalizers", json!([FINALIZER])),
            };
            let version = &found["metadata"]["resourceVersion"];
            let ops = json!([
                {"op": "test", "path": "/metadata/uid", "value": uid},
                {"op": "test", "path": "/metadata/resourceVersion", "value": version},
                {"op": "add", "path": add.0, "value": add.1},
            ]);
            self.patch("application/json-patch+json", &ops).await?;
        }
        let options = json!({"preconditions": {"uid": uid}}).to_string();
        let body = ("application/json", options.into_bytes());
        let gone: Result<Value, CallError> =
            self.kube.send(Method::DELETE, &self.path(), body).await;
        match gone {
            Ok(_) => Ok(()),
            Err(error) if error.failure() == Failure::NotFound => Ok(()),
            Err(error) => Err(outcome(&error)),
        }
    }

    async fn may_delete(&self) -> Result<bool, Terminated> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "namespace": self.namespace, "verb": "delete", "group": "ray.io",
                "resource": "rayclusters", "name": self.name,
            }},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let body = ("application/json", review.to_string().into_bytes());
        let answer: Result<Value, CallError> = self.kube.send(Method::POST, path, body).await;
        let answer = answer.map_err(|error| outcome(&error))?;
        Ok(answer["status"]["allowed"] == true)
    }

    /// Returns the RayCluster, if it is still this one and not on its way out.
    async fn read(&self, uid: &str) -> Result<Value, Terminated> {
        let found: Result<Value, CallError> = self.kube.get(&self.path()).await;
        let found = found.map_err(|error| outcome(&error))?;
        let metadata = &found["metadata"];
        let is_going = !metadata["deletionTimestamp"].is_null();
        if metadata["uid"] == uid && !is_going {
            Ok(found)
        } else {
            Err(Terminated::Stale)
        }
    }

    async fn patch(&self, content_type: &str, body: &Value) -> Result<Value, Terminated> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}", self.path());
        let body = (content_type, body.to_string().into_bytes());
        let written = self.kube.send(Method::PATCH, &path, body).await;
        written.map_err(|error| outcome(&error))
    }

    fn path(&self) -> String {
        let (namespace, name) = (&self.namespace, &self.name);
        format!("/apis/ray.io/v1/namespaces/{namespace}/rayclusters/{name}")
    }
}

fn outcome(error: &CallError) -> Terminated {
    match error.failure() {
        // Somebody wrote in between, or it is gone.
        Failure::Conflict | Failure::Rejected | Failure::NotFound => Terminated::Stale,
        Failure::Forbidden => Terminated::Refused(error.to_string()),
        _ => Terminated::Failed(error.to_string()),
    }
}
