//! As much of OpenAPI as kubectl asks for before it sends a manifest: that the server checks fields itself.

use super::kinds::{KINDS, Kind};
use serde_json::{Map, Value, json};

/// Returns what a path below `/openapi/v3` answers, if anything.
pub(super) fn answer(path: &str) -> Option<Value> {
    if path.is_empty() {
        return Some(index());
    }
    let root = path.trim_start_matches('/');
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| root_of(kind) == root).collect();
    (!kinds.is_empty()).then(|| document(&kinds))
}

/// Returns where a kind is served, without the slash in front.
fn root_of(kind: &Kind) -> String {
    let prefix = if kind.group.is_empty() { "api" } else { "apis" };
    format!("{prefix}/{}", kind.api_version())
}

fn index() -> Value {
    let mut paths = Map::new();
    for root in KINDS.iter().map(root_of) {
        let document = json!({"serverRelativeURL": format!("/openapi/v3/{root}")});
        paths.insert(root, document);
    }
    json!({"paths": paths})
}

fn document(kinds: &[&Kind]) -> Value {
    let mut paths = Map::new();
    for kind in kinds {
        let namespaces = if kind.is_namespaced {
            "namespaces/{namespace}/"
        } else {
            ""
        };
        let path = format!("/{}/{namespaces}{}/{{name}}", root_of(kind), kind.plural);
        let options = ["dryRun", "fieldManager", "fieldValidation", "force"];
        let option =
            |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        let patch = json!({
            "operationId": format!("patch{}", kind.kind),
            "parameters": options.map(option),
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind":
                {"group": kind.group, "version": kind.version, "kind": kind.kind},
        });
        paths.insert(path, json!({"patch": patch}));
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
    })
}
