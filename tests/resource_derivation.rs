//! The flags we derive for a group are those that the real operator generated for it.
#![cfg(feature = "sidecar")]
#![expect(clippy::unwrap_used, reason = "test")]

use std::collections::BTreeMap;

use rayscaler::observe::derive::{GroupSource, ray_start_flags};
use rayscaler::wire::raycluster::RayCluster;
use serde_json::{Value, json};

/// One line per spec, as the operator 1.7.0 answered it; see the file's first line for the columns.
const TABLE: &str = include_str!("data/resource_derivation.tsv");
const FLAGS: [&str; 5] = ["num-cpus", "num-gpus", "memory", "resources", "labels"];

/// Returns a column's JSON; an empty one is an object without members.
fn input(column: &str) -> Value {
    if column.is_empty() {
        json!({})
    } else {
        serde_json::from_str(column).unwrap()
    }
}

fn derive(columns: &[&str]) -> BTreeMap<String, String> {
    let group = json!({
        "groupName": "g",
        "rayStartParams": input(columns[2]),
        "resources": input(columns[3]),
        "labels": input(columns[4]),
        "template": {"spec": {"containers": [
            {"name": "ray", "resources": input(columns[1])},
            {"name": "second", "resources": {"limits": {"cpu": "9", "memory": "9Gi", "nvidia.com/gpu": "9"}}},
        ]}},
    });
    let cluster = json!({
        "metadata": {"name": "c"},
        "spec": {"headGroupSpec": group, "workerGroupSpecs": [group]},
    });
    let cluster = RayCluster::from_value(&cluster).unwrap();
    let flags = if columns[0].starts_with("HEAD ") {
        ray_start_flags(&GroupSource::of_head(&cluster.spec.head_group.unwrap()))
    } else {
        let worker = cluster.spec.worker_groups[0].as_ref().unwrap();
        ray_start_flags(&GroupSource::of_worker(worker, "g"))
    };
    flags.unwrap()
}

#[test]
fn every_row_that_the_operator_answered_is_derived_as_it_answered() {
    let rows: Vec<Vec<&str>> = TABLE
        .lines()
        .skip(2)
        .map(|line| line.split('\t').collect())
        .collect();
    let mut wrong = Vec::new();
    let mut refused = 0;
    for columns in &rows {
        assert_eq!(columns.len(), 12, "{columns:?}");
        if columns[11] == "no pod" {
            // The API server refused the pod, so there is no line to compare with.
            refused += 1;
            continue;
        }
        let expected: BTreeMap<String, String> = serde_json::from_str(columns[10]).unwrap();
        let mut derived = derive(columns);
        derived.retain(|flag, _| FLAGS.contains(&flag.as_str()));
        if derived != expected {
            wrong.push(format!(
                "{}: {derived:?} instead of {expected:?}",
                columns[0]
            ));
        }
    }
    assert_eq!((rows.len(), refused), (110, 2));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
