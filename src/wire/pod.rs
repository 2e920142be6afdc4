//! The pod fields we read, and nothing else.
//!
//! # Why not k8s-openapi's `Pod`
//!
//! Most of a pod is managed fields, volumes, probes and environment, and a reflector keeps every pod
//! of the cluster. These fields take about 1 kB with their texts, 10 MB for 10,000 workers;
//! everything else is skipped while the reply is parsed and never allocated.

mod raw;
mod sizing;

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use raw::RawPod;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
pub use sizing::{PodAmounts, PodSizing, ResizeCondition};

/// Names the RayCluster a pod belongs to.
pub const LABEL_CLUSTER: &str = "ray.io/cluster";
/// Tells `head` from `worker` and from helpers such as `redis-cleanup`.
pub const LABEL_NODE_TYPE: &str = "ray.io/node-type";
/// Names the worker group; `headgroup` for the head.
pub const LABEL_GROUP: &str = "ray.io/group";
/// Names the replica; absent where the operator does not index replicas.
pub const LABEL_REPLICA_NAME: &str = "ray.io/worker-group-replica-name";
/// The same on TPU pods, set by Google's webhook whether the operator indexes replicas or not.
pub const LABEL_REPLICA_NAME_TPU: &str = "replicaIndex";
/// Numbers the replica; reused, so never a key.
pub const LABEL_REPLICA_INDEX: &str = "ray.io/worker-group-replica-index";
/// Numbers the host in its replica.
pub const LABEL_HOST_INDEX: &str = "ray.io/replica-host-index";

/// Asks for the pod to be drained and removed: `true`, or the time that it may take.
pub const ANNOTATION_DRAIN: &str = "rayscaler.io/drain";
/// Asks for the pod to be left alone: `true`, or until when.
pub const ANNOTATION_PROTECT: &str = "rayscaler.io/protect";
/// Says how far the resize of the pod in place has come; Ray's own autoscaler reads and writes it too.
pub const ANNOTATION_RESIZE: &str = "ray.io/ippr-status";

/// What the kubelet and others write into `status.reason` of a pod that had to make room, or whose
/// machine went down.
const DRIVEN_OUT: [&str; 7] = [
    "Evicted",
    "NodeLost",
    "NodeShutdown",
    "Preempted",
    "Preempting",
    "Shutdown",
    "Terminated",
];

/// Says how far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PodPhase {
    /// Not all containers have started.
    #[default]
    Pending,
    /// At least one container runs.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, at least one badly.
    Failed,
    /// The kubelet cannot be asked.
    Unknown,
}

/// Says what the Ray container does.
///
/// Units: milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// It does not run (yet, or any more).
    Waiting {
        /// `ImagePullBackOff`, `CrashLoopBackOff`, `PodInitializing`, ...
        reason: String,
    },
    /// It runs.
    Running {
        /// Since when.
        started_at_ms: Option<i64>,
    },
    /// It ended.
    Terminated {
        /// How.
        exit_code: i64,
        /// `Error`, `OOMKilled`, `Completed`, ...
        reason: String,
    },
}

/// Holds what is known of the Ray container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RayContainer {
    /// What it does.
    pub state: ContainerState,
    /// How often it was started again.
    pub restart_count: u32,
    /// Whether it is ready.
    pub is_ready: bool,
}

/// Holds what annotations ask for one pod, as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodAsks {
    /// `rayscaler.io/drain`.
    pub drain: Option<String>,
    /// `rayscaler.io/protect`.
    pub protect: Option<String>,
    /// The moment that `protect` names. Units: milliseconds since 1970; `None` when it names none.
    pub protect_until_ms: Option<i64>,
}

/// Holds what we know of one pod.
///
/// Units: moments in milliseconds since 1970.
/// Source: `Pod` of `v1`, of which everything else is dropped while parsing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodFacts {
    /// `metadata.name`, the instance id of its Ray node.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Label `ray.io/cluster`.
    pub cluster: String,
    /// Label `ray.io/node-type`; empty when absent.
    pub node_type: String,
    /// Label `ray.io/group`; empty when absent.
    pub group: String,
    /// Label `ray.io/worker-group-replica-name`, else the TPU webhook's `replicaIndex`.
    pub replica_name: Option<String>,
    /// Label `ray.io/worker-group-replica-index`.
    pub replica_index: Option<u32>,
    /// Label `ray.io/replica-host-index`.
    pub host_index: Option<u32>,
    /// `metadata.creationTimestamp`; whole seconds, as Kubernetes writes it.
    pub created_at_ms: Option<i64>,
    /// `metadata.deletionTimestamp`: when the grace period ends, not when it began.
    pub deletion_at_ms: Option<i64>,
    /// `status.phase`.
    pub phase: PodPhase,
    /// `status.reason`: `Evicted`, `Preempting`, ...
    pub reason: String,
    /// Whether the condition `DisruptionTarget` is true: preempted, evicted, or its machine is gone.
    pub is_disrupted: bool,
    /// `status.podIP`; empty until there is one.
    pub pod_ip: String,
    /// `status.hostIP`; empty until there is one.
    pub host_ip: String,
    /// `spec.nodeName`; empty until bound.
    pub node_name: String,
    /// Status of the container that is the first in `spec.containers`, looked up by its name:
    /// the order of `containerStatuses` means nothing.
    pub ray_container: Option<RayContainer>,
    /// Why an init container waits (`ImagePullBackOff`); empty when none does.
    pub init_waiting_reason: String,
    /// Whether `spec.restartPolicy` is `Never`: a container that ended does not come back.
    pub is_never_restarted: bool,
    /// `reason` of the condition `PodScheduled` while it is not true: `Unschedulable`, `SchedulingGated`.
    pub unscheduled_reason: String,
    /// `message` of that condition.
    pub unscheduled_message: String,
    /// `spec.schedulingGates[].name`.
    pub scheduling_gates: Vec<String>,
    /// What annotations ask; in a box, since hardly any pod has such annotations.
    pub asks: Option<Box<PodAsks>>,
    /// What the Ray container is given; `None` when it has neither requests nor limits.
    pub sizing: Option<Box<PodSizing>>,
}

impl PodFacts {
    /// Returns the facts in the JSON of a pod.
    ///
    /// Errors: a field that we read has a type that the API server would refuse.
    pub fn from_value(value: &Value) -> Result<Self, serde_json::Error> {
        PodObject::deserialize(value).map(|pod| pod.facts)
    }

    /// Returns whether the Ray container has ended and will not be started again.
    ///
    /// The phase alone does not say so: a pod is called failed before the kubelet has ended it.
    #[must_use]
    pub fn ray_has_ended(&self) -> bool {
        let state = self.ray_container.as_ref().map(|it| &it.state);
        let is_terminated = matches!(state, Some(ContainerState::Terminated { .. }));
        let is_over = matches!(self.phase, PodPhase::Failed | PodPhase::Succeeded);
        is_terminated && (is_over || self.is_never_restarted || self.is_terminating())
    }

    /// Returns whether the operator takes the pod for unhealthy and replaces it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let container = self.ray_container.as_ref().map(|it| &it.state);
        let is_terminated = matches!(container, Some(ContainerState::Terminated { .. }));
        match self.phase {
            PodPhase::Failed | PodPhase::Succeeded => true,
            PodPhase::Running => self.is_never_restarted && is_terminated,
            PodPhase::Pending | PodPhase::Unknown => false,
        }
    }

    /// Returns whether the pod has ended, and nobody but itself has ended it: it was not deleted, and
    /// its machine neither needed the room nor went down.
    #[must_use]
    pub fn has_ended_by_itself(&self) -> bool {
        let is_driven_out = self.is_disrupted || DRIVEN_OUT.contains(&self.reason.as_str());
        self.has_ended() && !self.is_terminating() && !is_driven_out
    }

    /// Returns whether the pod has a deletion timestamp.
    #[must_use]
    pub const fn is_terminating(&self) -> bool {
        self.deletion_at_ms.is_some()
    }
}

/// Holds a pod as a kube reflector stores it.
///
/// Shape: `metadata` has name, namespace, uid and resource version only, which is what a
/// reflector needs.
#[derive(Debug, Clone)]
pub struct PodObject {
    metadata: ObjectMeta,
    facts: PodFacts,
}

impl PodObject {
    /// Returns what we know of the pod.
    #[must_use]
    pub const fn facts(&self) -> &PodFacts {
        &self.facts
    }
}

impl Resource for PodObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de> Deserialize<'de> for PodObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawPod::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::{Value, json};

    use super::{ContainerState, PodFacts, PodObject, PodPhase};

    fn pod(status: &Value) -> PodFacts {
        let value = json!({
            "metadata": {
                "name": "c-g-worker-x", "namespace": "n", "uid": "u", "resourceVersion": "9",
                "creationTimestamp": "2026-11-25T01:02:03Z",
                "managedFields": [{"fieldsV1": {"f:x": {}}}],
                "labels": {"ray.io/cluster": "c", "ray.io/node-type": "worker", "ray.io/group": "g",
                    "ray.io/worker-group-replica-name": "g-abc", "ray.io/worker-group-replica-index": "2",
                    "ray.io/replica-host-index": "1", "other": "x"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "ray", "image": "i"}, {"name": "side"}],
                "schedulingGates": [{"name": "q"}], "volumes": [{}]},
            "status": status,
        });
        PodFacts::from_value(&value).unwrap()
    }

    #[test]
    fn labels_and_times_are_read() {
        let facts = pod(&json!(null));
        assert_eq!(
            (
                facts.cluster.as_str(),
                facts.node_type.as_str(),
                facts.group.as_str()
            ),
            ("c", "worker", "g")
        );
        assert_eq!(
            (
                facts.replica_name.as_deref(),
                facts.replica_index,
                facts.host_index
            ),
            (Some("g-abc"), Some(2), Some(1))
        );
        assert_eq!(facts.created_at_ms, Some(1_795_568_523_000));
        assert!(facts.is_never_restarted && !facts.is_terminating());
        assert_eq!(facts.scheduling_gates, ["q"]);
        assert_eq!(facts.phase, PodPhase::Pending);
    }

    #[test]
    fn annotations_that_ask_something_are_read() {
        let asks = |annotations: Value| {
            let value = json!({"metadata": {"name": "p", "annotations": annotations}});
            PodFacts::from_value(&value).unwrap().asks
        };
        assert_eq!(asks(json!({"other": "x"})), None);
        let found = asks(json!({"rayscaler.io/drain": "10s", "other": "x",
            "rayscaler.io/protect": "2026-11-25T01:02:03Z"}));
        let found = found.unwrap();
        assert_eq!(found.drain.as_deref(), Some("10s"));
        assert_eq!(found.protect_until_ms, Some(1_795_568_523_000));
        let found = asks(json!({"rayscaler.io/protect": "true"})).unwrap();
        assert_eq!(
            (found.protect.as_deref(), found.protect_until_ms),
            (Some("true"), None)
        );
        let names = [super::ANNOTATION_DRAIN, super::ANNOTATION_PROTECT];
        assert_eq!(names, ["rayscaler.io/drain", "rayscaler.io/protect"]);
    }

    #[test]
    fn the_ray_container_is_found_by_name_wherever_its_status_stands() {
        let facts = pod(
            &json!({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [
            {"name": "a-side", "restartCount": 7, "state": {"terminated": {"exitCode": 1}}},
            {"name": "ray", "restartCount": 1, "ready": true, "state": {"running": {"startedAt": "1970-01-01T00:00:01Z"}}}]}),
        );
        let ray = facts.ray_container.unwrap();
        assert_eq!(
            ray.state,
            ContainerState::Running {
                started_at_ms: Some(1000)
            }
        );
        assert_eq!(
            (ray.restart_count, ray.is_ready, facts.pod_ip.as_str()),
            (1, true, "10.0.0.1")
        );
    }

    #[test]
    fn reasons_of_waiting_are_read() {
        let facts = pod(&json!({"phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False", "reason": "no"},
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}],
            "initContainerStatuses": [{"name": "wait", "state": {"waiting": {"reason": "ErrImagePull"}}}],
            "containerStatuses": [{"name": "ray", "state": {}}]}));
        assert_eq!(
            (
                facts.unscheduled_reason.as_str(),
                facts.unscheduled_message.as_str()
            ),
            ("Unschedulable", "0/3 nodes")
        );
        assert_eq!(facts.init_waiting_reason, "ErrImagePull");
        assert_eq!(
            facts.ray_container.unwrap().state,
            ContainerState::Waiting {
                reason: String::new()
            }
        );
    }

    #[test]
    fn a_pod_stays_small_in_the_reflectors_store() {
        assert!(std::mem::size_of::<PodObject>() <= 832);
    }

    #[test]
    fn lists_and_watch_events_of_kube_hold_it() {
        let list = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"a"}}]}"#;
        let list: ObjectList<PodObject> = serde_json::from_str(list).unwrap();
        assert_eq!(list.items[0].facts().name, "a");
        let event = r#"{"type":"MODIFIED","object":{"kind":"Pod","metadata":{"name":"b","deletionTimestamp":"2026-11-25T01:02:03Z"}}}"#;
        let event: WatchEvent<PodObject> = serde_json::from_str(event).unwrap();
        assert!(matches!(event, WatchEvent::Modified(pod) if pod.facts().is_terminating()));
    }
}
