//! A decision as people read it: what changes and why, then what does not and why.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use crate::config::HumanDuration;
use crate::model::{
    ClusterSnapshot, GroupDecision, Hold, Infeasible, KeptIdle, PodName, Reason, RemovalCause,
    ReplicaRemoval, ScaleDecision, Timestamp, Unserved,
};

/// The end of the year 9999; no later moment can be written.
const LAST: Timestamp = Timestamp::from_ms(253_402_300_799_999);

/// Prints a decision and what its input had wrong.
pub(super) fn print(
    decision: &ScaleDecision,
    snapshot: &ClusterSnapshot,
    out: &mut dyn Write,
) -> io::Result<()> {
    for group in &decision.groups {
        print_group(group, out)?;
    }
    for Unserved {
        what,
        count,
        code,
        detail,
        ..
    } in &decision.unserved
    {
        writeln!(
            out,
            "unserved {count} x {what}: {}",
            with_detail(code, detail)
        )?;
    }
    for infeasible in &decision.infeasible {
        writeln!(out, "infeasible in every group: {}", shape(infeasible))?;
    }
    for KeptIdle {
        pod,
        group,
        code,
        idle_ms,
    } in &decision.kept_idle
    {
        let idle = HumanDuration::from_ms(*idle_ms);
        writeln!(
            out,
            "kept idle: `{pod}` of group `{group}`, idle for {idle}: {code}"
        )?;
    }
    for Hold {
        group,
        code,
        detail,
    } in &decision.holds
    {
        let what = match group {
            Some(group) => format!("group `{group}`"),
            None => "everything".to_owned(),
        };
        writeln!(out, "hold of {what}: {}", with_detail(code, detail))?;
    }
    for problem in &snapshot.problems {
        writeln!(out, "problem {}: {}", problem.code, problem.detail)?;
    }
    match decision.next_check_at {
        Some(at) => writeln!(out, "next check at {}", moment(at)),
        None => Ok(()),
    }
}

fn print_group(group: &GroupDecision, out: &mut dyn Write) -> io::Result<()> {
    let (from, to) = (group.replicas_from, group.replicas_to);
    if from == to {
        writeln!(out, "group `{}`: stays at {}", group.name, replicas(from))?;
    } else {
        writeln!(out, "group `{}`: {from} -> {}", group.name, replicas(to))?;
    }
    for Reason {
        policy,
        code,
        from,
        to,
        detail,
    } in &group.reasons
    {
        writeln!(
            out,
            "  {from} -> {to} by {policy}, {}",
            with_detail(code, detail)
        )?;
    }
    for ReplicaRemoval {
        replica,
        pods,
        cause,
        idle_ms,
        ..
    } in &group.remove
    {
        let why = match cause {
            RemovalCause::Idle => format!("idle for {}", HumanDuration::from_ms(*idle_ms)),
            RemovalCause::AboveMax => "above maxReplicas".to_owned(),
            RemovalCause::AboveTotal => "above the cap over all groups".to_owned(),
            RemovalCause::Stopped => "its raylets are gone".to_owned(),
            RemovalCause::Ordered => "ordered by annotation".to_owned(),
            RemovalCause::Withdrawn => "not needed any more".to_owned(),
            RemovalCause::Stuck => "does not come up".to_owned(),
            RemovalCause::HalfStarted => "does not come up as a whole".to_owned(),
        };
        writeln!(out, "  remove replica `{replica}`, {why}: {}", names(pods))?;
    }
    if !group.forget.is_empty() {
        let names = names(&group.forget);
        writeln!(
            out,
            "  out of workersToDelete, as their pods are gone: {names}"
        )?;
    }
    Ok(())
}

fn replicas(count: u32) -> String {
    let noun = if count == 1 { "replica" } else { "replicas" };
    format!("{count} {noun}")
}

fn with_detail(code: &str, detail: &str) -> String {
    if detail.is_empty() {
        code.to_owned()
    } else {
        format!("{code}: {detail}")
    }
}

fn names(pods: &[PodName]) -> String {
    let names: Vec<&str> = pods.iter().map(PodName::as_str).collect();
    names.join(", ")
}

fn shape(infeasible: &Infeasible) -> String {
    match infeasible {
        Infeasible::Tasks(request) => format!("tasks or actors of {}", request.resources),
        Infeasible::Gang(details) => format!("placement group {details}"),
        Infeasible::Constraint => "request_resources".to_owned(),
    }
}

fn moment(at: Timestamp) -> String {
    let since = Duration::from_millis(u64::try_from(at.as_ms()).unwrap_or(0));
    match UNIX_EPOCH.checked_add(since) {
        Some(time) if at <= LAST => humantime::format_rfc3339_millis(time).to_string(),
        _ => "never".to_owned(),
    }
}
