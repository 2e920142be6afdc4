//! What a node of a group will offer before the first one exists.
//!
//! Three steps, each its own rules: the operator turns a group into a `ray start` line
//! (`operator`), the shell takes the quotes off (`shell`), Ray turns the flags into resources and
//! labels (`ray_start`) and adds what it finds on the machine (`accelerator`). As soon as a node of
//! the group has registered, its own totals count and not these.
//!
//! # Why no `num-cpus` means one CPU
//!
//! Without `num-cpus` and without a CPU limit or request, Ray counts the CPUs of whatever machine the
//! pod lands on. Zero would keep the group from ever starting for a task; one is what the smallest
//! machine has, so the plan never promises too much, and the first node corrects it.

mod accelerator;
mod operator;
mod ray_start;
mod shell;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::{
    Labels, NodeTemplate, Problem, Quantity, ResourceMap, ResourceName, WorkerGroupName,
};
use crate::wire::FieldError;
use crate::wire::raycluster::{Container, HeadGroupSpec, WorkerGroupSpec};
use ray_start::{Flags, Refused};

/// Label that carries the group's name on every node KubeRay starts.
const LABEL_GROUP: &str = "ray.io/node-group";
/// Environment from which Ray takes further default labels.
const LABELS_OF_ENV: [(&str, &str); 3] = [
    ("RAY_NODE_MARKET_TYPE", "ray.io/market-type"),
    ("RAY_NODE_REGION", "ray.io/availability-region"),
    ("RAY_NODE_ZONE", "ray.io/availability-zone"),
];
/// Environment that wins over flags: JSON of amounts, JSON of labels.
const RESOURCES_ENV: &str = "RAY_OVERRIDE_RESOURCES";
const LABELS_ENV: &str = "RAY_OVERRIDE_LABELS";

/// Holds the fields of a group from which its shape follows.
#[derive(Debug, Clone, Copy)]
pub struct GroupSource<'a> {
    /// The path of the group in the RayCluster, for messages.
    pub path: &'a str,
    /// The group's name; Ray's node type.
    pub name: &'a str,
    /// `rayStartParams`.
    pub ray_start_params: &'a BTreeMap<String, String>,
    /// `resources`.
    pub resources: &'a BTreeMap<String, String>,
    /// `labels`.
    pub labels: &'a BTreeMap<String, String>,
    /// `nodeSelector` of the pod template.
    pub node_selector: &'a BTreeMap<String, String>,
    /// The Ray container.
    pub container: Option<&'a Container>,
}

impl<'a> GroupSource<'a> {
    /// Returns the source of a worker group.
    #[must_use]
    pub fn of_worker(group: &'a WorkerGroupSpec, path: &'a str) -> Self {
        Self {
            path,
            name: &group.group_name,
            ray_start_params: &group.ray_start_params,
            resources: &group.resources,
            labels: &group.labels,
            node_selector: &group.template.node_selector,
            container: group.template.ray_container(),
        }
    }

    /// Returns the source of the head.
    #[must_use]
    pub fn of_head(group: &'a HeadGroupSpec) -> Self {
        Self {
            path: "spec.headGroupSpec",
            name: WorkerGroupName::HEAD,
            ray_start_params: &group.ray_start_params,
            resources: &group.resources,
            labels: &group.labels,
            node_selector: &group.template.node_selector,
            container: group.template.ray_container(),
        }
    }

    fn env(&self, name: &str) -> Option<&'a str> {
        self.container
            .and_then(|container| container.env_value(name))
    }
}

/// Returns the flags that `ray start` sees, quotes taken off by the shell.
///
/// Errors: a limit or request that is no quantity, or an open quote.
pub fn ray_start_flags(source: &GroupSource<'_>) -> Result<BTreeMap<String, String>, FieldError> {
    let made = operator::parameters(source)?;
    let line = operator::command_line(&made.params);
    let flags = Flags::parse(&line).map_err(|refused| field_error(source, &refused))?;
    Ok(flags.values)
}

/// Returns what a node of the group will offer, and what had to be guessed.
///
/// Errors: a value with which no raylet would start.
pub fn node_template(source: &GroupSource<'_>) -> Result<(NodeTemplate, Vec<Problem>), FieldError> {
    let made = operator::parameters(source)?;
    let mut problems = made.problems;
    let refused = |refused: Refused| field_error(source, &refused);
    let flags = Flags::parse(&operator::command_line(&made.params)).map_err(refused)?;
    let mut resources = flags.resources().map_err(refused)?;
    override_resources(source, &mut resources)?;
    report_unknown(source, &flags, &resources, &mut problems);
    if !resources.contains("CPU") {
        resources.set(ResourceName::from("CPU"), Quantity::from_whole(1));
    }
    let mut template = NodeTemplate {
        resources: resources
            .iter()
            .filter(|(_, amount)| !amount.is_zero())
            .map(|(n, a)| (n.clone(), a))
            .collect(),
        ..NodeTemplate::default()
    };
    template
        .labels
        .insert(LABEL_GROUP.to_owned(), source.name.to_owned());
    for (variable, label) in LABELS_OF_ENV {
        if let Some(value) = source.env(variable).filter(|value| !value.is_empty()) {
            template.labels.insert(label.to_owned(), value.to_owned());
        }
    }
    accelerator::add(source, &mut template);
    template.labels.extend(flags.labels().map_err(refused)?);
    override_labels(source, &mut template.labels)?;
    Ok((template, problems))
}

/// Says what only a running node will tell.
fn report_unknown(
    source: &GroupSource<'_>,
    flags: &Flags,
    resources: &ResourceMap,
    problems: &mut Vec<Problem>,
) {
    let mut problem = |code: &str, detail: String| {
        problems.push(Problem {
            code: code.to_owned(),
            detail,
        });
    };
    for flag in &flags.computed {
        problem(
            "computed_value",
            format!(
                "{}.rayStartParams.{flag} is computed by the shell in the pod; unknown until a node has registered",
                source.path
            ),
        );
    }
    if !resources.contains("CPU") {
        problem(
            "cpu_unknown",
            format!(
                "{} has neither num-cpus nor a CPU limit or request; one CPU is assumed until a node has registered",
                source.path
            ),
        );
    }
    let requests_memory = source
        .container
        .is_some_and(|c| c.requests.contains_key("memory"));
    if !resources.contains("memory") && requests_memory {
        problem(
            "memory_unknown",
            format!(
                "{} has a memory request but no memory limit, so Ray asks the machine; demand for memory does not start it until a node has registered",
                source.path
            ),
        );
    }
}

/// Lets the environment override what the flags say, as Ray does.
fn override_resources(
    source: &GroupSource<'_>,
    resources: &mut ResourceMap,
) -> Result<(), FieldError> {
    let Some(text) = source.env(RESOURCES_ENV).filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    let wrong = || {
        env_error(
            source,
            RESOURCES_ENV,
            text,
            "a JSON object of whole numbers",
        )
    };
    let object: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| wrong())?;
    for (name, value) in object {
        let amount = ray_start::whole(&value)
            .filter(|amount| *amount >= 0)
            .ok_or_else(wrong)?;
        resources.set(
            ResourceName::from(name.as_str()),
            Quantity::from_whole(amount),
        );
    }
    Ok(())
}

/// Lets the environment override labels, as Ray does.
fn override_labels(source: &GroupSource<'_>, labels: &mut Labels) -> Result<(), FieldError> {
    let Some(text) = source.env(LABELS_ENV).filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    let wrong = |_| env_error(source, LABELS_ENV, text, "a JSON object of texts");
    labels.extend(serde_json::from_str::<Labels>(text).map_err(wrong)?);
    Ok(())
}

fn env_error(
    source: &GroupSource<'_>,
    name: &str,
    value: &str,
    accepted: &'static str,
) -> FieldError {
    FieldError {
        path: format!("{}.template.spec.containers[0].env[{name}]", source.path),
        value: value.to_owned(),
        accepted,
    }
}

/// Names the field of the RayCluster that a refused flag comes from.
fn field_error(source: &GroupSource<'_>, refused: &Refused) -> FieldError {
    let flag = refused.flag.as_str();
    let from = |map: &BTreeMap<String, String>| map.contains_key(flag);
    let limit = match flag {
        "num-cpus" => ".cpu",
        "memory" => ".memory",
        _ => "",
    };
    let path = if flag.is_empty() {
        format!("{}.rayStartParams", source.path)
    } else if flag == "labels" && !source.labels.is_empty() {
        format!("{}.labels", source.path)
    } else if !source.resources.is_empty() && flag != "labels" && !from(source.ray_start_params) {
        format!("{}.resources", source.path)
    } else if from(source.ray_start_params) {
        format!("{}.rayStartParams.{flag}", source.path)
    } else {
        format!(
            "{}.template.spec.containers[0].resources.limits{limit}",
            source.path
        )
    };
    // What was written says more than what the shell left of it.
    let written = source.ray_start_params.get(flag).unwrap_or(&refused.value);
    FieldError {
        path,
        value: format!("`{written}`"),
        accepted: refused.accepted,
    }
}

#[cfg(test)]
mod tests;
