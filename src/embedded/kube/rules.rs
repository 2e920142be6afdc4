//! What is done to an object before it is stored, kind by kind: filled in, kept, checked.

use super::kinds::Kind;
use super::members::{fill, list, list_mut, set};
use super::names;
use super::refusal::Cause;
use super::request::Target;
use super::{pod_checks, pod_defaults, pods, schema};
use crate::model::Timestamp;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

/// Fills in what counts as written by whoever writes the object.
pub(super) fn default(kind: &Kind, object: &mut Value) {
    match kind.kind {
        "Pod" => pod_defaults::default(object),
        "Service" => default_service(object),
        "Secret" => {
            fill(object, "type", json!("Opaque"));
            take_string_data(object);
        }
        "PersistentVolumeClaim" => fill(&mut object["spec"], "volumeMode", json!("Filesystem")),
        "RoleBinding" | "ClusterRoleBinding" => {
            for subject in list_mut(object, "subjects") {
                if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
                    fill(subject, "apiGroup", json!("rbac.authorization.k8s.io"));
                }
            }
        }
        _ => {}
    }
}

fn default_service(service: &mut Value) {
    let spec = &mut service["spec"];
    let defaults = [
        ("type", json!("ClusterIP")),
        ("sessionAffinity", json!("None")),
        ("internalTrafficPolicy", json!("Cluster")),
    ];
    for (name, value) in defaults {
        fill(spec, name, value);
    }
    for port in list_mut(spec, "ports") {
        fill(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        fill(port, "targetPort", number);
    }
}

/// Moves what was given as text to where the bytes are kept.
fn take_string_data(secret: &mut Value) {
    let texts = secret["stringData"].take();
    for (name, text) in texts.as_object().into_iter().flatten() {
        let bytes = text.as_str().unwrap_or_default().as_bytes().to_vec();
        secret["data"][name.as_str()] = json!(ByteString(bytes));
    }
    set(secret, "stringData", None);
}

/// Adds what only the server writes: the status of a new object, finalizers, addresses.
pub(super) fn prepare_create(kind: &Kind, object: &mut Value, now: Timestamp) {
    if kind.has("status") && !kind.is("Node") {
        set(object, "status", None);
    }
    match kind.kind {
        "Pod" => pods::prepare_create(object, now),
        "Namespace" => {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"] = json!({"phase": "Active"});
        }
        "Service" => {
            let spec = &mut object["spec"];
            fill(spec, "ipFamilies", json!(["IPv4"]));
            fill(spec, "ipFamilyPolicy", json!("SingleStack"));
            if spec["clusterIP"].is_string() {
                spec["clusterIPs"] = json!([spec["clusterIP"]]);
            }
            object["status"] = json!({"loadBalancer": {}});
        }
        "PersistentVolumeClaim" => {
            object["metadata"]["finalizers"] = json!(["kubernetes.io/pvc-protection"]);
            object["status"] = json!({"phase": "Pending"});
        }
        "Node" => {
            let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
            fill(&mut object["spec"], "taints", json!([taint]));
            if let Some(capacity) = object["status"].get("capacity").cloned() {
                fill(&mut object["status"], "allocatable", capacity);
            }
        }
        "Role" | "ClusterRole" => fill(object, "rules", Value::Null),
        _ => {}
    }
}

/// A namespace carries its own name as a label, which counts as written by its maker.
pub(super) fn label_namespace(kind: &Kind, object: &mut Value) {
    if kind.is("Namespace") {
        let name = object["metadata"]["name"].clone();
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
}

/// Brings an update to what its subresource may change.
pub(super) fn prepare_update(target: &Target, old: &Value, new: &mut Value) {
    let kind = target.kind;
    match target.subresource.as_str() {
        "status" if kind.is_custom() => {
            let status = new.get("status").cloned();
            *new = old.clone();
            set(new, "status", status);
        }
        "status" => {
            set(new, "spec", old.get("spec").cloned());
            let owners = old["metadata"].get("ownerReferences").cloned();
            set(&mut new["metadata"], "ownerReferences", owners);
        }
        "finalize" => {
            let finalizers = new["spec"].get("finalizers").cloned();
            *new = old.clone();
            set(&mut new["spec"], "finalizers", finalizers);
        }
        "resize" => pods::keep_all_but_resources(old, new),
        _ if kind.has("status") => set(new, "status", old.get("status").cloned()),
        _ => {}
    }
    default(kind, new);
    if kind.is("Pod") {
        pods::prepare_update(old, new);
    }
}

/// Returns what is wrong with an object that is to be stored in the place of `old`.
pub(super) fn validate(
    (kind, subresource): (&Kind, &str),
    object: &Value,
    old: Option<&Value>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    let metadata = &object["metadata"];
    match (old, metadata["name"].as_str()) {
        (Some(old), _) => causes.extend(identity_problems(&old["metadata"], metadata)),
        (None, None) => {
            let hint = "name or generateName is required";
            causes.push(Cause::required("metadata.name", hint));
        }
        (None, Some(name)) => {
            let is_path_segment = kind.group == "rbac.authorization.k8s.io";
            causes.extend(names::name_problem(name, is_path_segment));
        }
    }
    causes.extend(label_problems(metadata));
    causes.extend(annotation_problem(metadata));
    match (kind.kind, old) {
        ("Pod", None) => causes.extend(pod_checks::of_new(object)),
        ("Pod", Some(old)) => {
            let is_resize = subresource == "resize";
            causes.extend(pod_checks::of_update(object, old, is_resize));
        }
        ("RoleBinding" | "ClusterRoleBinding", Some(old))
            if old["roleRef"] != object["roleRef"] =>
        {
            causes.push(Cause::invalid(
                "roleRef",
                &object["roleRef"],
                "field is immutable",
            ));
        }
        ("Event", None) if !kind.group.is_empty() => causes.extend(event_problems(object)),
        _ => {}
    }
    if kind.is_custom()
        && let Ok(schema) = schema::raycluster()
    {
        causes.extend(schema.validate(object, old));
    }
    causes
}

/// What an object is cannot be changed, and what is going takes no new finalizers.
fn identity_problems(old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if new["uid"] != old["uid"] {
        causes.push(Cause::invalid(
            "metadata.uid",
            &new["uid"],
            "field is immutable",
        ));
    }
    let before = list(old, "finalizers");
    let added: Vec<String> = list(new, "finalizers")
        .iter()
        .filter(|one| !before.contains(one))
        .map(Value::to_string)
        .collect();
    if !old["deletionTimestamp"].is_null() && !added.is_empty() {
        let problem = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        causes.push(Cause::forbidden("metadata.finalizers", &problem));
    }
    causes
}

fn label_problems(metadata: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (name, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !names::is_qualified_name(name) {
            let problem = names::QUALIFIED_NAME_PROBLEM;
            causes.push(Cause::invalid("metadata.labels", &json!(name), problem));
        }
        let problem = names::label_value_problem(value.as_str().unwrap_or_default());
        causes.extend(problem.map(|it| Cause::invalid("metadata.labels", value, &it)));
    }
    causes
}

/// The most that all annotations of an object take together, names and values, in bytes.
const ANNOTATIONS_BYTES_MAX: usize = 262_144;

fn annotation_problem(metadata: &Value) -> Option<Cause> {
    let all = metadata["annotations"].as_object()?;
    let length = |(name, value): (&String, &Value)| {
        let value = value.as_str().unwrap_or_default();
        name.len().saturating_add(value.len())
    };
    let bytes = all.iter().map(length).fold(0, usize::saturating_add);
    (bytes > ANNOTATIONS_BYTES_MAX)
        .then(|| Cause::too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX))
}

/// Only the newer form of an Event is checked.
fn event_problems(event: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let about = &event["involvedObject"]["namespace"];
    if *about != event["metadata"]["namespace"] {
        let about = json!(about.as_str().unwrap_or_default());
        let problem = "does not match event.namespace";
        causes.push(Cause::invalid("involvedObject.namespace", &about, problem));
    }
    if event["eventTime"].is_null() {
        causes.push(Cause::required("eventTime", ""));
    }
    let kind = event["type"].as_str().unwrap_or_default();
    if !matches!(kind, "Normal" | "Warning") {
        let problem = format!("has invalid value: {kind}");
        causes.push(Cause::invalid("type", &json!(kind), &problem));
    }
    causes
}
