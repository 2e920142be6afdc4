//! Who wrote which field last: `managedFields`.

use super::field_set::{FieldSet, Step};
use super::kinds::Kind;
use super::{lists, schema};
use crate::embedded::kube_time;
use crate::model::Timestamp;
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

/// Somebody who writes.
#[derive(Debug, Clone)]
pub(super) struct Manager {
    pub(super) name: String,
    /// It writes by server-side apply.
    pub(super) is_apply: bool,
    pub(super) subresource: String,
    /// The fields that it applies.
    pub(super) applied: Option<FieldSet>,
}

/// One entry of `managedFields`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    manager: String,
    operation: &'static str,
    subresource: String,
    api_version: String,
    time: String,
    pub(super) fields: FieldSet,
}

impl Entry {
    fn parse(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Self {
            manager: text("manager"),
            operation: operation(value["operation"] == "Apply"),
            subresource: text("subresource"),
            api_version: text("apiVersion"),
            time: text("time"),
            fields: FieldSet::parse(&value["fieldsV1"]),
        }
    }

    fn to_value(&self) -> Value {
        let mut value = json!({
            "manager": self.manager, "operation": self.operation, "apiVersion": self.api_version,
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_value(),
        });
        if !self.subresource.is_empty() {
            value["subresource"] = json!(self.subresource);
        }
        value
    }

    pub(super) fn is_of(&self, manager: &Manager) -> bool {
        self.manager == manager.name
            && self.operation == operation(manager.is_apply)
            && self.subresource == manager.subresource
    }

    /// Returns the manager as messages about conflicts name it.
    pub(super) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {:?}", self.subresource);
        }
        if self.operation == "Update" {
            text = format!("{text} using {} at {}", self.api_version, self.time);
        }
        text
    }
}

const fn operation(is_apply: bool) -> &'static str {
    if is_apply { "Apply" } else { "Update" }
}

pub(super) fn entries(object: &Value) -> Vec<Entry> {
    let entries = object["metadata"]["managedFields"].as_array();
    entries.into_iter().flatten().map(Entry::parse).collect()
}

/// Returns true when a write would change nothing.
pub(super) fn is_same(old: &Value, new: &Value) -> bool {
    old == new
}

/// Notes in `new` who owns what after `manager` has made it of `old`.
pub(super) fn after_write(
    kind: &Kind,
    old: Option<&Value>,
    new: &mut Value,
    (manager, now): (&Manager, Timestamp),
) {
    let empty = empty_of(kind);
    let before = fields_of(kind, old.unwrap_or(&empty));
    let mut after = fields_of(kind, new);
    if old.is_none() && kind.has("status") {
        // The status of a new object is the server's.
        after.retain(|path, _| path.first() != Some(&Step::Field("status".to_owned())));
    }
    let (mut written, mut removed) = (FieldSet::default(), FieldSet::default());
    for (path, value) in &after {
        if before.get(path) != Some(value) {
            written.insert(path);
        }
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        removed.insert(path);
    }
    let time = json!(kube_time(now))
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut all = old.map(entries).unwrap_or_default();
    let gone = written.union(&removed);
    for entry in all.iter_mut().filter(|entry| !entry.is_of(manager)) {
        let left = entry.fields.difference(&gone);
        if left != entry.fields {
            entry.fields = left;
        }
    }
    let own = all.iter().position(|entry| entry.is_of(manager));
    let fields = match &manager.applied {
        Some(applied) => applied.clone(),
        None => {
            let before = own.map(|at| all[at].fields.clone()).unwrap_or_default();
            before.union(&written).difference(&removed)
        }
    };
    match own {
        Some(at) if all[at].fields == fields => {}
        Some(at) => {
            all[at].fields = fields;
            all[at].time = time;
        }
        None => all.push(Entry {
            manager: manager.name.clone(),
            operation: operation(manager.is_apply),
            subresource: manager.subresource.clone(),
            api_version: kind.api_version(),
            time,
            fields,
        }),
    }
    all.retain(|entry| !entry.fields.is_empty());
    all.sort_by(|a, b| {
        let key = |entry: &Entry| {
            (
                entry.operation,
                entry.time.clone(),
                entry.manager.clone(),
                entry.subresource.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    let metadata = &mut new["metadata"];
    match (all.is_empty(), metadata.as_object_mut()) {
        (true, Some(members)) => drop(members.remove("managedFields")),
        _ => metadata["managedFields"] = all.iter().map(Entry::to_value).collect(),
    }
}

/// What a new object is compared with: the empty value of its Go type.
fn empty_of(kind: &Kind) -> Value {
    match kind.kind {
        _ if kind.is_custom() => json!({}),
        "Pod" => json!({"spec": {"containers": []}, "status": {}}),
        _ => json!({"spec": {}, "status": {}}),
    }
}

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
    fn member(&mut self, name: &'a str, value: &Value) {
        self.names.push(name);
        self.steps.push(Step::Field(name.to_owned()));
        self.value(value);
        self.names.pop();
        self.steps.pop();
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(members) if !members.is_empty() && !lists::is_one_value(&self.names) => {
                self.fields.insert(self.steps.clone(), Value::Null);
                let members: Vec<(&String, &Value)> = members.iter().collect();
                for (name, value) in members {
                    // The names live as long as the table of rules needs them: to the end of the member.
                    let mut inner = Walk {
                        kind: self.kind,
                        names: self.names.iter().copied().collect(),
                        steps: std::mem::take(&mut self.steps),
                        fields: self.fields,
                    };
                    inner.member(name, value);
                    self.steps = inner.steps;
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

#[cfg(test)]
mod tests {
    use super::super::kinds;
    use super::{Manager, after_write, applied_fields, apply};
    use crate::model::Timestamp;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp::from_ms(0);

    fn manager(name: &str, is_apply: bool) -> Manager {
        Manager {
            name: name.to_owned(),
            is_apply,
            subresource: String::new(),
            applied: None,
        }
    }

    fn config_map(data: Value) -> Value {
        json!({"metadata": {"name": "c"}, "data": data})
    }

    #[test]
    fn whoever_changes_a_field_owns_it() {
        let kind = kinds::find("", "v1", "configmaps").unwrap();
        let mut first = config_map(json!({"a": "1", "b": "1"}));
        after_write(kind, None, &mut first, (&manager("x", false), NOW));
        let mut second = first.clone();
        second["data"]["a"] = json!("2");
        after_write(kind, Some(&first), &mut second, (&manager("y", false), NOW));
        let fields = |index: usize| second["metadata"]["managedFields"][index]["fieldsV1"].clone();
        assert_eq!(fields(0), json!({"f:data": {".": {}, "f:b": {}}}));
        assert_eq!(fields(1), json!({"f:data": {"f:a": {}}}));
    }
}
