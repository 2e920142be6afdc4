//! Bounds, names and strategies: what the operator makes of the groups.

use serde_json::Value;

use super::finding::Found;
use super::subject::{Subject, shown};
use crate::model::{Quantity, ResourceMap};

/// `maxReplicas` where nobody sets it.
const UNBOUNDED: i64 = 2_147_483_647;
/// Longest value of a pod label.
const LABEL_MAX: usize = 63;
/// Longest part of a name that the operator keeps.
const NAME_KEPT: usize = 50;

/// Finds a RayCluster with nothing to scale.
pub(super) fn no_worker_groups(subject: &Subject) -> Vec<Found> {
    if subject.groups().is_empty() {
        let path = subject.path("workerGroupSpecs");
        return vec![Found::at(path, "empty", "at least one group")];
    }
    Vec::new()
}

/// Returns what `find` says of each group's `key`, absent and null values told apart from others.
fn each(
    subject: &Subject,
    key: &str,
    find: impl Fn(&str, Option<&Value>) -> Option<(String, &'static str)>,
) -> Vec<Found> {
    let groups = subject.groups().into_iter();
    let found = groups.filter_map(|group| {
        let path = format!("{group}.{key}");
        let (value, accepted) = find(&group, subject.value(&path))?;
        Some(Found::at(subject.path(&path), value, accepted))
    });
    found.collect()
}

fn number(value: Option<&Value>, default: i64) -> Option<i64> {
    value.map_or(Some(default), Value::as_i64)
}

/// Finds groups without an upper bound.
pub(super) fn max_unbounded(subject: &Subject) -> Vec<Found> {
    each(subject, "maxReplicas", |_, value| {
        let max = number(value, UNBOUNDED)?;
        (max >= UNBOUNDED).then(|| {
            let value = value.map_or_else(|| "absent".to_owned(), shown);
            (value, "the most replicas that you would pay for")
        })
    })
}

/// Finds groups that may never have a replica.
pub(super) fn group_cannot_grow(subject: &Subject) -> Vec<Found> {
    each(subject, "maxReplicas", |_, value| {
        let is_zero = number(value, UNBOUNDED)? == 0;
        is_zero.then(|| ("0".to_owned(), "1 or more"))
    })
}

/// Finds `replicas: null`.
pub(super) fn replicas_null(subject: &Subject) -> Vec<Found> {
    let is_null = |group: &String| {
        let index = group.trim_start_matches("workerGroupSpecs[");
        let index: Option<usize> = index.trim_end_matches(']').parse().ok();
        let groups = subject.value("workerGroupSpecs");
        let group = index.and_then(|index| groups?.get(index));
        group.and_then(|group| group.get("replicas")) == Some(&Value::Null)
    };
    let groups = subject.groups().into_iter().filter(is_null);
    let found = groups.map(|group| {
        let path = subject.path(&format!("{group}.replicas"));
        Found::at(path, "null", "a number, or no such line")
    });
    found.collect()
}

/// Finds `replicas` that the operator takes for another number.
pub(super) fn replicas_outside_bounds(subject: &Subject) -> Vec<Found> {
    each(subject, "replicas", |group, value| {
        let replicas = value?.as_i64()?;
        let bound = |key: &str, default| {
            let value = subject.value(&format!("{group}.{key}"));
            number(value, default)
        };
        let (min, max) = (bound("minReplicas", 0)?, bound("maxReplicas", UNBOUNDED)?);
        let is_outside = min <= max && !(min..=max).contains(&replicas);
        is_outside.then(|| (replicas.to_string(), "from minReplicas to maxReplicas"))
    })
}

/// Finds names of pods that the operator deletes as soon as the manifest is applied.
pub(super) fn workers_to_delete_given(subject: &Subject) -> Vec<Found> {
    each(subject, "scaleStrategy.workersToDelete", |_, value| {
        let names = value?.as_array().filter(|names| !names.is_empty())?;
        let value = shown(&Value::Array(names.clone()));
        Some((value, "nothing: the list is the autoscaler's"))
    })
}

/// Finds names with which no pod can be made.
pub(super) fn group_name_unusable(subject: &Subject) -> Vec<Found> {
    each(subject, "groupName", |_, value| {
        let name = value?.as_str().filter(|name| !name.is_empty())?;
        let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        let is_end = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        let is_usable = name.len() <= LABEL_MAX
            && name.bytes().all(is_inner)
            && is_end(name.bytes().next())
            && is_end(name.bytes().last());
        let accepted = "at most 63 of a-z, 0-9 and -, a letter or digit first and last";
        (!is_usable).then(|| (name.to_owned(), accepted))
    })
}

/// Finds names that look different on pods.
pub(super) fn group_name_uppercase(subject: &Subject) -> Vec<Found> {
    each(subject, "groupName", |_, value| {
        let name = value?.as_str()?;
        let has_upper = name.bytes().any(|b| b.is_ascii_uppercase());
        has_upper.then(|| (name.to_owned(), "lower case"))
    })
}

/// Finds names that the operator cuts.
pub(super) fn names_clipped(subject: &Subject) -> Vec<Found> {
    let cluster = &subject.name;
    let mut found = Vec::new();
    if cluster.len() > NAME_KEPT {
        let accepted = "at most 50 characters";
        found.push(Found::at("metadata.name".to_owned(), cluster, accepted));
    }
    // Pods are named `<cluster>-<group>`, cut, and a random part: of a cut one nothing of the group is left.
    found.extend(each(subject, "groupName", |_, value| {
        let name = value?.as_str()?;
        let is_cut = cluster.len() + 1 + name.len() > NAME_KEPT;
        let accepted = "at most 50 characters together with the name of the cluster and a dash";
        is_cut.then(|| (name.to_owned(), accepted))
    }));
    found
}

/// Finds a RayCluster that somebody has to set free first.
pub(super) fn cluster_suspended(subject: &Subject) -> Vec<Found> {
    match subject.value("suspend") {
        Some(Value::Bool(true)) => {
            vec![Found::at(
                subject.path("suspend"),
                "true",
                "false or nothing",
            )]
        }
        _ => Vec::new(),
    }
}

/// Finds the strategy that makes everything anew.
pub(super) fn recreate_upgrade(subject: &Subject) -> Vec<Found> {
    let path = "upgradeStrategy.type";
    match subject.text(path) {
        Some("Recreate") => {
            let accepted = "None or nothing";
            vec![Found::at(subject.path(path), "Recreate", accepted)]
        }
        _ => Vec::new(),
    }
}

/// Finds groups whose nodes offer nothing that a task would ask for.
pub(super) fn no_resources(subject: &Subject) -> Vec<Found> {
    let is_nothing = |resources: &ResourceMap| {
        let mut useful = resources
            .iter()
            .filter(|(name, amount)| *amount > Quantity::ZERO && !name.as_str().contains("memory"));
        useful.next().is_none()
    };
    let groups = subject.snapshot.groups.iter();
    let found = groups
        .filter(|group| is_nothing(&group.template.resources))
        .map(|group| {
            let path = subject.path(&format!("workerGroupSpecs[{}]", group.index));
            let accepted = "a CPU, a GPU or a resource of its own";
            let value = format!("a group whose nodes have {}", group.template.resources);
            Found::at(path, value, accepted)
        });
    found.collect()
}
