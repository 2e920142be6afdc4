//! Whole derivations: from a group to what its nodes will offer.

use serde_json::{Value, json};

use super::{GroupSource, node_template};
use crate::model::{NodeTemplate, Problem};
use crate::wire::FieldError;
use crate::wire::raycluster::RayCluster;

fn template(mut group: Value) -> Result<(NodeTemplate, Vec<Problem>), FieldError> {
    group["groupName"] = json!("g");
    let cluster = json!({"metadata": {"name": "c"}, "spec": {"workerGroupSpecs": [group]}});
    let cluster = RayCluster::from_value(&cluster).unwrap();
    let group = cluster.spec.worker_groups[0].as_ref().unwrap();
    node_template(&GroupSource::of_worker(group, "spec.workerGroupSpecs[0]"))
}

fn container(resources: &Value, selector: &Value, env: &Value) -> Value {
    json!({"template": {"spec": {"nodeSelector": selector, "containers": [{"resources": resources, "env": env}]}}})
}

fn labels(template: &NodeTemplate) -> String {
    let pairs = template.labels.iter().map(|(k, v)| format!("{k}={v}"));
    pairs.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_node_offers_what_its_limits_say_and_carries_its_group() {
    let mut group = container(
        &json!({"limits": {"cpu": "1500m", "memory": "1Gi", "nvidia.com/gpu": 2}}),
        &json!({"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}),
        &json!([{"name": "RAY_NODE_ZONE", "value": "z1"}]),
    );
    group["labels"] = json!({"tier": "spot"});
    let (template, problems) = template(group).unwrap();
    assert_eq!(
        template.resources.to_string(),
        "{CPU: 2, GPU: 2, accelerator_type:T4: 1, memory: 1073741824}"
    );
    assert_eq!(
        labels(&template),
        "ray.io/accelerator-type=T4 ray.io/availability-zone=z1 ray.io/node-group=g tier=spot"
    );
    assert!(template.host_zero_resources.is_empty() && problems.is_empty());
}

#[test]
fn only_host_zero_of_a_tpu_slice_is_its_head() {
    let (template, _) = template(container(&json!({"limits": {"cpu": "8", "google.com/tpu": "4"}}),
            &json!({"cloud.google.com/gke-tpu-topology": "2x2x2", "cloud.google.com/gke-tpu-accelerator": "tpu-v4-podslice"}), &json!([]))).unwrap();
    assert_eq!(
        template.resources.to_string(),
        "{CPU: 8, TPU: 4, accelerator_type:TPU-V4: 1}"
    );
    assert_eq!(
        template.host_zero_resources.to_string(),
        "{TPU-v4-16-head: 1}"
    );
    assert_eq!(
        labels(&template),
        "ray.io/accelerator-type=TPU-V4 ray.io/node-group=g ray.io/tpu-pod-type=v4-16 ray.io/tpu-topology=2x2x2"
    );
}

#[test]
fn neuron_cores_have_a_type_and_zeros_are_not_registered() {
    let (template, _) =
        template(json!({"resources": {"CPU": "0", "neuron_cores": "2", "none": "0"}})).unwrap();
    assert_eq!(
        template.resources.to_string(),
        "{accelerator_type:aws-neuron-core: 1, neuron_cores: 2}"
    );
}

#[test]
fn what_only_a_node_can_tell_is_assumed_small_and_reported() {
    let codes = |group| {
        let (template, problems) = template(group).unwrap();
        let codes: Vec<String> = problems.into_iter().map(|p| p.code).collect();
        (template.resources.to_string(), codes.join(" "))
    };
    let cases = [
        (json!({}), "{CPU: 1}", "cpu_unknown"),
        (
            json!({"rayStartParams": {"num-cpus": "$(nproc)"}}),
            "{CPU: 1}",
            "computed_value cpu_unknown",
        ),
        (
            container(
                &json!({"requests": {"cpu": "2", "memory": "1Gi"}}),
                &json!({}),
                &json!([]),
            ),
            "{CPU: 2}",
            "memory_unknown",
        ),
        (
            json!({"resources": {"CPU": "2", "R": "lots"}}),
            "{CPU: 2}",
            "quantity_ignored",
        ),
        (
            json!({"resources": {"CPU": "2", "GPU": "4", "nvidia.com/gpu": "3"}}),
            "{CPU: 2, GPU: 3}",
            "ambiguous_resource",
        ),
    ];
    for (group, resources, expected) in cases {
        assert_eq!(codes(group), (resources.to_owned(), expected.to_owned()));
    }
    let mut group = container(
        &json!({"limits": {"cpu": 1, "nvidia.com/gpu": "2"}}),
        &json!({}),
        &json!([]),
    );
    group["rayStartParams"] = json!({"resources": "\"{\\\"Custom\\\": 5}\""});
    assert_eq!(
        codes(group),
        (
            "{CPU: 1, Custom: 5}".to_owned(),
            "accelerators_lost".to_owned()
        )
    );
}

#[test]
fn the_environment_overrides_flags_and_labels() {
    let env = json!([{"name": "RAY_OVERRIDE_RESOURCES", "value": "{\"CPU\": 3, \"X\": 1}"}, {"name": "RAY_OVERRIDE_LABELS", "value": "{\"a\": \"b\"}"}]);
    let (template, _) =
        template(container(&json!({"limits": {"cpu": 1}}), &json!({}), &env)).unwrap();
    assert_eq!(
        (
            template.resources.to_string().as_str(),
            labels(&template).as_str()
        ),
        ("{CPU: 3, X: 1}", "a=b ray.io/node-group=g")
    );
}

#[test]
fn a_refused_value_is_named_where_it_was_written() {
    let path = |group| {
        let error = template(group).unwrap_err();
        format!(
            "{} {}",
            error.path.trim_start_matches("spec.workerGroupSpecs[0]."),
            error.value
        )
    };
    let cases = [
        (
            json!({"rayStartParams": {"num-cpus": "1.5"}}),
            "rayStartParams.num-cpus `1.5`",
        ),
        (
            json!({"rayStartParams": {"resources": "{\"Custom\": 5}"}}),
            "rayStartParams.resources `{\"Custom\": 5}`",
        ),
        (
            json!({"rayStartParams": {"temp-dir": "'/x"}}),
            "rayStartParams `--temp-dir='/x`",
        ),
        (
            json!({"resources": {"Custom": "500m"}}),
            "resources `{\"Custom\":0.5}`",
        ),
        (json!({"labels": {"a": "-b"}}), "labels `a=-b`"),
        (
            container(
                &json!({"limits": {"memory": "200Ti"}}),
                &json!({}),
                &json!([]),
            ),
            "template.spec.containers[0].resources.limits.memory `219902325555200`",
        ),
        (
            container(&json!({"limits": {"cpu": "many"}}), &json!({}), &json!([])),
            "template.spec.containers[0].resources.limits.cpu many",
        ),
        (
            container(
                &json!({}),
                &json!({}),
                &json!([{"name": "RAY_OVERRIDE_RESOURCES", "value": "{"}]),
            ),
            "template.spec.containers[0].env[RAY_OVERRIDE_RESOURCES] {",
        ),
    ];
    for (group, expected) in cases {
        assert_eq!(path(group), expected);
    }
}
