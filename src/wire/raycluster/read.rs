//! Reads a RayCluster, group by group.

use std::collections::BTreeMap;

use super::{
    API_VERSION, AutoscalerOptions, Condition, Container, GroupError, HeadGroupSpec,
    IdleTerminationOptions, Metadata, PodTemplate, RayCluster, RayClusterError, Spec, Status,
    WorkerGroupSpec,
};
use crate::wire::KubeQuantity;
use crate::wire::field::{Field, FieldError, Read};
use serde_json::Value;

/// The CRD's default for `maxReplicas`: unlimited, as an `int32`.
const REPLICAS_MAX_DEFAULT: i64 = 2_147_483_647;

impl RayCluster {
    /// Returns the RayCluster in a JSON value.
    ///
    /// Errors: another kind of object, no name, or a field outside the worker groups that is of
    /// the wrong type. What is wrong inside a group stays in that group.
    pub fn from_value(value: &Value) -> Result<Self, RayClusterError> {
        let root = Field::root(value, "");
        let kind = root.or_default("kind", Field::text)?;
        let api_version = root.or_default("apiVersion", Field::text)?;
        let is_other = |have: &str, wanted: &str| !have.is_empty() && have != wanted;
        if is_other(&kind, "RayCluster") || is_other(&api_version, API_VERSION) {
            return Err(RayClusterError::WrongKind { kind, api_version });
        }
        Ok(Self {
            metadata: root.required("metadata", metadata)?,
            spec: root.required("spec", spec)?,
            status: root.or_default("status", |field| Ok(status(field)))?,
        })
    }
}

fn metadata(field: &Field<'_>) -> Read<Metadata> {
    Ok(Metadata {
        name: field.required("name", Field::text)?,
        namespace: field.or_default("namespace", Field::text)?,
        uid: field.or_default("uid", Field::text)?,
        resource_version: field.or_default("resourceVersion", Field::text)?,
        generation: field.or_default("generation", Field::whole)?,
        annotations: field.or_default("annotations", Field::scalars)?,
        has_annotations: field.member("annotations")?.is_some(),
        labels: field.or_default("labels", Field::scalars)?,
        creation_timestamp: field.optional("creationTimestamp", Field::text)?,
        deletion_timestamp: field.optional("deletionTimestamp", Field::text)?,
    })
}

fn spec(field: &Field<'_>) -> Read<Spec> {
    let groups = field.optional("workerGroupSpecs", Field::elements)?;
    let groups = groups.unwrap_or_default();
    Ok(Spec {
        enable_in_tree_autoscaling: field.or_default("enableInTreeAutoscaling", Field::flag)?,
        suspend: field.or_default("suspend", Field::flag)?,
        idle_suspend: field.or_default("idleSuspend", Field::flag)?,
        idle_termination: field
            .member("idleTerminationOptions")?
            .map(|options| idle_termination(&options)),
        managed_by: field.optional("managedBy", Field::text)?,
        ray_version: field.optional("rayVersion", Field::scalar)?,
        upgrade_strategy: field
            .optional("upgradeStrategy", |f| f.optional("type", Field::text))?
            .flatten(),
        autoscaler_options: field.or_default("autoscalerOptions", autoscaler_options)?,
        head_group: field.required("headGroupSpec", head_group),
        worker_groups: groups.iter().enumerate().map(worker_group).collect(),
    })
}

fn idle_termination(field: &Field<'_>) -> Read<IdleTerminationOptions> {
    let millis = |field: &Field<'_>| {
        let value = field.value();
        let text = value.as_str().map(str::to_owned);
        let text = text.unwrap_or_else(|| value.to_string());
        let quantity = KubeQuantity::parse(&text).map(KubeQuantity::millis);
        quantity
            .and_then(|millis| u64::try_from(millis).ok())
            .ok_or_else(|| field.error("a number of seconds from 0"))
    };
    Ok(IdleTerminationOptions {
        timeout_ms: field.optional("timeoutSeconds", millis)?,
        policy: field.or_default("policy", Field::text)?,
    })
}

fn autoscaler_options(field: &Field<'_>) -> Read<AutoscalerOptions> {
    Ok(AutoscalerOptions {
        version: field.optional("version", Field::text)?,
        idle_timeout_seconds: field.optional("idleTimeoutSeconds", Field::whole)?,
        upscaling_mode: field.optional("upscalingMode", Field::text)?,
    })
}

fn head_group(field: &Field<'_>) -> Read<HeadGroupSpec> {
    Ok(HeadGroupSpec {
        ray_start_params: field.or_default("rayStartParams", Field::scalars)?,
        resources: field.or_default("resources", Field::scalars)?,
        labels: field.or_default("labels", Field::scalars)?,
        template: field.or_default("template", pod_template)?,
    })
}

fn worker_group((index, field): (usize, &Field<'_>)) -> Result<WorkerGroupSpec, GroupError> {
    read_worker_group(index, field).map_err(|error| GroupError {
        index,
        name: field
            .or_default("groupName", Field::text)
            .unwrap_or_default(),
        field: error,
    })
}

fn read_worker_group(index: usize, field: &Field<'_>) -> Read<WorkerGroupSpec> {
    let strategy = field.member("scaleStrategy")?;
    let workers_to_delete = |strategy: &Field<'_>| {
        strategy.optional("workersToDelete", |names| names.list(Field::text))
    };
    let whole_or =
        |key, default| Ok::<i64, FieldError>(field.optional(key, Field::whole)?.unwrap_or(default));
    Ok(WorkerGroupSpec {
        index,
        group_name: field.required("groupName", Field::text)?,
        replicas: whole_or("replicas", 0)?,
        has_replicas: field
            .member("replicas")?
            .is_some_and(|member| member.value().is_i64()),
        replicas_min: whole_or("minReplicas", 0)?,
        replicas_max: whole_or("maxReplicas", REPLICAS_MAX_DEFAULT)?,
        num_of_hosts: whole_or("numOfHosts", 1)?,
        idle_timeout_seconds: field.optional("idleTimeoutSeconds", Field::whole)?,
        priority: whole_or("priority", 0)?,
        suspend: field.or_default("suspend", Field::flag)?,
        scale_strategy: strategy.as_ref().map(|field| field.value().clone()),
        workers_to_delete: strategy.as_ref().map_or(Ok(None), workers_to_delete)?,
        resources: field.or_default("resources", Field::scalars)?,
        labels: field.or_default("labels", Field::scalars)?,
        ray_start_params: field.or_default("rayStartParams", Field::scalars)?,
        template: field.or_default("template", pod_template)?,
    })
}

fn pod_template(field: &Field<'_>) -> Read<PodTemplate> {
    let mut template = PodTemplate::default();
    if let Some(metadata) = field.member("metadata")? {
        template.labels = metadata.or_default("labels", Field::scalars)?;
        template.annotations = metadata.or_default("annotations", Field::scalars)?;
    }
    if let Some(spec) = field.member("spec")? {
        template.node_selector = spec.or_default("nodeSelector", Field::scalars)?;
        template.restart_policy = spec.optional("restartPolicy", Field::text)?;
        template.containers = spec.or_default("containers", |f| f.list(container))?;
        template.scheduling_gates = spec.or_default("schedulingGates", |gates| {
            gates.list(|gate| gate.required("name", Field::text))
        })?;
    }
    Ok(template)
}

fn container(field: &Field<'_>) -> Read<Container> {
    let resources = field.member("resources")?;
    let amounts = |key: &str| {
        resources
            .as_ref()
            .map_or(Ok(BTreeMap::new()), |f| f.or_default(key, Field::scalars))
    };
    let texts = |key: &str| field.or_default(key, |f| f.list(Field::scalar));
    Ok(Container {
        name: field.or_default("name", Field::text)?,
        limits: amounts("limits")?,
        requests: amounts("requests")?,
        resize_policies: field.or_default("resizePolicy", |policies| {
            policies.list(|policy| {
                let text = |key| policy.or_default(key, Field::text);
                Ok((text("resourceName")?, text("restartPolicy")?))
            })
        })?,
        env: field.or_default("env", env)?,
        command: texts("command")?,
        args: texts("args")?,
    })
}

fn env(field: &Field<'_>) -> Read<Vec<(String, Option<String>)>> {
    field.list(|entry| {
        let name = entry.required("name", Field::text)?;
        let is_elsewhere = entry.member("valueFrom")?.is_some();
        let value = entry.or_default("value", Field::scalar)?;
        Ok((name, (!is_elsewhere).then_some(value)))
    })
}

/// Returns what can be read of the status: it informs, so a bad field is not worth an error.
fn status(field: &Field<'_>) -> Status {
    let conditions = field.or_default("conditions", |conditions| {
        conditions.list(|condition| {
            Ok(Condition {
                kind: condition.or_default("type", Field::text)?,
                status: condition.or_default("status", Field::text)?,
                reason: condition.or_default("reason", Field::text)?,
                message: condition.or_default("message", Field::text)?,
            })
        })
    });
    Status {
        state: field.or_default("state", Field::text).unwrap_or_default(),
        observed_generation: field
            .optional("observedGeneration", Field::whole)
            .unwrap_or_default(),
        conditions: conditions.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{RayCluster, RayClusterError};

    fn cluster(groups: &Value) -> Value {
        json!({
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "generation": 3, "annotations": {"a": "b"}, "managedFields": [{}]},
            "spec": {
                "enableInTreeAutoscaling": true,
                "rayVersion": "2.60.0",
                "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 30, "upscalingMode": "Conservative"},
                "headGroupSpec": {"rayStartParams": {"port": "7000"}, "template": {"spec": {"containers": [{"name": "h"}]}}},
                "workerGroupSpecs": groups,
            },
            "status": {"state": "ready", "observedGeneration": 3,
                "conditions": [{"type": "HeadPodReady", "status": "True", "reason": "r", "message": "m"}]},
        })
    }

    #[test]
    fn a_group_is_read_with_what_the_crd_fills_in() {
        let read = RayCluster::from_value(&cluster(&json!([{
            "groupName": "g", "replicas": null, "idleTimeoutSeconds": "5", "priority": 2.0,
            "scaleStrategy": {"scaleGate": {"x": 1}, "workersToDelete": ["p"]},
            "resources": {"CPU": 2, "R": "500m"},
            "template": {"metadata": {"labels": {"l": "v"}}, "spec": {
                "restartPolicy": "Never", "nodeSelector": {"k": "v"}, "schedulingGates": [{"name": "q"}],
                "containers": [
                    {"name": "ray", "resources": {"limits": {"cpu": 4, "memory": "1Gi"}},
                     "env": [{"name": "E", "value": "1"}, {"name": "F", "valueFrom": {}}, {"name": "E", "value": "2"}]},
                    {"name": "side"}]}}
        }])))
        .unwrap();
        let group = read.spec.worker_groups[0].as_ref().unwrap();
        assert_eq!(
            (
                group.replicas,
                group.replicas_min,
                group.replicas_max,
                group.num_of_hosts
            ),
            (0, 0, 2_147_483_647, 1)
        );
        assert_eq!((group.idle_timeout_seconds, group.priority), (Some(5), 2));
        assert_eq!(
            group.workers_to_delete.as_deref(),
            Some(&["p".to_owned()][..])
        );
        assert_eq!(group.scale_strategy.as_ref().unwrap()["scaleGate"]["x"], 1);
        assert_eq!(
            (
                group.resources["CPU"].as_str(),
                group.resources["R"].as_str()
            ),
            ("2", "500m")
        );
        let ray = group.template.ray_container().unwrap();
        assert_eq!(
            (
                ray.name.as_str(),
                ray.limits["cpu"].as_str(),
                ray.limits["memory"].as_str()
            ),
            ("ray", "4", "1Gi")
        );
        assert_eq!((ray.env_value("E"), ray.env_value("F")), (Some("2"), None));
        assert!(ray.has_env("F") && !ray.has_env("G"));
        assert_eq!(group.template.scheduling_gates, ["q"]);
        assert_eq!(
            (
                read.gcs_port(),
                read.metadata.generation,
                read.status.state.as_str()
            ),
            (7000, 3, "ready")
        );
    }

    #[test]
    fn one_bad_group_leaves_the_others() {
        let read = RayCluster::from_value(&cluster(&json!([
            {"groupName": "a"},
            {"groupName": "b", "replicas": "many"},
            {"replicas": 1},
            17,
            {"groupName": "e", "template": {"spec": {"containers": [{"resources": {"limits": {"cpu": [1]}}}]}}},
            {"groupName": "f", "scaleStrategy": {"workersToDelete": "p"}},
            {"groupName": "z"},
        ])))
        .unwrap();
        let seen: Vec<_> = read
            .spec
            .worker_groups
            .iter()
            .map(|group| match group {
                Ok(group) => group.group_name.clone(),
                Err(error) => format!("{}: {}", error.name, error.field),
            })
            .collect();
        assert_eq!(
            seen,
            [
                "a",
                "b: spec.workerGroupSpecs[1].replicas is \"many\"; accepted: a whole number",
                ": spec.workerGroupSpecs[2].groupName is absent; accepted: a value",
                ": spec.workerGroupSpecs[3] is 17; accepted: an object",
                "e: spec.workerGroupSpecs[4].template.spec.containers[0].resources.limits.cpu is [1]; accepted: a text or a number",
                "f: spec.workerGroupSpecs[5].scaleStrategy.workersToDelete is \"p\"; accepted: a list",
                "z",
            ]
        );
    }

    #[test]
    fn an_object_that_is_no_raycluster_is_an_error() {
        let mut old = cluster(&json!([]));
        old["apiVersion"] = json!("ray.io/v1alpha1");
        assert!(matches!(
            RayCluster::from_value(&old),
            Err(RayClusterError::WrongKind { .. })
        ));
        for (pointer, value) in [
            ("/metadata", json!({})),
            ("/spec", json!(null)),
            ("/spec/suspend", json!("maybe")),
            ("/spec/workerGroupSpecs", json!({})),
        ] {
            let mut bad = cluster(&json!([]));
            match bad.pointer_mut(pointer) {
                Some(place) => *place = value,
                None => bad["spec"]["suspend"] = value,
            }
            assert!(
                matches!(RayCluster::from_value(&bad), Err(RayClusterError::Field(_))),
                "{pointer}"
            );
        }
        assert!(RayCluster::from_value(&json!(null)).is_err());
    }

    #[test]
    fn a_cluster_without_groups_head_or_status_is_read() {
        let read = RayCluster::from_value(
            &json!({"metadata": {"name": "c"}, "spec": {}, "status": "odd"}),
        )
        .unwrap();
        assert!(read.spec.worker_groups.is_empty() && read.spec.head_group.is_err());
        assert_eq!(read.gcs_port(), 6379);
    }
}
