//! Sends a patch to the API server.

use http::Method;
use serde_json::Value;

use super::{ActError, PatchPlan};
use crate::wire::kube_client::{CallError, FIELD_MANAGER, KubeClient};

/// Patches one RayCluster.
#[derive(Debug, Clone)]
pub struct KubeAct {
    client: KubeClient,
    namespace: String,
    name: String,
}

impl KubeAct {
    /// Returns what patches the RayCluster `name` in `namespace`.
    #[must_use]
    pub fn new(client: KubeClient, namespace: &str, name: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Sends `plan` and returns the RayCluster as it is now, so that no GET is needed to see it.
    ///
    /// # Errors
    ///
    /// [`ActError::next_step`] says what is to be done; nothing of the plan was written unless the
    /// cause is a time-out, a broken connection or an answer that cannot be read.
    pub async fn patch(&self, plan: &PatchPlan) -> Result<Value, ActError> {
        let wrap = |source| ActError {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            source,
        };
        let path = format!(
            "/apis/ray.io/v1/namespaces/{}/rayclusters/{}?fieldManager={FIELD_MANAGER}",
            self.namespace, self.name
        );
        let body = serde_json::to_vec(&plan.ops)
            .map_err(|error| wrap(CallError::Malformed(error.to_string())))?;
        self.client
            .send(Method::PATCH, &path, ("application/json-patch+json", body))
            .await
            .map_err(wrap)
    }
}
