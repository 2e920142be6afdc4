//! What is being waited for, and why: one line for each thing that keeps the cluster from being as asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::groups::GroupStatus;
use crate::admin::LastPass;
use crate::model::{NodeKind, NodeStatus, ScaleDecision, Timestamp};

/// How long the operator may take to make a pod before it is called silent.
///
/// Alone it takes 0.02 s; behind 500 pods or 500 stale names of another cluster, three; a pass that
/// failed a few times comes again after five.
const OPERATOR_SILENT_MS: u64 = 15_000;

/// Says what kind of thing is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingKind {
    /// Something is left alone on purpose.
    Hold,
    /// Demand that finds no place.
    Unserved,
    /// Pods that the operator has to make.
    Operator,
    /// Nodes that start.
    Starting,
    /// Idle nodes that stay.
    KeptIdle,
    /// Input that could not be used.
    Problem,
}

/// Shows one thing that is waited for, equal ones as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What kind of thing it is.
    pub kind: WaitingKind,
    /// The group; `None` for the whole cluster.
    pub group: Option<String>,
    /// A stable word: `at_maximum`, `stale`, `Unschedulable`, `operator_silent`, ...
    pub code: String,
    /// How many: requests, pods or nodes; 1 for a hold or a problem.
    pub count: u64,
    /// The first of them, readable; may be empty.
    pub what: String,
    /// How long the oldest of them has waited; `None` when that is not known.
    ///
    /// Units: milliseconds.
    pub for_ms: Option<u64>,
    /// What a person wants to know besides; may be empty.
    pub detail: String,
}

impl Waiting {
    fn of(kind: WaitingKind, code: &str, detail: &str) -> Self {
        Self {
            kind,
            group: None,
            code: code.to_owned(),
            count: 1,
            what: String::new(),
            for_ms: None,
            detail: detail.to_owned(),
        }
    }
}

/// Returns everything that is waited for, holds first.
pub(super) fn waiting(pass: &LastPass, groups: &[GroupStatus], now: Timestamp) -> Vec<Waiting> {
    let decision = &pass.decision;
    let mut all: Vec<Waiting> = holds(decision).collect();
    all.extend(unserved(decision));
    all.extend(groups.iter().filter_map(|it| operator(pass, it, now)));
    all.extend(starting(pass, now));
    all.extend(kept_idle(decision));
    let problems = pass.snapshot.problems.iter();
    all.extend(problems.map(|it| Waiting::of(WaitingKind::Problem, &it.code, &it.detail)));
    all
}

fn holds(decision: &ScaleDecision) -> impl Iterator<Item = Waiting> {
    decision.holds.iter().map(|hold| Waiting {
        group: hold.group.as_ref().map(ToString::to_string),
        ..Waiting::of(WaitingKind::Hold, &hold.code, &hold.detail)
    })
}

/// Returns unserved demand; thousands of placement groups that fail alike are one line.
fn unserved(decision: &ScaleDecision) -> Vec<Waiting> {
    let mut alike: BTreeMap<(&str, &str, &str), (u64, &str, usize)> = BTreeMap::new();
    for it in &decision.unserved {
        let key = (it.class.as_str(), it.code.as_str(), it.detail.as_str());
        let (count, _, kinds) = alike.entry(key).or_insert((0, it.what.as_str(), 0));
        *count = count.saturating_add(it.count);
        *kinds += 1;
    }
    let lines = alike.into_iter().map(|((_, code, detail), found)| {
        let (count, what, kinds) = found;
        let others = match kinds.saturating_sub(1) {
            0 => String::new(),
            1 => " and another".to_owned(),
            more => format!(" and {more} others"),
        };
        Waiting {
            count,
            what: format!("{what}{others}"),
            ..Waiting::of(WaitingKind::Unserved, code, detail)
        }
    });
    lines.collect()
}

/// Says what the operator has not done of a group, if that is so.
fn operator(pass: &LastPass, group: &GroupStatus, now: Timestamp) -> Option<Waiting> {
    let (missing, leaving) = (group.nodes.missing, group.nodes.leaving);
    let is_resized = group.replicas_to != group.replicas;
    let pods = |count: u64, rest: &str| {
        let pods = if count == 1 { "pod" } else { "pods" };
        format!("{count} {pods} {rest}")
    };
    let name = group.name.as_str().into();
    let asked_at = pass.memory.scaled_up_at.get(&name).copied();
    let asked_ms = asked_at.map(|at| now.millis_since(at));
    let (code, count, for_ms, detail) = if leaving > 0 && (missing > 0 || is_resized) {
        let detail = pods(
            leaving,
            "must be gone before the operator makes or deletes another of this group",
        );
        ("group_locked", leaving, None, detail)
    } else if missing > 0 {
        let is_silent = asked_ms.is_none_or(|ms| ms > OPERATOR_SILENT_MS);
        let code = if is_silent {
            "operator_silent"
        } else {
            "pods_to_come"
        };
        let detail = pods(missing, "asked for that the operator has not made");
        (code, missing, asked_ms, detail)
    } else {
        return None;
    };
    Some(Waiting {
        group: Some(group.name.clone()),
        count,
        for_ms,
        ..Waiting::of(WaitingKind::Operator, code, &detail)
    })
}

fn starting(pass: &LastPass, now: Timestamp) -> Vec<Waiting> {
    let mut alike: BTreeMap<(&str, &str), (u64, &str, Option<Timestamp>)> = BTreeMap::new();
    let nodes = pass.snapshot.nodes.iter();
    let is_starting = |node: &&crate::model::Node| {
        node.kind == NodeKind::Worker && node.status == NodeStatus::Starting
    };
    for node in nodes.filter(is_starting) {
        let key = (node.group.as_str(), node.waiting_reason.as_str());
        let new = (0, node.name.as_str(), node.created_at);
        let (count, name, oldest) = alike.entry(key).or_insert(new);
        *count += 1;
        if node
            .created_at
            .is_some_and(|at| oldest.is_none_or(|o| at < o))
        {
            (*name, *oldest) = (node.name.as_str(), node.created_at);
        }
    }
    let lines = alike.into_iter().map(|((group, reason), found)| {
        let (count, name, oldest) = found;
        let code = if reason.is_empty() {
            "starting"
        } else {
            reason
        };
        Waiting {
            group: Some(group.to_owned()),
            count,
            what: name.to_owned(),
            for_ms: oldest.map(|at| now.millis_since(at)),
            ..Waiting::of(WaitingKind::Starting, code, "")
        }
    });
    lines.collect()
}

fn kept_idle(decision: &ScaleDecision) -> Vec<Waiting> {
    let mut alike: BTreeMap<(&str, &str), (u64, &str, u64)> = BTreeMap::new();
    for kept in &decision.kept_idle {
        let key = (kept.group.as_str(), kept.code.as_str());
        let (count, pod, longest) = alike.entry(key).or_insert((0, kept.pod.as_str(), 0));
        *count += 1;
        if kept.idle_ms > *longest {
            (*pod, *longest) = (kept.pod.as_str(), kept.idle_ms);
        }
    }
    let lines = alike.into_iter().map(|((group, code), found)| {
        let (count, pod, longest) = found;
        Waiting {
            group: Some(group.to_owned()),
            count,
            what: pod.to_owned(),
            for_ms: Some(longest),
            ..Waiting::of(WaitingKind::KeptIdle, code, "")
        }
    });
    lines.collect()
}
