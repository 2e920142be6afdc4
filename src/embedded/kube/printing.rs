//! The columns that `kubectl get` prints.

use super::kinds::Kind;
use crate::model::Timestamp;
use k8s_openapi::jiff;
use serde_json::{Value, json};

/// One column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    cell: Cell,
}

#[derive(Debug, Clone, Copy)]
enum Cell {
    /// The value at a JSON pointer.
    Text(&'static str),
    /// The members of the map at a JSON pointer.
    Count(&'static str),
    Computed(fn(&Value) -> String),
}

impl Column {
    pub(super) const POD_READY: Self = Self::computed("Ready", pod_ready);
    pub(super) const POD_STATUS: Self = Self::computed("Status", pod_status);
    pub(super) const POD_RESTARTS: Self = Self::computed("Restarts", pod_restarts);
    pub(super) const NODE_STATUS: Self = Self::computed("Status", node_status);

    pub(super) const fn text(name: &'static str, pointer: &'static str) -> Self {
        let cell = Cell::Text(pointer);
        Self { name, cell }
    }

    pub(super) const fn count(name: &'static str, pointer: &'static str) -> Self {
        let cell = Cell::Count(pointer);
        Self { name, cell }
    }

    const fn computed(name: &'static str, compute: fn(&Value) -> String) -> Self {
        let cell = Cell::Computed(compute);
        Self { name, cell }
    }
}

/// Returns the columns of a kind: name, its own, age.
pub(super) fn definitions(kind: &Kind) -> Value {
    let definition = |name: &str, kind: &str| {
        let format = if name == "Name" { "name" } else { "" };
        json!({"name": name, "type": kind, "format": format, "description": "", "priority": 0})
    };
    let own = kind
        .columns
        .iter()
        .map(|column| definition(column.name, "string"));
    std::iter::once(definition("Name", "string"))
        .chain(own)
        .chain(std::iter::once(definition("Age", "string")))
        .collect()
}

/// Returns the cells of an object.
pub(super) fn cells(kind: &Kind, object: &Value, now: Timestamp) -> Value {
    let name = object["metadata"]["name"].clone();
    let own = kind.columns.iter().map(|column| cell(column, object));
    std::iter::once(name)
        .chain(own)
        .chain(std::iter::once(json!(age(object, now))))
        .collect()
}

fn cell(column: &Column, object: &Value) -> Value {
    match column.cell {
        Cell::Text(pointer) => match object.pointer(pointer) {
            Some(Value::String(text)) => json!(text),
            Some(Value::Null) | None => json!(""),
            Some(other) => json!(other.to_string()),
        },
        Cell::Count(pointer) => {
            let members = object.pointer(pointer).and_then(Value::as_object);
            json!(members.map_or(0, serde_json::Map::len).to_string())
        }
        Cell::Computed(compute) => json!(compute(object)),
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
}

fn pod_ready(pod: &Value) -> String {
    let ready = containers(pod)
        .filter(|status| status["ready"] == true)
        .count();
    let all = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    format!("{ready}/{all}")
}

fn pod_status(pod: &Value) -> String {
    let phase = pod["status"]["phase"].as_str().unwrap_or("Unknown");
    let is_over = matches!(phase, "Failed" | "Succeeded");
    if !is_over && !pod["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating".to_owned();
    }
    if pod["spec"]["schedulingGates"][0].is_object() {
        return "SchedulingGated".to_owned();
    }
    let reason = |status: &Value| {
        let state = &status["state"];
        let reason = ["waiting", "terminated"].map(|kind| state[kind]["reason"].as_str());
        reason.into_iter().flatten().next().map(str::to_owned)
    };
    let has_running = phase == "Running" && containers(pod).any(|it| it["ready"] == true);
    let reason = containers(pod).filter_map(reason).last();
    reason
        .filter(|_| !has_running)
        .unwrap_or_else(|| phase.to_owned())
}

fn pod_restarts(pod: &Value) -> String {
    let restarts = containers(pod).filter_map(|status| status["restartCount"].as_i64());
    restarts.sum::<i64>().to_string()
}

fn node_status(node: &Value) -> String {
    let conditions = node["status"]["conditions"].as_array();
    let is_ready =
        |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    let is_ready = conditions.into_iter().flatten().any(is_ready);
    if is_ready { "Ready" } else { "NotReady" }.to_owned()
}

/// Returns how old an object is, as kubectl writes it.
fn age(object: &Value, now: Timestamp) -> String {
    let created = object["metadata"]["creationTimestamp"].as_str();
    let Some(created) = created.and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return "<unknown>".to_owned();
    };
    let secs = now.millis_since(Timestamp::from_ms(created.as_millisecond())) / 1000;
    let (minutes, hours, days) = (secs / 60, secs / 3600, secs / 86_400);
    match secs {
        0..120 => format!("{secs}s"),
        120..600 if !secs.is_multiple_of(60) => format!("{minutes}m{}s", secs % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if !minutes.is_multiple_of(60) => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        172_800..691_200 if !hours.is_multiple_of(24) => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds;
    use super::cells;
    use crate::model::Timestamp;
    use serde_json::{Value, json};

    fn row(pod: &Value, secs: i64) -> Value {
        let pods = kinds::find("", "v1", "pods").unwrap();
        cells(pods, pod, Timestamp::from_ms(secs * 1000))
    }

    #[test]
    fn a_pod_is_printed_as_kubectl_does() {
        let state = json!({"waiting": {"reason": "ContainerCreating"}});
        let mut pod = json!({
            "metadata": {"name": "p", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"containers": [{}, {}]},
            "status": {"phase": "Pending", "containerStatuses": [{"ready": false, "state": state}]},
        });
        assert_eq!(
            row(&pod, 90),
            json!(["p", "0/2", "ContainerCreating", "0", "90s"])
        );
        let running = json!({"ready": true, "restartCount": 2, "state": {"running": {}}});
        pod["status"] = json!({"phase": "Running", "containerStatuses": [running, running]});
        assert_eq!(row(&pod, 150), json!(["p", "2/2", "Running", "4", "2m30s"]));
        pod["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
        assert_eq!(
            row(&pod, 90_000),
            json!(["p", "2/2", "Terminating", "4", "25h"])
        );
    }
}
