//! A pod as the API server writes it, cut down to what [`PodFacts`] needs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use super::sizing::RawResources;
use super::{
    ContainerState, LABEL_CLUSTER, LABEL_GROUP, LABEL_HOST_INDEX, LABEL_NODE_TYPE,
    LABEL_REPLICA_INDEX, LABEL_REPLICA_NAME, LABEL_REPLICA_NAME_TPU, PodAsks, PodFacts, PodObject,
    PodPhase, PodSizing, RayContainer, ResizeCondition,
};

#[derive(Deserialize)]
pub(super) struct RawPod {
    metadata: RawMetadata,
    spec: Option<RawSpec>,
    status: Option<RawStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<RawAnnotations>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
}

/// The annotations that we read; the names are those of the constants `ANNOTATION_`.
#[derive(Deserialize)]
struct RawAnnotations {
    #[serde(rename = "rayscaler.io/drain")]
    drain: Option<String>,
    #[serde(rename = "rayscaler.io/protect")]
    protect: Option<String>,
    #[serde(rename = "ray.io/ippr-status")]
    resize: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawSpec {
    node_name: Option<String>,
    restart_policy: Option<String>,
    containers: Option<Vec<RawContainer>>,
    scheduling_gates: Option<Vec<RawNamed>>,
}

#[derive(Deserialize)]
struct RawNamed {
    name: String,
}

#[derive(Deserialize)]
struct RawContainer {
    name: String,
    #[serde(default)]
    resources: RawResources,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawStatus {
    phase: Option<String>,
    reason: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    conditions: Option<Vec<RawCondition>>,
    container_statuses: Option<Vec<RawContainerStatus>>,
    init_container_statuses: Option<Vec<RawContainerStatus>>,
}

#[derive(Deserialize)]
struct RawCondition {
    r#type: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainerStatus {
    name: String,
    restart_count: Option<i64>,
    ready: Option<bool>,
    state: Option<RawState>,
    resources: Option<RawResources>,
}

#[derive(Deserialize, Default)]
struct RawState {
    waiting: Option<RawReason>,
    running: Option<RawRunning>,
    terminated: Option<RawReason>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRunning {
    started_at: Option<Time>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReason {
    reason: Option<String>,
    exit_code: Option<i64>,
}

impl From<RawPod> for PodObject {
    fn from(raw: RawPod) -> Self {
        let metadata = ObjectMeta {
            name: raw.metadata.name.clone(),
            namespace: raw.metadata.namespace.clone(),
            uid: raw.metadata.uid.clone(),
            resource_version: raw.metadata.resource_version.clone(),
            ..ObjectMeta::default()
        };
        let mut facts = PodFacts::default();
        let ray = fill_spec(&mut facts, raw.spec.unwrap_or_default());
        let annotations = raw.metadata.annotations.as_ref();
        let noted = annotations.and_then(|it| it.resize.clone());
        fill_metadata(&mut facts, raw.metadata);
        let status = raw.status.unwrap_or_default();
        facts.sizing = sizing(&ray, &status, noted).map(Box::new);
        fill_status(&mut facts, &ray.name, status);
        Self { metadata, facts }
    }
}

fn fill_metadata(facts: &mut PodFacts, raw: RawMetadata) {
    let mut labels = raw.labels.unwrap_or_default();
    let mut text = |label| labels.remove(label);
    facts.name = raw.name.unwrap_or_default();
    facts.uid = raw.uid.unwrap_or_default();
    facts.resource_version = raw.resource_version.unwrap_or_default();
    facts.cluster = text(LABEL_CLUSTER).unwrap_or_default();
    facts.node_type = text(LABEL_NODE_TYPE).unwrap_or_default();
    facts.group = text(LABEL_GROUP).unwrap_or_default();
    facts.replica_name = text(LABEL_REPLICA_NAME)
        .or_else(|| text(LABEL_REPLICA_NAME_TPU))
        .filter(|name| !name.is_empty());
    facts.replica_index = text(LABEL_REPLICA_INDEX).and_then(|index| index.parse().ok());
    facts.host_index = text(LABEL_HOST_INDEX).and_then(|index| index.parse().ok());
    facts.created_at_ms = raw.creation_timestamp.map(millis);
    facts.deletion_at_ms = raw.deletion_timestamp.map(millis);
    facts.asks = raw.annotations.and_then(asks);
}

fn asks(raw: RawAnnotations) -> Option<Box<PodAsks>> {
    let RawAnnotations { drain, protect, .. } = raw;
    if drain.is_none() && protect.is_none() {
        return None;
    }
    let moment = protect.as_deref().map(str::trim);
    let until = moment.and_then(|text| serde_json::from_value::<Time>(text.into()).ok());
    Some(Box::new(PodAsks {
        drain,
        protect,
        protect_until_ms: until.map(millis),
    }))
}

/// Fills what the spec says and returns the Ray container.
fn fill_spec(facts: &mut PodFacts, raw: RawSpec) -> RawContainer {
    facts.node_name = raw.node_name.unwrap_or_default();
    facts.is_never_restarted = raw.restart_policy.as_deref() == Some("Never");
    let gates = raw.scheduling_gates.unwrap_or_default();
    facts.scheduling_gates = gates.into_iter().map(|gate| gate.name).collect();
    let first = raw.containers.unwrap_or_default().into_iter().next();
    first.unwrap_or_else(|| RawContainer {
        name: String::new(),
        resources: RawResources::default(),
    })
}

fn fill_status(facts: &mut PodFacts, ray_name: &str, raw: RawStatus) {
    facts.phase = match raw.phase.as_deref() {
        None | Some("Pending") => PodPhase::Pending,
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        Some(_) => PodPhase::Unknown,
    };
    facts.reason = raw.reason.unwrap_or_default();
    facts.pod_ip = raw.pod_ip.unwrap_or_default();
    facts.host_ip = raw.host_ip.unwrap_or_default();
    let is_unscheduled =
        |condition: &RawCondition| condition.r#type == "PodScheduled" && condition.status != "True";
    let conditions = raw.conditions.unwrap_or_default();
    facts.is_disrupted = conditions
        .iter()
        .any(|condition| condition.r#type == "DisruptionTarget" && condition.status == "True");
    if let Some(condition) = conditions.into_iter().find(is_unscheduled) {
        facts.unscheduled_reason = condition.reason.unwrap_or_default();
        facts.unscheduled_message = condition.message.unwrap_or_default();
    }
    let statuses = raw.container_statuses.unwrap_or_default();
    let ray = statuses.into_iter().find(|status| status.name == ray_name);
    facts.ray_container = ray.and_then(ray_container);
    let waiting = |status: RawContainerStatus| status.state?.waiting?.reason;
    let init = raw.init_container_statuses.unwrap_or_default();
    facts.init_waiting_reason = init
        .into_iter()
        .filter_map(waiting)
        // An init container waits for the one before it with this reason; nothing is wrong then.
        .find(|reason| reason != "PodInitializing")
        .unwrap_or_default();
}

/// Returns what the Ray container is given; `None` when nothing says.
fn sizing(ray: &RawContainer, status: &RawStatus, noted: Option<String>) -> Option<PodSizing> {
    let mut sizing = PodSizing {
        spec: ray.resources.amounts(),
        status: None,
        others: Default::default(),
        condition: None,
        noted: noted.map(String::into_boxed_str),
    };
    for container in status.container_statuses.iter().flatten() {
        let resources = container.resources.as_ref();
        if container.name == ray.name {
            sizing.status = resources.map(|it| it.amounts_or(&ray.resources));
        } else if let Some(resources) = resources {
            let (cpu, memory) = (resources.request("cpu"), resources.request("memory"));
            sizing.others.0 = sizing.others.0.saturating_add(cpu.unwrap_or(0));
            sizing.others.1 = sizing.others.1.saturating_add(memory.unwrap_or(0));
        }
    }
    let is_resize = |it: &&RawCondition| {
        it.status == "True" && ["PodResizePending", "PodResizeInProgress"].contains(&&*it.r#type)
    };
    let condition = status.conditions.iter().flatten().find(is_resize);
    sizing.condition = condition.map(|it| {
        Box::new(ResizeCondition {
            is_pending: it.r#type == "PodResizePending",
            reason: it.reason.clone().unwrap_or_default(),
            message: it.message.clone().unwrap_or_default(),
        })
    });
    let is_nothing = sizing.spec == Default::default() && sizing.noted.is_none();
    (!is_nothing).then_some(sizing)
}

fn ray_container(raw: RawContainerStatus) -> Option<RayContainer> {
    let state = raw.state?;
    let state = match (state.running, state.terminated, state.waiting) {
        (Some(running), _, _) => ContainerState::Running {
            started_at_ms: running.started_at.map(millis),
        },
        (_, Some(ended), _) => ContainerState::Terminated {
            exit_code: ended.exit_code.unwrap_or(0),
            reason: ended.reason.unwrap_or_default(),
        },
        // Kubernetes: a state without members means waiting.
        (_, _, waiting) => ContainerState::Waiting {
            reason: waiting.and_then(|w| w.reason).unwrap_or_default(),
        },
    };
    Some(RayContainer {
        state,
        restart_count: u32::try_from(raw.restart_count.unwrap_or(0).max(0)).unwrap_or(u32::MAX),
        is_ready: raw.ready.unwrap_or(false),
    })
}

fn millis(time: Time) -> i64 {
    time.0.as_millisecond()
}
