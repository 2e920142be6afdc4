//! Reading a body as an object of its kind.

use super::kinds::Kind;
use super::quantity::Quantity;
use super::refusal::{Cause, Refusal};
use super::{event_forms, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

/// Members that hold amounts of resources.
const AMOUNTS: [&str; 6] = [
    "limits",
    "requests",
    "capacity",
    "allocatable",
    "hard",
    "used",
];

/// Maps of texts, which are left out when they are empty.
const TEXT_MAPS: [&str; 4] = ["labels", "annotations", "nodeSelector", "data"];

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
    let cannot = |problem: String| cannot_be_handled(kind, &problem);
    let unknown = match kind.read {
        Some(read) => {
            canonical_quantities(&mut body);
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
        let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
        let unknown: Vec<String> = unknown.collect();
        return Err(cannot(format!(
            "strict decoding error: {}",
            unknown.join(", ")
        )));
    }
    if kind.is("Event") && !kind.group.is_empty() {
        return Ok(event_forms::to_core(body));
    }
    Ok(body)
}

/// Reads a patched object; what is wrong with it is the patch.
pub(super) fn decode_patched(
    kind: &Kind,
    patched: Value,
    is_strict: bool,
) -> Result<Value, Refusal> {
    let found = patched["kind"].clone();
    if found != kind.kind {
        let cause = Cause::invalid("kind", &found, &format!("must be {}", kind.kind));
        return Err(Refusal::invalid(
            kind,
            patched["metadata"]["name"].as_str().unwrap_or_default(),
            &[cause],
        ));
    }
    let shown = json!(patched.to_string());
    decode(kind, patched, is_strict).map_err(|refusal| {
        if is_strict && refusal.message.contains("strict decoding error") {
            return refusal;
        }
        Refusal::invalid_patch(&[Cause::invalid("patch", &shown, &refusal.message)])
    })
}

fn cannot_be_handled(kind: &Kind, problem: &str) -> Refusal {
    let (version, kind) = (kind.version, kind.kind);
    Refusal::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: {problem}"
    ))
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

/// A built-in kind goes without saying, a custom one does not.
fn check_kind(kind: &Kind, body: &mut Value) -> Result<(), Refusal> {
    let api_version = kind.api_version();
    for (member, expected) in [("kind", kind.kind), ("apiVersion", api_version.as_str())] {
        match body[member].as_str() {
            None | Some("") if kind.is_custom() => {
                return Err(Refusal::bad_request(format!(
                    "the object provided is unrecognized (must be of type {}): Object '{member}' is missing",
                    kind.kind
                )));
            }
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

/// Amounts may be written as numbers and in many ways; one is kept.
fn canonical_quantities(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::Object(amounts) if AMOUNTS.contains(&name.as_str()) => {
                        for amount in amounts.values_mut() {
                            let text = match &*amount {
                                Value::String(text) => text.clone(),
                                other => other.to_string(),
                            };
                            if let Some(quantity) = Quantity::parse(&text) {
                                *amount = json!(quantity.to_text());
                            }
                        }
                    }
                    other => canonical_quantities(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(canonical_quantities),
        _ => {}
    }
}

/// Returns the paths of members that are in `body` and not in `typed`.
fn missing_in(body: &Value, typed: &Value, path: &str) -> Vec<String> {
    match (body, typed) {
        (Value::Object(have), Value::Object(kept)) => {
            let have = have.iter().filter(|(_, value)| !value.is_null());
            let missing = have.map(|(name, value)| {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{name}");
                match kept.get(name) {
                    Some(kept) => missing_in(value, kept, &path),
                    None => vec![path],
                }
            });
            missing.flatten().collect()
        }
        (Value::Array(have), Value::Array(kept)) => {
            let pairs = have.iter().zip(kept).enumerate();
            let missing = pairs
                .map(|(index, (have, kept))| missing_in(have, kept, &format!("{path}[{index}]")));
            missing.flatten().collect()
        }
        _ => Vec::new(),
    }
}

/// Drops nulls, empty lists and empty maps of texts, which Go does not write.
fn without_empties(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, member| match member {
                Value::Null => false,
                Value::Array(items) => !items.is_empty() || name == "containers",
                Value::Object(map) => !map.is_empty() || !TEXT_MAPS.contains(&name.as_str()),
                _ => true,
            });
            members.values_mut().for_each(without_empties);
        }
        Value::Array(items) => items.iter_mut().for_each(without_empties),
        _ => {}
    }
}
