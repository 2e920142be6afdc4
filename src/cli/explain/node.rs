//! Why a pod is not removed, or does not run.

use serde::Serialize;

use crate::admin::LastPass;
use crate::cli::age::age;
use crate::cli::codes;
use crate::cli::node_text::status;
use crate::cli::paint::{Colour, Paint};
use crate::model::{Node, NodeKind, NodeStatus, PodName, RemovalCause, ResourceMap, WorkerGroup};

/// Names like the one asked for that are shown.
const ALIKE_MAX: usize = 5;

/// Explains one pod.
#[derive(Debug, Serialize)]
pub(super) struct PodAnswer {
    /// The pod.
    pub(super) pod: PodName,
    /// Its group.
    pub(super) group: String,
    /// What can be expected of it.
    pub(super) status: NodeStatus,
    /// A stable word: `removed`, `busy`, `kept_idle`, `starting`, `leaving`, `head`, `held`, ...
    pub(super) code: String,
    /// The answer, in one line.
    pub(super) answer: String,
    /// What else is known, a line each.
    pub(super) facts: Vec<String>,
}

/// Returns the answer from the last pass.
///
/// Errors: no such pod.
pub(super) fn explain(pass: &LastPass, name: &str) -> anyhow::Result<PodAnswer> {
    let nodes = &pass.snapshot.nodes;
    let Some(node) = nodes.iter().find(|node| node.name.as_str() == name) else {
        anyhow::bail!("{}", unknown(pass, name));
    };
    let (code, answer) = answer(pass, node);
    Ok(PodAnswer {
        pod: node.name.clone(),
        group: node.group.to_string(),
        status: node.status,
        code: code.to_owned(),
        answer,
        facts: facts(pass, node),
    })
}

/// Returns the answer as people read it.
pub(super) fn text(answer: &PodAnswer, paint: Paint) -> String {
    let PodAnswer {
        pod, group, code, ..
    } = answer;
    let head = format!("pod {pod} of group {group}, {}", status(answer.status));
    let head = paint.text(Colour::Bold, &head);
    let mut lines = vec![format!("{head}: {code}, {}", answer.answer)];
    lines.extend(answer.facts.iter().map(|fact| format!("  {fact}")));
    lines.push(String::new());
    lines.join("\n")
}

fn unknown(pass: &LastPass, name: &str) -> String {
    let all = pass.snapshot.nodes.iter().map(|node| node.name.as_str());
    let alike: Vec<&str> = all.filter(|it| it.contains(name)).take(ALIKE_MAX).collect();
    let hint = match alike.as_slice() {
        [] => "`rayscaler status --nodes` lists them".to_owned(),
        _ => format!("there are {}", alike.join(", ")),
    };
    format!("no pod `{name}` belongs to the RayCluster; {hint}")
}

fn answer(pass: &LastPass, node: &Node) -> (&'static str, String) {
    if node.kind == NodeKind::Head {
        return ("head", "the head is never removed".to_owned());
    }
    let created = node.created_at.map(|at| age(pass.at.millis_since(at)));
    let created = created.map_or_else(String::new, |age| format!(" for {age}"));
    match node.status {
        NodeStatus::Running => running(pass, node),
        NodeStatus::Queued | NodeStatus::Requested => {
            ("starting", "it was asked for and has no pod yet".to_owned())
        }
        NodeStatus::Starting => {
            let reason = match node.waiting_reason.as_str() {
                "" => "Kubernetes gives no reason".to_owned(),
                reason => format!("Kubernetes says {reason}"),
            };
            let text = format!("its raylet has not registered{created}; {reason}");
            ("starting", text)
        }
        NodeStatus::Draining => (
            "draining",
            "its raylet was told to stop; then the pod is named".to_owned(),
        ),
        NodeStatus::Stopped => (
            "stopped",
            "its raylet is gone and the pod is not; the pod is to be named".to_owned(),
        ),
        NodeStatus::Deleting => (
            "leaving",
            "it stands in workersToDelete; the operator deletes it".to_owned(),
        ),
        NodeStatus::Terminating => (
            "leaving",
            "it is being deleted; until it is gone the operator changes nothing else of its group"
                .to_owned(),
        ),
        NodeStatus::Failed => (
            "failed",
            "it ended by itself; the operator replaces it".to_owned(),
        ),
        NodeStatus::Lost => (
            "lost",
            "the GCS knows its raylet, and there is no such pod (any more)".to_owned(),
        ),
    }
}

/// Says why a running worker stays or goes.
fn running(pass: &LastPass, node: &Node) -> (&'static str, String) {
    let decision = &pass.decision;
    let removals = decision.group(&node.group).map(|group| &group.remove);
    let mut removals = removals.into_iter().flatten();
    if let Some(removal) = removals.find(|it| it.pods.contains(&node.name)) {
        let cause = match removal.cause {
            RemovalCause::Idle => format!("idle for {}", age(removal.idle_ms)),
            RemovalCause::AboveMax => "more replicas than maxReplicas allows".to_owned(),
            RemovalCause::AboveTotal => "more nodes than the cap over all groups".to_owned(),
            RemovalCause::Stopped => "the raylets of its replica are gone".to_owned(),
            RemovalCause::Ordered => "ordered by an annotation of its replica".to_owned(),
            RemovalCause::Withdrawn => {
                "nothing needs it any more, and it does not run yet".to_owned()
            }
            RemovalCause::Stuck => "its replica does not come up".to_owned(),
            RemovalCause::HalfStarted => {
                "other hosts of its replica do not come up, and it has no work".to_owned()
            }
        };
        let text = format!(
            "the last decision removes it, {cause}; it came to: {}",
            pass.outcome
        );
        return ("removed", text);
    }
    if let Some(kept) = decision.kept_idle.iter().find(|it| it.pod == node.name) {
        let (code, idle) = (kept.code.as_str(), age(kept.idle_ms));
        let text = format!(
            "idle for {idle} and stays: {code}{}",
            codes::kept_idle(code)
        );
        return ("kept_idle", text);
    }
    let blocking = decision.holds.iter().find(|hold| hold.group.is_none());
    if node.idle_since.is_none() {
        let used = used(node);
        let text = if used.is_empty() {
            "Ray calls it busy though no resource is in use: an actor without resources, or objects that only it holds"
                .to_owned()
        } else {
            format!("it works, and uses {used} of {}", node.total)
        };
        return ("busy", text);
    }
    match blocking {
        Some(hold) => {
            let text = format!("nothing is removed, {}: {}", hold.code, hold.detail);
            ("held", text)
        }
        None => (
            "not_judged",
            "the last decision does not mention it".to_owned(),
        ),
    }
}

/// Returns what is in use on a node.
fn used(node: &Node) -> ResourceMap {
    let amounts = node.total.iter().map(|(name, total)| {
        let free = node.available.get(name.as_str());
        (name.clone(), total.saturating_sub(free))
    });
    amounts.filter(|(_, used)| !used.is_zero()).collect()
}

fn facts(pass: &LastPass, node: &Node) -> Vec<String> {
    let mut facts = Vec::new();
    let ago = |at| age(pass.at.millis_since(at));
    if let Some(at) = pass.memory.drain_refused_at.get(&node.name) {
        let what = if pass.memory.found_running.contains(&node.name) {
            "its raylet was found to run although nobody had seen it, and may have work:"
        } else {
            "its raylet refused to drain"
        };
        facts.push(format!("{what} {} ago", ago(*at)));
    }
    if let Some(at) = pass.memory.drained_at.get(&node.name) {
        facts.push(format!("its raylet accepted its drain {} ago", ago(*at)));
    }
    if let Some(group) = pass.snapshot.group(&node.group) {
        facts.push(group_fact(pass, group));
        if group.num_of_hosts > 1 {
            let text = format!(
                "replica {} leaves whole, {} hosts",
                node.replica, group.num_of_hosts
            );
            facts.push(text);
        }
    }
    for group in pass
        .snapshot
        .skipped
        .iter()
        .filter(|it| it.name == node.group)
    {
        let text = format!(
            "its group cannot be scaled, {}: {}",
            group.code, group.detail
        );
        facts.push(text);
    }
    for hold in pass.decision.holds.iter().filter(|it| it.group.is_none()) {
        facts.push(format!(
            "hold of everything, {}: {}",
            hold.code, hold.detail
        ));
    }
    facts
}

fn group_fact(pass: &LastPass, group: &WorkerGroup) -> String {
    let timeout = group.idle_timeout_ms.or(pass.snapshot.idle_timeout_ms);
    let timeout = timeout.map_or_else(
        || "the idle timeout of the policy".to_owned(),
        |ms| format!("idle timeout {}", age(ms)),
    );
    let live = pass.snapshot.replicas_of(&group.name);
    let live = live.iter().filter(|replica| replica.is_live()).count();
    format!(
        "group {}: replicas {live}, from {} to {}; {timeout}",
        group.name, group.bounds.min, group.bounds.max
    )
}
