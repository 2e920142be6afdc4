//! What the program says of captured input: `decide`, `policies`, and `check` with a config.
#![cfg(feature = "sidecar")]
#![expect(clippy::unwrap_used, reason = "test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use prost::Message;
use rayscaler::engine::Engine;
use rayscaler::model::ScaleDecision;
use rayscaler::wire::gcs::ray::rpc::autoscaler::{
    ClusterResourceState, GetClusterResourceStateReply, NodeState, NodeStatus, ResourceRequest,
    ResourceRequestByCount,
};

const HEAD: &str = "apiVersion: rayscaler.io/v1alpha1\nkind: RayscalerConfig\n";
const TWO: &str = "\
{metadata: {name: a}, spec: {headGroupSpec: {}}}
---
{metadata: {name: b}, spec: {headGroupSpec: {}}}";
const AT: &str = "--at=2026-11-25T10:00:00Z";

fn rayscaler(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rayscaler"));
    command.args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn success(arguments: &[&str]) -> String {
    let output = rayscaler(arguments);
    let error = text(&output.stderr);
    assert_eq!((output.status.code(), error.as_str()), (Some(0), ""));
    text(&output.stdout)
}

/// Returns exit code and standard error.
fn failure(arguments: &[&str]) -> (i32, String) {
    let output = rayscaler(arguments);
    assert_eq!(text(&output.stdout), "");
    (output.status.code().unwrap(), text(&output.stderr))
}

/// Returns an option with a file of `tests/data`.
fn data(option: &str, name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    format!("{option}={}", path.join(name).display())
}

fn amounts(amounts: &[(&str, f64)]) -> BTreeMap<String, f64> {
    let amounts = amounts.iter();
    amounts
        .map(|(name, amount)| ((*name).to_owned(), *amount))
        .collect()
}

fn node(pod: &str, id: u8, idle_ms: i64) -> NodeState {
    let is_head = pod == "demo-head";
    let total = match pod {
        "demo-head" => amounts(&[("node:__internal_head__", 1.0)]),
        "demo-small-a" => amounts(&[("CPU", 2.0), ("small", 1.0)]),
        _ => amounts(&[("CPU", 2.0), ("rare", 1.0)]),
    };
    let (group, status) = match idle_ms {
        _ if is_head => ("headgroup", NodeStatus::Running),
        0 => ("small", NodeStatus::Running),
        _ => ("rare", NodeStatus::Idle),
    };
    NodeState {
        node_id: vec![id; 28],
        instance_id: pod.to_owned(),
        ray_node_type_name: group.to_owned(),
        available_resources: if idle_ms == 0 {
            BTreeMap::new()
        } else {
            total.clone()
        },
        total_resources: total,
        status: status.into(),
        idle_duration_ms: idle_ms,
        ..NodeState::default()
    }
}

fn demand(resources: &[(&str, f64)], count: i64) -> ResourceRequestByCount {
    let request = ResourceRequest {
        resources_bundle: amounts(resources),
        ..ResourceRequest::default()
    };
    ResourceRequestByCount {
        request: Some(request),
        count,
    }
}

/// A busy worker in `small`, two idle ones in `rare`, tasks for more than there may be.
fn reply() -> Vec<u8> {
    let nodes = [
        node("demo-head", 1, 0),
        node("demo-small-a", 2, 0),
        node("demo-rare-a", 3, 100_000),
        node("demo-rare-b", 4, 20_000),
    ];
    let demands = [demand(&[("small", 1.0)], 4), demand(&[("CPU", 64.0)], 1)];
    let state = ClusterResourceState {
        cluster_resource_state_version: 7,
        node_states: nodes.to_vec(),
        pending_resource_requests: demands.to_vec(),
        ..ClusterResourceState::default()
    };
    let state = Some(state);
    GetClusterResourceStateReply {
        cluster_resource_state: state,
    }
    .encode_to_vec()
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    /// Writes a file and returns an option with it.
    fn write(&self, option: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(option.trim_start_matches('-'));
        fs::write(&path, content).unwrap();
        format!("{option}={}", path.display())
    }

    /// Returns a command line for `decide` on a reply.
    fn decide(&self, reply: impl AsRef<[u8]>) -> Vec<String> {
        vec![
            "decide".to_owned(),
            self.write("--gcs-reply", reply),
            data("--raycluster", "raycluster.yaml"),
            data("--pods", "pods.yaml"),
            AT.to_owned(),
        ]
    }
}

fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

#[test]
fn check_shows_what_the_config_makes_of_the_raycluster() {
    let files = Files::new();
    let check = |scaling: &str| {
        let config = files.write("--config", format!("{HEAD}{scaling}\n"));
        let raycluster = data("--raycluster", "raycluster.yaml");
        success(&["check", &config, &raycluster])
    };
    let shown = check("scaling: {idleTimeout: 2m, upscalingMode: Conservative, paused: true}");
    for part in [
        "growing step by step; paused: scaling.paused of the config file\n",
        "idle timeout 2m (the config)\n",
        "idle timeout 1m 30s (its own)\n",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn a_decision_is_printed_with_its_reasons() {
    let files = Files::new();
    let expected = "\
group `small`: 1 -> 3 replicas
  1 -> 3 by demand, tasks: 2 x {small: 1}
group `rare`: 2 -> 1 replica
  2 -> 1 by idle, idle_timeout: demo-rare-a
  remove replica `demo-rare-a`, idle for 1m 40s: demo-rare-a
unserved 1 x {CPU: 64}: infeasible: small: CPU 64 > 2; rare: CPU 64 > 2
unserved 2 x {small: 1}: at_maximum: small: at maxReplicas 3; rare: small 1 > 0
infeasible in every group: tasks or actors of {CPU: 64}
kept idle: `demo-rare-b` of group `rare`, idle for 20s: idle_timeout
next check at 2026-11-25T10:00:15.001Z
";
    assert_eq!(success(&words(&files.decide(reply()))), expected);
    assert_eq!(success(&words(&files.decide(base64(&reply())))), expected);
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let byte = |at: usize| u32::from(*chunk.get(at).unwrap_or(&0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        let digit = move |at: usize| {
            let value = usize::try_from((bits >> (18 - 6 * at)) & 63).unwrap();
            char::from(DIGITS[value])
        };
        let given = chunk.len() + 1;
        (0..4).map(move |at| if at < given { digit(at) } else { '=' })
    });
    digits.collect()
}

#[test]
fn a_decision_as_json_is_the_engines_own() {
    let files = Files::new();
    let mut command = files.decide(reply());
    command.push("--json".to_owned());
    let decision: ScaleDecision = serde_json::from_str(&success(&words(&command))).unwrap();
    let groups = decision.groups.iter();
    let replicas: Vec<(&str, u32, u32)> = groups
        .map(|group| (group.name.as_str(), group.replicas_from, group.replicas_to))
        .collect();
    assert_eq!(replicas, [("small", 1, 3), ("rare", 2, 1)]);
    assert_eq!(decision.groups[1].remove[0].pods[0].as_str(), "demo-rare-a");
    assert_eq!(decision.infeasible.len(), 1);

    // What is odd about the input is no part of a decision, and is said beside it.
    command.retain(|word| !word.starts_with("--raycluster"));
    command.push(data("--raycluster", "raycluster-odd.yaml"));
    let output = rayscaler(&words(&command));
    assert!(serde_json::from_slice::<ScaleDecision>(&output.stdout).is_ok());
    let beside = text(&output.stderr);
    assert!(
        beside.contains("rayscaler: problem operator_refuses: "),
        "{beside}"
    );
}

#[test]
fn the_config_decides_with() {
    let files = Files::new();
    let decide = |settings: &str| {
        let mut command = files.decide(reply());
        command.push(files.write("--config", format!("{HEAD}{settings}\n")));
        success(&words(&command))
    };
    let shown = decide("policies: [{name: demand}]");
    assert!(
        shown.contains("`small`: 1 -> 3") && shown.contains("`rare`: stays at 2"),
        "{shown}"
    );
    let shown = decide("policies: [{name: idle}]");
    assert!(
        shown.contains("`small`: stays at 1") && shown.contains("`rare`: 2 -> 1"),
        "{shown}"
    );
    let shown = decide("scaling: {upscalingMode: Conservative}");
    assert!(shown.contains("group `small`: 1 -> 2 replicas"), "{shown}");
    let shown = decide("scaling: {paused: true}");
    assert!(
        shown.contains("hold of everything: paused: scaling.paused"),
        "{shown}"
    );
}

#[test]
fn without_a_raylet_of_the_head_nothing_is_decided() {
    let files = Files::new();
    let state = Some(ClusterResourceState::default());
    let reply = GetClusterResourceStateReply {
        cluster_resource_state: state,
    };
    let shown = success(&words(&files.decide(reply.encode_to_vec())));
    assert!(
        shown.contains("hold of everything: head_not_running: "),
        "{shown}"
    );
}

#[test]
fn a_reply_that_cannot_be_read_is_named_with_what_is_expected() {
    let files = Files::new();
    let expected = "a GetClusterResourceStateReply, binary or base64";
    let truncated = &reply()[..reply().len() - 5];
    for (reply, problem) in [
        (
            &b""[..],
            format!("has no cluster_resource_state; expected {expected}"),
        ),
        (b"{\"nodes\": []}", format!("is not {expected}: ")),
        (truncated, format!("is not {expected}: ")),
    ] {
        let (code, error) = failure(&words(&files.decide(reply)));
        assert_eq!(code, 1, "{error}");
        assert!(
            error.contains("gcs-reply` ") && error.contains(&problem),
            "{error}"
        );
    }
}

#[test]
fn manifests_that_are_something_else_are_named_with_what_is_expected() {
    let files = Files::new();
    for (option, content, problem) in [
        (
            "--raycluster",
            "kind: Pod",
            "holds Pod; expected a RayCluster",
        ),
        ("--raycluster", "", "holds nothing; expected a RayCluster"),
        (
            "--raycluster",
            "just words",
            "holds `\"just words\"`; expected objects",
        ),
        ("--raycluster", "a: [", "is neither YAML nor JSON: "),
        (
            "--raycluster",
            "kind: RayCluster",
            "metadata is absent; accepted: a value",
        ),
        ("--raycluster", TWO, "holds several RayClusters"),
        (
            "--raycluster",
            "{apiVersion: ray.io/v1alpha1, kind: RayCluster}",
            "expected a RayCluster of ray.io/v1",
        ),
        (
            "--pods",
            "kind: Service",
            "item 0 holds Service; expected pods only",
        ),
        (
            "--pods",
            "items: [{kind: Pod}]",
            "item 0 has no metadata.name; expected pods",
        ),
        (
            "--pods",
            "metadata: {name: p, labels: 7}",
            "cannot read pod `p`: ",
        ),
    ] {
        let mut command = files.decide(reply());
        command.retain(|word| !word.starts_with(option));
        command.push(files.write(option, content));
        let (code, error) = failure(&words(&command));
        assert_eq!(code, 1, "{error}");
        assert!(error.contains(problem), "{problem}: {error}");
    }
    let mut command = files.decide(reply());
    command.push(files.write("--config", format!("{HEAD}policies: [{{name: idel}}]\n")));
    let (code, error) = failure(&words(&command));
    assert!(
        code == 2 && error.contains("did you mean `idle`?"),
        "{error}"
    );
}

#[test]
fn the_policies_are_listed_in_the_order_of_the_chain() {
    let shown = success(&["policies"]);
    let names: Vec<&str> = shown
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    assert!(
        names.iter().copied().eq(Engine::default().chain()),
        "{shown}"
    );
    assert!(
        shown.starts_with("settle   group_priority      prefer groups with a higher priority\n")
    );
    let json: serde_json::Value = serde_json::from_str(&success(&["policies", "--json"])).unwrap();
    let last = &json.as_array().unwrap()[names.len() - 1];
    assert_eq!(
        (&last["name"], &last["stage"]),
        (&"blast_radius".into(), &"guard".into())
    );
    let mut all = json.as_array().unwrap().iter();
    let idle = all.find(|policy| policy["name"] == "idle").unwrap();
    assert_eq!(idle["stage"], "shape");
    assert_eq!(idle["settings"]["timeout"], "1m");
    assert!(idle["schema"]["properties"]["timeout"].is_object());
}
