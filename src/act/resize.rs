//! Resizes pods in place, and lets their raylets know.
//!
//! # Why the annotation is written first
//!
//! Ray's own autoscaler notes a resize after it has asked for it. Whoever ends in between leaves a pod
//! that grew and a raylet that never hears of it. Noted first, a resize that never came is a resize to
//! the size that the pod has: the raylet is told what it knows, and the note goes.
//!
//! Before that the raylet of a pod that is to grow is told to change nothing. Where Ray does not know the
//! call, nobody would ever hear of what the pod has grown by: then it does not grow.
//!
//! Before anything is written the pod is read once more. What has changed since the decision is left
//! to the next one; what changes later the annotation's resource version notices.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::model::{
    ClusterSnapshot, NodeId, PodName, PodResize, PodSize, Quantity, ResizeBasis, ResizeFailure,
    ResizeNote, ScaleDecision, WorkerGroupName,
};
use crate::wire::gcs::GcsClient;
use crate::wire::kube_client::{CallError, FIELD_MANAGER, Failure, KubeClient};
use crate::wire::pod::{ANNOTATION_RESIZE, PodFacts, PodObject};

/// How long the GCS may take: it asks the raylet, and both answer in milliseconds.
const ANSWER: Duration = Duration::from_secs(2);

/// What is to be done with one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResizeStep {
    /// Ask Kubernetes for this size.
    Ask(PodSize),
    /// Tell the raylet the size that the pod has.
    Tell,
}

impl ResizeStep {
    /// Returns the stable word for metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Ask(_) => "ask",
            Self::Tell => "tell",
        }
    }
}

/// Holds one step, and what it was decided from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizeOrder {
    /// The pod's group.
    pub group: WorkerGroupName,
    /// The pod.
    pub pod: PodName,
    /// Its raylet.
    pub node_id: NodeId,
    /// What is to be done.
    pub step: ResizeStep,
    /// Where the pod stood.
    pub from: PodResize,
}

/// Returns the steps that a decision asks for.
#[must_use]
pub fn resize_orders(snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Vec<ResizeOrder> {
    let order = |pod: &PodName, step| {
        let node = snapshot.nodes.iter().find(|node| node.name == *pod)?;
        let from = snapshot.resizing.pods.get(pod)?;
        Some(ResizeOrder {
            group: node.group.clone(),
            pod: pod.clone(),
            node_id: node.node_id?,
            step,
            from: from.clone(),
        })
    };
    let asks = decision.resizes.iter();
    let asks = asks.filter_map(|it| order(&it.pod, ResizeStep::Ask(it.desired)));
    let tells = decision.resized.iter();
    asks.chain(tells.filter_map(|pod| order(pod, ResizeStep::Tell)))
        .collect()
}

/// Says what came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resized {
    /// It is done.
    Done,
    /// The pod is not what it was; the next decision knows.
    Stale,
    /// This pod cannot be resized so.
    Refused(String),
    /// No pod can be resized: the Role, the API server or the GCS does not let us.
    NotAllowed(String),
    /// Nobody knows, or somebody did not answer.
    Failed(String),
}

impl Resized {
    /// Returns the stable word for metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Stale => "stale",
            Self::Refused(_) => "refused",
            Self::NotAllowed(_) => "not_allowed",
            Self::Failed(_) => "failed",
        }
    }

    /// Returns the words of whoever did not want to; empty when all went well.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Done | Self::Stale => "",
            Self::Refused(text) | Self::NotAllowed(text) | Self::Failed(text) => text,
        }
    }
}

/// Carries out steps.
#[derive(Debug, Clone)]
pub struct Resizer {
    gcs: GcsClient,
    kube: KubeClient,
    namespace: String,
    clock: Clock,
}

impl Resizer {
    /// Returns what resizes the pods of a namespace.
    #[must_use]
    pub fn new(gcs: &GcsClient, kube: KubeClient, namespace: &str, clock: Clock) -> Self {
        Self {
            gcs: gcs.clone().with_deadline(ANSWER),
            kube,
            namespace: namespace.to_owned(),
            clock,
        }
    }

    /// Carries out one step.
    pub async fn carry_out(&self, order: &ResizeOrder) -> Resized {
        let Some(basis) = order.from.basis.as_deref() else {
            return Resized::Stale;
        };
        let done = match order.step {
            ResizeStep::Ask(desired) => self.ask(order, basis, desired).await,
            ResizeStep::Tell => self.tell(order, basis).await,
        };
        done.err().unwrap_or(Resized::Done)
    }

    async fn ask(
        &self,
        order: &ResizeOrder,
        basis: &ResizeBasis,
        desired: PodSize,
    ) -> Result<(), Resized> {
        let version = self.look_again(order, basis).await?;
        let current = order.from.current;
        let mut desired = desired;
        if desired.min(current) != current {
            // Less than what is in use it does not become; the answer says what it is now.
            let left = self.tell_raylet(order, desired.min(current)).await?;
            if desired.cpu < current.cpu {
                desired.cpu = left.cpu;
            }
            if desired.memory < current.memory {
                desired.memory = left.memory;
            }
        } else if desired != current {
            self.call_raylet(order, []).await?;
        }
        let mut note = basis.note.clone();
        note.resizing_at = Some(self.clock.now());
        note.raylet_id = Some(order.node_id.to_string());
        let version = self.note(order, (basis, &version), &note).await?;
        let Err(error) = self.resize(order, basis, desired).await else {
            return Ok(());
        };
        let is_final = matches!(error.failure(), Failure::Forbidden | Failure::Rejected);
        if is_for_all(&error) {
            return Err(Resized::NotAllowed(error.to_string()));
        }
        if !is_final {
            return Err(Resized::Failed(error.to_string()));
        }
        // What asked for less and was refused stays as it is; the raylet hears so with the next step.
        let reason = error.to_string();
        note.failure.get_or_insert(ResizeFailure {
            at: self.clock.now(),
            reason: reason.clone(),
        });
        self.note(order, (basis, &version), &note).await?;
        Err(Resized::Refused(reason))
    }

    async fn tell(&self, order: &ResizeOrder, basis: &ResizeBasis) -> Result<(), Resized> {
        let version = self.look_again(order, basis).await?;
        self.tell_raylet(order, order.from.current).await?;
        let mut note = basis.note.clone();
        note.resizing_at = None;
        note.raylet_id = Some(order.node_id.to_string());
        self.note(order, (basis, &version), &note).await.map(drop)
    }

    /// Returns the pod's resource version, if the pod is what it was.
    async fn look_again(
        &self,
        order: &ResizeOrder,
        basis: &ResizeBasis,
    ) -> Result<String, Resized> {
        let path = self.path(order, "");
        let pod: PodObject = match self.kube.get(&path).await {
            Ok(pod) => pod,
            Err(error) if error.failure() == Failure::NotFound => return Err(Resized::Stale),
            Err(error) => return Err(Resized::Failed(error.to_string())),
        };
        let facts = pod.facts();
        if is_same(facts, (basis, order.from.current)) && !facts.is_terminating() {
            Ok(facts.resource_version.clone())
        } else {
            Err(Resized::Stale)
        }
    }

    /// Tells the raylet its totals, and returns those that it has then.
    async fn tell_raylet(&self, order: &ResizeOrder, size: PodSize) -> Result<PodSize, Resized> {
        let totals = [("CPU", size.cpu), ("memory", size.memory)];
        let total = self.call_raylet(order, totals).await?;
        let amount = |name: &str| {
            let value = total.get(name).copied();
            let missing = || Resized::Failed(format!("the raylet says nothing of its {name}"));
            value.and_then(Quantity::from_f64).ok_or_else(missing)
        };
        Ok(PodSize {
            cpu: amount("CPU")?,
            memory: amount("memory")?,
        })
    }

    /// Sets totals of the raylet, and returns all that it has then.
    async fn call_raylet<const N: usize>(
        &self,
        order: &ResizeOrder,
        totals: [(&str, Quantity); N],
    ) -> Result<BTreeMap<String, f64>, Resized> {
        let named = totals.map(|(name, amount)| (name.to_owned(), amount.as_f64()));
        let id = order.node_id.as_bytes().to_vec();
        let reply = self.gcs.resize_raylet(id, named.into()).await;
        reply.map_err(|error| {
            let text = error.to_string();
            if error.is_unimplemented() {
                Resized::NotAllowed(text)
            } else {
                Resized::Failed(text)
            }
        })
    }

    /// Writes the annotation, and returns the pod's resource version then.
    async fn note(
        &self,
        order: &ResizeOrder,
        (basis, version): (&ResizeBasis, &str),
        note: &ResizeNote,
    ) -> Result<String, Resized> {
        let body = json!({"metadata": {
            "uid": basis.uid,
            "resourceVersion": version,
            "annotations": {ANNOTATION_RESIZE: note.to_text()},
        }});
        let body = (
            "application/merge-patch+json",
            body.to_string().into_bytes(),
        );
        let path = self.path(order, "");
        let pod: Result<PodObject, CallError> = self.kube.send(Method::PATCH, &path, body).await;
        match pod {
            Ok(pod) => Ok(pod.facts().resource_version.clone()),
            Err(error) => Err(match error.failure() {
                Failure::Conflict | Failure::NotFound => Resized::Stale,
                Failure::Forbidden => Resized::NotAllowed(error.to_string()),
                _ => Resized::Failed(error.to_string()),
            }),
        }
    }

    async fn resize(
        &self,
        order: &ResizeOrder,
        basis: &ResizeBasis,
        desired: PodSize,
    ) -> Result<(), CallError> {
        let ops = resize_ops(basis, desired).to_string().into_bytes();
        let path = self.path(order, "/resize");
        let body = ("application/json-patch+json", ops);
        let answer: Value = self.kube.send(Method::PATCH, &path, body).await?;
        drop(answer);
        Ok(())
    }

    fn path(&self, order: &ResizeOrder, subresource: &str) -> String {
        let (namespace, pod) = (&self.namespace, &order.pod);
        format!(
            "/api/v1/namespaces/{namespace}/pods/{pod}{subresource}?fieldManager={FIELD_MANAGER}"
        )
    }
}

/// Returns whether a pod is what it was when something was decided about it.
fn is_same(facts: &PodFacts, (basis, current): (&ResizeBasis, PodSize)) -> bool {
    let Some(sizing) = facts.sizing.as_deref() else {
        return false;
    };
    facts.uid == basis.uid
        && sizing.noted.as_deref() == basis.noted.as_deref()
        && sizing.spec.size().map(PodSize::of) == Some(basis.asked)
        && sizing.actual().size().map(PodSize::of) == Some(current)
}

/// Returns the JSON Patch for a size: limits as wanted, requests as far below them as they are, so
/// that the pod's quality of service stays.
fn resize_ops(basis: &ResizeBasis, desired: PodSize) -> Value {
    let mut ops = vec![json!({"op": "test", "path": "/metadata/uid", "value": basis.uid})];
    // Whole 1/1000: Kubernetes takes no less.
    let cpu = |amount: Quantity| format!("{}m", amount.units() / (Quantity::SCALE / 1000));
    let memory = |amount: Quantity| (amount.units() / Quantity::SCALE).to_string();
    let mut set = |of: &str, name: &str, value: String| {
        let path = format!("/spec/containers/0/resources/{of}/{name}");
        ops.push(json!({"op": "replace", "path": path, "value": value}));
    };
    for (name, amount, gap, text) in [
        (
            "cpu",
            desired.cpu,
            basis.cpu_gap,
            &cpu as &dyn Fn(Quantity) -> String,
        ),
        ("memory", desired.memory, basis.memory_gap, &memory),
    ] {
        if gap.is_some() {
            set("limits", name, text(amount));
        }
        set(
            "requests",
            name,
            text(amount.saturating_sub(gap.unwrap_or_default())),
        );
    }
    Value::Array(ops)
}

/// Returns whether an answer to a resize speaks of all pods, not of this one: the Role lacks the right,
/// or the API server does not know how.
fn is_for_all(error: &CallError) -> bool {
    let CallError::Refused {
        failure, message, ..
    } = error
    else {
        return false;
    };
    match failure {
        // A machine without room is a 403 as well.
        Failure::Forbidden => message.contains("cannot patch resource"),
        Failure::NotFound => message.contains("could not find the requested resource"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_for_all, resize_ops};
    use crate::model::{PodSize, ResizeBasis};
    use crate::wire::kube_client::CallError;

    #[test]
    fn requests_stay_as_far_below_the_limits_as_they_are() {
        let basis = ResizeBasis {
            uid: "u".to_owned(),
            cpu_gap: Some(PodSize::of((500, 0)).cpu),
            memory_gap: Some(PodSize::of((0, 1 << 30)).memory),
            ..ResizeBasis::default()
        };
        let ops = resize_ops(&basis, PodSize::of((4_000, 8 << 30)));
        let expected = serde_json::json!([
            {"op": "test", "path": "/metadata/uid", "value": "u"},
            {"op": "replace", "path": "/spec/containers/0/resources/limits/cpu", "value": "4000m"},
            {"op": "replace", "path": "/spec/containers/0/resources/requests/cpu", "value": "3500m"},
            {"op": "replace", "path": "/spec/containers/0/resources/limits/memory", "value": "8589934592"},
            {"op": "replace", "path": "/spec/containers/0/resources/requests/memory", "value": "7516192768"},
        ]);
        assert_eq!(ops, expected);
    }

    #[test]
    fn without_a_limit_only_the_request_is_written() {
        let ops = resize_ops(&ResizeBasis::default(), PodSize::of((1_500, 5)));
        let paths: Vec<_> = ops
            .as_array()
            .unwrap()
            .iter()
            .map(|op| op["path"].clone())
            .collect();
        assert_eq!(
            paths[1..],
            [
                "/spec/containers/0/resources/requests/cpu",
                "/spec/containers/0/resources/requests/memory"
            ]
        );
    }

    #[test]
    fn a_machine_without_room_is_no_missing_right() {
        let no_room = "pods \"w\" is forbidden: node didn't have enough allocatable resources: cpu";
        let no_right = "pods \"w\" is forbidden: User \"x\" cannot patch resource \"pods/resize\" in API group \"\" in the namespace \"n\"";
        assert!(!is_for_all(&CallError::refused(403, no_room)));
        assert!(is_for_all(&CallError::refused(403, no_right)));
        assert!(is_for_all(&CallError::refused(
            404,
            "the server could not find the requested resource"
        )));
        assert!(!is_for_all(&CallError::refused(
            404,
            "pods \"w\" not found"
        )));
    }
}
