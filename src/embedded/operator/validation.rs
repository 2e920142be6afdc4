//! What the operator refuses although the API server took it; such a cluster is left as it is.

use super::autoscaler::START_COMMAND;
use super::cluster::{RayCluster, Spec, V2_SWITCH, WorkerGroup, ray_container};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use std::collections::BTreeMap;

/// A pod's name adds ten characters, and must not exceed 63.
const NAME_LENGTH_MAX: usize = 53;
/// The first Ray that knows group priorities.
const PRIORITY_SINCE: (u32, u32) = (2, 56);
/// The first Ray that knows token authentication.
const TOKENS_SINCE: (u32, u32) = (2, 52);

/// A refusal: the reason of the event, and what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    /// `InvalidRayClusterMetadata` or `InvalidRayClusterSpec`.
    pub(super) reason: &'static str,
    /// The first mistake.
    pub(super) message: String,
}

/// Checks a cluster.
pub(super) fn validate(cluster: &RayCluster) -> Result<(), Invalid> {
    let of_metadata = |message| Invalid {
        reason: "InvalidRayClusterMetadata",
        message,
    };
    let of_spec = |message| Invalid {
        reason: "InvalidRayClusterSpec",
        message,
    };
    validate_name(cluster.name()).map_err(of_metadata)?;
    validate_spec(&cluster.spec).map_err(of_spec)
}

fn validate_name(name: &str) -> Result<(), String> {
    if name.len() > NAME_LENGTH_MAX {
        return Err(format!(
            "RayCluster name has more than {NAME_LENGTH_MAX} characters"
        ));
    }
    let is_letter = |c: char| c.is_ascii_lowercase();
    let is_inner = |c: char| is_letter(c) || c.is_ascii_digit() || c == '-';
    if name.starts_with(is_letter) && name.chars().all(is_inner) && !name.ends_with('-') {
        return Ok(());
    }
    Err(format!("RayCluster name `{name}` is no DNS-1035 label"))
}

fn validate_spec(spec: &Spec) -> Result<(), String> {
    let head = &spec.head_group_spec;
    if ray_container(&head.template).is_none() {
        return Err("headGroupSpec has no container".to_owned());
    }
    validate_shape("headgroup", &head.ray_start_params, &head.resources)?;
    validate_labels("headgroup", &head.ray_start_params, &head.labels)?;
    for group in &spec.worker_group_specs {
        validate_group(spec, group)
            .map_err(|problem| format!("group {}: {problem}", group.group_name))?;
    }
    if spec.enable_in_tree_autoscaling {
        validate_autoscaling(spec)?;
    } else if matches!(spec.v2_switch(), Some("1" | "true")) {
        return Err(format!(
            "{V2_SWITCH} is set but enableInTreeAutoscaling is not"
        ));
    }
    let options = spec.autoscaler_options.as_ref();
    if options
        .and_then(|options| options.idle_timeout_seconds)
        .is_some_and(|seconds| seconds < 0)
    {
        return Err("autoscalerOptions.idleTimeoutSeconds is negative".to_owned());
    }
    let mut own = options.into_iter().flat_map(|options| &options.env);
    if own.any(|variable| variable.name == START_COMMAND) {
        return Err(format!(
            "autoscalerOptions.env sets {START_COMMAND}, which is the operator's"
        ));
    }
    if spec.has_token_auth() && ray_version(spec).is_none_or(|version| version < TOKENS_SINCE) {
        return Err("authOptions.mode `token` needs rayVersion 2.52.0 or later".to_owned());
    }
    Ok(())
}

fn validate_autoscaling(spec: &Spec) -> Result<(), String> {
    if let Some(group) = spec.worker_group_specs.iter().find(|group| group.suspend) {
        return Err(format!(
            "group {} is suspended, but autoscaling is on",
            group.group_name
        ));
    }
    if spec.autoscaler_version().is_some() && spec.v2_switch().is_some() {
        return Err(format!(
            "both autoscalerOptions.version and {V2_SWITCH} are set"
        ));
    }
    let workers = spec.worker_group_specs.iter().map(|group| &group.template);
    let mut templates = workers.chain([&spec.head_group_spec.template]);
    if spec.is_v2() && templates.any(restarts) {
        return Err("autoscaler v2 needs restartPolicy Never, or none".to_owned());
    }
    Ok(())
}

fn restarts(template: &PodTemplateSpec) -> bool {
    let policy = template
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    policy.is_some_and(|policy| !policy.is_empty() && policy != "Never")
}

fn validate_group(spec: &Spec, group: &WorkerGroup) -> Result<(), String> {
    if ray_container(&group.template).is_none() {
        return Err("no container".to_owned());
    }
    let (min, max) = (group.min_replicas, group.max_replicas);
    if !spec.enable_in_tree_autoscaling && (min.is_none() || max.is_none()) {
        return Err("minReplicas and maxReplicas are needed without autoscaling".to_owned());
    }
    if min.is_some_and(|min| min < 0) || max.is_some_and(|max| max < 0) {
        return Err("minReplicas or maxReplicas is negative".to_owned());
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err(format!("minReplicas {min} is above maxReplicas {max}"));
    }
    validate_shape(&group.group_name, &group.ray_start_params, &group.resources)?;
    validate_labels(&group.group_name, &group.ray_start_params, &group.labels)?;
    let is_v2 = spec.is_v2() || matches!(spec.v2_switch(), Some("1" | "true"));
    if group
        .idle_timeout_seconds
        .is_some_and(|seconds| seconds < 0)
    {
        return Err("idleTimeoutSeconds is negative".to_owned());
    }
    if group.idle_timeout_seconds.is_some() && !is_v2 {
        return Err("idleTimeoutSeconds needs autoscaler v2".to_owned());
    }
    if group.priority.unwrap_or(0) != 0 {
        let is_known = ray_version(spec).is_some_and(|version| version >= PRIORITY_SINCE);
        if !is_known || !is_v2 {
            return Err("priority needs autoscaler v2 and rayVersion 2.56.0 or later".to_owned());
        }
    }
    Ok(())
}

fn validate_shape(
    group: &str,
    params: &BTreeMap<String, String>,
    resources: &BTreeMap<String, String>,
) -> Result<(), String> {
    let flags = ["num-cpus", "num-gpus", "memory", "resources"];
    let has_flags = flags
        .iter()
        .any(|flag| params.get(*flag).is_some_and(|text| !text.is_empty()));
    if has_flags && !resources.is_empty() {
        return Err(format!(
            "{group} has resources both as a field and in rayStartParams"
        ));
    }
    Ok(())
}

fn validate_labels(
    group: &str,
    params: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
) -> Result<(), String> {
    if params.contains_key("labels") {
        return Err(format!(
            "{group} has labels in rayStartParams, where there is a field for them"
        ));
    }
    for (key, value) in labels {
        let (prefix, name) = key
            .rsplit_once('/')
            .map_or((None, key.as_str()), |(p, n)| (Some(p), n));
        let is_key = is_label_text(name) && !name.is_empty() && prefix != Some("");
        if !is_key || !is_label_text(value) {
            return Err(format!(
                "{group} has the label {key}={value}, which Kubernetes does not take"
            ));
        }
    }
    Ok(())
}

fn is_label_text(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    let is_inner = |c: char| is_end(c) || matches!(c, '-' | '_' | '.');
    text.is_empty()
        || text.len() <= 63
            && text.chars().all(is_inner)
            && text.starts_with(is_end)
            && text.ends_with(is_end)
}

fn ray_version(spec: &Spec) -> Option<(u32, u32)> {
    let version = spec.ray_version.trim_start_matches('v');
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::validate;
    use crate::embedded::operator::cluster::RayCluster;
    use serde_json::{Value, json};

    /// Returns the refusal of a good cluster after `members` were written over it.
    fn refusal(members: &[(&str, Value)]) -> Option<String> {
        let template = json!({"spec": {"containers": [{"name": "ray"}]}});
        let mut object = json!({
            "metadata": {"name": "c"},
            "spec": {
                "enableInTreeAutoscaling": true,
                "autoscalerOptions": {},
                "headGroupSpec": {"template": template},
                "workerGroupSpecs": [{
                    "groupName": "g", "replicas": 0, "minReplicas": 0, "maxReplicas": 3,
                    "numOfHosts": 1, "template": template,
                }],
            },
        });
        for (pointer, value) in members {
            let (parent, member) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[member] = value.clone();
        }
        let cluster = RayCluster::read(serde_json::from_value(object).unwrap()).unwrap();
        validate(&cluster)
            .err()
            .map(|invalid| invalid.reason.replace("InvalidRayCluster", ""))
    }

    #[test]
    fn clusters_are_refused_as_the_operator_refuses_them() {
        const GROUP: &str = "/spec/workerGroupSpecs/0";
        let group = |member: &str| format!("{GROUP}/{member}");
        let v2 = ("/spec/autoscalerOptions/version", json!("v2"));
        let switch = json!([{"name": "RAY_enable_autoscaler_v2", "value": "1"}]);
        let switch = ("/spec/headGroupSpec/template/spec/containers/0/env", switch);
        let always = (group("template/spec/restartPolicy"), json!("Always"));
        let always = (always.0.as_str(), always.1);
        let off = ("/spec/enableInTreeAutoscaling", json!(false));
        let idle = (group("idleTimeoutSeconds"), json!(5));
        let idle = (idle.0.as_str(), idle.1);
        let priority = (group("priority"), json!(5));
        let priority = (priority.0.as_str(), priority.1);
        let ray = |version: &str| ("/spec/rayVersion", json!(version));
        let one = |member: &str, value: Value| refusal(&[(group(member).as_str(), value)]);
        assert_eq!(refusal(&[]), None);
        assert_eq!(one("minReplicas", json!(4)), Some("Spec".to_owned()));
        assert_eq!(one("minReplicas", json!(-1)), Some("Spec".to_owned()));
        assert_eq!(one("replicas", json!(-1)), None);
        assert_eq!(one("suspend", json!(true)), Some("Spec".to_owned()));
        assert_eq!(one("suspend", json!(false)), None);
        assert_eq!(one("labels", json!({"a/b": "c", "d": ""})), None);
        assert_eq!(one("labels", json!({"a b": "c"})), Some("Spec".to_owned()));
        assert_eq!(
            one("rayStartParams", json!({"labels": "a=b"})),
            Some("Spec".to_owned())
        );
        assert_eq!(
            refusal(&[v2.clone(), always.clone()]),
            Some("Spec".to_owned())
        );
        assert_eq!(refusal(&[always]), None);
        assert_eq!(
            refusal(&[v2.clone(), switch.clone()]),
            Some("Spec".to_owned())
        );
        assert_eq!(
            refusal(std::slice::from_ref(&idle)),
            Some("Spec".to_owned())
        );
        assert_eq!(refusal(&[idle.clone(), v2.clone()]), None);
        assert_eq!(refusal(&[idle, switch.clone()]), None);
        assert_eq!(
            refusal(&[priority.clone(), v2.clone()]),
            Some("Spec".to_owned())
        );
        assert_eq!(
            refusal(&[priority.clone(), v2.clone(), ray("2.55.1")]),
            Some("Spec".to_owned())
        );
        assert_eq!(refusal(&[priority, v2, ray("2.56.0")]), None);
        assert_eq!(refusal(&[off, switch]), Some("Spec".to_owned()));
        let names = [("A", true), ("1a", true), ("a-", true), ("a-1", false)];
        for (name, is_refused) in names {
            let refusal = refusal(&[("/metadata/name", json!(name))]);
            assert_eq!(refusal, is_refused.then(|| "Metadata".to_owned()), "{name}");
        }
        let long = refusal(&[("/metadata/name", json!("a".repeat(54)))]);
        assert_eq!(long, Some("Metadata".to_owned()));
    }
}
