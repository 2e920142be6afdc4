//! The files in `deploy/` and the README: what people apply, run and read is tried here.

#![expect(clippy::unwrap_used, reason = "test")]

mod alerts;
mod dashboard;
mod image;
mod manifests;
mod pod_monitor;
mod promtool;
mod readme;
mod readme_commands;
mod release;
mod samples;
#[path = "../support/mod.rs"]
mod support;
mod threats;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Returns a path of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns a file of the project.
fn text(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the documents of a YAML text.
fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// Returns the objects of every YAML file in `deploy/`, each with its file's name.
fn deployed() -> Vec<(String, Value)> {
    let mut names: Vec<String> = fs::read_dir(project("deploy"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    let objects = names.into_iter().flat_map(|name| {
        let objects = documents(&text(&format!("deploy/{name}")));
        objects
            .into_iter()
            .map(move |object| (name.clone(), object))
    });
    objects.collect()
}

/// Returns the only object of a file in `deploy/`.
fn deployed_as(name: &str) -> Value {
    let mut objects = documents(&text(&format!("deploy/{name}")));
    assert_eq!(objects.len(), 1, "{name}");
    objects.remove(0)
}

/// Returns every RayCluster that the files in `deploy/` ask for, those of services and jobs too.
fn ray_clusters() -> Vec<(String, Value)> {
    let clusters = deployed().into_iter().filter_map(|(file, object)| {
        let spec = match object["kind"].as_str().unwrap() {
            "RayCluster" => &object["spec"],
            "RayService" => &object["spec"]["rayClusterConfig"],
            "RayJob" => &object["spec"]["rayClusterSpec"],
            _ => return None,
        };
        let cluster = serde_json::json!({
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {"name": object["metadata"]["name"]},
            "spec": spec,
        });
        Some((file, cluster))
    });
    let clusters: Vec<_> = clusters.collect();
    assert_eq!(clusters.len(), 5, "{clusters:?}");
    clusters
}
