//! A RayCluster, a ServiceAccount with exactly the verbs that KubeRay gives, and our own client with its token.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use rayscaler::wire::kube_client::{ApiAccess, KubeClient, KubeSettings, PodAccess};
use serde_json::{Value, json};

use crate::support::kube::{KubeApi, Server};

/// The RayCluster's name, and that of the ServiceAccount, as with KubeRay.
pub const CLUSTER: &str = "c";

/// One namespace with a RayCluster in it.
pub struct RayAccess<'a> {
    pub api: &'a KubeApi,
    pub namespace: String,
    pub admin: kube::Client,
    folder: tempfile::TempDir,
    calls: Arc<Mutex<Vec<(&'static str, u16)>>>,
}

impl RayAccess<'static> {
    /// Makes a RayCluster with these `workerGroupSpecs`, and a Role with KubeRay's verbs and `extra` rules.
    pub async fn new(groups: &Value, extra: &[Value]) -> Self {
        Self::on_shared(Server::Real, groups, extra).await
    }

    /// Does the same on the shared API server of this sort.
    pub async fn on_shared(server: Server, groups: &Value, extra: &[Value]) -> Self {
        Self::on(KubeApi::shared_on(server).await, groups, extra).await
    }
}

impl<'a> RayAccess<'a> {
    /// Does the same on an API server of the test's own.
    pub async fn on(api: &'a KubeApi, groups: &Value, extra: &[Value]) -> Self {
        let access = Self {
            namespace: api.new_namespace().await,
            admin: api.admin_client().await,
            folder: tempfile::tempdir().unwrap(),
            calls: Arc::default(),
            api,
        };
        let mut rules = vec![
            json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]}),
            json!({"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]}),
            json!({"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "patch"]}),
        ];
        rules.extend_from_slice(extra);
        access.bind(&rules).await;
        access.create(groups).await;
        access.rotate_token().await;
        access
    }

    async fn bind(&self, rules: &[Value]) {
        let metadata = json!({"name": CLUSTER});
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), &self.namespace);
        let roles: Api<Role> = Api::namespaced(self.admin.clone(), &self.namespace);
        let bindings: Api<RoleBinding> = Api::namespaced(self.admin.clone(), &self.namespace);
        let account = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        let role = json!({"metadata": metadata, "rules": rules});
        let role = serde_json::from_value(role).unwrap();
        let binding = serde_json::from_value(json!({
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": CLUSTER},
            "subjects": [{"kind": "ServiceAccount", "name": CLUSTER, "namespace": self.namespace}],
        }))
        .unwrap();
        let post = PostParams::default();
        accounts.create(&post, &account).await.unwrap();
        roles.create(&post, &role).await.unwrap();
        bindings.create(&post, &binding).await.unwrap();
    }

    /// Makes the RayCluster.
    pub async fn create(&self, groups: &Value) {
        let object = serde_json::from_value(json!({
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {"name": CLUSTER},
            "spec": {"headGroupSpec": {"template": {}}, "workerGroupSpecs": groups},
        }))
        .unwrap();
        let clusters = self.rayclusters();
        clusters
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    }

    /// Deletes the RayCluster.
    pub async fn delete(&self) {
        let clusters = self.rayclusters();
        clusters
            .delete(CLUSTER, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Returns the RayCluster as it is stored.
    pub async fn stored(&self) -> Value {
        let object = self.rayclusters().get(CLUSTER).await.unwrap();
        serde_json::to_value(object).unwrap()
    }

    /// Changes the RayCluster as somebody else would.
    pub async fn edit(&self, patch: &Value) {
        let params = PatchParams::default();
        let clusters = self.rayclusters();
        clusters
            .patch(CLUSTER, &params, &Patch::Merge(patch))
            .await
            .unwrap();
    }

    fn rayclusters(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("ray.io", "v1", "RayCluster");
        let resource = ApiResource::from_gvk(&kind);
        Api::namespaced_with(self.admin.clone(), &self.namespace, &resource)
    }

    /// Returns the pods of the namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    /// Makes a worker pod of group `g`.
    pub async fn create_pod(&self, name: &str, cluster: &str) {
        let labels =
            json!({"ray.io/cluster": cluster, "ray.io/node-type": "worker", "ray.io/group": "g"});
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "ray", "image": "ray"}]},
        }))
        .unwrap();
        self.pods()
            .create(&PostParams::default(), &pod)
            .await
            .unwrap();
    }

    /// Returns the file with the token.
    pub fn token_path(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// Returns the folder that goes with the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a new token, as the kubelet does, with the line end that some tools leave.
    pub async fn rotate_token(&self) {
        let token = self.api.sidecar_token(&self.namespace, CLUSTER).await;
        std::fs::write(self.token_path(), token + "\n").unwrap();
    }

    /// Returns the settings of a pod that holds the token.
    pub fn settings(&self) -> KubeSettings {
        KubeSettings {
            access: ApiAccess::Pod(PodAccess {
                endpoint: self.api.url(),
                token_path: self.token_path(),
                ca_path: self.api.ca_file(),
                client_certificate: None,
            }),
            request_timeout: Duration::from_secs(10),
        }
    }

    /// Returns our client.
    pub async fn client(&self) -> KubeClient {
        self.client_with(&self.settings()).await
    }

    /// Returns our client with other settings.
    pub async fn client_with(&self, settings: &KubeSettings) -> KubeClient {
        let calls = Arc::clone(&self.calls);
        let observer = Arc::new(move |verb, status| calls.lock().unwrap().push((verb, status)));
        KubeClient::connect(settings, observer).await.unwrap()
    }

    /// Returns our client's calls since the last time: verb and status.
    pub fn calls(&self) -> Vec<(&'static str, u16)> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}
