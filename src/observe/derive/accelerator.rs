//! What a raylet adds by itself because of its accelerator: type, TPU slice, labels.
//!
//! A raylet asks the hardware. Before there is a node, only the pod template tells what hardware it
//! will be: the node selectors of the cloud providers and of NVIDIA's feature discovery. Without
//! one of them the type stays unknown until the first node of the group has registered.

use std::collections::BTreeMap;

use super::GroupSource;
use crate::model::{NodeTemplate, Quantity, ResourceName};

/// Label that carries the accelerator's type.
const LABEL_TYPE: &str = "ray.io/accelerator-type";
/// Node selectors of Google's TPU slices.
const TPU_TOPOLOGY: &str = "cloud.google.com/gke-tpu-topology";
const TPU_ACCELERATOR: &str = "cloud.google.com/gke-tpu-accelerator";
/// Environment from which Ray reads the same, set by hand or by the TPU webhook.
const TPU_TYPE_ENV: &str = "TPU_ACCELERATOR_TYPE";
const TPU_TOPOLOGY_ENV: &str = "TPU_TOPOLOGY";

/// Node selectors that name an NVIDIA GPU, and how they spell it.
const GPU_SELECTORS: [(&str, Spelling); 4] = [
    ("nvidia.com/gpu.product", Spelling::Product),
    ("cloud.google.com/gke-accelerator", Spelling::Lower),
    ("k8s.amazonaws.com/accelerator", Spelling::Lower),
    ("karpenter.k8s.aws/instance-gpu-name", Spelling::Lower),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// The driver's name, blanks as dashes: `Tesla-T4`, `NVIDIA-A100-SXM4-40GB`.
    Product,
    /// Lower case: `nvidia-tesla-t4`, `nvidia-h100-80gb`, `a10g`.
    Lower,
}

/// Adds what the raylet will add.
pub(super) fn add(source: &GroupSource<'_>, template: &mut NodeTemplate) {
    let has = |name: &str| template.resources.get(name) > Quantity::ZERO;
    // Ray takes a node to have one kind of accelerator.
    if has("GPU") {
        if let Some(kind) = gpu_type(source.node_selector) {
            add_type(&kind, template);
        }
    } else if has("TPU") {
        add_tpu(source, template);
    } else if has("neuron_cores") {
        add_type("aws-neuron-core", template);
    }
}

fn add_type(kind: &str, template: &mut NodeTemplate) {
    let name = format!("accelerator_type:{kind}");
    template
        .resources
        .set(ResourceName::from(name.as_str()), Quantity::from_whole(1));
    template
        .labels
        .insert(LABEL_TYPE.to_owned(), kind.to_owned());
}

/// Returns the type that Ray reads out of the GPU's name: the leading words in capitals up to the
/// first with a digit (`A100`, `RTX-PRO-6000`), or the whole name where they are not.
fn gpu_type(node_selector: &BTreeMap<String, String>) -> Option<String> {
    let (value, spelling) = GPU_SELECTORS
        .iter()
        .find_map(|(key, spelling)| Some((node_selector.get(*key)?, *spelling)))?;
    let name = match spelling {
        Spelling::Product => ["NVIDIA-", "Tesla-"]
            .iter()
            .find_map(|brand| value.strip_prefix(brand))?
            .to_owned(),
        Spelling::Lower => {
            let name = value.strip_prefix("nvidia-").unwrap_or(value);
            name.strip_prefix("tesla-").unwrap_or(name).to_uppercase()
        }
    };
    let words: Vec<&str> = name.split('-').collect();
    let is_capital = |word: &&str| {
        word.bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    let has_digit = |word: &&str| word.bytes().any(|b| b.is_ascii_digit());
    let end = words.iter().position(has_digit)?;
    Some(match words.get(..=end) {
        Some(model) if model.iter().all(is_capital) => model.join("-"),
        _ => name,
    })
}

/// Adds type, slice head and labels of a TPU host.
///
/// The resource named after the slice (`TPU_NAME`) is left out: the slice does not exist yet.
fn add_tpu(source: &GroupSource<'_>, template: &mut NodeTemplate) {
    let env = |name| {
        source
            .container
            .and_then(|container| container.env_value(name))
    };
    let topology =
        env(TPU_TOPOLOGY_ENV).or(source.node_selector.get(TPU_TOPOLOGY).map(String::as_str));
    let accelerator = source
        .node_selector
        .get(TPU_ACCELERATOR)
        .map(String::as_str);
    let pod_type = match (env(TPU_TYPE_ENV), accelerator, topology) {
        (Some(pod_type), _, _) => tpu_pod_type_of_env(pod_type),
        (None, Some(accelerator), Some(topology)) => tpu_pod_type(accelerator, topology),
        _ => None,
    };
    if let Some(topology) = topology {
        template.labels.insert(
            "ray.io/tpu-topology".to_owned(),
            topology.trim().to_lowercase(),
        );
    }
    let Some(pod_type) = pod_type else {
        return;
    };
    let generation = pod_type.split('-').next().unwrap_or_default();
    add_type(&format!("TPU-{}", generation.to_uppercase()), template);
    let head = format!("TPU-{pod_type}-head");
    template
        .host_zero_resources
        .set(ResourceName::from(head.as_str()), Quantity::from_whole(1));
    template
        .labels
        .insert("ray.io/tpu-pod-type".to_owned(), pod_type);
}

/// Returns `v4-16` for `TPU-v4-16` and the like; `None` for what Ray does not know.
fn tpu_pod_type_of_env(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let text = match text.strip_prefix("tpu") {
        Some(rest) => format!("v{}", rest.trim_start_matches('-').trim_start_matches('v')),
        None => text,
    };
    let (generation, cores) = text.split_once('-')?;
    let is_known = ["v2", "v3", "v4", "v5p", "v5litepod", "v6e", "v7x"].contains(&generation);
    (is_known && cores.parse::<u32>().is_ok()).then_some(text)
}

/// Returns `v4-16` for four-chip hosts of `2x2x2`, and so on.
fn tpu_pod_type(accelerator: &str, topology: &str) -> Option<String> {
    let (generation, cores_per_chip) = match accelerator {
        "tpu-v4-podslice" => ("v4", 2_u64),
        "tpu-v5-lite-device" | "tpu-v5-lite-podslice" => ("v5litepod", 1),
        "tpu-v5p-slice" => ("v5p", 2),
        "tpu-v6e-slice" => ("v6e", 1),
        "tpu7x" => ("v7x", 2),
        _ => return None,
    };
    let mut sides = topology
        .trim()
        .split(['x', 'X'])
        .map(|side| side.parse::<u64>().ok());
    let chips = sides.try_fold(1_u64, |product, side| {
        product.checked_mul(side.filter(|s| *s > 0)?)
    })?;
    Some(format!(
        "{generation}-{}",
        chips.checked_mul(cores_per_chip)?
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{gpu_type, tpu_pod_type, tpu_pod_type_of_env};

    #[test]
    fn gpu_types_are_those_that_ray_reads_from_the_driver() {
        for (key, value, expected) in [
            (
                "cloud.google.com/gke-accelerator",
                "nvidia-tesla-t4",
                Some("T4"),
            ),
            ("cloud.google.com/gke-accelerator", "nvidia-l4", Some("L4")),
            (
                "cloud.google.com/gke-accelerator",
                "nvidia-a100-80gb",
                Some("A100"),
            ),
            (
                "cloud.google.com/gke-accelerator",
                "nvidia-h100-mega-80gb",
                Some("H100"),
            ),
            (
                "cloud.google.com/gke-accelerator",
                "nvidia-rtx-pro-6000",
                Some("RTX-PRO-6000"),
            ),
            ("karpenter.k8s.aws/instance-gpu-name", "a10g", Some("A10G")),
            ("k8s.amazonaws.com/accelerator", "vgpu", None),
            (
                "nvidia.com/gpu.product",
                "Tesla-V100-SXM2-16GB",
                Some("V100"),
            ),
            (
                "nvidia.com/gpu.product",
                "NVIDIA-H100-80GB-HBM3",
                Some("H100"),
            ),
            (
                "nvidia.com/gpu.product",
                "NVIDIA-GeForce-RTX-5090",
                Some("GeForce-RTX-5090"),
            ),
            ("nvidia.com/gpu.product", "A100-SXM4-40GB", None),
            ("zone", "a", None),
        ] {
            let selector = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            assert_eq!(gpu_type(&selector).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn tpu_slices_are_named_by_their_cores() {
        for (accelerator, topology, expected) in [
            ("tpu-v4-podslice", "2x2x2", Some("v4-16")),
            ("tpu-v5-lite-podslice", "2x4", Some("v5litepod-8")),
            ("tpu-v6e-slice", "4x4", Some("v6e-16")),
            ("tpu-v5p-slice", "2x2x1", Some("v5p-8")),
            ("tpu7x", "2x2x1", Some("v7x-8")),
            ("tpu-v4-podslice", "2x", None),
            ("tpu-v4-podslice", "0x2x2", None),
            ("tpu-v4-podslice", "99999999999x99999999999x9", None),
            ("other", "2x2x2", None),
        ] {
            assert_eq!(
                tpu_pod_type(accelerator, topology).as_deref(),
                expected,
                "{accelerator} {topology}"
            );
        }
        for (text, expected) in [
            ("v4-16", Some("v4-16")),
            ("TPU7x-8", Some("v7x-8")),
            ("tpu-v6e-4", Some("v6e-4")),
            ("v9-8", None),
            ("v4", None),
        ] {
            assert_eq!(tpu_pod_type_of_env(text).as_deref(), expected, "{text}");
        }
    }
}
