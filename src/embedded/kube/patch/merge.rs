//! JSON Merge Patch: maps are merged, null removes, everything else replaces.

use serde_json::{Map, Value};

/// Returns the object with the patch applied.
pub(super) fn apply(object: &Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else {
        return patch.clone();
    };
    let mut merged = object.as_object().cloned().unwrap_or_else(Map::new);
    for (name, change) in changes {
        if change.is_null() {
            merged.remove(name);
        } else {
            let before = merged.get(name).unwrap_or(&Value::Null);
            let after = apply(before, change);
            merged.insert(name.clone(), after);
        }
    }
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use super::apply;
    use serde_json::json;

    #[test]
    fn lists_are_replaced_and_nulls_removed_at_each_depth() {
        let object = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
        let patch = json!({"a": {"b": null, "d": {"e": null, "f": 1}}, "l": [3]});
        let expected = json!({"a": {"c": 2, "d": {"f": 1}}, "l": [3]});
        assert_eq!(apply(&object, &patch), expected);
    }
}
