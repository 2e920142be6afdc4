//! Server-side apply: a configuration is merged in, what it no longer names goes, others' fields are theirs.

use super::field_set::{FieldSet, Step, shown};
use super::fields::{applied_fields, fields_of, list_rule, step_of};
use super::kinds::Kind;
use super::lists;
use super::managed::{Applied, Entry, Manager, entries};
use super::refusal::Refusal;
use serde_json::{Map, Value, json};

/// Returns what an object becomes when a configuration is applied, and the fields of that.
///
/// Errors: others own fields that would change, and it is not forced.
pub(super) fn apply(
    kind: &Kind,
    live: &Value,
    (config, manager): (&Value, &Manager),
    is_forced: bool,
) -> Result<(Value, Applied), Refusal> {
    if !config["metadata"]["managedFields"].is_null() {
        return Err(Refusal::bad_request("metadata.managedFields must be nil"));
    }
    let applied = applied_fields(kind, config);
    let mut merged = merge(kind, (live, config), &mut Vec::new());
    let all = entries(live);
    let mut given_up = FieldSet::default();
    let mut kept = FieldSet::default();
    for entry in &all {
        if entry.is_of(manager) {
            given_up = entry.fields.difference(&applied);
        } else {
            kept = kept.union(&entry.fields);
        }
    }
    let mut gone = given_up.difference(&kept).paths();
    gone.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for path in gone {
        remove(&mut merged, &path);
    }
    let others = all.iter().filter(|entry| !entry.is_of(manager));
    let conflicts = conflicts(kind, (live, &merged), others, &applied);
    if !is_forced && !conflicts.is_empty() {
        return Err(refusal(&conflicts));
    }
    let taken = conflicts
        .iter()
        .fold(FieldSet::default(), |taken, (_, fields)| {
            taken.union(fields)
        });
    let applied = Applied {
        fields: applied,
        taken,
    };
    Ok((merged, applied))
}

/// Returns which others own fields that would change, and which these are.
fn conflicts<'a>(
    kind: &Kind,
    (live, merged): (&Value, &Value),
    others: impl Iterator<Item = &'a Entry>,
    applied: &FieldSet,
) -> Vec<(String, FieldSet)> {
    let (before, after) = (fields_of(kind, live), fields_of(kind, merged));
    let mut changed = FieldSet::default();
    for (path, value) in &after {
        if before.get(path) != Some(value) {
            changed.insert(path);
        }
    }
    let changed = changed.intersection(applied);
    others
        .map(|entry| (entry.shown(), entry.fields.intersection(&changed)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect()
}

fn refusal(conflicts: &[(String, FieldSet)]) -> Refusal {
    let paths = |fields: &FieldSet| -> Vec<String> {
        fields.paths().iter().map(|path| shown(path)).collect()
    };
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for (manager, fields) in conflicts {
        lines.push(format!("conflicts with {manager}:"));
        for path in paths(fields) {
            lines.push(format!("- {path}"));
            causes.push(json!({
                "reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path,
            }));
        }
    }
    let message = match (causes.len(), conflicts) {
        (1, [(manager, fields)]) => {
            let path = paths(fields).concat();
            format!("Apply failed with 1 conflict: conflict with {manager}: {path}")
        }
        (count, _) => format!("Apply failed with {count} conflicts: {}", lines.join("\n")),
    };
    Refusal::apply_conflict(message, causes)
}

fn merge<'a>(kind: &Kind, (live, config): (&Value, &'a Value), names: &mut Vec<&'a str>) -> Value {
    match (live, config) {
        (Value::Object(before), Value::Object(changes)) if !lists::is_one_value(names) => {
            let mut merged = before.clone();
            for (name, change) in changes {
                names.push(name);
                let old = before.get(name).unwrap_or(&Value::Null);
                let new = merge(kind, (old, change), names);
                names.pop();
                merged.insert(name.clone(), new);
            }
            Value::Object(merged)
        }
        (Value::Array(before), Value::Array(changes)) => {
            let Some(keys) = list_rule(kind, names) else {
                return config.clone();
            };
            let mut merged = before.clone();
            for change in changes {
                let step = step_of(change, &keys);
                match merged.iter().position(|item| step_of(item, &keys) == step) {
                    Some(at) => merged[at] = merge(kind, (&merged[at], change), names),
                    None => merged.push(change.clone()),
                }
            }
            Value::Array(merged)
        }
        _ => config.clone(),
    }
}

fn remove(object: &mut Value, path: &[Step]) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut at = object;
    for step in parents {
        let next = match (step, at) {
            (Step::Field(name), Value::Object(members)) => members.get_mut(name),
            (step, Value::Array(items)) => items.iter_mut().find(|item| is_at(item, step)),
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return,
        }
    }
    match (last, at) {
        (Step::Field(name), Value::Object(members)) => drop(members.remove(name)),
        (step, Value::Array(items)) => items.retain(|item| !is_at(item, step)),
        _ => {}
    }
}

fn is_at(item: &Value, step: &Step) -> bool {
    match step {
        Step::Field(_) => false,
        Step::Value(value) => {
            let value = serde_json::from_str::<Value>(value);
            value.is_ok_and(|value| value == *item)
        }
        Step::Key(keys) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            keys.iter()
                .all(|(name, value)| item[name.as_str()] == *value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::applied_fields;
    use super::super::kinds;
    use super::super::managed::{Applied, Manager, after_write};
    use super::apply;
    use crate::model::Timestamp;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp::from_ms(0);

    fn config_map(data: Value) -> Value {
        json!({"metadata": {"name": "c"}, "data": data})
    }

    fn manager(name: &str) -> Manager {
        Manager {
            name: name.to_owned(),
            is_apply: true,
            subresource: String::new(),
            applied: None,
        }
    }

    #[test]
    fn what_is_applied_no_more_goes_unless_others_own_it() {
        let kind = kinds::find("", "v1", "configmaps").unwrap();
        let mut me = manager("me");
        let config = config_map(json!({"a": "1", "b": "1"}));
        me.applied = Some(Applied {
            fields: applied_fields(kind, &config),
            ..Applied::default()
        });
        let mut live = config.clone();
        after_write(kind, None, &mut live, (&me, NOW));
        let (merged, applied) =
            apply(kind, &live, (&config_map(json!({"a": "2"})), &me), false).unwrap();
        assert_eq!(merged["data"], json!({"a": "2"}));
        assert_eq!(applied.fields.to_value(), json!({"f:data": {"f:a": {}}}));
        let other = manager("other");
        let refused =
            apply(kind, &live, (&config_map(json!({"a": "3"})), &other), false).unwrap_err();
        assert_eq!(
            refused.message,
            "Apply failed with 1 conflict: conflict with \"me\": .data.a"
        );
        assert!(apply(kind, &live, (&config_map(json!({"a": "1"})), &other), false).is_ok());
        assert!(apply(kind, &live, (&config_map(json!({"a": "3"})), &other), true).is_ok());
    }
}
