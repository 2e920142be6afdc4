//! Who wrote which field last: `managedFields`.

use super::field_set::{FieldSet, Step};
use super::fields::fields_of;
use super::kinds::Kind;
use super::members::set;
use crate::embedded::kube_time;
use crate::model::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Somebody who writes.
#[derive(Debug, Clone)]
pub(super) struct Manager {
    pub(super) name: String,
    /// It writes by server-side apply.
    pub(super) is_apply: bool,
    pub(super) subresource: String,
    /// What it applies, if it does.
    pub(super) applied: Option<Applied>,
}

/// What a server-side apply says of fields.
#[derive(Debug, Clone, Default)]
pub(super) struct Applied {
    /// The fields of the configuration.
    pub(super) fields: FieldSet,
    /// Those that it has taken from others by force.
    pub(super) taken: FieldSet,
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

    /// Returns what entries are sorted by.
    fn order(&self) -> [&str; 4] {
        [self.operation, &self.time, &self.manager, &self.subresource]
    }

    /// Returns the manager as messages about conflicts name it.
    pub(super) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {:?}", self.subresource);
        }
        if self.operation == "Update" {
            text = format!("{text} using {}", self.api_version);
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

/// Notes in `new` who owns what after `manager` has made it of `old`.
pub(super) fn after_write(
    kind: &Kind,
    old: Option<&Value>,
    new: &mut Value,
    (manager, now): (&Manager, Timestamp),
) {
    let before = match old {
        Some(old) => fields_of(kind, old),
        None => fields_of_empty(kind),
    };
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
    let mut all = old.map(entries).unwrap_or_default();
    let applied = manager.applied.as_ref();
    let taken = applied.map(|applied| applied.taken.clone());
    let gone = written.union(&removed).union(&taken.unwrap_or_default());
    for entry in all.iter_mut().filter(|entry| !entry.is_of(manager)) {
        entry.fields = entry.fields.difference(&gone);
    }
    let mut own = all.iter().filter(|entry| entry.is_of(manager));
    let fields = match (applied, own.next()) {
        (Some(applied), _) => applied.fields.clone(),
        (None, Some(own)) => own.fields.union(&written).difference(&removed),
        (None, None) => written,
    };
    let time = json!(kube_time(now));
    let time = time.as_str().unwrap_or_default().to_owned();
    note(&mut all, manager, (kind.api_version(), time, fields));
    all.retain(|entry| !entry.fields.is_empty());
    all.sort_by(|a, b| a.order().cmp(&b.order()));
    let listed = all.iter().map(Entry::to_value).collect();
    let listed = (!all.is_empty()).then_some(listed);
    set(&mut new["metadata"], "managedFields", listed);
}

/// Writes a manager's fields into its entry; an entry that stays as it is keeps its time.
fn note(
    all: &mut Vec<Entry>,
    manager: &Manager,
    (api_version, time, fields): (String, String, FieldSet),
) {
    match all.iter_mut().find(|entry| entry.is_of(manager)) {
        Some(own) if own.fields == fields => {}
        Some(own) => {
            own.fields = fields;
            own.time = time;
        }
        None => all.push(Entry {
            manager: manager.name.clone(),
            operation: operation(manager.is_apply),
            subresource: manager.subresource.clone(),
            api_version,
            time,
            fields,
        }),
    }
}

/// What a new object is compared with: the empty value of its Go type.
fn fields_of_empty(kind: &Kind) -> BTreeMap<Vec<Step>, Value> {
    let paths: &[&[&str]] = match kind.kind {
        _ if kind.is_custom() => &[],
        "Pod" => &[&["spec"], &["spec", "containers"], &["status"]],
        "Event" => &[&["source"]],
        "PersistentVolumeClaim" => &[&["spec"], &["spec", "resources"], &["status"]],
        _ => &[&["spec"], &["status"]],
    };
    let steps = |path: &&[&str]| {
        path.iter()
            .map(|&name| Step::Field(name.to_owned()))
            .collect()
    };
    paths
        .iter()
        .map(|path| (steps(path), Value::Null))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::kinds;
    use super::{Manager, after_write};
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
