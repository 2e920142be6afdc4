//! JSON Patch, with the habits of the library that the API server uses.
//!
//! They differ from the RFC: a `test` of an absent member for null passes, `replace` of an absent member of
//! an object that is there adds it, a value that is left out is null, and places are counted from the end
//! when they are negative.

use serde_json::Value;

/// Returns the patched object; none when any operation fails, without a word why, as the API server.
pub(super) fn apply(object: &Value, operations: &[Value]) -> Option<Value> {
    let mut patched = object.clone();
    for operation in operations {
        apply_one(&mut patched, operation)?;
    }
    Some(patched)
}

fn apply_one(root: &mut Value, operation: &Value) -> Option<()> {
    let path = operation["path"].as_str()?;
    match operation["op"].as_str()? {
        "add" => add(root, path, operation["value"].clone()),
        "replace" => replace(root, path, operation["value"].clone()),
        "remove" => remove(root, path).map(|_| ()),
        "test" => test(root, path, &operation["value"]),
        "move" => {
            let moved = remove(root, operation["from"].as_str()?)?;
            add(root, path, moved)
        }
        "copy" => {
            let copied = root.pointer(operation["from"].as_str()?)?.clone();
            add(root, path, copied)
        }
        _ => None,
    }
}

/// Returns the parent of what a path names, and the last step; none when the parent is absent.
fn parent<'a>(root: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    let parent = root.pointer_mut(parent)?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn index(text: &str, length: usize) -> Option<usize> {
    let is_plain = text == "0" || !text.starts_with('0');
    if let Some(from_end) = text.strip_prefix('-') {
        let from_end: usize = from_end.parse().ok().filter(|number| *number > 0)?;
        return length.checked_sub(from_end);
    }
    let index: usize = text.parse().ok().filter(|_| is_plain)?;
    (index < length).then_some(index)
}

fn add(root: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *root = value;
        return Some(());
    }
    match parent(root, path)? {
        (Value::Object(members), last) => drop(members.insert(last, value)),
        (Value::Array(items), last) if last == "-" => items.push(value),
        (Value::Array(items), last) => {
            let index = index(&last, items.len() + 1)?;
            items.insert(index, value);
        }
        _ => return None,
    }
    Some(())
}

fn replace(root: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *root = value;
        return Some(());
    }
    match parent(root, path)? {
        (Value::Object(members), last) => drop(members.insert(last, value)),
        (Value::Array(items), last) => {
            let index = index(&last, items.len())?;
            items[index] = value;
        }
        _ => return None,
    }
    Some(())
}

fn remove(root: &mut Value, path: &str) -> Option<Value> {
    match parent(root, path)? {
        (Value::Object(members), last) => members.remove(&last),
        (Value::Array(items), last) => {
            let index = index(&last, items.len())?;
            Some(items.remove(index))
        }
        _ => None,
    }
}

fn test(root: &mut Value, path: &str, expected: &Value) -> Option<()> {
    if path.is_empty() {
        return (root == expected).then_some(());
    }
    let found = match parent(root, path)? {
        (Value::Object(members), last) => members.get(&last).unwrap_or(&Value::Null),
        (Value::Array(items), last) => {
            let index = index(&last, items.len())?;
            &items[index]
        }
        _ => return None,
    };
    (found == expected).then_some(())
}

#[cfg(test)]
mod tests {
    use super::apply;
    use serde_json::{Value, json};

    fn patched(operation: Value) -> Option<Value> {
        let object = json!({"a": {"b": 2, "c/d": null}, "l": [1, 2]});
        apply(&object, &[operation])
    }

    #[test]
    fn operations_fail_where_the_api_servers_do() {
        let fails = [
            json!({"op": "test", "path": "/a/b", "value": 2.0}),
            json!({"op": "test", "path": "/a/b", "value": null}),
            json!({"op": "test", "path": "/l/2", "value": null}),
            json!({"op": "test", "path": "/x/y", "value": null}),
            json!({"op": "remove", "path": "/a/x"}),
            json!({"op": "remove", "path": "/l/01"}),
            json!({"op": "add", "path": "/x/y", "value": 1}),
            json!({"op": "add", "path": "/l/3", "value": 1}),
            json!({"op": "replace", "path": "/l/2", "value": 1}),
            json!({"op": "increase", "path": "/a/b", "value": 1}),
            json!({"path": "/a/b", "value": 1}),
        ];
        for operation in fails {
            assert_eq!(patched(operation.clone()), None, "{operation}");
        }
    }

    #[test]
    fn operations_change_what_they_name() {
        let rows = [
            (
                json!({"op": "test", "path": "/a/x", "value": null}),
                "/a/b",
                json!(2),
            ),
            (
                json!({"op": "test", "path": "/a/c~1d", "value": null}),
                "/a/b",
                json!(2),
            ),
            (
                json!({"op": "add", "path": "/a/x", "value": 1}),
                "/a/x",
                json!(1),
            ),
            (
                json!({"op": "replace", "path": "/a/x", "value": 1}),
                "/a/x",
                json!(1),
            ),
            (
                json!({"op": "add", "path": "/l/0", "value": 0}),
                "/l",
                json!([0, 1, 2]),
            ),
            (json!({"op": "add", "path": "/a/x"}), "/a/x", Value::Null),
            (
                json!({"op": "add", "path": "/l/-1", "value": 3}),
                "/l",
                json!([1, 2, 3]),
            ),
            (
                json!({"op": "replace", "path": "/l/-1", "value": 3}),
                "/l",
                json!([1, 3]),
            ),
            (
                json!({"op": "add", "path": "/l/-", "value": 3}),
                "/l",
                json!([1, 2, 3]),
            ),
            (
                json!({"op": "replace", "path": "/l/0", "value": 0}),
                "/l",
                json!([0, 2]),
            ),
            (json!({"op": "remove", "path": "/l/0"}), "/l", json!([2])),
            (
                json!({"op": "move", "from": "/a/b", "path": "/m"}),
                "/m",
                json!(2),
            ),
            (
                json!({"op": "copy", "from": "/l/1", "path": "/a/b"}),
                "/a/b",
                json!(2),
            ),
        ];
        for (operation, pointer, expected) in rows {
            let patched = patched(operation.clone()).unwrap();
            assert_eq!(patched.pointer(pointer), Some(&expected), "{operation}");
        }
    }
}
