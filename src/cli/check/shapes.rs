//! Limits of the Ray container that become other resources than one would think.

use serde_json::Value;

use super::finding::Found;
use super::subject::Subject;

/// What the operator counts as GPUs: names that end so, and NVIDIA's slices.
const GPU_END: &str = "gpu";
const MIG: &str = "nvidia.com/mig-";
const NEURON_CORE: &str = "aws.amazon.com/neuroncore";
const NEURON: &str = "aws.amazon.com/neuron";

/// Returns the limits of the Ray container of a group that are not zero.
fn limits(subject: &Subject, group: &str) -> Vec<(String, String)> {
    let path = format!("{group}.template.spec.containers[0].resources.limits");
    let limits = subject.value(&path).and_then(Value::as_object);
    let is_zero = |value: &Value| *value == 0 || *value == "0";
    let limits = limits.into_iter().flatten();
    limits
        .filter(|(_, value)| !is_zero(value))
        .map(|(name, value)| (name.clone(), value.to_string().replace('"', "")))
        .collect()
}

fn limit_path(subject: &Subject, group: &str, name: &str) -> String {
    subject.path(&format!(
        "{group}.template.spec.containers[0].resources.limits[{name}]"
    ))
}

fn is_slice(name: &str) -> bool {
    name.starts_with(MIG) && name.ends_with("gb")
}

/// Returns whether anybody would take the name for an accelerator that Ray counts.
fn looks_like_accelerator(name: &str) -> bool {
    let lower = name.to_lowercase();
    lower.contains(GPU_END) || lower.starts_with(MIG) || lower == NEURON
}

/// Finds accelerators of which Ray will know nothing.
pub(super) fn accelerator_not_counted(subject: &Subject) -> Vec<Found> {
    let mut found = Vec::new();
    for group in &subject.snapshot.groups {
        let has = |name: &str| group.template.resources.contains(name);
        if has("GPU") || has("neuron_cores") || has("TPU") {
            continue;
        }
        let path = format!("workerGroupSpecs[{}]", group.index);
        let limits = limits(subject, &path).into_iter();
        found.extend(limits.filter(|(name, _)| looks_like_accelerator(name)).map(
            |(name, amount)| {
                let accepted = "a name that ends in `gpu`, or num-gpus in rayStartParams";
                Found::at(limit_path(subject, &path, &name), amount, accepted)
            },
        ));
    }
    found
}

/// Finds containers with several kinds of GPUs, of which Ray will know the first.
pub(super) fn several_gpu_kinds(subject: &Subject) -> Vec<Found> {
    let groups = subject.groups().into_iter();
    let found = groups.filter_map(|group| {
        let params = subject.value(&format!("{group}.rayStartParams.num-gpus"));
        let limits = limits(subject, &group).into_iter();
        let is_gpu = |name: &String| name.ends_with(GPU_END) || is_slice(name);
        let names: Vec<String> = limits.map(|(name, _)| name).filter(is_gpu).collect();
        let is_odd = names.len() > 1 && params.is_none();
        is_odd.then(|| {
            let path = format!("{group}.template.spec.containers[0].resources.limits");
            let accepted = "one kind, or num-gpus in rayStartParams";
            Found::at(subject.path(&path), names.join(", "), accepted)
        })
    });
    found.collect()
}

/// Finds what Ray's own autoscaler takes for something else.
pub(super) fn stock_derives_differently(subject: &Subject) -> Vec<Found> {
    const EXACT: [&str; 4] = ["CPU", "GPU", "TPU", "memory"];
    let mut found = Vec::new();
    for group in subject.groups() {
        let accepted = "num-gpus in rayStartParams, which both read alike";
        let unknown = limits(subject, &group).into_iter();
        let unknown = unknown.filter(|(name, _)| is_slice(name) || name == NEURON_CORE);
        found.extend(
            unknown.map(|(name, amount)| {
                Found::at(limit_path(subject, &group, &name), amount, accepted)
            }),
        );
        let resources = subject.value(&format!("{group}.resources"));
        for name in resources
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|it| it.0)
        {
            let like = EXACT.iter().find(|it| it.eq_ignore_ascii_case(name));
            if let Some(exact) = like.filter(|exact| *exact != name) {
                let path = subject.path(&format!("{group}.resources.{name}"));
                found.push(Found::at(path, name, exact));
            }
        }
    }
    found
}
