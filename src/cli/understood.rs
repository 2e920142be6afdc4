//! What is understood of a RayCluster, as text.

use std::io::{self, Write};

use serde_json::Value;

use super::check::subject::Subject;
use crate::config::{self, Config, HumanDuration};
use crate::model::{ClusterSnapshot, Labels, UpscalingMode, WorkerGroup};
use crate::policy::Registry;

/// Prints what is understood of the cluster and of each worker group that can be scaled.
pub(super) fn print(subject: &Subject, config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let snapshot = subject.configured(config);
    let timeout = cluster_timeout(config, subject.snapshot.idle_timeout_ms);
    print_cluster(subject, &snapshot, out)?;
    for group in &snapshot.groups {
        print_group(group, &timeout, out)?;
    }
    Ok(())
}

fn print_cluster(
    subject: &Subject,
    snapshot: &ClusterSnapshot,
    out: &mut dyn Write,
) -> io::Result<()> {
    let upscaling = match snapshot.upscaling_mode {
        UpscalingMode::Unlimited => "as demand asks",
        UpscalingMode::Conservative => "step by step",
    };
    let (good, bad) = (snapshot.groups.len(), snapshot.skipped.len());
    let Subject { kind, name, .. } = subject;
    write!(
        out,
        "{kind} `{name}`: {good} of {} worker groups can be scaled, growing {upscaling}",
        good + bad
    )?;
    if snapshot.is_suspended {
        write!(out, "; suspended by spec.suspend")?;
    }
    if snapshot.is_deleting {
        write!(out, "; being deleted")?;
    }
    if let Some(why) = &snapshot.paused {
        write!(out, "; paused: {why}")?;
    }
    writeln!(out)
}

fn print_group(group: &WorkerGroup, timeout: &str, out: &mut dyn Write) -> io::Result<()> {
    let WorkerGroup {
        surge: _,
        name,
        index,
        replicas,
        bounds,
        num_of_hosts,
        priority,
        ..
    } = group;
    let max = match bounds.max {
        2_147_483_647 => "without limit".to_owned(),
        max => format!("to {max}"),
    };
    let hosts = if *num_of_hosts == 1 { "host" } else { "hosts" };
    let timeout = group.idle_timeout_ms.map_or_else(
        || timeout.to_owned(),
        |ms| format!("{} (its own)", HumanDuration::from_ms(ms)),
    );
    writeln!(
        out,
        "group {index} `{name}`: replicas {replicas}, from {} {max}, {num_of_hosts} {hosts} each; \
         priority {priority}; idle timeout {timeout}",
        bounds.min
    )?;
    writeln!(out, "  a new node has {}", group.template.resources)?;
    if !group.template.host_zero_resources.is_empty() {
        let resources = &group.template.host_zero_resources;
        writeln!(out, "  the first host of a replica has {resources} besides")?;
    }
    writeln!(out, "  labels {}", labels(&group.template.labels))?;
    if !group.workers_to_delete.is_empty() {
        let names = group.workers_to_delete.iter().map(|name| name.as_str());
        writeln!(
            out,
            "  to be deleted: {}",
            names.collect::<Vec<_>>().join(", ")
        )?;
    }
    Ok(())
}

fn labels(labels: &Labels) -> String {
    let pairs = labels.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

/// Returns the timeout of groups without one of their own, and who says so.
fn cluster_timeout(config: &Config, raycluster: Option<u64>) -> String {
    if let Some(timeout) = config.scaling.idle_timeout {
        return format!("{timeout} (the config)");
    }
    if let Some(ms) = raycluster {
        return format!("{} (the RayCluster)", HumanDuration::from_ms(ms));
    }
    let chain = config::chain(config);
    let Some(idle) = chain.iter().find(|entry| entry.name == "idle") else {
        return "none: the policy idle is not in the chain".to_owned();
    };
    let registry = Registry::default();
    let defaults = registry.get("idle").map(|entry| (entry.default_settings)());
    let given = idle.settings.get("timeout");
    let timeout = given.or(defaults.as_ref().and_then(|of| of.get("timeout")));
    let timeout = timeout.and_then(Value::as_str).unwrap_or_default();
    format!("{timeout} (the policy idle)")
}
