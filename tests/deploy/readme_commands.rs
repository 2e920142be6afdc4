//! The README's command lines, run in their order as somebody who reads it would.
//!
//! `kubectl` talks to a real API server. What needs a kubelet (`exec`, `logs`, `port-forward`) is
//! not sent; the command of rayscaler in it is read as the program would read it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use rayscaler::cli::{argv, parse};
use serde_json::{Value, json};

use crate::manifests::api;
use crate::readme::blocks;
use crate::support::kube_binaries;
use crate::{deployed_as, project, text};

/// Returns the lines that are to be typed.
fn lines() -> Vec<String> {
    let blocks = blocks("sh");
    let lines = blocks.iter().flat_map(|block| block.lines());
    let lines = lines.map(|line| line.split(" # ").next().unwrap().trim().to_owned());
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

fn first(line: &str) -> &str {
    line.split(' ')
        .find(|word| !word.contains('='))
        .unwrap_or_default()
}

/// Returns the words of a command line as a shell finds them.
fn words(line: &str) -> Vec<String> {
    let split = format!("printf '%s\\n' {line}");
    let output = Command::new("sh").args(["-c", &split]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_line_is_of_a_program_that_is_tried_here() {
    let lines = lines();
    let programs: BTreeSet<&str> = lines.iter().map(|line| first(line)).collect();
    assert_eq!(
        programs,
        ["docker", "git", "kubectl", "make", "rayscaler"].into()
    );
    let makefile = text("Makefile");
    for line in &lines {
        let mut words = line.split(' ').filter(|word| !word.contains('='));
        match words.next() {
            Some("make") => {
                let target = words.next().unwrap();
                assert!(
                    makefile.contains(&format!("\n{target}:")),
                    "the Makefile has no {target}"
                );
            }
            Some("docker") if line.starts_with("docker build") => {
                let mut words = words.skip_while(|word| *word != "--file");
                assert!(project(words.nth(1).unwrap()).exists(), "{line}");
            }
            _ => {}
        }
    }
}

#[test]
fn the_lines_of_rayscaler_do_what_they_say() {
    let folder = Path::new(env!("CARGO_BIN_EXE_rayscaler")).parent().unwrap();
    let lines: Vec<String> = lines()
        .into_iter()
        .filter(|line| first(line) == "rayscaler")
        .collect();
    assert!(lines.len() >= 4, "{lines:?}");
    for line in lines {
        let line = line.replacen(
            "rayscaler",
            &folder.join("rayscaler").display().to_string(),
            1,
        );
        let output = Command::new("sh")
            .args(["-c", &line])
            .current_dir(project(""))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
        assert!(!output.stdout.is_empty(), "{line}");
    }
}

/// Settings of `autoscalerOptions` that are as good for the stock sidecar.
const STAYS: [&str; 3] = ["version", "idleTimeoutSeconds", "upscalingMode"];

#[test]
fn going_back_takes_away_all_that_the_examples_set() {
    let lines = lines();
    let back = lines.iter().find(|line| line.contains(r#""image": null"#));
    let patch = words(back.unwrap()).pop().unwrap();
    let patch: Value = serde_json::from_str(&patch).unwrap();
    let taken = patch["spec"]["autoscalerOptions"].as_object().unwrap();
    assert!(taken.values().all(Value::is_null), "{patch}");
    let taken: BTreeSet<&str> = taken.keys().map(String::as_str).collect();
    for name in ["raycluster.yaml", "raycluster-image-alone.yaml"] {
        let example = deployed_as(name);
        let set = example["spec"]["autoscalerOptions"].as_object().unwrap();
        let set = set.keys().map(String::as_str);
        let set: BTreeSet<&str> = set.filter(|key| !STAYS.contains(key)).collect();
        assert!(set.is_subset(&taken), "{name}: {set:?}");
    }
}

#[tokio::test]
async fn the_lines_of_kubectl_work_in_their_order() {
    let api = api().await;
    let namespace = api.new_namespace().await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let mut config: Value =
        serde_json::from_str(&fs::read_to_string(api.admin_kubeconfig()).unwrap()).unwrap();
    config["contexts"][0]["context"]["namespace"] = json!(namespace);
    fs::write(&kubeconfig, config.to_string()).unwrap();
    let programs = kube_binaries::folder_with(&["kubectl"]);
    let kubectl = programs.join("kubectl");
    // The worker that the lines about single workers name.
    let worker = folder.path().join("worker.json");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "demo-small-worker-abcde"},
        "spec": {"containers": [{"name": "ray-worker", "image": "rayproject/ray"}]}});
    fs::write(&worker, pod.to_string()).unwrap();
    let mut create = Command::new(&kubectl);
    let create = create.args(["create", "-f"]).arg(&worker);
    let create = create
        .env("KUBECONFIG", &kubeconfig)
        .env("HOME", folder.path());
    assert!(create.status().unwrap().success());
    let mut run = 0;
    for line in lines().into_iter().filter(|line| first(line) == "kubectl") {
        let verb = line.split(' ').nth(1).unwrap();
        if ["exec", "logs", "port-forward"].contains(&verb) {
            if let Some((_, own)) = line.split_once(" -- ") {
                let words = words(own);
                let invocation = argv::interpret(&words, &|_| None).unwrap();
                assert!(parse(&invocation).is_ok(), "{line}");
            }
            continue;
        }
        let output = Command::new("sh")
            .args([
                "-c",
                &line.replacen("kubectl", &kubectl.display().to_string(), 1),
            ])
            .current_dir(project(""))
            .env("KUBECONFIG", &kubeconfig)
            .env("HOME", folder.path())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
        assert!(!errors.contains("Warning"), "{line}: {errors}");
        run += 1;
    }
    assert!(run >= 8, "only {run} lines were run");
}
