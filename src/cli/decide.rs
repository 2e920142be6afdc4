//! `rayscaler decide`: one decision from captured input, with its reasons.

use std::fs;
use std::io::{Read as _, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use prost::Message as _;

use super::arguments::DecideArguments;
use super::progress::Progress;
use super::{check, decision_text, manifest};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::model::{ClusterSnapshot, Completeness, History, Input, ScaleDecision, Timestamp};
use crate::observe::convert;
use crate::observe::join::{JoinInput, join};
use crate::observe::resizing::resizing;
use crate::policy::Registry;
use crate::wire::gcs::ray::rpc::autoscaler::{ClusterResourceState, GetClusterResourceStateReply};
use crate::wire::pod::PodFacts;
use crate::wire::raycluster::RayCluster;

/// Longest captured reply: what the GCS client accepts, as base64.
const REPLY_BYTES_MAX: u64 = 700 * 1024 * 1024;

/// Holds the input of one decision as it was captured.
#[derive(Debug)]
pub struct Captured {
    /// What the GCS said.
    pub state: ClusterResourceState,
    /// The RayCluster.
    pub raycluster: RayCluster,
    /// The pods.
    pub pods: Vec<PodFacts>,
    /// The settings.
    pub config: Config,
}

/// Decides, and shows the decision.
pub(super) fn run(
    arguments: &DecideArguments,
    registry: &Registry,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let shown = Progress::of("reading and deciding");
    let captured = Captured::read(arguments, registry)?;
    let now = moment(arguments)?;
    let snapshot = captured.snapshot(now);
    let decision = captured.decide(&snapshot, registry, now)?;
    drop(shown);
    if arguments.json {
        for problem in &snapshot.problems {
            super::say(&format!("problem {}: {}", problem.code, problem.detail));
        }
        writeln!(out, "{}", serde_json::to_string_pretty(&decision)?)?;
    } else {
        decision_text::print(&decision, &snapshot, out)?;
    }
    Ok(())
}

impl Captured {
    fn read(arguments: &DecideArguments, registry: &Registry) -> anyhow::Result<Self> {
        let config = match &arguments.config {
            Some(path) => check::load(path, registry)?,
            None => Config::default(),
        };
        let mut clusters = manifest::ray_clusters(&arguments.raycluster)?;
        let (Some(raycluster), true) = (clusters.pop(), clusters.is_empty()) else {
            let path = arguments.raycluster.display();
            anyhow::bail!("`{path}` holds several RayClusters; expected the one to decide for");
        };
        Ok(Self {
            state: state(&arguments.gcs_reply)?,
            raycluster,
            pods: manifest::pods(&arguments.pods)?,
            config,
        })
    }

    /// Returns what the sidecar would see if it had read all of this at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> ClusterSnapshot {
        let pods: Vec<_> = self.pods.iter().collect();
        let mut snapshot = join(&JoinInput {
            ray: &convert::ray_state(&self.state, now),
            raycluster: &self.raycluster,
            pods: &pods,
            completeness: Completeness {
                gcs_at: Some(now),
                pods_at: Some(now),
                raycluster_at: Some(now),
            },
        });
        snapshot.resizing = resizing(
            &self.raycluster,
            (&pods, &snapshot.nodes),
            (now, None),
            &mut snapshot.problems,
        );
        self.config.scaling.apply_to(&mut snapshot);
        snapshot
    }

    /// Returns what the sidecar would decide if the reply before this one had said the same.
    ///
    /// # Errors
    ///
    /// A chain that does not build.
    pub fn decide(
        &self,
        snapshot: &ClusterSnapshot,
        registry: &Registry,
        now: Timestamp,
    ) -> anyhow::Result<ScaleDecision> {
        let engine = config::engine(&self.config, registry).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            check::Refused::new(lines.join("\n"))
        })?;
        let mut history = History::default();
        history.absorb(&Input::Observed(snapshot), now);
        history.assume_seen_before(&engine.decide(snapshot, &history, now));
        Ok(engine.decide(snapshot, &history, now))
    }
}

/// Returns the moment that was asked for, else this one.
fn moment(arguments: &DecideArguments) -> anyhow::Result<Timestamp> {
    let Some(at) = arguments.at else {
        return Ok(Clock::system().now());
    };
    let since = at.duration_since(UNIX_EPOCH);
    let ms = since
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok());
    ms.map(Timestamp::from_ms).context("--at is before 1970")
}

/// Returns the state in a captured reply.
fn state(path: &Path) -> anyhow::Result<ClusterResourceState> {
    let shown = path.display();
    let expected = "a GetClusterResourceStateReply, binary or base64";
    let bytes = bounded(path).with_context(|| format!("cannot read `{shown}`"))?;
    let bytes = from_base64(&bytes).unwrap_or(bytes);
    let reply = GetClusterResourceStateReply::decode(bytes.as_slice())
        .with_context(|| format!("`{shown}` is not {expected}"))?;
    reply
        .cluster_resource_state
        .with_context(|| format!("`{shown}` has no cluster_resource_state; expected {expected}"))
}

fn bounded(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = fs::File::open(path)?.take(REPLY_BYTES_MAX + 1);
    let length = file.read_to_end(&mut bytes)?;
    let is_short = u64::try_from(length).is_ok_and(|length| length <= REPLY_BYTES_MAX);
    anyhow::ensure!(is_short, "longer than {REPLY_BYTES_MAX} bytes");
    Ok(bytes)
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

#[cfg(test)]
mod tests {
    use super::from_base64;

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
}
