//! What the RayCluster resource allows: its structural schema, interpreted.
//!
//! Unknown fields are dropped, defaults filled in, types and limits checked, in the order in which the
//! API server does it. Of CEL only the two forms that the resource uses are known; a resource with any
//! other is refused as a whole, so that no rule is passed over in silence.

use super::members::list;
use super::refusal::Cause;
use k8s_openapi::jiff;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The resource, as it is installed on real API servers too.
const RAYCLUSTER: &str = include_str!("crd/raycluster.yaml");

/// Fields of the root that no schema describes.
const ROOT: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// How messages name no field in particular.
const NOWHERE: &str = "<nil>";
/// Rules want an object that fits the schema.
const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; \
correct the existing errors to complete validation";

static SCHEMA: LazyLock<Result<Schema, String>> = LazyLock::new(|| Schema::of_resource(RAYCLUSTER));

/// The schema of a custom resource.
#[derive(Debug)]
pub(super) struct Schema {
    root: Value,
}

/// Returns the schema of RayClusters.
///
/// Errors: the resource that is built in cannot be read; a test shows that it can.
pub(super) fn raycluster() -> Result<&'static Schema, &'static str> {
    SCHEMA.as_ref().map_err(String::as_str)
}

impl Schema {
    /// Reads a CustomResourceDefinition with one version.
    fn of_resource(yaml: &str) -> Result<Self, String> {
        let resource: Value = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        let root = resource.pointer("/spec/versions/0/schema/openAPIV3Schema");
        let root = root.ok_or("there is no schema")?.clone();
        check_rules(&root)?;
        Ok(Self { root })
    }

    /// Drops what the schema does not know and returns the paths of it.
    pub(super) fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut dropped = Vec::new();
        if let Value::Object(members) = object {
            let kept: Vec<(&str, Option<Value>)> = ROOT
                .into_iter()
                .map(|name| (name, members.remove(name)))
                .collect();
            prune(&self.root, object, &mut Vec::new(), &mut dropped);
            for (name, value) in kept {
                if let Some(value) = value {
                    object[name] = value;
                }
            }
        }
        dropped
    }

    /// Fills in defaults.
    pub(super) fn default(&self, object: &mut Value) {
        default(&self.root, object);
    }

    /// Returns what is wrong; `old` is what was there before.
    pub(super) fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut causes = Vec::new();
        validate(&self.root, (object, old), &mut Vec::new(), &mut causes);
        if causes.iter().any(|cause| cause.field != NOWHERE) {
            causes.push(Cause::invalid(NOWHERE, &Value::Null, UNCHECKED));
        } else {
            check_kept(&self.root, (object, old), &mut Vec::new(), &mut causes);
        }
        causes
    }

    /// Returns the names that tell the entries of a list apart; none for a list that is one value.
    pub(super) fn list_keys(&self, path: &[&str]) -> Vec<String> {
        let at = path.iter().try_fold(&self.root, |schema, member| {
            let properties = &schema["properties"];
            properties
                .get(*member)
                .or_else(|| schema.get("items")?["properties"].get(*member))
        });
        let keys = at.and_then(|schema| schema["x-kubernetes-list-map-keys"].as_array());
        let keys = keys.into_iter().flatten().filter_map(Value::as_str);
        keys.map(str::to_owned).collect()
    }
}

fn is_true(schema: &Value, flag: &str) -> bool {
    schema[flag] == true
}

/// Errors: a rule that would be passed over.
fn check_rules(schema: &Value) -> Result<(), String> {
    let rules = schema["x-kubernetes-validations"].as_array();
    for rule in rules.into_iter().flatten() {
        if Rule::parse(&rule["rule"]).is_none() {
            return Err(format!("cannot interpret the rule {}", rule["rule"]));
        }
    }
    let properties = schema["properties"].as_object();
    let nested = properties.into_iter().flat_map(Map::values);
    let more = ["items", "additionalProperties"];
    let more = more.into_iter().filter_map(|name| schema.get(name));
    nested.chain(more).try_for_each(check_rules)
}

fn prune(schema: &Value, value: &mut Value, path: &mut Vec<String>, dropped: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let keeps = is_true(schema, "x-kubernetes-preserve-unknown-fields");
            let of_any = &schema["additionalProperties"];
            let is_known = |name: &String| {
                !schema["properties"][name.as_str()].is_null() || !of_any.is_null() || keeps
            };
            let unknown: Vec<String> = members
                .keys()
                .filter(|name| !is_known(name))
                .cloned()
                .collect();
            for name in unknown {
                members.remove(&name);
                path.push(name);
                dropped.push(joined(path));
                path.pop();
            }
            for (name, member) in members.iter_mut() {
                let own = &schema["properties"][name.as_str()];
                let of_member = if own.is_null() { of_any } else { own };
                if !of_member.is_null() {
                    path.push(name.clone());
                    prune(of_member, member, path, dropped);
                    path.pop();
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let Some(of_item) = schema.get("items") else {
                    return;
                };
                path.push(format!("[{index}]"));
                prune(of_item, item, path, dropped);
                path.pop();
            }
        }
        _ => {}
    }
}

fn joined(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if !text.is_empty() && !part.starts_with('[') {
            text.push('.');
        }
        text.push_str(part);
    }
    text
}

fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            let properties = schema["properties"].as_object();
            for (name, of_member) in properties.into_iter().flatten() {
                let Some(filled) = of_member.get("default") else {
                    continue;
                };
                let is_missing = match members.get(name) {
                    None => true,
                    Some(Value::Null) => !is_true(of_member, "nullable"),
                    Some(_) => false,
                };
                if is_missing {
                    members.insert(name.clone(), filled.clone());
                }
            }
            // A null that is not allowed is as good as nothing.
            members.retain(|name, member| {
                let of_member = &schema["properties"][name.as_str()];
                !member.is_null() || of_member.is_null() || is_true(of_member, "nullable")
            });
            for (name, member) in members.iter_mut() {
                let own = &schema["properties"][name.as_str()];
                let of_any = &schema["additionalProperties"];
                default(if own.is_null() { of_any } else { own }, member);
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| default(&schema["items"], item)),
        _ => {}
    }
}

/// The JSON type of a value, as messages name it.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn validate(
    schema: &Value,
    (value, old): (&Value, Option<&Value>),
    path: &mut Vec<String>,
    causes: &mut Vec<Cause>,
) {
    if value.is_null() && is_true(schema, "nullable") {
        return;
    }
    let field = joined(path);
    if let Some(cause) = type_problem(schema, value, &field) {
        causes.push(cause);
        return;
    }
    causes.extend(value_problems(schema, value, &field));
    match value {
        Value::Object(members) => {
            let required = schema["required"].as_array().into_iter().flatten();
            for name in required.filter_map(Value::as_str) {
                if !members.contains_key(name) {
                    path.push(name.to_owned());
                    causes.push(Cause::required(&joined(path), ""));
                    path.pop();
                }
            }
            for (name, member) in members {
                let own = &schema["properties"][name.as_str()];
                let of_any = &schema["additionalProperties"];
                let of_member = if own.is_null() { of_any } else { own };
                if of_member.is_object() {
                    path.push(name.clone());
                    let before = old.and_then(|old| old.get(name));
                    validate(of_member, (member, before), path, causes);
                    path.pop();
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(format!("[{index}]"));
                validate(&schema["items"], (item, None), path, causes);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Checks the rules in CEL.
fn check_kept(
    schema: &Value,
    (value, old): (&Value, Option<&Value>),
    path: &mut Vec<String>,
    causes: &mut Vec<Cause>,
) {
    for rule in list(schema, "x-kubernetes-validations") {
        let is_kept = Rule::parse(&rule["rule"]).is_none_or(|parsed| parsed.is_kept(value, old));
        if !is_kept {
            let message = rule["message"].as_str().unwrap_or("failed rule");
            causes.push(Cause::invalid(&joined(path), value, message));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let of_member = &schema["properties"][name.as_str()];
        if of_member.is_object() {
            path.push(name.clone());
            check_kept(
                of_member,
                (member, old.and_then(|old| old.get(name))),
                path,
                causes,
            );
            path.pop();
        }
    }
}

fn type_problem(schema: &Value, value: &Value, field: &str) -> Option<Cause> {
    let found = type_of(value);
    if is_true(schema, "x-kubernetes-int-or-string") {
        let is_one = matches!(found, "integer" | "string");
        return (!is_one).then(|| wrong_type(field, "integer,string", found));
    }
    let wanted = schema["type"].as_str()?;
    let format = schema["format"].as_str().unwrap_or("int64");
    if wanted == "integer" && found == "number" {
        let message = format!(
            "Invalid value: \"float64\": {field} in body must be of type {format}: \"float64\""
        );
        return Some(Cause::new("FieldValueTypeInvalid", field, message));
    }
    let is_fitting = wanted == found || (wanted == "number" && found == "integer");
    if !is_fitting {
        return Some(wrong_type(field, wanted, found));
    }
    let range = match format {
        "int32" => i64::from(i32::MIN)..=i64::from(i32::MAX),
        _ => i64::MIN..=i64::MAX,
    };
    let is_out =
        found == "integer" && !value.as_i64().is_some_and(|number| range.contains(&number));
    is_out.then(|| {
        let problem =
            format!("Checked value must be of type integer with format {format} in {field}");
        Cause::invalid(NOWHERE, &json!(""), &problem)
    })
}

fn wrong_type(field: &str, wanted: &str, found: &str) -> Cause {
    let message =
        format!("Invalid value: {found:?}: {field} in body must be of type {wanted}: {found:?}");
    Cause::new("FieldValueTypeInvalid", field, message)
}

fn value_problems(schema: &Value, value: &Value, field: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        causes.push(Cause::unsupported(field, value, &allowed));
    }
    if let (Some(minimum), Some(number)) = (schema["minimum"].as_i64(), value.as_i64())
        && number < minimum
    {
        let problem = format!("{field} in body should be greater than or equal to {minimum}");
        causes.push(Cause::invalid(field, value, &problem));
    }
    if let Some(text) = value.as_str() {
        if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
            let name = field.rsplit('.').next().unwrap_or_default();
            let message = format!(
                "Invalid value: {value}: {name} in body must be of type date-time: {value}"
            );
            causes.push(Cause::new("FieldValueTypeInvalid", field, message));
        }
        let count = text.chars().count() as u64;
        let at_least = schema["minLength"].as_u64().filter(|least| count < *least);
        let at_most = schema["maxLength"].as_u64().filter(|most| count > *most);
        causes.extend(at_least.map(|least| {
            let problem = format!("{field} in body should be at least {least} chars long");
            Cause::invalid(field, value, &problem)
        }));
        causes.extend(at_most.map(|most| Cause::too_long(field, most)));
    }
    causes
}

/// A rule in CEL, of the two forms that are known.
#[derive(Debug, PartialEq)]
enum Rule {
    /// `self == oldSelf`
    Unchanged,
    /// `self in ['a', 'b']`
    OneOf(Vec<String>),
}

impl Rule {
    fn parse(rule: &Value) -> Option<Self> {
        let rule = rule.as_str()?;
        if rule == "self == oldSelf" {
            return Some(Self::Unchanged);
        }
        let list = rule.strip_prefix("self in [")?.strip_suffix(']')?;
        let unquoted = |item: &str| {
            let item = item.trim().strip_prefix('\'')?.strip_suffix('\'')?;
            (!item.contains('\'')).then(|| item.to_owned())
        };
        list.split(',')
            .map(unquoted)
            .collect::<Option<_>>()
            .map(Self::OneOf)
    }

    fn is_kept(&self, value: &Value, old: Option<&Value>) -> bool {
        match self {
            Self::Unchanged => old.is_none_or(|old| old == value),
            Self::OneOf(allowed) => allowed.iter().any(|one| json!(one) == *value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Rule, Schema, raycluster};
    use serde_json::{Value, json};

    #[test]
    fn the_resource_is_read_whole() {
        let schema = raycluster().unwrap();
        let mut cluster = json!({
            "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "c"},
            "spec": {
                "idleSuspend": 1,
                "headGroupSpec": {"template": {"spec": {"anything": [1]}}},
                "workerGroupSpecs": [{"groupName": "g", "template": {}, "replicas": null}],
            },
        });
        assert_eq!(schema.prune(&mut cluster), ["spec.idleSuspend"]);
        schema.default(&mut cluster);
        let group = &cluster["spec"]["workerGroupSpecs"][0];
        assert_eq!(group["replicas"], 0);
        assert_eq!(group["maxReplicas"], 2_147_483_647);
        assert_eq!(
            cluster["spec"]["headGroupSpec"]["template"]["spec"]["anything"],
            json!([1])
        );
        assert_eq!(schema.validate(&cluster, None), []);
        let fields = |cluster: &Value| {
            let causes = schema.validate(cluster, None).into_iter();
            causes.map(|cause| cause.field).collect::<Vec<_>>()
        };
        cluster["spec"]["managedBy"] = json!("nobody");
        assert_eq!(fields(&cluster), ["spec.managedBy"]);
        // Rules are for objects that fit.
        cluster["spec"]["workerGroupSpecs"][0]["replicas"] = json!("1");
        assert_eq!(
            fields(&cluster),
            ["spec.workerGroupSpecs[0].replicas", "<nil>"]
        );
        assert_eq!(schema.list_keys(&["status", "conditions"]), ["type"]);
        assert!(schema.list_keys(&["spec", "workerGroupSpecs"]).is_empty());
    }

    #[test]
    fn a_rule_that_is_not_understood_is_refused() {
        assert_eq!(
            Rule::parse(&json!("self == oldSelf")),
            Some(Rule::Unchanged)
        );
        assert_eq!(Rule::parse(&json!("size(self) < 3")), None);
        let yaml = "spec: {versions: [{schema: {openAPIV3Schema: {properties: {a: \
                    {x-kubernetes-validations: [{rule: size(self) < 3}]}}}}}]}";
        assert!(
            Schema::of_resource(yaml)
                .unwrap_err()
                .contains("size(self)")
        );
    }
}
