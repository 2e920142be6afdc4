//! What `ray start` does with its flags: which values it refuses, and what the raylet registers.
//!
//! Checked against Ray 2.60: amounts are whole numbers from 0 to 10^14; nothing registers a zero;
//! `CPU`, `GPU`, `memory` and `object_store_memory` are refused inside `--resources`; a word that
//! belongs to no flag ends the command. A raylet given a flag in `true` or a name with a comma
//! never registers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::shell::{Word, words};
use crate::model::{Labels, Quantity, ResourceMap, ResourceName};

/// Ray's `MAX_RESOURCE_QUANTITY`.
const AMOUNT_MAX: i64 = 100_000_000_000_000;
/// Ray's smallest object store, in bytes.
const OBJECT_STORE_MIN: i64 = 78_643_200;
/// Names that have a flag of their own.
const DEFAULT_RESOURCES: [&str; 4] = ["CPU", "GPU", "memory", "object_store_memory"];
/// A resource that only the head may have.
const HEAD_RESOURCE: &str = "node:__internal_head__";

const WHOLE: &str = "a whole number from 0 to 100000000000000";
const RESOURCES: &str =
    "a JSON object of whole numbers from 0 to 100000000000000, in single quotes";
const LABELS: &str = "k=v,k=v with names and values as Kubernetes labels";

/// Says which flag `ray start` refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// The flag, without dashes.
    pub(super) flag: String,
    /// What stands there.
    pub(super) value: String,
    /// What would be accepted.
    pub(super) accepted: &'static str,
}

/// Holds the flags as `ray start` sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// Value of each flag; the last one counts.
    pub(super) values: BTreeMap<String, String>,
    /// The first flag whose value was torn by a blank: a word behind it belongs to no flag.
    pub(super) torn: Option<String>,
    /// Flags whose value only the shell in the pod knows.
    pub(super) computed: Vec<String>,
}

impl Flags {
    /// Returns the flags in a command line.
    ///
    /// Errors: a quote that is not closed.
    pub(super) fn parse(line: &str) -> Result<Self, Refused> {
        let words = words(line).ok_or_else(|| Refused {
            flag: String::new(),
            value: line.trim().to_owned(),
            accepted: "closed quotes",
        })?;
        let mut flags = Self::default();
        let mut last = String::new();
        let mut takes_word = false;
        for word in words {
            if let Some(flag) = word.text.strip_prefix("--") {
                let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
                (last, takes_word) = (name.to_owned(), !flag.contains('='));
                flags.set(name, value, &word);
            } else if takes_word {
                flags.set(&last, &word.text, &word);
                takes_word = false;
            } else if !word.is_computed {
                flags.torn.get_or_insert_with(|| last.clone());
            }
        }
        Ok(flags)
    }

    fn set(&mut self, name: &str, value: &str, word: &Word) {
        if word.is_computed {
            self.values.remove(name);
            self.computed.push(name.to_owned());
        } else {
            self.values.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Returns the amount of a flag; `None` without the flag.
    fn amount(&self, flag: &str) -> Result<Option<i64>, Refused> {
        let Some(text) = self.values.get(flag) else {
            return Ok(None);
        };
        let amount = python_int(text).filter(|amount| (0..=AMOUNT_MAX).contains(amount));
        match amount {
            Some(amount) => Ok(Some(amount)),
            None => Err(self.refused(flag, WHOLE)),
        }
    }

    fn refused(&self, flag: &str, accepted: &'static str) -> Refused {
        Refused {
            flag: flag.to_owned(),
            value: self.values.get(flag).cloned().unwrap_or_default(),
            accepted,
        }
    }

    /// Returns what a raylet started with these flags registers; without `CPU` if nobody says how many.
    pub(super) fn resources(&self) -> Result<ResourceMap, Refused> {
        if let Some(flag) = &self.torn {
            return Err(self.refused(flag, "a value with blanks in single quotes"));
        }
        let mut map = ResourceMap::new();
        for (flag, name) in [
            ("num-cpus", "CPU"),
            ("num-gpus", "GPU"),
            ("memory", "memory"),
            ("object-store-memory", "object_store_memory"),
        ] {
            let amount = self.amount(flag)?;
            if flag == "object-store-memory" && amount.is_some_and(|bytes| bytes < OBJECT_STORE_MIN)
            {
                return Err(self.refused(flag, "at least 78643200 bytes"));
            }
            if let Some(amount) = amount {
                map.set(ResourceName::from(name), Quantity::from_whole(amount));
            }
        }
        if let Some(text) = self.values.get("resources") {
            let custom =
                custom_resources(text).ok_or_else(|| self.refused("resources", RESOURCES))?;
            for (name, amount) in custom {
                map.set(
                    ResourceName::from(name.as_str()),
                    Quantity::from_whole(amount),
                );
            }
        }
        Ok(map)
    }

    /// Returns the labels given by flag.
    pub(super) fn labels(&self) -> Result<Labels, Refused> {
        let text = self.values.get("labels").map_or("", String::as_str);
        parse_labels(text).ok_or_else(|| self.refused("labels", LABELS))
    }
}

/// Returns the members of `--resources`; `None` where `ray start` gives up or no raylet registers.
fn custom_resources(text: &str) -> Option<BTreeMap<String, i64>> {
    let object: BTreeMap<String, Value> = serde_json::from_str(text).ok()?;
    let member = |(name, value): (String, Value)| {
        let is_taken = DEFAULT_RESOURCES.contains(&name.as_str()) || name == HEAD_RESOURCE;
        let amount = whole(&value).filter(|amount| (0..=AMOUNT_MAX).contains(amount))?;
        (!is_taken && !name.contains(',')).then_some((name, amount))
    };
    object.into_iter().map(member).collect()
}

/// Returns a JSON number without fraction.
pub(super) fn whole(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
        format!("{float:.0}").parse().ok()
    })
}

/// Returns the number that Python's `int` reads: blanks around it, a sign, single `_` between digits.
fn python_int(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_group = |group: &str| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit());
    if !digits.split('_').all(is_group) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// Returns the labels in `k=v,k=v`, or in the JSON form, which may not name `ray.io/` labels.
fn parse_labels(text: &str) -> Option<Labels> {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    let pairs = inner.unwrap_or(text);
    if pairs.is_empty() {
        return Some(Labels::new());
    }
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let (key, value) = (key.trim(), value.trim());
        (is_label_key(key) && is_label_value(value)).then(|| (key.to_owned(), value.to_owned()))
    };
    if let Some(labels) = pairs.split(',').map(pair).collect() {
        return Some(labels);
    }
    let object: Labels = serde_json::from_str(text).ok()?;
    (!object.keys().any(|key| key.starts_with("ray.io/"))).then_some(object)
}

fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("", key));
    let is_prefix = prefix.len() <= 253
        && prefix
            .split('.')
            .all(|part| part.is_empty() || is_label_name(part));
    is_prefix && is_label_name(name)
}

fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_label_name(value)
}

fn is_label_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let is_inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63 && is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::{Flags, Refused};

    fn resources(line: &str) -> Result<String, Refused> {
        Flags::parse(line).and_then(|flags| Ok(flags.resources()?.to_string()))
    }

    /// Every line was given to the real `ray start` of 2.60.0.
    #[test]
    fn amounts_are_taken_as_the_real_ray_start_takes_them() {
        let taken = [
            ("", "{}"),
            ("--num-cpus=' 2 '", "{CPU: 2}"),
            ("--num-cpus=1_0", "{CPU: 10}"),
            ("--num-cpus=0", "{CPU: 0}"),
            ("--num-cpus 3", "{CPU: 3}"),
            ("--num-cpus=2 --num-cpus=3", "{CPU: 3}"),
            ("--num-gpus=2", "{GPU: 2}"),
            ("--memory=100000000000000", "{memory: 100000000000000}"),
            (
                "--object-store-memory=80000000",
                "{object_store_memory: 80000000}",
            ),
            (r#"--resources='{"Custom":2.0}'"#, "{Custom: 2}"),
            (
                r#"--resources='{"accelerator_type:A100":1}'"#,
                "{accelerator_type:A100: 1}",
            ),
            (r#"--resources='{"TPU":0}'"#, "{TPU: 0}"),
        ];
        for (line, expected) in taken {
            assert_eq!(resources(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_the_real_ray_start_refuses_is_refused() {
        for line in [
            "--num-cpus=1.5",
            "--num-cpus=",
            "--num-cpus=-1",
            "--memory=1Gi",
            "--memory=9223372036854775807",
            "--memory=100000000000001",
            "--object-store-memory=1000",
            "--resources=",
            "--resources='[]'",
            r#"--resources='"{\"Custom\": 5}"'"#,
            r#"--resources='{"Custom":0.5}'"#,
            r#"--resources='{"Custom":true}'"#,
            r#"--resources='{"Custom":"1"}'"#,
            r#"--resources='{"Custom":null}'"#,
            r#"--resources='{"Custom":NaN}'"#,
            r#"--resources='{"CPU":9}'"#,
            r#"--resources='{"object_store_memory":1000000000}'"#,
            r#"--resources='{"TPU":-1}'"#,
            r#"--resources='{"a,b":3}'"#,
            r#"--resources='{"a":1e21}'"#,
            r#"--resources='{"node:__internal_head__":1}'"#,
            r#"--resources={"Custom":5}"#,
            r#"--resources={"Custom": 5}"#,
            "--num-cpus=2 5}",
            "--num-cpus='2",
        ] {
            assert!(resources(line).is_err(), "{line}");
        }
    }

    #[test]
    fn labels_are_taken_as_the_real_ray_start_takes_them() {
        let labels = |line: &str| {
            let labels = Flags::parse(line).unwrap().labels().ok()?;
            Some(
                labels
                    .into_iter()
                    .map(|(k, v)| format!("{k}:{v}"))
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        };
        for (line, expected) in [
            ("", Some("")),
            ("--labels=a=b,c=", Some("a:b c:")),
            ("--labels='\"a=b\"'", Some("a:b")),
            ("--labels=' a = b ,c=d'", Some("a:b c:d")),
            (
                "--labels=ray.io/node-group=zz",
                Some("ray.io/node-group:zz"),
            ),
            (r#"--labels='{"a":"b"}'"#, Some("a:b")),
            (r#"--labels='{"ray.io/a":"b"}'"#, None),
            ("--labels=a", None),
            ("--labels=a=b=c", None),
            ("--labels=a=b,", None),
            ("--labels=a=-b", None),
            ("--labels=a/b/=c", None),
        ] {
            assert_eq!(labels(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_value_that_the_shell_computes_is_no_value() {
        let flags = Flags::parse("--block --num-cpus=$(nproc) --num-gpus=1").unwrap();
        assert_eq!(flags.computed, ["num-cpus"]);
        assert_eq!(flags.resources().unwrap().to_string(), "{GPU: 1}");
    }
}
