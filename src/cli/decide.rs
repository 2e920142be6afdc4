//! `rayscaler decide`: one decision from captured input, with its reasons.

use std::fs;
use std::io::Write;

use anyhow::Context as _;
use serde_json::Value;

use super::arguments::DecideArguments;
use super::check;
use crate::config::{Config, PolicyCatalog};

/// Holds the input of one decision as it was captured.
#[derive(Debug)]
pub struct Captured {
    /// The message `GetClusterResourceStateReply`.
    pub gcs_reply: Vec<u8>,
    /// The RayCluster.
    pub raycluster: Value,
    /// The pods.
    pub pods: Vec<Value>,
    /// The settings.
    pub config: Config,
}

/// Decides, and shows the decision.
pub(super) fn run(
    arguments: &DecideArguments,
    policies: &dyn PolicyCatalog,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let captured = Captured::read(arguments, policies)?;
    decide(&captured, arguments, out)
}

impl Captured {
    fn read(arguments: &DecideArguments, policies: &dyn PolicyCatalog) -> anyhow::Result<Self> {
        let path = &arguments.gcs_reply;
        let bytes = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let config = match &arguments.config {
            Some(path) => check::load(path, policies)?,
            None => Config::default(),
        };
        Ok(Self {
            gcs_reply: from_base64(&bytes).unwrap_or(bytes),
            raycluster: object(&arguments.raycluster)?,
            pods: list(object(&arguments.pods)?),
            config,
        })
    }
}

fn object(path: &std::path::Path) -> anyhow::Result<Value> {
    let text = check::read(path)?;
    serde_saphyr::from_str(&text).with_context(|| format!("`{}` is not YAML", path.display()))
}

/// Returns the items of a `PodList`, of a plain list, or the one pod.
fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        Value::Object(mut map) => match map.remove("items") {
            Some(Value::Array(items)) => items,
            _ => vec![Value::Object(map)],
        },
        _ => Vec::new(),
    }
}

/// Returns the bytes a base64 text stands for; `None` when it is no such text.
///
/// A protobuf message of any use has bytes that base64 does not.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut held) = (0_u32, 0_u32);
    let text = text.trim_ascii();
    let body = text.strip_suffix(b"==").or(text.strip_suffix(b"="));
    for byte in body.unwrap_or(text) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'\n' | b'\r' => continue,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).unwrap_or(0));
        }
    }
    Some(bytes)
}

fn decide(
    captured: &Captured,
    _arguments: &DecideArguments,
    _out: &mut dyn Write,
) -> anyhow::Result<()> {
    anyhow::bail!(
        "this build cannot decide: read {} bytes of the GCS, {} pods",
        captured.gcs_reply.len(),
        captured.pods.len()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{from_base64, list};

    #[test]
    fn base64_is_told_from_bytes() {
        for (text, bytes) in [
            ("aGVsbG8=", "hello"),
            ("aGVs\nbG8gd28\n", "hello wo"),
            ("", ""),
        ] {
            assert_eq!(
                from_base64(text.as_bytes()),
                Some(bytes.as_bytes().to_vec())
            );
        }
        assert_eq!(from_base64(b"\x0a\x04name"), None);
    }

    #[test]
    fn pods_come_as_kubectl_prints_them() {
        let pod = json!({"kind": "Pod"});
        for printed in [json!({"items": [pod]}), json!([pod]), pod.clone()] {
            assert_eq!(list(printed), std::slice::from_ref(&pod));
        }
    }
}
