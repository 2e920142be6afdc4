//! A busy cluster for two hours, in a process of its own: its memory is what is looked at.

use std::process::Command;

/// Seldomer than a sidecar looks: two hours at a tenth of a second are minutes of a test.
const CONFIG: &str = "
apiVersion: rayscaler.io/v1alpha1
kind: RayscalerConfig
poll: {gcs: {intervalMin: 5s, intervalMax: 5s}}
";

#[test]
fn two_hours_of_twenty_nodes_leave_nothing_behind_and_a_quiet_cluster_is_not_told_of() {
    let folder = std::env::temp_dir().join(format!("rayscaler-soak-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let config = folder.join("config.yaml");
    std::fs::write(&config, CONFIG).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_rayscaler"))
        .args(["simulate", "--soak", "20", "--hours", "144m", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{text}{errors}");
    for part in [
        "memory after busy hours: slope",
        "heap in use after busy hours: slope",
        "full and quiet",
        "empty and quiet",
        "engine remembers",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
