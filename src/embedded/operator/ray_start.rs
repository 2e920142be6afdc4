//! The `ray start` command of a pod, from the group's parameters and its Ray container's resources.

use super::quantity;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

type Texts = BTreeMap<String, String>;

/// Kubernetes' name and Ray's name of the accelerators that become custom resources, first match wins.
const ACCELERATORS: [(&str, &str); 2] = [
    ("aws.amazon.com/neuroncore", "neuron_cores"),
    ("google.com/tpu", "TPU"),
];

/// Flags whose `false` is passed on; all others' `false` means that the flag is left out.
const FLAGS_WITH_FALSE: [&str; 3] = ["log-color", "include-dashboard", "include-log-monitor"];

/// Holds what a pod's command is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct RayStart<'a> {
    /// The group's `rayStartParams`.
    pub(super) params: &'a Texts,
    /// The group's `resources`.
    pub(super) resources: &'a Texts,
    /// The group's `labels`.
    pub(super) labels: &'a Texts,
    /// What the Ray container requests.
    pub(super) container: Option<&'a ResourceRequirements>,
}

impl RayStart<'_> {
    /// Returns the command of the head; with autoscaling on, Ray's own monitor is kept from starting.
    pub(super) fn head(&self, has_autoscaler: bool) -> String {
        let mut params = self.completed();
        set_missing(&mut params, "dashboard-host", "0.0.0.0");
        if has_autoscaler {
            params.insert("no-monitor".to_owned(), "true".to_owned());
        }
        format!("ray start --head {}", flags(&params))
    }

    /// Returns the command of a worker that joins at `address`.
    pub(super) fn worker(&self, address: &str) -> String {
        let mut params = self.completed();
        set_missing(&mut params, "address", address);
        format!("ray start {}", flags(&params))
    }

    fn completed(&self) -> Texts {
        let mut params = self.params.clone();
        set_group_resources(&mut params, self.resources);
        if !self.labels.is_empty() {
            let pairs: Vec<String> = self
                .labels
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect();
            params.insert("labels".to_owned(), pairs.join(","));
        }
        set_missing(&mut params, "metrics-export-port", "8080");
        set_missing(&mut params, "dashboard-agent-listen-port", "52365");
        params.insert("block".to_owned(), "true".to_owned());
        if let Some(container) = self.container {
            set_container_resources(&mut params, container);
        }
        params
    }
}

fn set_missing(params: &mut Texts, name: &str, value: &str) {
    params
        .entry(name.to_owned())
        .or_insert_with(|| value.to_owned());
}

fn set_group_resources(params: &mut Texts, resources: &Texts) {
    let mut custom = Map::new();
    for (name, text) in resources {
        let amount = Quantity(text.clone());
        let lower = name.to_lowercase();
        let flag = match lower.as_str() {
            "cpu" => Some("num-cpus"),
            "memory" => Some("memory"),
            _ if is_gpu(&lower) => Some("num-gpus"),
            _ => None,
        };
        if let (Some(flag), Some(whole)) = (flag, quantity::rounded(&amount)) {
            params.insert(flag.to_owned(), whole.to_string());
        } else if let (None, Some(number)) = (flag, json_number(&amount)) {
            custom.insert(name.clone(), number);
        }
    }
    if !custom.is_empty() {
        params.insert("resources".to_owned(), quoted(&custom));
    }
}

fn set_container_resources(params: &mut Texts, container: &ResourceRequirements) {
    let none = BTreeMap::new();
    let limits = container.limits.as_ref().unwrap_or(&none);
    let requests = container.requests.as_ref().unwrap_or(&none);
    let amount_in = |from: &BTreeMap<String, Quantity>, name: &str| {
        from.get(name)
            .and_then(quantity::rounded)
            .filter(|&amount| amount != 0)
    };
    if let Some(cpus) = amount_in(limits, "cpu").or_else(|| amount_in(requests, "cpu")) {
        set_missing(params, "num-cpus", &cpus.to_string());
    }
    if let Some(bytes) = amount_in(limits, "memory") {
        set_missing(params, "memory", &bytes.to_string());
    }
    let Some(mut custom) = custom_resources(params) else {
        // The text is none of ours to read; then no accelerator is added at all.
        return;
    };
    let gpus = limits
        .keys()
        .filter(|name| is_gpu(name))
        .find_map(|name| amount_in(limits, name));
    if let Some(gpus) = gpus {
        set_missing(params, "num-gpus", &gpus.to_string());
    }
    let has_accelerator = ACCELERATORS
        .iter()
        .any(|(_, name)| custom.contains_key(*name));
    let found = ACCELERATORS
        .iter()
        .find_map(|(from, to)| Some((*to, amount_in(limits, from)?)));
    if let (false, Some((name, amount))) = (has_accelerator, found) {
        custom.insert(name.to_owned(), amount.into());
        params.insert("resources".to_owned(), quoted(&custom));
    }
}

/// Returns the custom resources given so far; `None` when they are no JSON object of numbers.
fn custom_resources(params: &Texts) -> Option<Map<String, Value>> {
    let Some(text) = params.get("resources") else {
        return Some(Map::new());
    };
    let text = text.trim_matches(['\'', '"', '`', ' ']);
    let resources: Map<String, Value> = serde_json::from_str(text).ok()?;
    resources
        .values()
        .all(Value::is_number)
        .then_some(resources)
}

fn quoted(resources: &Map<String, Value>) -> String {
    let json = Value::Object(resources.clone()).to_string();
    // As Go's encoder writes them.
    let json = json
        .replace('<', r"\u003c")
        .replace('>', r"\u003e")
        .replace('&', r"\u0026");
    format!("'{json}'")
}

fn json_number(amount: &Quantity) -> Option<Value> {
    let nanos = quantity::nanos(&amount.0)?;
    if nanos % 1_000_000_000 == 0 {
        return i64::try_from(nanos / 1_000_000_000).ok().map(Value::from);
    }
    let text = format!("{}e-9", nanos);
    Number::from_f64(text.parse().ok()?).map(Value::Number)
}

fn is_gpu(name: &str) -> bool {
    name.ends_with("gpu") || is_mig(name)
}

/// Returns true for slices of NVIDIA GPUs such as `nvidia.com/mig-1g.5gb`.
fn is_mig(name: &str) -> bool {
    let Some((_, slice)) = name.split_once("nvidia.com/mig-") else {
        return false;
    };
    let parts = slice
        .strip_suffix("gb")
        .and_then(|slice| slice.split_once("g."));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    parts.is_some_and(|(compute, memory)| is_number(compute) && is_number(memory))
}

fn flags(params: &Texts) -> String {
    let mut flags = Vec::new();
    for (name, value) in params {
        match value.to_lowercase().as_str() {
            "true" | "false" if FLAGS_WITH_FALSE.contains(&name.as_str()) => {
                flags.push(format!("--{name}={value}"));
            }
            "true" => flags.push(format!("--{name}")),
            "false" => {}
            _ => flags.push(format!("--{name}={value}")),
        }
    }
    flags.join(" ")
}

#[cfg(test)]
mod tests {
    use super::{RayStart, Texts};
    use serde_json::json;

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        pairs
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn worker(
        params: &[(&str, &str)],
        group: &[(&str, &str)],
        limits: serde_json::Value,
    ) -> String {
        let container = serde_json::from_value(json!({"limits": limits})).unwrap();
        let (params, resources) = (texts(params), texts(group));
        let command = RayStart {
            params: &params,
            resources: &resources,
            labels: &texts(&[("zone", "a"), ("b", "2")]),
            container: Some(&container),
        }
        .worker("h:1");
        let rest = command
            .strip_prefix("ray start --address=h:1 --block")
            .unwrap();
        let rest = rest.replace(" --dashboard-agent-listen-port=52365", "");
        rest.replace(" --metrics-export-port=8080", "")
            .replace(" --labels=b=2,zone=a", "")
    }

    #[test]
    fn a_worker_gets_the_flags_that_the_operator_generates() {
        let limits =
            json!({"cpu": "1500m", "memory": "1Gi", "amd.com/gpu": "0", "nvidia.com/gpu": "2"});
        assert_eq!(
            worker(&[], &[], limits),
            " --memory=1073741824 --num-cpus=2 --num-gpus=2"
        );
        let params = [
            ("num-cpus", "0"),
            ("log-color", "false"),
            ("disable-usage-stats", "true"),
        ];
        assert_eq!(
            worker(&params, &[], json!({"cpu": "4"})),
            " --disable-usage-stats --log-color=false --num-cpus=0"
        );
        assert_eq!(
            worker(
                &[],
                &[("CPU", "2"), ("x.GPU", "1"), ("tpu", "4"), ("bad", "?")],
                json!({"google.com/tpu": "4"})
            ),
            r#" --num-cpus=2 --num-gpus=1 --resources='{"TPU":4,"tpu":4}'"#
        );
    }

    #[test]
    fn accelerators_join_resources_that_are_json() {
        let params = [("resources", r#"'{"a<b&c": 1}'"#)];
        assert_eq!(
            worker(&params, &[], json!({"google.com/tpu": "4"})),
            r#" --resources='{"TPU":4,"a\u003cb\u0026c":1}'"#
        );
    }

    #[test]
    fn resources_that_are_no_json_keep_accelerators_from_being_added() {
        let escaped = [("resources", r#""{\"Custom\": 5}""#)];
        assert_eq!(
            worker(
                &escaped,
                &[],
                json!({"google.com/tpu": "4", "nvidia.com/gpu": "1"})
            ),
            r#" --resources="{\"Custom\": 5}""#
        );
        let quoted = [("resources", r#"'{"Custom": 5}'"#)];
        assert_eq!(
            worker(
                &quoted,
                &[],
                json!({"google.com/tpu": "4", "nvidia.com/mig-1g.5gb": "3"})
            ),
            r#" --num-gpus=3 --resources='{"Custom":5,"TPU":4}'"#
        );
    }
}
