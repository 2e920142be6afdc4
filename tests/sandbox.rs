//! The sandbox as its user starts it.
#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, reason = "test")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// As fast as the machine can.
const FAST: [&str; 4] = ["sandbox", "--plain", "--speed", "10000"];

fn rayscaler() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rayscaler"))
}

fn play(arguments: &[&str]) -> String {
    let output = rayscaler().args(FAST).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the tour, played once for all tests.
fn tour() -> &'static str {
    static TOUR: OnceLock<String> = OnceLock::new();
    TOUR.get_or_init(|| play(&[]))
}

fn refused(scenario: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scenario.yaml");
    std::fs::write(&path, scenario).unwrap();
    let output = rayscaler().args(FAST).arg("--scenario").arg(&path).output();
    output.unwrap()
}

/// Returns the lines that say `kind`, without their time.
fn lines<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    let marker = format!(" {kind} ");
    text.lines()
        .filter_map(|line| Some(line.split_once(&marker)?.1.trim()))
        .collect()
}

#[test]
fn the_tour_is_the_same_each_time_and_shows_what_it_promises() {
    let played = tour();
    let again = play(&["--no-comparison"]);
    let end = again.find("time to capacity").unwrap();
    assert!(
        played.starts_with(&again[..end]),
        "two ways:\n{played}\n{again}"
    );
    assert!(!again.contains("stock loop"), "{again}");
    let placed = lines(played, "placed");
    for name in [
        "burst of tasks",
        "training",
        "inference on a100",
        "second burst",
    ] {
        assert!(
            placed.iter().any(|line| line.starts_with(name)),
            "{name}: {played}"
        );
    }
    let scaled = lines(played, "scaled");
    assert!(scaled.iter().any(|line| line.contains("idle:")), "{played}");
    let waits = lines(played, "waits");
    assert!(
        waits
            .iter()
            .any(|line| line.contains("{CPU: 64}: infeasible")),
        "{played}"
    );
    assert!(lines(played, "lost").len() == 1, "{played}");
    let never = |line: &str| line.starts_with("far too large") && line.contains("never");
    assert!(played.lines().any(never), "{played}");
}

/// Returns the seconds in a column of the summary.
fn waited(played: &str, name: &str, column: usize) -> f64 {
    let row = played
        .lines()
        .find(|line| line.starts_with(name) && line.contains(" s "))
        .unwrap();
    let seconds = row.trim_start_matches(name).split(" s").nth(column);
    seconds.unwrap().trim().parse().unwrap()
}

#[test]
fn the_summary_compares_with_the_stock_loop() {
    let played = tour();
    // Boot and join take 6 s, and the stock loop looks every 5 s.
    let ours = waited(played, "burst of tasks", 0);
    let stock = waited(played, "burst of tasks", 1);
    assert!((6.0..6.5).contains(&ours), "{played}");
    assert!((ours..=ours + 5.5).contains(&stock), "{played}");
}

#[test]
fn the_printed_scenario_can_be_played_after_a_change() {
    let printed = rayscaler()
        .args(["sandbox", "--print-scenario"])
        .output()
        .unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scenario.yaml");
    let changed = text
        .replace("duration: 75s", "duration: 12s")
        .replace("count: 40", "count: 4");
    std::fs::write(&path, changed).unwrap();
    let played = play(&["--scenario", path.to_str().unwrap(), "--no-comparison"]);
    assert!(
        played.contains("burst of tasks: 4 tasks of {CPU: 1}"),
        "{played}"
    );
    assert!(played.contains("small 0 -> 1"), "{played}");
}

#[test]
fn a_scenario_with_mistakes_is_not_played() {
    let output = refused("name: n\nduration: 10s\ngroups: []\nevents:\n  - {at: 1s, taks: {}}\n");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("line 5: events[0].taks: unknown key, did you mean `tasks`?"),
        "{errors}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn kubectl_sees_the_same_cluster() {
    let folder = support::kube_binaries::folder_with(&["kubectl"]);
    // Slow enough that somebody outside can look at it.
    let mut playing = rayscaler()
        .args(["sandbox", "--plain", "--kube", "--no-comparison"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(playing.stdout.take().unwrap());
    let mut hint = String::new();
    output.read_line(&mut hint).unwrap();
    let mut words = hint.split_whitespace();
    assert_eq!(words.next(), Some("kubectl"), "{hint}");
    let arguments: Vec<&str> = words.collect();
    let mut line = String::new();
    while !line.contains("workers") {
        line.clear();
        assert_ne!(
            output.read_line(&mut line).unwrap(),
            0,
            "the sandbox has ended"
        );
    }
    let seen = Command::new(folder.join("kubectl"))
        .args(&arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&seen.stdout).into_owned();
    let errors = String::from_utf8_lossy(&seen.stderr).into_owned();
    let kubeconfig = std::path::PathBuf::from(arguments[1]);
    assert!(kubeconfig.exists());
    // Who has seen enough closes the pipe, and the sandbox ends and takes its kubeconfig with it.
    drop(output);
    let ended = playing.wait().unwrap();
    assert!(text.contains("sandbox"), "{text}{errors}");
    assert!(text.contains("sandbox-large-worker-"), "{text}{errors}");
    assert!(!kubeconfig.exists(), "{ended}");
}

/// A user's script: more tasks than the cluster has processors at first.
const SCRIPT: &str = "
import ray
ray.init(log_to_driver=False, logging_level='ERROR')

@ray.remote(num_cpus=1)
def node(_):
    import time
    time.sleep(2)
    return ray.get_runtime_context().get_node_id()

print('NODES', len(set(ray.get([node.remote(at) for at in range(8)]))))
";

/// Reads on until a line has `text`; returns that line.
fn wait_for(output: &mut impl BufRead, text: &str) -> String {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        let length = output.read_line(&mut line).unwrap();
        assert_ne!(length, 0, "the sandbox has ended without `{text}`:\n{seen}");
        if line.contains(text) {
            return line;
        }
        seen.push_str(&line);
    }
}

#[test]
fn a_real_ray_head_grows_for_a_users_script_and_shrinks_again() {
    let ray = support::ray_venv::RayVersion::Newest.programs();
    let mut playing = rayscaler()
        .args(["sandbox", "--ray", "--plain", "--ray-bin"])
        .arg(&ray)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(playing.stdout.take().unwrap());
    let hint = wait_for(&mut output, "RAY_ADDRESS=");
    let address = hint.split_whitespace().next().unwrap();
    let script = Command::new(ray.join("python"))
        .args(["-c", SCRIPT])
        .env("RAY_ADDRESS", address.trim_start_matches("RAY_ADDRESS="))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&script.stdout).into_owned();
    let errors = String::from_utf8_lossy(&script.stderr).into_owned();
    assert!(printed.contains("NODES 2"), "{printed}{errors}");
    wait_for(&mut output, "scaled   small 0 -> 2");
    wait_for(&mut output, "workers  small: none");
    support::ray_process::signal("INT", [playing.id()]);
    assert!(playing.wait().unwrap().success());
}
