//! What the Ray container of a pod is given, and how far a resize in place has come.
//!
//! Numbers, not texts: a reflector keeps this of every pod.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::wire::KubeQuantity;

/// Holds limits and requests of a container.
///
/// Units: processors in 1/1000, memory in bytes; `None` when it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PodAmounts {
    /// `limits.cpu`.
    pub cpu_limit: Option<i64>,
    /// `requests.cpu`.
    pub cpu_request: Option<i64>,
    /// `limits.memory`.
    pub memory_limit: Option<i64>,
    /// `requests.memory`.
    pub memory_request: Option<i64>,
}

impl PodAmounts {
    /// Returns processors and memory: the limit, or the request where there is no limit.
    #[must_use]
    pub fn size(&self) -> Option<(i64, i64)> {
        let either = |limit: Option<i64>, request| limit.filter(|it| *it > 0).or(request);
        let cpu = either(self.cpu_limit, self.cpu_request);
        cpu.zip(either(self.memory_limit, self.memory_request))
    }

    /// Returns by how much the limits are above the requests; `None` where there is no limit.
    #[must_use]
    pub fn gaps(&self) -> (Option<i64>, Option<i64>) {
        let gap = |limit: Option<i64>, request: Option<i64>| {
            let limit = limit.filter(|it| *it > 0)?;
            Some(limit.saturating_sub(request.unwrap_or(limit)))
        };
        (
            gap(self.cpu_limit, self.cpu_request),
            gap(self.memory_limit, self.memory_request),
        )
    }
}

/// Holds the condition `PodResizePending` or `PodResizeInProgress` while it is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizeCondition {
    /// Whether it is `PodResizePending`.
    pub is_pending: bool,
    /// `reason`: `Deferred`, `Infeasible`, `Error`, or nothing.
    pub reason: String,
    /// `message`.
    pub message: String,
}

/// Holds what the Ray container is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSizing {
    /// What `spec.containers[0].resources` asks for.
    pub spec: PodAmounts,
    /// What the kubelet says that it has; `None` when it does not say.
    pub status: Option<PodAmounts>,
    /// The requests of all other containers, as the kubelet says: processors in 1/1000, bytes.
    pub others: (i64, i64),
    /// Why a resize is not done; in a box, since there hardly ever is one.
    pub condition: Option<Box<ResizeCondition>>,
    /// The annotation `ray.io/ippr-status`, as it is written.
    pub noted: Option<Box<str>>,
}

impl PodSizing {
    /// Returns what the container has, as far as anybody knows.
    #[must_use]
    pub fn actual(&self) -> &PodAmounts {
        self.status.as_ref().unwrap_or(&self.spec)
    }
}

/// Holds `resources` of a container, or of its status.
#[derive(Deserialize, Default)]
pub(super) struct RawResources {
    limits: Option<BTreeMap<String, Value>>,
    requests: Option<BTreeMap<String, Value>>,
}

type Amounts = Option<BTreeMap<String, Value>>;

impl RawResources {
    pub(super) fn amounts(&self) -> PodAmounts {
        amounts(&self.limits, &self.requests)
    }

    /// Returns the amounts, with `other`'s limits or requests where these say nothing at all.
    pub(super) fn amounts_or(&self, other: &Self) -> PodAmounts {
        let either = |own: &Amounts, other: &Amounts| own.clone().or_else(|| other.clone());
        amounts(
            &either(&self.limits, &other.limits),
            &either(&self.requests, &other.requests),
        )
    }

    pub(super) fn request(&self, name: &str) -> Option<i64> {
        read(&self.requests, name)
    }
}

fn amounts(limits: &Amounts, requests: &Amounts) -> PodAmounts {
    PodAmounts {
        cpu_limit: read(limits, "cpu"),
        cpu_request: read(requests, "cpu"),
        memory_limit: read(limits, "memory"),
        memory_request: read(requests, "memory"),
    }
}

fn read(amounts: &Amounts, name: &str) -> Option<i64> {
    let quantity = match amounts.as_ref()?.get(name)? {
        Value::String(text) => KubeQuantity::parse(text),
        Value::Number(number) => KubeQuantity::parse(&number.to_string()),
        _ => None,
    }?;
    let is_cpu = name == "cpu";
    Some(if is_cpu {
        quantity.millis()
    } else {
        quantity.whole()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::wire::pod::{PodAmounts, PodFacts, PodSizing};

    fn sizing(value: &Value) -> Option<PodSizing> {
        let facts = PodFacts::from_value(value).unwrap();
        facts.sizing.map(|sizing| *sizing)
    }

    fn pod() -> Value {
        json!({
            "metadata": {"name": "p", "annotations": {"ray.io/ippr-status": "{}"}},
            "spec": {"containers": [
                {"name": "ray", "resources": {"limits": {"cpu": "4", "memory": "2Gi"}, "requests": {"cpu": "3500m", "memory": "1Gi"}}},
                {"name": "side", "resources": {"requests": {"cpu": "9"}}}]},
            "status": {
                "conditions": [{"type": "PodResizePending", "status": "False", "reason": "Deferred"},
                    {"type": "PodResizeInProgress", "status": "True", "reason": "Error", "message": "m"}],
                "containerStatuses": [
                    {"name": "side", "resources": {"requests": {"cpu": "250m", "memory": "1Mi"}}},
                    {"name": "ray", "resources": {"limits": {"cpu": 1, "memory": "2Gi"}}}]},
        })
    }

    #[test]
    fn what_is_asked_for_and_what_is_there_are_read() {
        let found = sizing(&pod()).unwrap();
        assert_eq!(found.spec.size(), Some((4_000, 2 << 30)));
        assert_eq!(found.spec.gaps(), (Some(500), Some(1 << 30)));
        assert_eq!(found.actual().size(), Some((1_000, 2 << 30)));
        assert_eq!(found.actual().cpu_request, Some(3_500), "as the spec says");
        assert_eq!(found.others, (250, 1 << 20));
        let condition = found.condition.unwrap();
        assert!(!condition.is_pending);
        assert_eq!(
            (condition.reason.as_str(), condition.message.as_str()),
            ("Error", "m")
        );
        assert_eq!(found.noted.as_deref(), Some("{}"));
    }

    #[test]
    fn without_a_status_the_spec_counts_and_without_a_limit_the_request() {
        let value = json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "ray", "resources": {"requests": {"cpu": "2", "memory": "5"}}}]}});
        let found = sizing(&value).unwrap();
        assert_eq!(found.actual().size(), Some((2_000, 5)));
        assert_eq!(found.actual().gaps(), (None, None));
    }

    #[test]
    fn a_container_without_resources_has_no_size() {
        assert_eq!(
            sizing(&json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "ray"}]}})),
            None
        );
        let only_cpu = PodAmounts {
            cpu_limit: Some(1),
            ..PodAmounts::default()
        };
        assert_eq!(only_cpu.size(), None);
    }
}
