//! A status as people read it, on one screen.

use super::age::age;
use super::columns::columns;
use super::paint::{Colour, Paint};
use crate::admin::{
    Change, ClusterStatus, GroupChange, GroupStatus, Mode, ResourceUsage, SourceStatus, Waiting,
    WaitingKind,
};
use crate::model::{RemovalCause, ScalingMode};

/// A source older than this is painted: the engine holds after 15 s unless told otherwise.
const OLD_MS: u64 = 10_000;

/// `maxReplicas` where nobody set it.
const UNBOUNDED: u32 = 2_147_483_647;

/// Returns the whole text.
pub(super) fn text(status: &ClusterStatus, paint: Paint) -> String {
    let mut lines = Vec::new();
    head(status, paint, &mut lines);
    groups(status, paint, &mut lines);
    demand(status, paint, &mut lines);
    waiting(status, paint, &mut lines);
    last_change(status.last_change.as_ref(), paint, &mut lines);
    lines.push(String::new());
    lines.join("\n")
}

fn head(status: &ClusterStatus, paint: Paint, lines: &mut Vec<String>) {
    let name = format!("RayCluster {}/{}", status.namespace, status.cluster);
    let mode = match status.mode {
        None => String::new(),
        Some(Mode::Writing) => paint.text(Colour::Green, "writing"),
        Some(Mode::DryRun) => paint.text(Colour::Yellow, "dry run: nothing is written"),
        Some(Mode::Paused) => {
            let why = status.paused.as_deref().unwrap_or_default();
            paint.text(Colour::Red, &format!("paused: {why}"))
        }
    };
    let name = paint.text(Colour::Bold, &name);
    let line = format!("{name}  rayscaler {}  {mode}", status.version);
    lines.push(line.trim_end().to_owned());
    let decided = match (status.decided_ago_ms, &status.outcome) {
        (Some(ms), Some(outcome)) => format!("last decision {} ago: {outcome}", age(ms)),
        _ => paint.text(Colour::Yellow, "nothing was decided yet"),
    };
    let sources: Vec<String> = status.sources.iter().map(|it| source(it, paint)).collect();
    lines.push(format!("{decided}; read: {}", sources.join(", ")));
    if let Some(scaling) = status.scaling.filter(|scaling| !scaling.is_normal()) {
        let since = status.scaling_for_ms.map(age);
        let since = since.map_or_else(String::new, |since| format!(" for {since}"));
        let meaning = match scaling {
            ScalingMode::Normal => "",
            ScalingMode::Recovering => "Ray was away, nodes have time to come back",
            ScalingMode::NoScaleDown => "nothing is removed",
            ScalingMode::Frozen => "nothing is written",
        };
        let text = format!("mode {}{since}: {meaning}", scaling.as_str());
        lines.push(paint.text(Colour::Yellow, &text));
    }
    let detail = status.outcome_detail.as_str();
    if !detail.is_empty() && status.mode != Some(Mode::Paused) {
        lines.push(paint.text(Colour::Red, &format!("not written: {detail}")));
    }
    if let Some(problem) = &status.config_problem {
        lines.push(paint.text(Colour::Red, problem));
    }
    for source in &status.sources {
        if let Some(error) = &source.error {
            let text = format!("{} cannot be read: {error}", source.source);
            lines.push(paint.text(Colour::Red, &text));
        }
    }
    if status.decided_ago_ms.is_some() && !status.is_head_running {
        lines.push(paint.text(Colour::Red, "the raylet of the head is not alive"));
    }
}

fn source(source: &SourceStatus, paint: Paint) -> String {
    let name = &source.source;
    match source.age_ms {
        None => paint.text(Colour::Red, &format!("{name} never")),
        Some(ms) if ms > OLD_MS => paint.text(Colour::Yellow, &format!("{name} {} ago", age(ms))),
        Some(ms) => format!("{name} {} ago", age(ms)),
    }
}

fn groups(status: &ClusterStatus, paint: Paint, lines: &mut Vec<String>) {
    let heading = [
        "<GROUP",
        "MIN",
        "<REPLICAS",
        "MAX",
        "HOSTS",
        "MISSING",
        "STARTING",
        "RUNNING",
        "IDLE",
        "DRAINING",
        "LEAVING",
        "FAILED",
    ];
    let rows: Vec<Vec<String>> = status.groups.iter().map(group).collect();
    lines.push(String::new());
    if rows.is_empty() {
        lines.push("no worker groups".to_owned());
    } else {
        let mut table = columns("", &heading, &rows).into_iter();
        lines.extend(table.next().map(|line| paint.text(Colour::Bold, &line)));
        lines.extend(table);
    }
    if !status.usage.is_empty() {
        let usage: Vec<String> = status.usage.iter().map(usage).collect();
        lines.push(format!("in use: {}", usage.join(", ")));
    }
}

fn group(group: &GroupStatus) -> Vec<String> {
    let nodes = &group.nodes;
    let replicas = if let Some(code) = &group.skipped {
        format!("skipped, {code}")
    } else if group.replicas == group.replicas_to {
        group.replicas.to_string()
    } else {
        format!("{} -> {}", group.replicas, group.replicas_to)
    };
    let max = match group.replicas_max {
        UNBOUNDED => "none".to_owned(),
        max => max.to_string(),
    };
    let bounds = |text: String| match group.skipped {
        Some(_) => String::new(),
        None => text,
    };
    let counts = [
        nodes.missing,
        nodes.starting,
        nodes.running,
        nodes.idle,
        nodes.draining,
        nodes.leaving,
        nodes.failed,
    ];
    let mut row = vec![
        group.name.clone(),
        bounds(group.replicas_min.to_string()),
        replicas,
        bounds(max),
        bounds(group.num_of_hosts.to_string()),
    ];
    row.extend(counts.map(|count| count.to_string()));
    row
}

fn usage(usage: &ResourceUsage) -> String {
    let ResourceUsage { name, used, total } = usage;
    if name.contains("memory") {
        const GIB: f64 = 1_073_741_824.0;
        let (used, total) = (used / GIB, total / GIB);
        return format!("{name} {used:.1} of {total:.1} GiB");
    }
    format!("{name} {used} of {total}")
}

fn demand(status: &ClusterStatus, paint: Paint, lines: &mut Vec<String>) {
    let rows = status.demand.iter().map(|demand| {
        let class = match demand.class.as_str() {
            "tasks" => "tasks or actors",
            "placement_group" => "placement groups",
            other => other,
        };
        format!("  {} x {} ({class})", demand.count, demand.what)
    });
    section("DEMAND", rows.collect(), status.demand_more, paint, lines);
}

fn waiting(status: &ClusterStatus, paint: Paint, lines: &mut Vec<String>) {
    let rows = status
        .waiting
        .iter()
        .map(|it| format!("  {}", wait(it, paint)));
    let rows = rows.collect();
    section("WAITING FOR", rows, status.waiting_more, paint, lines);
}

fn section(name: &str, rows: Vec<String>, more: usize, paint: Paint, lines: &mut Vec<String>) {
    lines.push(String::new());
    let name = paint.text(Colour::Bold, name);
    if rows.is_empty() {
        lines.push(format!("{name}  nothing"));
        return;
    }
    lines.push(name);
    lines.extend(rows);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
}

fn wait(waiting: &Waiting, paint: Paint) -> String {
    let Waiting {
        count, code, what, ..
    } = waiting;
    let group = waiting.group.as_deref();
    let of_group = group.map_or_else(|| "everything".to_owned(), |name| format!("group {name}"));
    let colour = match waiting.kind {
        WaitingKind::Starting | WaitingKind::KeptIdle => Colour::Dim,
        WaitingKind::Problem | WaitingKind::Hold => Colour::Red,
        WaitingKind::Unserved | WaitingKind::Operator => Colour::Yellow,
    };
    let code_painted = paint.text(colour, code);
    let since = waiting.for_ms.map(age);
    let detail = match waiting.detail.as_str() {
        "" => String::new(),
        detail => format!(": {detail}"),
    };
    let nodes = |count: u64| if count == 1 { "node" } else { "nodes" };
    match waiting.kind {
        WaitingKind::Hold => format!("hold of {of_group}, {code_painted}{detail}"),
        WaitingKind::Unserved => {
            format!("{count} x {what} without a place, {code_painted}{detail}")
        }
        WaitingKind::Operator => {
            let since = since.map_or_else(String::new, |age| format!(" for {age}"));
            format!("{of_group}{since}, {code_painted}{detail}")
        }
        WaitingKind::Starting => {
            let since = since.map_or_else(String::new, |age| format!(", {what} for {age}"));
            let why = if code == "starting" {
                String::new()
            } else {
                format!(": {code_painted}")
            };
            let verb = if *count == 1 { "starts" } else { "start" };
            format!("{of_group}: {count} {} {verb}{since}{why}", nodes(*count))
        }
        WaitingKind::KeptIdle => {
            let verb = if *count == 1 { "stays" } else { "stay" };
            let since = since.unwrap_or_default();
            let why = super::codes::kept_idle(code);
            format!(
                "{of_group}: {count} idle {} {verb}, {what} idle for {since}: {code_painted}{why}",
                nodes(*count)
            )
        }
        WaitingKind::Problem => format!("{code_painted}{detail}"),
    }
}

fn last_change(change: Option<&Change>, paint: Paint, lines: &mut Vec<String>) {
    lines.push(String::new());
    let name = paint.text(Colour::Bold, "LAST CHANGE");
    let Some(change) = change else {
        lines.push(format!("{name}  none since the start"));
        return;
    };
    lines.push(format!(
        "{name}  {} ago: {}",
        age(change.ago_ms),
        change.outcome
    ));
    for group in &change.groups {
        lines.extend(group_change(group));
    }
}

fn group_change(group: &GroupChange) -> Vec<String> {
    let GroupChange { name, from, to, .. } = group;
    let mut lines = vec![format!("  group {name}: {from} -> {to} replicas")];
    let reasons = group.reasons.iter();
    lines.extend(reasons.map(|reason| format!("    {reason}")));
    for removed in &group.removed {
        let cause = match removed.cause {
            RemovalCause::Idle => "idle",
            RemovalCause::AboveMax => "above maxReplicas",
            RemovalCause::AboveTotal => "above the cap over all groups",
            RemovalCause::Stopped => "as their raylets are gone",
            RemovalCause::Ordered => "ordered by annotation",
            RemovalCause::Withdrawn => "as nothing needs them any more",
            RemovalCause::Stuck => "as they do not come up",
            RemovalCause::HalfStarted => "as some of their hosts do not come up",
        };
        let count = removed.replicas;
        let noun = if count == 1 { "replica" } else { "replicas" };
        lines.push(format!("    removes {count} {noun}, {cause}"));
    }
    if group.forgotten > 0 {
        let count = group.forgotten;
        lines.push(format!(
            "    takes {count} out of workersToDelete, as their pods are gone"
        ));
    }
    lines
}
