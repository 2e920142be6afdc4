//! The annotation of the RayCluster: how far the pods of each group may grow.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ANNOTATION_LIMITS;
use crate::model::{PodSize, Problem, WorkerGroupName};
use crate::wire::KubeQuantity;
use crate::wire::raycluster::{Container, RayCluster};

/// Longest part of an unreadable annotation that is shown, in characters.
const SHOWN_MAX: usize = 80;

/// Holds what the annotation says of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupLimits {
    /// The most a pod may have.
    pub(super) max: PodSize,
    /// How long a resize may take. Units: milliseconds.
    pub(super) timeout_ms: u64,
}

/// Holds what matters of a group's template.
struct Template<'a> {
    path: String,
    params: &'a BTreeMap<String, String>,
    container: Option<&'a Container>,
}

/// Path, value, and what would be accepted.
type Mistake = (String, String, String);

/// Returns the limits of the groups that may be resized; what is wrong with the others is told.
pub(super) fn group_limits<'a>(
    raycluster: &'a RayCluster,
    problems: &mut Vec<Problem>,
) -> BTreeMap<&'a str, GroupLimits> {
    let mut found = BTreeMap::new();
    let text = raycluster.metadata.annotations.get(ANNOTATION_LIMITS);
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return found;
    };
    let mut tell = |code: &str, (path, value, accepted): Mistake| {
        problems.push(Problem {
            code: code.to_owned(),
            detail: format!("{path} is {value}; accepted: {accepted}"),
        });
    };
    let root = format!("metadata.annotations[{ANNOTATION_LIMITS}]");
    let read = serde_json::from_str::<Value>(text).unwrap_or_default();
    let Some(groups) = read.get("groups").and_then(Value::as_object) else {
        let shown: String = text.chars().take(SHOWN_MAX).collect();
        let accepted = r#"JSON such as {"groups": {"small": {"max-cpu": 4, "max-memory": "8Gi", "resize-timeout": 300}}}"#;
        tell(
            "bad_resize_limits",
            (root, format!("`{shown}`"), accepted.to_owned()),
        );
        return found;
    };
    let templates = templates(raycluster);
    for (name, spec) in groups {
        let path = format!("{root}.groups.{name}");
        let Some((name, template)) = templates.get_key_value(name.as_str()) else {
            let accepted = "the name of a worker group, or headgroup".to_owned();
            tell("bad_resize_limits", (path, "no group".to_owned(), accepted));
            continue;
        };
        match limits(spec, &path, template) {
            Ok(limits) => drop(found.insert(*name, limits)),
            Err(mistake) => tell("bad_resize_limits", mistake),
        }
    }
    found
}

fn templates(raycluster: &RayCluster) -> BTreeMap<&str, Template<'_>> {
    let spec = &raycluster.spec;
    let head = spec.head_group.as_ref().ok().map(|head| {
        let template = Template {
            path: "spec.headGroupSpec".to_owned(),
            params: &head.ray_start_params,
            container: head.template.ray_container(),
        };
        (WorkerGroupName::HEAD, template)
    });
    let workers = spec.worker_groups.iter().flatten().map(|group| {
        let template = Template {
            path: format!("spec.workerGroupSpecs[{}]", group.index),
            params: &group.ray_start_params,
            container: group.template.ray_container(),
        };
        (group.group_name.as_str(), template)
    });
    workers.chain(head).collect()
}

fn limits(spec: &Value, path: &str, template: &Template<'_>) -> Result<GroupLimits, Mistake> {
    let least = least(template)?;
    let bad = |key: &str, accepted: &str| {
        let value = spec
            .get(key)
            .map_or_else(|| "absent".to_owned(), Value::to_string);
        Err((format!("{path}.{key}"), value, accepted.to_owned()))
    };
    let amount = |key: &str| match spec.get(key)? {
        Value::String(text) => KubeQuantity::parse(text),
        Value::Number(number) => KubeQuantity::parse(&number.to_string()),
        _ => None,
    };
    let Some(cpu) = amount("max-cpu").map(KubeQuantity::millis) else {
        return bad("max-cpu", "a quantity such as 4 or 3500m");
    };
    let Some(memory) = amount("max-memory").map(KubeQuantity::whole) else {
        return bad("max-memory", "a quantity such as 8Gi");
    };
    let Some(seconds) = spec.get("resize-timeout").and_then(Value::as_u64) else {
        return bad("resize-timeout", "a whole number of seconds");
    };
    let max = PodSize::of((cpu, memory));
    if max.cpu < least.cpu {
        return bad("max-cpu", "at least what the template gives");
    }
    if max.memory < least.memory {
        return bad("max-memory", "at least what the template gives");
    }
    Ok(GroupLimits {
        max,
        timeout_ms: seconds.saturating_mul(1000),
    })
}

/// Returns what the template gives, if it is one whose pods can be resized.
fn least(template: &Template<'_>) -> Result<PodSize, Mistake> {
    let Template {
        path,
        params,
        container,
    } = template;
    let while_named = format!("nothing while the annotation {ANNOTATION_LIMITS} names the group");
    for name in ["num-cpus", "memory"] {
        if let Some(value) = params.get(name) {
            let at = format!("{path}.rayStartParams.{name}");
            return Err((at, format!("`{value}`"), while_named));
        }
    }
    let path = format!("{path}.template.spec.containers[0]");
    let Some(container) = container else {
        return Err((path, "absent".to_owned(), "the Ray container".to_owned()));
    };
    for (resource, policy) in &container.resize_policies {
        let is_sized = ["cpu", "memory"].contains(&resource.as_str());
        if is_sized && !policy.is_empty() && policy != "NotRequired" {
            let at = format!("{path}.resizePolicy of {resource}");
            return Err((at, format!("`{policy}`"), "NotRequired".to_owned()));
        }
    }
    let quantity = |name: &str| {
        let at = format!("{path}.resources.requests.{name}");
        let Some(request) = container.requests.get(name) else {
            return Err((at, "absent".to_owned(), "a quantity".to_owned()));
        };
        let limit = container
            .limits
            .get(name)
            .and_then(|it| KubeQuantity::parse(it));
        limit
            .filter(|it| !it.is_zero())
            .or_else(|| KubeQuantity::parse(request))
            .ok_or_else(|| (at, format!("`{request}`"), "a quantity".to_owned()))
    };
    let (cpu, memory) = (quantity("cpu")?, quantity("memory")?);
    Ok(PodSize::of((cpu.millis(), memory.whole())))
}
