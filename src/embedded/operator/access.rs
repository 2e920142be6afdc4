//! Everything around the pods: ServiceAccount, Role, RoleBinding, token, services.
//!
//! All of it is made where it is absent and never changed afterwards, as the operator does.

use super::cluster::RayCluster;
use super::names::{clipped, head_service, pod_labels};
use super::{Operator, OperatorError};
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

/// Returns the ServiceAccount of the head pod, before it is clipped.
pub(super) fn account_name(cluster: &RayCluster) -> String {
    let template = cluster.spec.head_group_spec.template.spec.as_ref();
    let own = template.and_then(|spec| spec.service_account_name.clone());
    own.unwrap_or_else(|| cluster.name().to_owned())
}

/// Returns the Secret with the cluster's token.
pub(super) fn secret_name(cluster: &RayCluster) -> String {
    let auth = cluster.spec.auth_options.as_ref();
    let own = auth
        .and_then(|auth| auth.secret_name.clone())
        .filter(|name| !name.is_empty());
    own.unwrap_or_else(|| clipped(cluster.name()))
}

impl Operator {
    /// Makes what the pods of a cluster need.
    pub(super) async fn reconcile_surroundings(
        &mut self,
        cluster: &RayCluster,
    ) -> Result<(), OperatorError> {
        if cluster.spec.enable_in_tree_autoscaling {
            self.reconcile_account(cluster).await?;
            let name = clipped(cluster.name());
            self.create_missing::<Role>(cluster, &name, role()).await?;
            let account = clipped(&account_name(cluster));
            let binding = role_binding(&name, &account, cluster.namespace());
            self.create_missing::<RoleBinding>(cluster, &name, binding)
                .await?;
        }
        if cluster.spec.has_token_auth() {
            let token: String = (0..7).map(|_| self.endings.next()).collect();
            let secret = json!({"stringData": {"auth_token": token}});
            self.create_missing::<Secret>(cluster, &secret_name(cluster), secret)
                .await?;
        }
        let name = head_service(cluster.name());
        self.create_missing::<Service>(cluster, &name, service_of_head(cluster))
            .await?;
        if cluster
            .spec
            .worker_group_specs
            .iter()
            .any(|group| group.num_of_hosts > 1)
        {
            let name = format!("{}-headless", cluster.name());
            self.create_missing::<Service>(cluster, &name, service_of_workers(cluster))
                .await?;
        }
        Ok(())
    }

    /// A ServiceAccount that the user named has to exist; only the default one is made.
    async fn reconcile_account(&self, cluster: &RayCluster) -> Result<(), OperatorError> {
        let name = account_name(cluster);
        if name == cluster.name() {
            return self
                .create_missing::<ServiceAccount>(cluster, &clipped(&name), json!({}))
                .await;
        }
        let accounts: Api<ServiceAccount> = self.api(cluster);
        let doing = "read the ServiceAccount";
        let found = accounts
            .get_opt(&name)
            .await
            .map_err(OperatorError::api(doing))?;
        found
            .map(|_| ())
            .ok_or(OperatorError::NoServiceAccount(name))
    }

    async fn create_missing<K>(
        &self,
        cluster: &RayCluster,
        name: &str,
        body: Value,
    ) -> Result<(), OperatorError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + Serialize + DeserializeOwned,
    {
        let api: Api<K> = self.api(cluster);
        let doing = "make what the pods need";
        if api
            .get_metadata_opt(name)
            .await
            .map_err(OperatorError::api(doing))?
            .is_some()
        {
            return Ok(());
        }
        let mut body = body;
        if let Some(members) = body.as_object_mut() {
            members.entry("metadata").or_insert_with(|| json!({}));
        }
        let malformed = |source| OperatorError::Malformed {
            name: name.to_owned(),
            source,
        };
        let mut object: K = serde_json::from_value(body).map_err(malformed)?;
        object.meta_mut().name = Some(name.to_owned());
        object
            .owner_references_mut()
            .push(cluster.owner_reference());
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            created => created.map(|_| ()).map_err(OperatorError::api(doing)),
        }
    }
}

/// Exactly the rights that the autoscaler gets.
fn role() -> Value {
    json!({"rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]},
        {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "patch"]},
    ]})
}

fn role_binding(role: &str, account: &str, namespace: &str) -> Value {
    json!({
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
    })
}

fn service_of_head(cluster: &RayCluster) -> Value {
    let mut labels = pod_labels(cluster.name(), "head", "", []);
    labels.retain(|name, _| !matches!(name.as_str(), "ray.io/group" | "ray.io/is-ray-node"));
    let port =
        |name: &str, number: i64| json!({"name": name, "port": number, "appProtocol": "tcp"});
    let gcs = cluster.gcs_port().parse().unwrap_or(6379);
    json!({
        "metadata": {"labels": labels},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": labels,
            "ports": [
                port("client", 10001),
                port("dashboard", 8265),
                port("gcs-server", gcs),
                port("metrics", 8080),
                port("serve", 8000),
            ],
        },
    })
}

fn service_of_workers(cluster: &RayCluster) -> Value {
    json!({
        "metadata": {"labels": {"ray.io/headless-worker-svc": cluster.name()}},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": {"ray.io/cluster": cluster.name(), "ray.io/node-type": "worker"},
        },
    })
}
