//! A namespace on an API server, and requests as they travel.

use crate::support::kube::{ADMIN_TOKEN, KubeApi, Server};
use http::Request;
use kube::client::Body;
use kube::{Client, core::DynamicObject, core::WatchEvent};
use serde_json::{Value, json};

/// The media types of patches.
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// A namespace of a test's own.
pub(crate) struct World {
    pub(crate) api: &'static KubeApi,
    pub(crate) namespace: String,
    client: Client,
}

/// What a server has answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl World {
    pub(crate) async fn new(server: Server) -> Self {
        let api = KubeApi::shared_on(server).await;
        Self {
            api,
            namespace: api.new_namespace().await,
            client: api.plain_client_for(ADMIN_TOKEN).await,
        }
    }

    /// Returns the same namespace as the holder of `token` sees it.
    pub(crate) async fn with_token(&self, token: &str) -> Self {
        Self {
            api: self.api,
            namespace: self.namespace.clone(),
            client: self.api.plain_client_for(token).await,
        }
    }

    /// Completes a path that starts with a resource of the namespace.
    pub(crate) fn path(&self, path: &str) -> String {
        let (namespace, resource) = (&self.namespace, path.split(['/', '?']).next());
        match resource.unwrap_or_default() {
            "" => path.to_owned(),
            "rayclusters" => format!("/apis/ray.io/v1/namespaces/{namespace}/{path}"),
            "roles" | "rolebindings" => {
                format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{path}")
            }
            _ => format!("/api/v1/namespaces/{namespace}/{path}"),
        }
    }

    /// Sends a request, whose body is JSON unless the media type says otherwise.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        (content_type, body): (&str, Vec<u8>),
    ) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(self.path(path))
            .header("Content-Type", content_type)
            .header("User-Agent", "tester/1.0")
            .header("Accept", "application/json");
        let response = self.client.send(request.body(Body::from(body)).unwrap());
        let response = response.await.unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { code, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, ("application/json", Vec::new()))
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string().into_bytes();
        self.send("POST", path, ("application/json", body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string().into_bytes();
        self.send("PUT", path, ("application/json", body)).await
    }

    pub(crate) async fn patch(&self, path: &str, content_type: &str, body: &Value) -> Answer {
        let body = body.to_string().into_bytes();
        self.send("PATCH", path, (content_type, body)).await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Answer {
        let body = match options {
            Value::Null => Vec::new(),
            options => options.to_string().into_bytes(),
        };
        self.send("DELETE", path, ("application/json", body)).await
    }

    /// Watches until the server ends it, and returns what it has told.
    pub(crate) async fn watch(&self, path: &str) -> Watch {
        let request = Request::get(self.path(path)).body(Vec::new()).unwrap();
        let events = self.client.request_events::<DynamicObject>(request);
        Watch(Box::pin(events.await.unwrap()))
    }

    /// Returns the version of the latest change that a list of `resource` has seen.
    pub(crate) async fn version(&self, resource: &str) -> String {
        let listed = self.get(resource).await.ok();
        listed["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Makes a ServiceAccount with these rules in the namespace, and returns its token.
    pub(crate) async fn account(&self, name: &str, rules: &Value) -> String {
        let metadata = json!({"name": name});
        self.post("serviceaccounts", &json!({"metadata": metadata}))
            .await
            .ok();
        self.post("roles", &json!({"metadata": metadata, "rules": rules}))
            .await
            .ok();
        let binding = json!({
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.namespace}],
        });
        self.post("rolebindings", &binding).await.ok();
        let path = format!("serviceaccounts/{name}/token");
        let token = self
            .post(&path, &json!({"spec": {"expirationSeconds": 3600}}))
            .await
            .ok();
        token["status"]["token"].as_str().unwrap().to_owned()
    }
}

impl Answer {
    /// Returns the body of a success.
    pub(crate) fn ok(self) -> Value {
        assert!(self.code < 300, "{} {}", self.code, self.body);
        self.body
    }

    /// Returns status and reason of a refusal.
    pub(crate) fn refused(&self) -> (u16, &str) {
        assert_eq!(self.body["kind"], "Status", "{}", self.body);
        (self.code, self.body["reason"].as_str().unwrap_or_default())
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// Returns field and reason of each cause, each once, sorted.
    pub(crate) fn causes(&self) -> Vec<(&str, &str)> {
        let causes = self.body["details"]["causes"].as_array();
        let text = |value: &'_ Value| value.as_str().map(str::len).is_some();
        let mut causes: Vec<(&str, &str)> = causes
            .into_iter()
            .flatten()
            .filter(|cause| text(&cause["field"]))
            .map(|cause| {
                (
                    cause["field"].as_str().unwrap(),
                    cause["reason"].as_str().unwrap(),
                )
            })
            .collect();
        causes.sort_unstable();
        causes.dedup();
        causes
    }
}

/// The events of a watch.
pub(crate) struct Watch(
    std::pin::Pin<
        Box<dyn futures_util::Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + Send>,
    >,
);

impl Watch {
    /// Returns all that comes until the server ends the watch, bookmarks left out.
    pub(crate) async fn rest(mut self) -> Vec<String> {
        use futures_util::StreamExt;
        let mut told = Vec::new();
        while let Some(event) = self.0.next().await {
            told.extend(
                Some(described(event.unwrap())).filter(|text| !text.starts_with("BOOKMARK")),
            );
        }
        told
    }

    /// Returns the next event, bookmarks too.
    pub(crate) async fn next(&mut self) -> Option<String> {
        use futures_util::StreamExt;
        self.0.next().await.map(|event| described(event.unwrap()))
    }
}

fn described(event: WatchEvent<DynamicObject>) -> String {
    let name = |object: &DynamicObject| object.metadata.name.clone().unwrap();
    match event {
        WatchEvent::Added(object) => format!("ADDED {}", name(&object)),
        WatchEvent::Modified(object) => format!("MODIFIED {}", name(&object)),
        WatchEvent::Deleted(object) => format!("DELETED {}", name(&object)),
        WatchEvent::Bookmark(bookmark) => {
            format!("BOOKMARK {:?}", bookmark.metadata.annotations)
        }
        WatchEvent::Error(status) => format!("ERROR {} {}", status.code, status.reason),
    }
}

/// Returns a ConfigMap to create.
pub(crate) fn config_map(name: &str, labels: &Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})
}

/// Returns a pod to create.
pub(crate) fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

/// Returns a RayCluster to create, with one group of defaults.
pub(crate) fn cluster(name: &str) -> Value {
    json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": name},
        "spec": {
            "headGroupSpec": {"template": {}},
            "workerGroupSpecs": [{"groupName": "a", "template": {}}],
        },
    })
}
