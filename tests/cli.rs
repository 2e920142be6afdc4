//! The program as it is started: arguments, exit codes, what it prints.
#![expect(clippy::unwrap_used, reason = "test")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rayscaler");

fn start(argv0: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    let command = command.arg0(argv0).args(arguments).env_clear();
    command.output().unwrap()
}

fn rayscaler(arguments: &[&str]) -> Output {
    start("rayscaler", arguments)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Returns exit code and standard error.
fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), text(&output.stderr))
}

fn success(output: &Output) -> String {
    assert_eq!(failure(output), (0, String::new()));
    text(&output.stdout)
}

#[test]
fn version_and_help_are_printed() {
    assert!(success(&rayscaler(&["version"])).starts_with("rayscaler 0."));
    assert!(success(&rayscaler(&["--version"])).starts_with("rayscaler 0."));
    let help = success(&rayscaler(&["--help"]));
    for word in [
        "run",
        "status",
        "explain",
        "check",
        "decide",
        "policies",
        "schema",
        "health",
        "Exit codes:",
        "64",
    ] {
        assert!(help.contains(word), "{help}");
    }
    assert!(success(&rayscaler(&["run", "--help"])).contains("RAY_CLUSTER_NAME"));
    for command in ["status", "explain", "check", "decide", "health"] {
        let help = success(&rayscaler(&[command, "--help"]));
        for word in ["Example", "Exit codes: 0"] {
            assert!(help.contains(word), "{command}: {help}");
        }
    }
}

#[test]
fn the_schema_is_printed_as_json() {
    let schema = success(&rayscaler(&["schema"]));
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema, rayscaler::config::schema());
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let completions = success(&rayscaler(&["completions", shell]));
        assert!(completions.contains("gcs-address"), "{shell}");
    }
}

#[test]
fn a_command_line_that_is_not_accepted_ends_with_64() {
    for (argv0, arguments, problem) in [
        ("rayscaler", &[][..], "Usage:"),
        ("rayscaler", &["start"], "unrecognized subcommand"),
        ("rayscaler", &["run", "--cluster"], "unexpected argument"),
        (
            "rayscaler",
            &["run", "--no-supervise"],
            "RAY_CLUSTER_NAME is not set",
        ),
        // Through the parent too: a child that says 64 is not started again.
        ("rayscaler", &["run"], "RAY_CLUSTER_NAME is not set"),
        (
            "/usr/bin/ray",
            &["kuberay-autoscaler"],
            "--cluster-name is missing",
        ),
        (
            "/usr/bin/ray",
            &["kuberay-autoscaler", "--x"],
            "unexpected argument",
        ),
        (
            "/usr/bin/ray",
            &["start"],
            "is rayscaler under another name",
        ),
        (
            "/bin/bash",
            &["-c", "--", "ls"],
            "the command `ls` is not known",
        ),
        ("/bin/bash", &[], "no shell"),
        #[cfg(feature = "sandbox")]
        (
            "rayscaler",
            &["simulate", "--seeds", "0"],
            "invalid value '0' for '--seeds <N>'",
        ),
        (
            "rayscaler",
            &["health", "--address", "here"],
            "invalid value 'here'",
        ),
    ] {
        let (code, error) = failure(&start(argv0, arguments));
        assert_eq!(code, 64, "{argv0} {arguments:?}");
        assert!(error.contains(problem), "{argv0} {arguments:?}: {error}");
    }
}

#[test]
fn check_accepts_the_files_of_this_project() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let path = folder.join("default.yaml");
    let said = success(&rayscaler(&["check", path.to_str().unwrap()]));
    assert!(said.ends_with("default.yaml: accepted\n"), "{said}");
}

#[test]
fn check_names_every_mistake_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    fs::write(
        &path,
        "apiVersion: rayscaler.io/v1alpha1\nkind: RayscalerConfig\nlog:\n  level: loud\npol: {}\n",
    )
    .unwrap();
    let (code, error) = failure(&rayscaler(&["check", "--config", path.to_str().unwrap()]));
    assert_eq!(code, 2);
    assert!(
        error.contains("config.yaml: 2 mistakes\n  line 4: log.level: "),
        "{error}"
    );
    assert!(
        error.contains("\n  line 5: pol: unknown key, did you mean `poll`?"),
        "{error}"
    );
}

#[test]
fn check_of_nothing_or_of_a_missing_file_fails() {
    let (code, error) = failure(&rayscaler(&["check"]));
    assert!(code == 1 && error.contains("nothing to check"), "{error}");
    let (code, error) = failure(&rayscaler(&["check", "/nowhere/config.yaml"]));
    assert!(
        code == 1 && error.contains("cannot read `/nowhere/config.yaml`: No such file"),
        "{error}"
    );
}

/// Answers one request with a status line, and returns the port.
fn answer_once(status: &'static str) -> (u16, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let length = connection.read(&mut request).unwrap();
        let body = "gcs is 20 s old";
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        connection.write_all(answer.as_bytes()).unwrap();
        text(&request[..length])
    });
    (port, server)
}

#[test]
fn health_asks_readyz_and_fails_when_it_is_not() {
    let (port, server) = answer_once("200 OK");
    let address = format!("127.0.0.1:{port}");
    success(&rayscaler(&["health", "--address", &address]));
    assert!(
        server
            .join()
            .unwrap()
            .starts_with("GET /readyz HTTP/1.1\r\n")
    );

    let (port, server) = answer_once("503 Service Unavailable");
    let address = format!("127.0.0.1:{port}");
    let (code, error) = failure(&rayscaler(&[
        "health",
        "--address",
        &address,
        "--path",
        "/livez",
    ]));
    assert_eq!(code, 1);
    assert!(
        error.contains("503") && error.contains("gcs is 20 s old"),
        "{error}"
    );
    assert!(
        server
            .join()
            .unwrap()
            .starts_with("GET /livez HTTP/1.1\r\n")
    );

    let (code, error) = failure(&rayscaler(&["health", "--address", &address]));
    assert!(
        code == 1 && error.contains("no answer from http://127.0.0.1"),
        "{error}"
    );
}
