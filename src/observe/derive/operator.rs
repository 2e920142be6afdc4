//! The `ray start` parameters that the KubeRay operator generates for a group.
//!
//! Why not Ray's own rules: Ray's autoscaler derives resources differently (memory and GPU from
//! requests, no MIG, integers only), and a group planned with resources that its nodes do not have
//! is scaled for ever. What the operator writes is what a raylet gets.

use std::collections::BTreeMap;

use serde_json::Value;

use super::GroupSource;
use crate::model::Problem;
use crate::wire::{FieldError, KubeQuantity};

/// Extended resources that get a Ray resource of their own, in the order the operator looks.
const ACCELERATORS: [(&str, &str); 2] = [
    ("aws.amazon.com/neuroncore", "neuron_cores"),
    ("google.com/tpu", "TPU"),
];
/// Parameters that take a value even if it reads true or false; elsewhere such a value makes a bare flag or none.
const FLAGS_WITH_VALUE: [&str; 3] = ["log-color", "include-dashboard", "include-log-monitor"];

/// Holds what the operator makes of a group.
#[derive(Debug, Clone, Default)]
pub(super) struct Parameters {
    /// `rayStartParams`, completed.
    pub(super) params: BTreeMap<String, String>,
    /// What it passed over without a word.
    pub(super) problems: Vec<Problem>,
}

/// Returns `rayStartParams` as the operator completes them.
///
/// Errors: a limit or request that is no quantity; the API server would refuse the pod.
pub(super) fn parameters(source: &GroupSource<'_>) -> Result<Parameters, FieldError> {
    let mut made = Parameters {
        params: source.ray_start_params.clone(),
        problems: Vec::new(),
    };
    group_resources(source, &mut made);
    if !source.labels.is_empty() {
        let pairs: Vec<String> = source
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        made.params.insert("labels".to_owned(), pairs.join(","));
    }
    container_resources(source, &mut made)?;
    Ok(made)
}

/// Returns the part of the command line that stands behind `ray start`.
pub(super) fn command_line(params: &BTreeMap<String, String>) -> String {
    let mut line = String::new();
    for (name, value) in params {
        let switch = value.to_lowercase();
        let is_switch = matches!(switch.as_str(), "true" | "false")
            && !FLAGS_WITH_VALUE.contains(&name.as_str());
        match (is_switch, switch.as_str()) {
            (true, "true") => line.push_str(&format!(" --{name} ")),
            (true, _) => {}
            (false, _) => line.push_str(&format!(" --{name}={value} ")),
        }
    }
    line
}

/// Puts the group's own `resources` into the parameters.
fn group_resources(source: &GroupSource<'_>, made: &mut Parameters) {
    let mut custom = BTreeMap::new();
    let mut known: BTreeMap<&str, i64> = BTreeMap::new();
    for (name, text) in source.resources {
        let Some(quantity) = KubeQuantity::parse(text) else {
            made.problem(
                "quantity_ignored",
                format!(
                    "{}.resources.{name} is `{text}`, no quantity: the operator passes it over",
                    source.path
                ),
            );
            continue;
        };
        match ray_flag(&name.to_lowercase()) {
            Some(flag) => {
                let amount = quantity.whole();
                let previous = known.insert(flag, amount).unwrap_or(amount);
                if previous != amount {
                    // The operator walks its map in a random order; the smaller amount is safe to plan with.
                    known.insert(flag, previous.min(amount));
                    made.problem(
                        "ambiguous_resource",
                        format!("{}.resources names {flag} more than once: the operator takes any of them", source.path),
                    );
                }
            }
            None => {
                custom.insert(name.clone(), quantity.nearest_f64());
            }
        }
    }
    for (flag, amount) in known {
        made.params.insert(flag.to_owned(), amount.to_string());
    }
    if !custom.is_empty() {
        made.params
            .insert("resources".to_owned(), quoted_json(&custom));
    }
}

/// Returns the flag for a resource name in lower case; `None` for a custom resource.
fn ray_flag(name: &str) -> Option<&'static str> {
    match name {
        "cpu" => Some("num-cpus"),
        "memory" => Some("memory"),
        name if is_gpu(name) => Some("num-gpus"),
        _ => None,
    }
}

/// Returns whether the operator takes an extended resource for a GPU.
fn is_gpu(name: &str) -> bool {
    // `nvidia.com/mig-<slices>g.<size>gb`, and nothing behind it.
    let is_mig = |profile: &str| {
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let parts = profile.strip_suffix("gb").and_then(|p| p.split_once("g."));
        parts.is_some_and(|(slices, size)| number(slices) && number(size))
    };
    const MIG: &str = "nvidia.com/mig-";
    let mut mig = name.match_indices(MIG);
    name.ends_with("gpu") || mig.any(|(at, _)| is_mig(&name[at + MIG.len()..]))
}

/// Fills in from the Ray container what the parameters do not say yet.
fn container_resources(source: &GroupSource<'_>, made: &mut Parameters) -> Result<(), FieldError> {
    let Some(container) = source.container else {
        return Ok(());
    };
    let limits = quantities(source, "limits", &container.limits)?;
    let requests = quantities(source, "requests", &container.requests)?;
    let whole = |amounts: &BTreeMap<&str, KubeQuantity>, name: &str| {
        amounts
            .get(name)
            .filter(|q| !q.is_zero())
            .map(|q| q.whole().to_string())
    };
    let mut fill = |flag: &str, value: Option<String>| {
        if let Some(value) = value
            && !made.params.contains_key(flag)
        {
            made.params.insert(flag.to_owned(), value);
        }
    };
    fill(
        "num-cpus",
        whole(&limits, "cpu").or_else(|| whole(&requests, "cpu")),
    );
    fill("memory", whole(&limits, "memory"));
    accelerators(source, &limits, made);
    Ok(())
}

/// Fills in GPUs, neuron cores and TPUs.
fn accelerators(
    source: &GroupSource<'_>,
    limits: &BTreeMap<&str, KubeQuantity>,
    made: &mut Parameters,
) {
    let present = |name: &&&str| !limits[**name].is_zero();
    let gpu = limits.keys().filter(|name| is_gpu(name)).find(present);
    let accelerator = ACCELERATORS
        .iter()
        .find(|(name, _)| limits.get(name).is_some_and(|q| !q.is_zero()));
    let Some(mut custom) = custom_resources(&made.params) else {
        if gpu.is_some() || accelerator.is_some() {
            made.problem(
                "accelerators_lost",
                format!(
                    "{}.rayStartParams.resources is {}, which the operator cannot read: it drops --num-gpus and TPU; accepted: JSON of numbers in single quotes",
                    source.path,
                    made.params.get("resources").map_or("", String::as_str),
                ),
            );
        }
        return;
    };
    if let Some(name) = gpu {
        let amount = limits[*name].whole().to_string();
        made.params.entry("num-gpus".to_owned()).or_insert(amount);
    }
    let is_named = ACCELERATORS
        .iter()
        .any(|(_, ray_name)| custom.contains_key(*ray_name));
    if let Some((name, ray_name)) = accelerator.filter(|_| !is_named) {
        custom.insert((*ray_name).to_owned(), limits[name].nearest_f64());
        made.params
            .insert("resources".to_owned(), quoted_json(&custom));
    }
}

/// Returns `resources` as the operator reads it; `None` when it cannot.
fn custom_resources(params: &BTreeMap<String, String>) -> Option<BTreeMap<String, f64>> {
    let Some(text) = params.get("resources") else {
        return Some(BTreeMap::new());
    };
    let text = text.trim_matches(['\'', '"', '`', ' ']);
    let object: BTreeMap<String, Option<f64>> = serde_json::from_str(text).ok()?;
    // Go decodes null into the zero value.
    Some(
        object
            .into_iter()
            .map(|(k, v)| (k, v.unwrap_or(0.0)))
            .collect(),
    )
}

fn quantities<'a>(
    source: &GroupSource<'_>,
    kind: &str,
    amounts: &'a BTreeMap<String, String>,
) -> Result<BTreeMap<&'a str, KubeQuantity>, FieldError> {
    let read = |(name, text): (&'a String, &String)| match KubeQuantity::parse(text) {
        Some(quantity) => Ok((name.as_str(), quantity)),
        None => Err(FieldError {
            path: format!(
                "{}.template.spec.containers[0].resources.{kind}.{name}",
                source.path
            ),
            value: text.clone(),
            accepted: "a Kubernetes quantity",
        }),
    };
    amounts.iter().map(read).collect()
}

/// Returns the JSON in single quotes as Go writes it: names sorted, `<>&` escaped, `1e+21`.
fn quoted_json(amounts: &BTreeMap<String, f64>) -> String {
    let member = |(name, amount): (&String, &f64)| {
        let name = Value::String(name.clone()).to_string();
        let name = name
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026");
        format!("{name}:{}", go_float(*amount))
    };
    let members: Vec<String> = amounts.iter().map(member).collect();
    format!("'{{{}}}'", members.join(","))
}

fn go_float(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

impl Parameters {
    fn problem(&mut self, code: &str, detail: String) {
        self.problems.push(Problem {
            code: code.to_owned(),
            detail,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{go_float, is_gpu};

    #[test]
    fn gpus_are_what_the_operator_takes_for_gpus() {
        for (name, expected) in [
            ("nvidia.com/gpu", true),
            ("example.com/vgpu", true),
            ("nvidia.com/mig-1g.5gb", true),
            ("nvidia.com/mig-x/nvidia.com/mig-1g.5gb", true),
            ("nvidia.com/mig-1g.5gb.me", false),
            ("nvidia.com/mig-g.5gb", false),
            ("nvidia.com/gpu.shared", false),
            ("example.com/GPU", false),
        ] {
            assert_eq!(is_gpu(name), expected, "{name}");
        }
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (value, text) in [
            (4.0, "4"),
            (0.5, "0.5"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
            (123_456_789_012.0, "123456789012"),
            (-2.0, "-2"),
            (0.0, "0"),
        ] {
            assert_eq!(go_float(value), text);
        }
    }
}
