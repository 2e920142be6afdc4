//! The fields of an object as paths, the way server-side apply counts them.

use super::field_set::{FieldSet, Step};
use super::kinds::Kind;
use super::{lists, schema};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Nobody owns these members of `metadata`.
const OF_THE_SERVER: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
];

/// Returns every path of an object, with the value where the path ends.
pub(super) fn fields_of(kind: &Kind, object: &Value) -> BTreeMap<Vec<Step>, Value> {
    let mut fields = BTreeMap::new();
    let Value::Object(members) = object else {
        return fields;
    };
    let mut walk = Walk {
        kind,
        names: Vec::new(),
        steps: Vec::new(),
        fields: &mut fields,
    };
    for (name, value) in members {
        match (name.as_str(), value) {
            ("apiVersion" | "kind", _) => {}
            ("metadata", Value::Object(metadata)) => {
                walk.names.push("metadata");
                walk.steps.push(Step::Field(name.clone()));
                for (name, value) in metadata {
                    if !OF_THE_SERVER.contains(&name.as_str()) {
                        walk.member(name, value);
                    }
                }
                walk.names.pop();
                walk.steps.pop();
            }
            _ => walk.member(name, value),
        }
    }
    fields
}

/// A walk over an object.
struct Walk<'a> {
    kind: &'a Kind,
    /// The members on the way, entries of lists left out.
    names: Vec<&'a str>,
    steps: Vec<Step>,
    fields: &'a mut BTreeMap<Vec<Step>, Value>,
}

impl<'a> Walk<'a> {
    fn member(&mut self, name: &'a str, value: &'a Value) {
        self.names.push(name);
        self.steps.push(Step::Field(name.to_owned()));
        self.value(value);
        self.names.pop();
        self.steps.pop();
    }

    fn value(&mut self, value: &'a Value) {
        match value {
            Value::Null => {}
            Value::Object(members) if !members.is_empty() && !lists::is_one_value(&self.names) => {
                self.fields.insert(self.steps.clone(), Value::Null);
                for (name, value) in members {
                    self.member(name, value);
                }
            }
            Value::Array(items) => match list_rule(self.kind, &self.names) {
                Some(keys) if !items.is_empty() => {
                    self.fields.insert(self.steps.clone(), Value::Null);
                    for item in items {
                        self.steps.push(step_of(item, &keys));
                        if keys.is_empty() {
                            self.fields.insert(self.steps.clone(), Value::Null);
                        } else {
                            self.value(item);
                        }
                        self.steps.pop();
                    }
                }
                _ => drop(self.fields.insert(self.steps.clone(), value.clone())),
            },
            _ => drop(self.fields.insert(self.steps.clone(), value.clone())),
        }
    }
}

/// Returns what tells the entries of a list apart; none for a list that is one value.
pub(super) fn list_rule(kind: &Kind, names: &[&str]) -> Option<Vec<String>> {
    let keys_of =
        |rule: lists::ListRule| rule.apply_keys.iter().map(|&key| key.to_owned()).collect();
    if !kind.is_custom() || names.first() == Some(&"metadata") {
        let rule = lists::built_in(names)?;
        let is_one_value = rule.patch_key.is_some() && rule.apply_keys.is_empty();
        return (!is_one_value).then(|| keys_of(rule));
    }
    let keys = schema::raycluster().ok()?.list_keys(names);
    (!keys.is_empty()).then_some(keys)
}

pub(super) fn step_of(item: &Value, keys: &[String]) -> Step {
    if keys.is_empty() {
        return Step::Value(item.to_string());
    }
    let mut members = Map::new();
    for key in keys {
        let value = match &item[key.as_str()] {
            Value::Null if key == "protocol" => json!("TCP"),
            other => other.clone(),
        };
        members.insert(key.clone(), value);
    }
    Step::Key(Value::Object(members).to_string())
}

/// Returns the fields that a configuration applies.
pub(super) fn applied_fields(kind: &Kind, config: &Value) -> FieldSet {
    let fields = fields_of(kind, config);
    let mut set = FieldSet::default();
    for (path, value) in &fields {
        // Maps on the way belong to nobody; entries of lists do.
        let is_inner = value.is_null() && matches!(path.last(), Some(Step::Field(_)));
        let has_more = fields
            .keys()
            .any(|other| other.len() > path.len() && other.starts_with(path));
        if !(is_inner && has_more) {
            set.insert(path);
        }
    }
    set
}
