//! Kubernetes objects in files: YAML or JSON, several documents, a `List`, or the object alone.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::wire::pod::PodFacts;
use crate::wire::raycluster::RayCluster;

/// Most scalars, lists and maps of a YAML file: 10,000 pods with all their fields have some millions.
const NODES_MAX: usize = 20_000_000;

/// The name that stands for standard input.
const STDIN: &str = "-";

/// Returns a file's text; that of standard input for `-`.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    if path.as_os_str() == STDIN {
        let mut text = String::new();
        let read = io::stdin().lock().read_to_string(&mut text);
        return read.map(|_| text).context("cannot read standard input");
    }
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Returns the RayClusters of a file, at least one.
///
/// Errors: no RayCluster, or one that cannot be read at all.
pub(super) fn ray_clusters(path: &Path) -> anyhow::Result<Vec<RayCluster>> {
    let objects = objects(path)?;
    let found: Vec<&str> = objects.iter().map(kind).collect();
    let is_one = |object: &&Value| ["RayCluster", ""].contains(&kind(object));
    let clusters = objects.iter().filter(is_one).map(|object| {
        RayCluster::from_value(object).with_context(|| format!("`{}`", path.display()))
    });
    let clusters: Vec<RayCluster> = clusters.collect::<anyhow::Result<_>>()?;
    if clusters.is_empty() {
        let problem = nothing_of("a RayCluster", &found);
        anyhow::bail!("`{}` {problem}", path.display());
    }
    Ok(clusters)
}

/// Returns the pods of a file; a list of none is fine.
///
/// Errors: anything else than pods.
pub(super) fn pods(path: &Path) -> anyhow::Result<Vec<PodFacts>> {
    let objects = objects(path)?;
    let pods = objects.iter().enumerate().map(|(index, object)| {
        if !["Pod", ""].contains(&kind(object)) {
            let problem = nothing_of("pods only", &[kind(object)]);
            anyhow::bail!("`{}`: item {index} {problem}", path.display());
        }
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        let name = name.with_context(|| {
            let path = path.display();
            format!("`{path}`: item {index} has no metadata.name; expected pods")
        })?;
        PodFacts::from_value(object)
            .with_context(|| format!("`{}`: cannot read pod `{name}`", path.display()))
    });
    pods.collect()
}

/// Returns the Roles and ClusterRoles of a file, at least one.
///
/// Errors: neither.
pub(super) fn roles(path: &Path) -> anyhow::Result<Vec<Value>> {
    let objects = objects(path)?;
    let found: Vec<&str> = objects.iter().map(kind).collect();
    let problem = nothing_of("a Role or a ClusterRole", &found);
    let is_role = |object: &Value| ["Role", "ClusterRole"].contains(&kind(object));
    let roles: Vec<Value> = objects.into_iter().filter(is_role).collect();
    anyhow::ensure!(!roles.is_empty(), "`{}` {problem}", path.display());
    Ok(roles)
}

/// Says what a file holds, and what was expected.
pub(super) fn nothing_of(expected: &str, found: &[&str]) -> String {
    let found = match found {
        [] => "nothing".to_owned(),
        _ => found.join(", "),
    };
    format!("holds {found}; expected {expected}, as YAML or JSON")
}

/// Returns the kind of an object; empty when it does not say.
pub(super) fn kind(object: &Value) -> &str {
    object
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Returns the objects of a file, lists taken apart.
pub(super) fn objects(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = read(path)?;
    let documents = documents(&text)
        .with_context(|| format!("`{}` is neither YAML nor JSON", path.display()))?;
    let mut objects = Vec::new();
    for document in documents {
        flatten(document, &mut objects).map_err(|found| {
            anyhow::anyhow!("`{}` holds {found}; expected objects", path.display())
        })?;
    }
    Ok(objects)
}

fn documents(text: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    // JSON is YAML too, but a large one takes many times as long as such.
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(vec![value]);
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
            max_total_scalar_bytes: 512 * 1024 * 1024,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options)
}

/// Takes lists apart; the error is what is no object.
fn flatten(value: Value, into: &mut Vec<Value>) -> Result<(), String> {
    match value {
        Value::Null => Ok(()),
        Value::Array(items) => items.into_iter().try_for_each(|item| flatten(item, into)),
        Value::Object(mut object) => match object.remove("items") {
            Some(Value::Array(items)) => items.into_iter().try_for_each(|item| flatten(item, into)),
            Some(other) => Err(format!("a list whose items are {}", shown(&other))),
            None => {
                into.push(Value::Object(object));
                Ok(())
            }
        },
        other => Err(shown(&other)),
    }
}

fn shown(value: &Value) -> String {
    let text: String = value.to_string().chars().take(40).collect();
    format!("`{text}`")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{documents, flatten};

    fn objects(text: &str) -> Result<Vec<Value>, String> {
        let mut objects = Vec::new();
        for document in documents(text).map_err(|error| error.to_string())? {
            flatten(document, &mut objects)?;
        }
        Ok(objects)
    }

    #[test]
    fn objects_come_as_kubectl_prints_them_and_as_people_write_them() {
        let pod = json!({"kind": "Pod"});
        let one = vec![pod.clone()];
        for text in [
            "kind: Pod",
            r#"{"kind": "Pod"}"#,
            "items: [{kind: Pod}]",
            "- kind: Pod",
        ] {
            assert_eq!(objects(text).unwrap(), one, "{text}");
        }
        let two = vec![pod.clone(), pod];
        assert_eq!(objects("kind: Pod\n---\n---\nkind: Pod\n").unwrap(), two);
        assert_eq!(
            objects("{kind: List, items: [[{kind: Pod}], {kind: Pod}]}").unwrap(),
            two
        );
        for text in ["", "# nothing", "items: []", "[]"] {
            assert_eq!(objects(text).unwrap(), Vec::<Value>::new(), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_shown() {
        assert_eq!(objects("just words").unwrap_err(), "`\"just words\"`");
        assert_eq!(
            objects("items: 7").unwrap_err(),
            "a list whose items are `7`"
        );
        assert!(objects("a: [").is_err() && objects("a: *b").is_err());
    }
}
