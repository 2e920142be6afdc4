//! What is done to an object before it is stored, kind by kind: read, filled in, checked.

use super::kinds::Kind;
use super::names;
use super::refusal::{Cause, Refusal};
use super::request::Target;
use super::{event_forms, pods, schema};
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

/// Reads a body as an object of this kind: what the kind does not know is dropped.
pub(super) fn decode(kind: &Kind, body: Value, is_strict: bool) -> Result<Value, Refusal> {
    let mut body = body;
    if !body.is_object() {
        return Err(Refusal::bad_request("the body is not an object"));
    }
    if body.get("metadata").is_none_or(Value::is_null) {
        body["metadata"] = json!({});
    }
    check_kind(kind, &mut body)?;
    let cannot = |problem: String| {
        let (version, kind) = (kind.version, kind.kind);
        Refusal::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {problem}"
        ))
    };
    let unknown = match kind.read {
        Some(read) => {
            if kind.is("Event") && !kind.group.is_empty() {
                return Ok(event_forms::to_core(
                    read(body).map_err(|error| cannot(error.to_string()))?,
                ));
            }
            quantities_to_text(&mut body);
            let mut typed = read(body.clone()).map_err(|error| cannot(error.to_string()))?;
            let unknown = if is_strict {
                missing_in(&body, &typed, "")
            } else {
                Vec::new()
            };
            without_empties(&mut typed);
            body = typed;
            unknown
        }
        None => read_custom(&mut body).map_err(cannot)?,
    };
    if is_strict && !unknown.is_empty() {
        let texts: Vec<String> = unknown
            .iter()
            .map(|path| format!("unknown field {path:?}"))
            .collect();
        return Err(cannot(format!(
            "strict decoding error: {}",
            texts.join(", ")
        )));
    }
    Ok(body)
}

/// Returns the unknown fields that were dropped.
fn read_custom(body: &mut Value) -> Result<Vec<String>, String> {
    let schema = schema::raycluster()?;
    let metadata: ObjectMeta = serde_json::from_value(body["metadata"].clone())
        .map_err(|error| format!("metadata: {error}"))?;
    let mut metadata = serde_json::to_value(metadata).map_err(|error| error.to_string())?;
    without_empties(&mut metadata);
    body["metadata"] = metadata;
    let dropped = schema.prune(body);
    schema.default(body);
    Ok(dropped)
}

fn check_kind(kind: &Kind, body: &mut Value) -> Result<(), Refusal> {
    let api_version = kind.api_version();
    for (member, expected) in [("kind", kind.kind), ("apiVersion", api_version.as_str())] {
        match body[member].as_str() {
            None | Some("") => body[member] = json!(expected),
            Some(found) if found == expected => {}
            Some(found) if member == "kind" => {
                return Err(Refusal::bad_request(format!(
                    "{found} in version {:?} cannot be handled as a {expected}: converting ({found}) to \
                     ({expected}): unknown conversion",
                    kind.version
                )));
            }
            Some(found) => {
                return Err(Refusal::bad_request(format!(
                    "the API version in the data ({found}) does not match the expected API version ({expected})"
                )));
            }
        }
    }
    Ok(())
}

/// Amounts may be written as numbers.
fn quantities_to_text(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let holds_amounts = matches!(
                    name.as_str(),
                    "limits" | "requests" | "capacity" | "allocatable" | "overhead"
                );
                match member {
                    Value::Object(amounts) if holds_amounts => {
                        for amount in amounts.values_mut().filter(|amount| amount.is_number()) {
                            *amount = json!(amount.to_string());
                        }
                    }
                    other => quantities_to_text(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(quantities_to_text),
        _ => {}
    }
}

/// Returns the paths of members that are in `body` and not in `typed`.
fn missing_in(body: &Value, typed: &Value, path: &str) -> Vec<String> {
    match (body, typed) {
        (Value::Object(have), Value::Object(kept)) => {
            let is_shown = |(_, value): &(&String, &Value)| !value.is_null();
            have.iter()
                .filter(is_shown)
                .flat_map(|(name, value)| {
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{name}");
                    match kept.get(name) {
                        Some(kept) => missing_in(value, kept, &path),
                        None => vec![path],
                    }
                })
                .collect()
        }
        (Value::Array(have), Value::Array(kept)) => {
            let pairs = have.iter().zip(kept).enumerate();
            pairs
                .flat_map(|(index, (have, kept))| {
                    missing_in(have, kept, &format!("{path}[{index}]"))
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Drops nulls, empty lists and empty label maps, which Go does not write.
fn without_empties(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, member| match member {
                Value::Null => false,
                Value::Array(items) => !items.is_empty() || name == "containers",
                Value::Object(map) => {
                    let is_text_map = matches!(
                        name.as_str(),
                        "labels" | "annotations" | "nodeSelector" | "data"
                    );
                    !is_text_map || !map.is_empty()
                }
                _ => true,
            });
            members.values_mut().for_each(without_empties);
        }
        Value::Array(items) => items.iter_mut().for_each(without_empties),
        _ => {}
    }
}

/// Fills in what the API server fills in when an object is made.
pub(super) fn prepare_create(kind: &Kind, object: &mut Value) {
    if kind.has("status") && !kind.is("Node") {
        set_member(object, "status", None);
    }
    match kind.kind {
        "Pod" => pods::default(object),
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"] = json!({"phase": "Active"});
        }
        "Service" => default_service(object),
        "Secret" => {
            default_member(object, "type", json!("Opaque"));
            take_string_data(object);
        }
        "PersistentVolumeClaim" => {
            default_member(&mut object["spec"], "volumeMode", json!("Filesystem"));
            object["status"] = json!({"phase": "Pending"});
        }
        "Role" | "ClusterRole" => default_member(object, "rules", Value::Null),
        "RoleBinding" | "ClusterRoleBinding" => {
            for subject in object["subjects"].as_array_mut().into_iter().flatten() {
                if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
                    default_member(subject, "apiGroup", json!("rbac.authorization.k8s.io"));
                }
            }
        }
        _ => {}
    }
}

fn default_member(object: &mut Value, name: &str, value: Value) {
    if object[name].is_null() {
        object[name] = value;
    }
}

fn set_member(object: &mut Value, name: &str, value: Option<Value>) {
    match (value, object.as_object_mut()) {
        (Some(value), Some(members)) => drop(members.insert(name.to_owned(), value)),
        (None, Some(members)) => drop(members.remove(name)),
        (_, None) => {}
    }
}

fn default_service(service: &mut Value) {
    let spec = &mut service["spec"];
    let defaults = [
        ("type", json!("ClusterIP")),
        ("sessionAffinity", json!("None")),
        ("internalTrafficPolicy", json!("Cluster")),
        ("ipFamilies", json!(["IPv4"])),
        ("ipFamilyPolicy", json!("SingleStack")),
    ];
    for (name, value) in defaults {
        default_member(spec, name, value);
    }
    if spec["clusterIP"].is_string() {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        default_member(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        default_member(port, "targetPort", number);
    }
    service["status"] = json!({"loadBalancer": {}});
}

/// Moves what was given as text to where the bytes are kept.
fn take_string_data(secret: &mut Value) {
    let texts = secret["stringData"].take();
    for (name, text) in texts.as_object().into_iter().flatten() {
        let bytes = text.as_str().unwrap_or_default().as_bytes().to_vec();
        secret["data"][name.as_str()] = json!(ByteString(bytes));
    }
    set_member(secret, "stringData", None);
}

/// Brings an update to what its subresource may change.
pub(super) fn prepare_update(target: &Target, old: &Value, new: &mut Value) -> Result<(), Refusal> {
    let kind = target.kind;
    match target.subresource.as_str() {
        "status" if kind.is_custom() => {
            let status = new.get("status").cloned();
            let managed = new["metadata"].get("managedFields").cloned();
            *new = old.clone();
            set_member(new, "status", status);
            set_member(&mut new["metadata"], "managedFields", managed);
        }
        "status" => {
            set_member(new, "spec", old.get("spec").cloned());
            let owners = old["metadata"].get("ownerReferences").cloned();
            set_member(&mut new["metadata"], "ownerReferences", owners);
        }
        "finalize" => {
            let finalizers = new["spec"].get("finalizers").cloned();
            *new = old.clone();
            set_member(&mut new["spec"], "finalizers", finalizers);
        }
        "resize" => pods::keep_all_but_resources(old, new),
        _ if kind.has("status") => set_member(new, "status", old.get("status").cloned()),
        _ => {}
    }
    match kind.kind {
        "Pod" => pods::default_containers(new),
        "Secret" => take_string_data(new),
        _ => {}
    }
    Ok(())
}

/// Returns what is wrong with an object that is to be stored in the place of `old`.
pub(super) fn validate(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let metadata = &object["metadata"];
    if old.is_none() {
        let name = metadata["name"].as_str().unwrap_or_default();
        causes.extend(names::name_problem(
            name,
            kind.group == "rbac.authorization.k8s.io",
        ));
    }
    causes.extend(label_problems(metadata));
    match kind.kind {
        "Pod" => causes.extend(pods::validate(object, old)),
        "RoleBinding" | "ClusterRoleBinding" => {
            if let Some(old) = old
                && old["roleRef"] != object["roleRef"]
            {
                let problem = "cannot change roleRef";
                causes.push(Cause::invalid("roleRef", &object["roleRef"], problem));
            }
        }
        _ => {}
    }
    if kind.is_custom()
        && let Ok(schema) = schema::raycluster()
    {
        causes.extend(schema.validate(object, old));
    }
    causes
}

fn label_problems(metadata: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (name, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !names::is_qualified_name(name) {
            let problem = "name part must consist of alphanumeric characters, '-', '_' or '.', and must \
                           start and end with an alphanumeric character";
            causes.push(Cause::invalid("metadata.labels", &json!(name), problem));
        }
        let value_problem = names::label_value_problem(value.as_str().unwrap_or_default());
        causes.extend(value_problem.map(|it| Cause::invalid("metadata.labels", value, &it)));
    }
    causes
}
