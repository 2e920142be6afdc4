//! The worker groups of a RayCluster: those that can be scaled, and why the others cannot.
//!
//! One group that cannot be understood never stops the others. What stops the operator for the
//! whole cluster is listed by `operator_checks`.

use std::collections::BTreeMap;

use super::derive::{GroupSource, node_template};
use super::operator_checks::operator_checks;
use crate::model::{PodName, Problem, ReplicaBounds, SkippedGroup, WorkerGroup, WorkerGroupName};
use crate::wire::FieldError;
use crate::wire::raycluster::{GroupError, RayCluster, WorkerGroupSpec};

/// Returns the groups that can be scaled, those that cannot, and what is odd about the RayCluster.
#[must_use]
pub fn worker_groups(
    raycluster: &RayCluster,
) -> (Vec<WorkerGroup>, Vec<SkippedGroup>, Vec<Problem>) {
    let specs = &raycluster.spec.worker_groups;
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for name in specs.iter().map(name_of) {
        *uses.entry(name).or_default() += 1;
    }
    let (mut groups, mut skipped) = (Vec::new(), Vec::new());
    let mut problems = operator_checks(raycluster);
    for (index, spec) in specs.iter().enumerate() {
        let count = uses.get(name_of(spec)).copied().unwrap_or(0);
        match worker_group(index, spec, count) {
            Ok((group, found)) => {
                groups.push(group);
                problems.extend(found);
            }
            Err((code, detail)) => skipped.push(SkippedGroup {
                name: WorkerGroupName::from(name_of(spec)),
                index,
                code: code.to_owned(),
                detail,
            }),
        }
    }
    (groups, skipped, problems)
}

type Skip = (&'static str, String);

fn name_of(spec: &Result<WorkerGroupSpec, GroupError>) -> &str {
    match spec {
        Ok(group) => &group.group_name,
        Err(error) => &error.name,
    }
}

fn worker_group(
    index: usize,
    spec: &Result<WorkerGroupSpec, GroupError>,
    uses: usize,
) -> Result<(WorkerGroup, Vec<Problem>), Skip> {
    let path = format!("spec.workerGroupSpecs[{index}]");
    let spec = spec
        .as_ref()
        .map_err(|error| ("unreadable", error.field.to_string()))?;
    check_name(spec, &path, uses)?;
    if spec.suspend {
        return Err((
            "suspended",
            told(&path, "suspend", "true", "false or nothing"),
        ));
    }
    let num_of_hosts = match u32::try_from(spec.num_of_hosts) {
        Ok(hosts) if hosts > 0 => hosts,
        _ => {
            return Err((
                "no_hosts",
                told(&path, "numOfHosts", spec.num_of_hosts, "1 or more"),
            ));
        }
    };
    let bounds = bounds(spec, &path)?;
    if spec.template.containers.is_empty() {
        return Err((
            "no_container",
            told(
                &path,
                "template.spec.containers",
                "empty",
                "the Ray container",
            ),
        ));
    }
    let bad_resources = |error: FieldError| ("bad_resources", error.to_string());
    let source = GroupSource::of_worker(spec, &path);
    let (template, problems) = node_template(&source).map_err(bad_resources)?;
    let names = spec.workers_to_delete.as_deref().unwrap_or_default();
    let group = WorkerGroup {
        surge: 0,
        name: WorkerGroupName::from(spec.group_name.as_str()),
        index,
        replicas: replicas(spec.replicas),
        has_replicas: spec.has_replicas && spec.replicas == i64::from(replicas(spec.replicas)),
        bounds,
        num_of_hosts,
        priority: spec.priority,
        // The operator refuses a negative time-out; until it is repaired the cluster's counts.
        idle_timeout_ms: spec.idle_timeout_seconds.and_then(seconds_as_ms),
        template,
        workers_to_delete: names
            .iter()
            .map(|name| PodName::from(name.as_str()))
            .collect(),
        has_scale_strategy: spec.scale_strategy.is_some(),
        has_workers_to_delete: spec.workers_to_delete.is_some(),
    };
    Ok((group, problems))
}

fn check_name(spec: &WorkerGroupSpec, path: &str, uses: usize) -> Result<(), Skip> {
    let name = spec.group_name.as_str();
    if name.is_empty() {
        return Err(("empty_name", told(path, "groupName", "empty", "a name")));
    }
    if name == WorkerGroupName::HEAD {
        return Err((
            "reserved_name",
            told(
                path,
                "groupName",
                name,
                "another name: this one is the head's",
            ),
        ));
    }
    if uses > 1 {
        let accepted =
            format!("a name of its own: {uses} groups have this one and share their pods");
        return Err(("duplicate_name", told(path, "groupName", name, &accepted)));
    }
    Ok(())
}

fn bounds(spec: &WorkerGroupSpec, path: &str) -> Result<ReplicaBounds, Skip> {
    let bound = |key: &str, value: i64| {
        u32::try_from(value).map_err(|_| {
            let code = if value < 0 {
                "negative_bound"
            } else {
                "bound_out_of_range"
            };
            (code, told(path, key, value, "0 to 2147483647"))
        })
    };
    let min = bound("minReplicas", spec.replicas_min)?;
    let max = bound("maxReplicas", spec.replicas_max)?;
    if min > max {
        let accepted = format!("at most maxReplicas, which is {max}");
        return Err(("min_above_max", told(path, "minReplicas", min, &accepted)));
    }
    Ok(ReplicaBounds { min, max })
}

/// Returns `replicas` as the operator takes it: a negative number is no replicas.
fn replicas(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

/// Returns seconds in milliseconds; `None` for a negative number.
pub(super) fn seconds_as_ms(seconds: i64) -> Option<u64> {
    u64::try_from(seconds)
        .ok()
        .map(|seconds| seconds.saturating_mul(1000))
}

fn told(path: &str, key: &str, value: impl ToString, accepted: &str) -> String {
    format!(
        "{path}.{key} is {}; accepted: {accepted}",
        value.to_string()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::worker_groups;
    use crate::wire::raycluster::RayCluster;

    fn cluster(groups: &Value) -> RayCluster {
        let container = json!({"spec": {"containers": [{"name": "ray", "resources": {"limits": {"cpu": 2, "memory": "1Gi"}}}]}});
        let mut groups = groups.clone();
        for group in groups.as_array_mut().unwrap() {
            if group.is_object() && group.get("template").is_none() {
                group["template"] = container.clone();
            }
        }
        let value = json!({"metadata": {"name": "c"}, "spec": {"enableInTreeAutoscaling": true,
            "headGroupSpec": {"template": container}, "workerGroupSpecs": groups}});
        RayCluster::from_value(&value).unwrap()
    }

    #[test]
    fn groups_are_taken_as_the_operator_takes_them() {
        let (groups, skipped, problems) = worker_groups(&cluster(&json!([
            {"groupName": "a", "replicas": -3, "maxReplicas": 2_147_483_647, "scaleStrategy": {}},
            {"groupName": "B", "replicas": 9, "minReplicas": 1, "maxReplicas": 4, "numOfHosts": 2, "suspend": false,
             "scaleStrategy": {"workersToDelete": ["p"]}},
        ])));
        assert!(
            skipped.is_empty() && problems.is_empty(),
            "{skipped:?} {problems:?}"
        );
        let seen: Vec<_> = groups
            .iter()
            .map(|g| {
                (
                    g.name.as_str(),
                    g.index,
                    g.replicas,
                    g.bounds.min,
                    g.bounds.max,
                    g.num_of_hosts,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [("a", 0, 0, 0, 2_147_483_647, 1), ("B", 1, 9, 1, 4, 2)]
        );
        assert!(!groups[0].has_replicas && groups[1].has_replicas);
        assert!(groups[0].has_scale_strategy && !groups[0].has_workers_to_delete);
        assert!(groups[1].has_workers_to_delete && groups[1].workers_to_delete.len() == 1);
        assert_eq!(
            groups[0].template.resources.to_string(),
            "{CPU: 2, memory: 1073741824}"
        );
        assert_eq!(groups[0].template.labels["ray.io/node-group"], "a");
    }

    #[test]
    fn a_group_that_cannot_be_scaled_says_why_and_leaves_the_others() {
        let (groups, skipped, _) = worker_groups(&cluster(&json!([
            {"groupName": "twice"},
            {"groupName": "twice", "replicas": "x"},
            {"groupName": "headgroup"},
            {"groupName": ""},
            {"groupName": "h0", "numOfHosts": 0},
            {"groupName": "h-", "numOfHosts": -1},
            {"groupName": "n", "minReplicas": -1},
            {"groupName": "big", "maxReplicas": 4_294_967_296_i64},
            {"groupName": "mm", "minReplicas": 3, "maxReplicas": 2},
            {"groupName": "s", "suspend": true},
            {"groupName": "c", "template": {}},
            {"groupName": "r", "rayStartParams": {"num-cpus": "1.5"}},
            {"groupName": "u", "numOfHosts": "two"},
            7,
            {"groupName": "good"},
        ])));
        let codes: Vec<String> = skipped
            .iter()
            .map(|s| format!("{} {} {}", s.index, s.name, s.code))
            .collect();
        assert_eq!(
            codes,
            [
                "0 twice duplicate_name",
                "1 twice unreadable",
                "2 headgroup reserved_name",
                "3  empty_name",
                "4 h0 no_hosts",
                "5 h- no_hosts",
                "6 n negative_bound",
                "7 big bound_out_of_range",
                "8 mm min_above_max",
                "9 s suspended",
                "10 c no_container",
                "11 r bad_resources",
                "12 u unreadable",
                "13  unreadable",
            ]
        );
        assert_eq!(groups.len(), 1);
        assert_eq!(
            skipped[11].detail,
            "spec.workerGroupSpecs[11].rayStartParams.num-cpus is `1.5`; accepted: a whole number from 0 to 100000000000000"
        );
        assert_eq!(
            skipped[8].detail,
            "spec.workerGroupSpecs[8].minReplicas is 3; accepted: at most maxReplicas, which is 2"
        );
    }

    #[test]
    fn a_cluster_without_groups_has_none() {
        let (groups, skipped, problems) = worker_groups(&cluster(&json!([])));
        assert!(groups.is_empty() && skipped.is_empty() && problems.is_empty());
    }
}
