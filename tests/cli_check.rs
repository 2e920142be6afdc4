//! `check --raycluster` as it is started: what it prints, and with which exit code it ends.
//!
//! What it prints stands in `data/check/`; with `RAYSCALER_TEST_BLESS=1` the files are written anew.
#![cfg(feature = "sidecar")]
#![expect(clippy::unwrap_used, reason = "test")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const GOOD_ROLE: &str = "\
kind: Role
rules:
- {apiGroups: [''], resources: [pods], verbs: [list, watch]}
- {apiGroups: [ray.io], resources: [rayclusters], verbs: [get, patch]}
";

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn check(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rayscaler"));
    command.arg("check").args(arguments).env_clear();
    command.stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Returns exit code and standard output; nothing stands on standard error.
fn said(output: &Output) -> (i32, String) {
    assert_eq!(text(&output.stderr), "");
    (output.status.code().unwrap(), text(&output.stdout))
}

fn of_file(name: &str, more: &[&str]) -> (i32, String) {
    let path = data(name);
    let arguments = [&["--raycluster", path.to_str().unwrap()], more].concat();
    said(&check(&arguments).output().unwrap())
}

/// Compares with a file of `data/check/`.
#[expect(
    clippy::disallowed_methods,
    reason = "test settings travel in the environment"
)]
fn golden(name: &str, shown: &str) {
    let path = data("check").join(name);
    if std::env::var("RAYSCALER_TEST_BLESS").is_ok() {
        fs::write(&path, shown).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, expected, "{name}");
}

#[test]
fn what_is_understood_is_shown_and_notes_are_no_errors() {
    let (code, shown) = of_file("raycluster.yaml", &[]);
    golden("good.txt", &shown);
    assert_eq!(code, 0);
}

#[test]
fn an_error_ends_with_2_and_names_path_value_and_what_is_accepted() {
    let (code, shown) = of_file("raycluster-odd.yaml", &[]);
    golden("odd.txt", &shown);
    assert_eq!(code, 2);
}

#[test]
fn a_rayservice_and_a_rayjob_are_looked_into_with_what_stands_beside_them() {
    let (code, shown) = of_file("check/several.yaml", &["--kuberay-version", "v1.7.0"]);
    golden("several.txt", &shown);
    assert_eq!(code, 2);
}

#[test]
fn standard_input_is_read_for_a_dash() {
    let mut command = check(&["--raycluster", "-"]);
    command.stdin(File::open(data("raycluster.yaml")).unwrap());
    let (code, shown) = said(&command.output().unwrap());
    assert_eq!((code, shown), of_file("raycluster.yaml", &[]));
}

#[test]
fn findings_as_json_have_codes_paths_and_values() {
    let (code, shown) = of_file("raycluster-odd.yaml", &["--json"]);
    assert_eq!(code, 2);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let checked = &shown["checked"][0];
    assert_eq!(
        (&checked["kind"], &checked["name"]),
        (&"RayCluster".into(), &"odd".into())
    );
    let findings = checked["findings"].as_array().unwrap();
    let of = |code: &str| findings.iter().find(|it| it["code"] == code).unwrap();
    let found = of("min_above_max");
    assert_eq!(found["severity"], "error");
    assert_eq!(found["path"], "spec.workerGroupSpecs[0].minReplicas");
    assert_eq!(found["value"], "3");
    assert_eq!(found["accepted"], "at most maxReplicas, which is 2");
    assert!(found["why"].as_str().unwrap().contains("whole RayCluster"));
}

#[test]
fn a_role_of_its_own_file_is_taken_into_account() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("role.yaml");
    let role = path.to_str().unwrap();
    fs::write(&path, GOOD_ROLE).unwrap();
    let (code, shown) = of_file("raycluster.yaml", &["--role", role]);
    assert!(code == 0 && !shown.contains("[role_not_given]"), "{shown}");
    fs::write(&path, GOOD_ROLE.replace("get, patch", "get")).unwrap();
    let (code, shown) = of_file("raycluster.yaml", &["--role", role]);
    let expected = "error[missing_verb]: rules is without patch rayclusters; accepted: a rule";
    assert!(code == 2 && shown.contains(expected), "{shown}");
    assert!(shown.contains("without it nothing is scaled"), "{shown}");
    assert!(
        shown.contains("in addition to the one that KubeRay makes, give both"),
        "{shown}"
    );
    let more = fs::read_to_string(data("../../deploy/rbac.yaml")).unwrap();
    fs::write(&path, format!("{GOOD_ROLE}---\n{more}")).unwrap();
    let (code, shown) = of_file("raycluster.yaml", &["--role", role]);
    assert!(code == 0, "{shown}");
}

#[test]
fn misspelt_keys_are_named_with_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raycluster.yaml");
    let good = fs::read_to_string(data("raycluster.yaml")).unwrap();
    let wrong = good.replacen("maxReplicas:", "maxReplica:", 1);
    assert_ne!(wrong, good);
    fs::write(&path, wrong).unwrap();
    let arguments = ["--raycluster", path.to_str().unwrap()];
    let (_, shown) = said(&check(&arguments).output().unwrap());
    let expected = "warning[misspelt_key]: spec.workerGroupSpecs[0].maxReplica is ";
    let line = shown.lines().find(|line| line.starts_with(expected));
    assert!(
        line.is_some_and(|line| line.ends_with("; accepted: `maxReplicas`")),
        "{shown}"
    );
}

#[test]
fn what_cannot_be_checked_is_named_with_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.yaml");
    let name = path.to_str().unwrap();
    let good = data("raycluster.yaml");
    let good = good.to_str().unwrap();
    for (content, arguments, code, problem) in [
        (
            "kind: Pod",
            &["--raycluster", name][..],
            1,
            "holds Pod; expected a RayCluster, a RayService or a RayJob",
        ),
        (
            "a: [",
            &["--raycluster", name],
            1,
            "is neither YAML nor JSON",
        ),
        (
            "{kind: RayJob, metadata: {name: j}, spec: {}}",
            &["--raycluster", name],
            1,
            "RayJob has no spec.rayClusterSpec",
        ),
        (
            "kind: Pod",
            &["--raycluster", good, "--role", name],
            1,
            "holds Pod; expected a Role or a ClusterRole",
        ),
        (
            "",
            &["--raycluster", good, "--kuberay-version", "new"],
            64,
            "accepted: a version such as 1.6",
        ),
        ("", &["--role", name], 64, "--raycluster"),
    ] {
        fs::write(&path, content).unwrap();
        let output = check(arguments).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(problem), "{problem}: {error}");
    }
}
