//! Pods, read no further than a stand-in looks: who wrote which field is half of every pod, and nobody here asks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};

/// A pod without `managedFields`, and with as much of its spec as `S` has.
#[derive(Debug, Clone)]
pub(crate) struct LeanPod<S> {
    pod: Pod,
    spec: PhantomData<fn() -> S>,
}

/// A pod of which only the names of containers and the restart policy are read of its spec.
pub(crate) type PodOutline = LeanPod<Outline>;

/// A pod that can be run.
pub(crate) type PodToRun = LeanPod<PodSpec>;

impl<S> LeanPod<S> {
    /// Returns the pod; what was not read is absent.
    pub(crate) fn into_pod(self) -> Pod {
        self.pod
    }
}

/// How much of a spec is read.
pub(crate) trait SpecPart: DeserializeOwned + Debug + Clone {
    /// Returns the spec with what was read.
    fn into_spec(self) -> PodSpec;
}

impl SpecPart for PodSpec {
    fn into_spec(self) -> PodSpec {
        self
    }
}

/// What tells from a pod's status how it fares.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Outline {
    containers: Vec<Named>,
    restart_policy: Option<String>,
}

#[derive(Debug, Clone, serde::Deserialize)]
struct Named {
    name: String,
}

impl SpecPart for Outline {
    fn into_spec(self) -> PodSpec {
        let named = |container: Named| Container {
            name: container.name,
            ..Container::default()
        };
        PodSpec {
            containers: self.containers.into_iter().map(named).collect(),
            restart_policy: self.restart_policy,
            ..PodSpec::default()
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(bound = "S: SpecPart")]
struct Parts<S> {
    metadata: Metadata,
    spec: Option<S>,
    status: Option<PodStatus>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
}

impl From<Metadata> for ObjectMeta {
    fn from(read: Metadata) -> Self {
        Self {
            name: read.name,
            namespace: read.namespace,
            uid: read.uid,
            resource_version: read.resource_version,
            generation: read.generation,
            creation_timestamp: read.creation_timestamp,
            deletion_timestamp: read.deletion_timestamp,
            deletion_grace_period_seconds: read.deletion_grace_period_seconds,
            labels: read.labels,
            annotations: read.annotations,
            owner_references: read.owner_references,
            finalizers: read.finalizers,
            ..Self::default()
        }
    }
}

impl<'de, S: SpecPart> Deserialize<'de> for LeanPod<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Parts::<S>::deserialize(deserializer)?;
        let pod = Pod {
            metadata: parts.metadata.into(),
            spec: parts.spec.map(SpecPart::into_spec),
            status: parts.status,
        };
        let spec = PhantomData;
        Ok(Self { pod, spec })
    }
}

impl<S> Resource for LeanPod<S> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.pod.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.pod.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::{PodOutline, PodToRun};
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn written() -> Value {
        json!({
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2,
                "creationTimestamp": "2026-11-01T00:00:00Z", "deletionTimestamp": "2026-11-01T00:01:00Z",
                "deletionGracePeriodSeconds": 30, "labels": {"a": "b"}, "annotations": {"c": "d"},
                "finalizers": ["f/f"],
                "ownerReferences": [{"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": "c", "uid": "x"}],
                "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "ray", "image": "i"}, {"name": "log"}],
                "nodeName": "m",
            },
            "status": {"phase": "Running", "podIP": "10.0.0.1"},
        })
    }

    #[test]
    fn a_pod_to_run_lacks_nothing_but_who_wrote_it() {
        let read: PodToRun = serde_json::from_value(written()).unwrap();
        let mut whole: Pod = serde_json::from_value(written()).unwrap();
        whole.metadata.managed_fields = None;
        assert_eq!(read.into_pod(), whole);
    }

    #[test]
    fn an_outline_names_the_containers_of_a_pod() {
        let read: PodOutline = serde_json::from_value(written()).unwrap();
        let mut whole: Pod = serde_json::from_value(written()).unwrap();
        whole.metadata.managed_fields = None;
        let spec = whole.spec.as_mut().unwrap();
        spec.node_name = None;
        spec.containers[0].image = None;
        assert_eq!(read.into_pod(), whole);
    }
}
