//! What makes the operator stop working on the whole RayCluster, without a word that we could read.
//!
//! The API server takes such a spec, the operator reports an event and does nothing more: pods stay
//! as they are and our patches are accepted and ignored. The same checks here turn silence into a
//! problem with path, value and repair. They skip no group; what can be scaled is scaled again the
//! moment the spec is repaired.

use std::collections::BTreeMap;

use crate::model::Problem;
use crate::wire::raycluster::{
    Container, HeadGroupSpec, PodTemplate, RayCluster, Spec, WorkerGroupSpec,
};

/// The environment variable that picks the autoscaler's version.
const V2_ENV: &str = "RAY_enable_autoscaler_v2";
/// The first Ray that knows group priorities.
const PRIORITY_SINCE: (u64, u64) = (2, 56);
/// Longest name of a RayCluster.
const NAME_MAX: usize = 53;
/// The operator's own name in `managedBy`.
const OPERATOR: &str = "ray.io/kuberay-operator";
/// Parameters that may not stand beside the group's `resources`.
const RESOURCE_PARAMS: [&str; 4] = ["num-cpus", "num-gpus", "memory", "resources"];

/// Returns everything for which the operator leaves this RayCluster alone.
#[must_use]
pub fn operator_checks(raycluster: &RayCluster) -> Vec<Problem> {
    let spec = &raycluster.spec;
    let mut checks = Checks::default();
    check_cluster(raycluster, &mut checks);
    match &spec.head_group {
        Ok(head) => check_head(spec, head, &mut checks),
        Err(error) => checks.refuses(&error.path, &error.value, error.accepted),
    }
    for group in spec.worker_groups.iter().flatten() {
        let path = format!("spec.workerGroupSpecs[{}]", group.index);
        check_worker(spec, group, &path, &mut checks);
    }
    checks.problems
}

#[derive(Default)]
struct Checks {
    problems: Vec<Problem>,
}

impl Checks {
    /// Adds a field for which the operator refuses the whole spec.
    fn refuses(&mut self, path: &str, value: impl ToString, accepted: &str) {
        self.add("operator_refuses", path, value, accepted);
    }

    fn add(&mut self, code: &str, path: &str, value: impl ToString, accepted: &str) {
        self.problems.push(Problem {
            code: code.to_owned(),
            detail: format!("{path} is {}; accepted: {accepted}", value.to_string()),
        });
    }
}

fn check_cluster(raycluster: &RayCluster, checks: &mut Checks) {
    let (name, spec) = (raycluster.metadata.name.as_str(), &raycluster.spec);
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_dns_1035 = name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(is_inner);
    if !is_dns_1035 {
        checks.refuses(
            "metadata.name",
            name,
            "at most 53 of a-z, 0-9 and -, a letter first",
        );
    }
    if !spec.enable_in_tree_autoscaling {
        let accepted = "true: without it the operator deletes pods of its own choice";
        checks.add(
            "autoscaling_off",
            "spec.enableInTreeAutoscaling",
            "false",
            accepted,
        );
    }
    if let Some(manager) = spec
        .managed_by
        .as_ref()
        .filter(|manager| *manager != OPERATOR)
    {
        checks.add(
            "managed_elsewhere",
            "spec.managedBy",
            manager,
            "ray.io/kuberay-operator or nothing",
        );
    }
    if let Some(seconds) = spec
        .autoscaler_options
        .idle_timeout_seconds
        .filter(|s| *s < 0)
    {
        checks.refuses(
            "spec.autoscalerOptions.idleTimeoutSeconds",
            seconds,
            "0 or more",
        );
    }
}

fn check_head(spec: &Spec, head: &HeadGroupSpec, checks: &mut Checks) {
    let path = "spec.headGroupSpec";
    check_shape(Shape::of_head(head), path, checks);
    let has_env = head
        .template
        .ray_container()
        .is_some_and(|c| c.has_env(V2_ENV));
    if let Some(version) = spec.autoscaler_options.version.as_ref().filter(|_| has_env) {
        let accepted = "nothing while the head container sets RAY_enable_autoscaler_v2";
        checks.refuses("spec.autoscalerOptions.version", version, accepted);
    }
    check_restart_policy(spec, &head.template, path, checks);
}

fn check_worker(spec: &Spec, group: &WorkerGroupSpec, path: &str, checks: &mut Checks) {
    check_shape(Shape::of_worker(group), path, checks);
    check_restart_policy(spec, &group.template, path, checks);
    if group.suspend {
        checks.refuses(
            &format!("{path}.suspend"),
            "true",
            "false while autoscaling is on",
        );
    }
    for (key, value) in [
        ("minReplicas", group.replicas_min),
        ("maxReplicas", group.replicas_max),
    ] {
        if value < 0 {
            checks.refuses(&format!("{path}.{key}"), value, "0 or more");
        }
    }
    if group.replicas_min > group.replicas_max {
        checks.refuses(
            &format!("{path}.minReplicas"),
            group.replicas_min,
            "at most maxReplicas",
        );
    }
    let is_v2 = is_v2_explicit(spec);
    let explicit = "a value only beside autoscalerOptions.version: v2";
    match group.idle_timeout_seconds {
        Some(seconds) if seconds < 0 => {
            checks.refuses(&format!("{path}.idleTimeoutSeconds"), seconds, "0 or more");
        }
        Some(seconds) if !is_v2 => {
            checks.refuses(&format!("{path}.idleTimeoutSeconds"), seconds, explicit);
        }
        _ => {}
    }
    let priority = format!("{path}.priority");
    if group.priority != 0 && !has_priorities(spec) {
        checks.refuses(
            &priority,
            group.priority,
            "0 unless rayVersion is 2.56 or later",
        );
    } else if group.priority != 0 && !is_v2 {
        checks.refuses(&priority, group.priority, explicit);
    }
}

/// Holds what head and worker groups have in common.
struct Shape<'a> {
    params: &'a BTreeMap<String, String>,
    has_resources: bool,
    containers: &'a [Container],
}

impl<'a> Shape<'a> {
    fn of_head(group: &'a HeadGroupSpec) -> Self {
        Self {
            params: &group.ray_start_params,
            has_resources: !group.resources.is_empty(),
            containers: &group.template.containers,
        }
    }

    fn of_worker(group: &'a WorkerGroupSpec) -> Self {
        Self {
            params: &group.ray_start_params,
            has_resources: !group.resources.is_empty(),
            containers: &group.template.containers,
        }
    }
}

fn check_shape(shape: Shape<'_>, path: &str, checks: &mut Checks) {
    if shape.containers.is_empty() {
        checks.refuses(
            &format!("{path}.template.spec.containers"),
            "empty",
            "the Ray container",
        );
    }
    let given = |name: &&&str| {
        shape
            .params
            .get(**name)
            .is_some_and(|value| !value.is_empty())
    };
    if let Some(name) = RESOURCE_PARAMS
        .iter()
        .find(given)
        .filter(|_| shape.has_resources)
    {
        let value = shape.params.get(*name).map_or("", String::as_str);
        checks.refuses(
            &format!("{path}.rayStartParams.{name}"),
            value,
            "nothing beside the group's resources",
        );
    }
    if let Some(labels) = shape.params.get("labels") {
        checks.refuses(
            &format!("{path}.rayStartParams.labels"),
            labels,
            "nothing: labels are a field of the group",
        );
    }
}

fn check_restart_policy(spec: &Spec, template: &PodTemplate, path: &str, checks: &mut Checks) {
    let policy = template.restart_policy.as_deref().unwrap_or_default();
    let is_v2 = spec.autoscaler_options.version.as_deref() == Some("v2");
    if is_v2 && !matches!(policy, "" | "Never") {
        let path = format!("{path}.template.spec.restartPolicy");
        checks.refuses(
            &path,
            policy,
            "Never or nothing with autoscalerOptions.version: v2",
        );
    }
}

/// Returns whether v2 is chosen in so many words; Ray's own default does not count.
fn is_v2_explicit(spec: &Spec) -> bool {
    let head = spec
        .head_group
        .as_ref()
        .ok()
        .and_then(|head| head.template.ray_container());
    let env = head.and_then(|container| container.env_value(V2_ENV));
    spec.autoscaler_options.version.as_deref() == Some("v2") || matches!(env, Some("1" | "true"))
}

fn has_priorities(spec: &Spec) -> bool {
    let version = spec.ray_version.as_deref().unwrap_or_default().trim();
    let mut parts = version
        .strip_prefix('v')
        .unwrap_or(version)
        .split('.')
        .map(|part| {
            let end = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part[..end].parse::<u64>().ok()
        });
    let major = parts.next().flatten();
    let minor = parts.next().flatten().unwrap_or(0);
    major.is_some_and(|major| (major, minor) >= PRIORITY_SINCE)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::operator_checks;
    use crate::wire::raycluster::RayCluster;

    /// Returns the paths complained of when `value` is put at `pointer` of a good RayCluster.
    fn complaints(edits: &[(&str, Value)]) -> Vec<String> {
        let pod =
            json!({"spec": {"containers": [{"name": "ray", "resources": {"limits": {"cpu": 1}}}]}});
        let mut cluster = json!({"metadata": {"name": "c"}, "spec": {
            "enableInTreeAutoscaling": true, "rayVersion": "2.60.0", "autoscalerOptions": {},
            "headGroupSpec": {"rayStartParams": {}, "template": pod},
            "workerGroupSpecs": [{"groupName": "g", "rayStartParams": {}, "template": pod}]}});
        for (pointer, value) in edits {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            cluster.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        let found = operator_checks(&RayCluster::from_value(&cluster).unwrap());
        let path = |detail: &str| detail.split(" is ").next().unwrap_or_default().to_owned();
        found
            .iter()
            .map(|p| format!("{} {}", p.code, path(&p.detail)))
            .collect()
    }

    #[test]
    fn a_good_cluster_has_no_complaints() {
        assert!(complaints(&[]).is_empty());
        let v2 = ("/spec/autoscalerOptions/version", json!("v2"));
        assert!(
            complaints(&[
                v2,
                ("/spec/workerGroupSpecs/0/idleTimeoutSeconds", json!(5)),
                ("/spec/workerGroupSpecs/0/priority", json!(3))
            ])
            .is_empty()
        );
        let env = (
            "/spec/headGroupSpec/template/spec/containers",
            json!([{"name": "h", "env": [{"name": "RAY_enable_autoscaler_v2", "value": "true"}]}]),
        );
        assert!(
            complaints(&[
                env,
                ("/spec/workerGroupSpecs/0/idleTimeoutSeconds", json!(5))
            ])
            .is_empty()
        );
        assert!(
            complaints(&[(
                "/spec/workerGroupSpecs/0/template/spec/restartPolicy",
                json!("Always")
            )])
            .is_empty()
        );
    }

    #[test]
    fn everything_that_stops_the_operator_is_named() {
        const G: &str = "/spec/workerGroupSpecs/0";
        let at = |path: &str, value: Value| (format!("{G}{path}"), value);
        let cases: Vec<((String, Value), &str)> = vec![
            (
                ("/metadata/name".into(), json!("Upper")),
                "operator_refuses metadata.name",
            ),
            (
                ("/metadata/name".into(), json!("a".repeat(54))),
                "operator_refuses metadata.name",
            ),
            (
                ("/spec/enableInTreeAutoscaling".into(), json!(false)),
                "autoscaling_off spec.enableInTreeAutoscaling",
            ),
            (
                ("/spec/managedBy".into(), json!("kueue.x-k8s.io/multikueue")),
                "managed_elsewhere spec.managedBy",
            ),
            (
                (
                    "/spec/autoscalerOptions/idleTimeoutSeconds".into(),
                    json!(-1),
                ),
                "operator_refuses spec.autoscalerOptions.idleTimeoutSeconds",
            ),
            (
                (
                    "/spec/headGroupSpec/template/spec/containers".into(),
                    json!([]),
                ),
                "operator_refuses spec.headGroupSpec.template.spec.containers",
            ),
            (
                (
                    "/spec/headGroupSpec/rayStartParams".into(),
                    json!({"labels": "a=b"}),
                ),
                "operator_refuses spec.headGroupSpec.rayStartParams.labels",
            ),
            (
                at("/suspend", json!(true)),
                "operator_refuses spec.workerGroupSpecs[0].suspend",
            ),
            (
                at("/minReplicas", json!(-1)),
                "operator_refuses spec.workerGroupSpecs[0].minReplicas",
            ),
            (
                at("/idleTimeoutSeconds", json!(-1)),
                "operator_refuses spec.workerGroupSpecs[0].idleTimeoutSeconds",
            ),
            (
                at("/idleTimeoutSeconds", json!(9)),
                "operator_refuses spec.workerGroupSpecs[0].idleTimeoutSeconds",
            ),
            (
                at("/priority", json!(9)),
                "operator_refuses spec.workerGroupSpecs[0].priority",
            ),
            (
                at("/rayStartParams", json!({"labels": "a=b"})),
                "operator_refuses spec.workerGroupSpecs[0].rayStartParams.labels",
            ),
        ];
        for ((pointer, value), expected) in cases {
            assert_eq!(complaints(&[(&pointer, value)]), [expected], "{pointer}");
        }
    }

    #[test]
    fn contradictions_of_two_fields_are_named() {
        let v2 = || ("/spec/autoscalerOptions/version", json!("v2"));
        let env = (
            "/spec/headGroupSpec/template/spec/containers",
            json!([{"name": "h", "env": [{"name": "RAY_enable_autoscaler_v2", "value": "1"}]}]),
        );
        assert_eq!(
            complaints(&[v2(), env]),
            ["operator_refuses spec.autoscalerOptions.version"]
        );
        for group in ["headGroupSpec", "workerGroupSpecs/0"] {
            let pointer = format!("/spec/{group}/template/spec/restartPolicy");
            assert_eq!(
                complaints(&[v2(), (&pointer, json!("Always"))]).len(),
                1,
                "{group}"
            );
        }
        assert_eq!(
            complaints(&[
                v2(),
                ("/spec/rayVersion", json!("2.55.1")),
                ("/spec/workerGroupSpecs/0/priority", json!(1))
            ])
            .len(),
            1
        );
        assert_eq!(
            complaints(&[
                v2(),
                ("/spec/rayVersion", json!("nightly")),
                ("/spec/workerGroupSpecs/0/priority", json!(1))
            ])
            .len(),
            1
        );
        assert_eq!(
            complaints(&[
                ("/spec/workerGroupSpecs/0/minReplicas", json!(3)),
                ("/spec/workerGroupSpecs/0/maxReplicas", json!(2))
            ])
            .len(),
            1
        );
        let both = [
            ("/spec/workerGroupSpecs/0/resources", json!({"CPU": "1"})),
            (
                "/spec/workerGroupSpecs/0/rayStartParams",
                json!({"num-cpus": "1"}),
            ),
        ];
        assert_eq!(
            complaints(&both),
            ["operator_refuses spec.workerGroupSpecs[0].rayStartParams.num-cpus"]
        );
    }
}
