//! Members of JSON objects, read and set without leaving nulls behind, as indexing does.

use serde_json::Value;

/// Returns the entries of the list `name`, none when there is no such list.
pub(super) fn list_mut<'a>(
    object: &'a mut Value,
    name: &str,
) -> impl Iterator<Item = &'a mut Value> {
    let list = object.get_mut(name).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// Returns the entries of the list `name`, none when there is no such list.
pub(super) fn list<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    object[name].as_array().map_or(&[], Vec::as_slice)
}

/// Sets a member where it is absent.
pub(super) fn fill(object: &mut Value, name: &str, value: Value) {
    if object[name].is_null() {
        object[name] = value;
    }
}

/// Sets a member, or removes it.
pub(super) fn set(object: &mut Value, name: &str, value: Option<Value>) {
    match value {
        Some(value) => object[name] = value,
        None => {
            if let Some(members) = object.as_object_mut() {
                members.remove(name);
            }
        }
    }
}
