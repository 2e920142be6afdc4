//! Strategic merge patch: as a merge patch, but the entries of some lists are told apart by a key.

use super::super::lists;
use serde_json::{Map, Value};

/// Tells how a map or a list entry is to be patched.
const DIRECTIVE: &str = "$patch";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";
const RETAIN: &str = "$retainKeys";

/// Returns the object with the patch applied.
pub(super) fn apply(object: &Value, patch: &Value) -> Value {
    merged(object, patch, &mut Vec::new())
}

fn merged<'a>(before: &Value, patch: &'a Value, path: &mut Vec<&'a str>) -> Value {
    let Value::Object(changes) = patch else {
        return patch.clone();
    };
    if changes.get(DIRECTIVE).is_some_and(|it| it == "replace") {
        return without_directives(changes);
    }
    let mut members = before.as_object().cloned().unwrap_or_else(Map::new);
    if let Some(Value::Array(kept)) = changes.get(RETAIN) {
        members.retain(|name, _| kept.iter().any(|one| one == name));
    }
    for (name, change) in changes {
        if let Some(list) = name.strip_prefix(DELETE_PRIMITIVES) {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (members.get_mut(list), change)
            {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        if change.is_null() {
            members.remove(name);
            continue;
        }
        path.push(name);
        let old = members.get(name).unwrap_or(&Value::Null);
        let new = match change {
            Value::Array(entries) => {
                let order = changes.get(&format!("{ORDER}{name}"));
                merged_list(old, entries, order, path)
            }
            other => merged(old, other, path),
        };
        path.pop();
        members.insert(name.clone(), new);
    }
    Value::Object(members)
}

fn without_directives(members: &Map<String, Value>) -> Value {
    let kept = members.iter().filter(|(name, _)| !name.starts_with('$'));
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn merged_list<'a>(
    before: &Value,
    entries: &'a [Value],
    order: Option<&Value>,
    path: &mut Vec<&'a str>,
) -> Value {
    let Some(rule) = lists::built_in(path) else {
        return Value::Array(entries.to_vec());
    };
    let mut items = before.as_array().cloned().unwrap_or_default();
    let replaces = entries
        .iter()
        .any(|entry| entry.get(DIRECTIVE).is_some_and(|it| it == "replace"));
    if replaces {
        items.clear();
    }
    for entry in entries {
        let Some(key) = rule.patch_key else {
            // A set of plain values.
            if !items.contains(entry) {
                items.push(entry.clone());
            }
            continue;
        };
        let Value::Object(members) = entry else {
            continue;
        };
        let at = items
            .iter()
            .position(|item| item[key] == entry[key] && !entry[key].is_null());
        match (members.get(DIRECTIVE).and_then(Value::as_str), at) {
            (Some("delete"), Some(at)) => drop(items.remove(at)),
            (Some("delete" | "replace"), None) if members.len() == 1 => {}
            (Some("delete"), None) => {}
            (_, Some(at)) => items[at] = merged(&items[at], entry, path),
            (_, None) => items.push(merged(&Value::Null, entry, path)),
        }
    }
    if let Some(Value::Array(order)) = order {
        let place = |item: &Value| {
            let is_it = |one: &Value| match rule.patch_key {
                Some(key) => one[key] == item[key],
                None => one == item,
            };
            order.iter().position(is_it).unwrap_or(usize::MAX)
        };
        items.sort_by_key(place);
    }
    Value::Array(items)
}

#[cfg(test)]
mod tests {
    use super::apply;
    use serde_json::json;

    #[test]
    fn entries_with_a_key_are_merged_and_other_lists_replaced() {
        let pod = json!({"spec": {
            "containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "1"}],
            "tolerations": [{"key": "k"}],
        }});
        let patch = json!({"spec": {
            "containers": [{"name": "a", "image": "2", "args": ["y"]}, {"name": "b", "$patch": "delete"},
                {"name": "c", "image": "3"}],
            "tolerations": [{"key": "l"}],
        }});
        let expected = json!({"spec": {
            "containers": [{"name": "a", "image": "2", "args": ["y"]}, {"name": "c", "image": "3"}],
            "tolerations": [{"key": "l"}],
        }});
        assert_eq!(apply(&pod, &patch), expected);
    }

    #[test]
    fn sets_grow_and_shrink_by_value() {
        let pod = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}}});
        let patch = json!({"metadata": {
            "finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"], "labels": {"x": null},
        }});
        let expected = json!({"metadata": {"finalizers": ["b", "c"], "labels": {}}});
        assert_eq!(apply(&pod, &patch), expected);
    }
}
