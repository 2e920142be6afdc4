//! What a running sidecar costs: processor time and memory of its processes, calls as it counts them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Returns the calls that a sidecar has made, by metric line.
pub fn counters(metrics: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in metrics.lines() {
        let Some((name, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let is_calls = [
            "rayscaler_api_calls_total",
            "rayscaler_gcs_calls_total",
            "rayscaler_raylet_calls_total",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix));
        if is_calls {
            *sums.entry(name.to_owned()).or_insert(0.0) += value.parse::<f64>().unwrap_or(0.0);
        }
    }
    sums
}

/// Returns the folders in /proc of the sidecar of a namespace, parent and child.
pub fn processes(namespace: &str) -> Vec<PathBuf> {
    let wanted = format!("RAY_CLUSTER_NAMESPACE={namespace}");
    let is_ours = |folder: &PathBuf| {
        let exe = std::fs::read_link(folder.join("exe")).unwrap_or_default();
        let environment = std::fs::read(folder.join("environ")).unwrap_or_default();
        exe.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("rayscaler"))
            && environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == wanted.as_bytes())
    };
    let folders = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    folders.filter(is_ours).collect()
}

/// Returns the processor time of a sidecar of a namespace, in seconds.
pub fn cpu_seconds(namespace: &str) -> f64 {
    let ticks = |folder: &PathBuf| -> f64 {
        let stat = std::fs::read_to_string(folder.join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        let number = |at: usize| {
            fields
                .get(at)
                .and_then(|field| field.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        number(11) + number(12)
    };
    processes(namespace).iter().map(ticks).sum::<f64>() / 100.0
}

/// Returns the share of memory of a process, in KiB.
pub fn pss_kib(folder: &Path) -> u64 {
    let rollup = std::fs::read_to_string(folder.join("smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
