//! What a pod's generated `ray start` line makes a raylet register.
//!
//! The checks are `ray start`'s own where a wrong flag ends it; the default amounts are round numbers
//! in place of what Ray would measure on its machine.

use super::raylet::NodeSpec;
use crate::embedded::pods::ContainerStart;
use crate::model::{Labels, Quantity, ResourceMap, ResourceName, WorkerGroupName};
use kube::ResourceExt;
use std::collections::BTreeMap;

/// Processors of a node whose command names none.
const CPUS: i64 = 1;

/// Memory of a node whose command names none, in bytes.
const MEMORY: i64 = 2 << 30;

/// Object store of a node whose command names none, in bytes.
const OBJECT_STORE: i64 = 1 << 29;

/// Flags that are amounts, the resources they stand for, and their defaults.
const AMOUNTS: [(&str, &str, i64); 4] = [
    ("num-cpus", "CPU", CPUS),
    ("num-gpus", "GPU", 0),
    ("memory", "memory", MEMORY),
    ("object-store-memory", "object_store_memory", OBJECT_STORE),
];

/// Returns the node that a Ray container starts; its port is left 0.
///
/// Errors: what ends `ray start`.
pub(super) fn node_of(start: &ContainerStart) -> Result<NodeSpec, String> {
    let line = start.env.get("KUBERAY_GEN_RAY_START_CMD");
    let flags = flags(line.ok_or("no `ray start` command")?)?;
    let variable = |name: &str| start.env.get(name).cloned();
    let is_head = flags.contains_key("head");
    let group = variable("RAY_NODE_TYPE_NAME");
    Ok(NodeSpec {
        pod: variable("RAY_CLOUD_INSTANCE_ID").unwrap_or_else(|| start.pod.name_any()),
        group: group.unwrap_or_else(|| WorkerGroupName::HEAD.to_owned()),
        resources: resources(&flags)?,
        labels: labels(flags.get("labels").map_or("", String::as_str))?,
        address: start.address.to_string(),
        port: 0,
        is_head,
    })
}

fn resources(flags: &BTreeMap<String, String>) -> Result<ResourceMap, String> {
    let mut map = ResourceMap::new();
    for (flag, name, default) in AMOUNTS {
        let amount = match flags.get(flag) {
            None => default,
            Some(text) => {
                let amount = text.trim().parse().ok().filter(|amount| *amount >= 0);
                amount.ok_or_else(|| format!("--{flag}={text}: expected a whole number from 0"))?
            }
        };
        map.set(ResourceName::from(name), Quantity::from_whole(amount));
    }
    let Some(text) = flags.get("resources") else {
        return Ok(map);
    };
    let wrong = || format!("--resources={text}: expected a JSON object of numbers");
    let custom: BTreeMap<String, f64> = serde_json::from_str(text).map_err(|_| wrong())?;
    for (name, amount) in custom {
        let amount = Quantity::from_f64(amount).filter(|amount| *amount >= Quantity::ZERO);
        map.set(ResourceName::from(name.as_str()), amount.ok_or_else(wrong)?);
    }
    Ok(map)
}

fn labels(text: &str) -> Result<Labels, String> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("--labels={text}: expected k=v,k=v"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// Returns the flags of a command line as a shell hands them over; the last of one name counts.
fn flags(line: &str) -> Result<BTreeMap<String, String>, String> {
    let mut flags = BTreeMap::new();
    for word in words(line).ok_or_else(|| format!("{line}: a quote is not closed"))? {
        if let Some(flag) = word.strip_prefix("--") {
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            flags.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(flags)
}

fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, ' ' | '\t' | '\n') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), _) if open == letter => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(letters.next()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::{flags, labels, resources};

    fn registered(line: &str) -> Result<String, String> {
        flags(line)
            .and_then(|flags| resources(&flags))
            .map(|map| map.to_string())
    }

    #[test]
    fn flags_become_resources() {
        let line =
            r#"ray start --block --num-cpus=4 --memory=100 --resources='{"TPU": 4, "x y": 0.5}' "#;
        let expected =
            "{CPU: 4, GPU: 0, TPU: 4, memory: 100, object_store_memory: 536870912, x y: 0.5}";
        assert_eq!(registered(line).as_deref(), Ok(expected));
        let escaped = r#"--num-gpus=1 --resources="{\"A\": 1}""#;
        assert!(
            registered(escaped)
                .unwrap()
                .starts_with("{A: 1, CPU: 1, GPU: 1")
        );
    }

    #[test]
    fn what_ends_ray_start_is_told() {
        for line in [
            "--num-cpus=1.5",
            "--num-cpus=-1",
            "--resources='[]'",
            "--resources={\"A\":1}",
            "--memory='2",
        ] {
            assert!(registered(line).is_err(), "{line}");
        }
        assert!(labels("zone").is_err());
        assert_eq!(labels("zone=a,tier=").unwrap().len(), 2);
    }
}
