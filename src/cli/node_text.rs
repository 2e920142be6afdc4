//! Nodes, a line each, for those who ask for them.

use super::age::age;
use super::columns::columns;
use super::paint::{Colour, Paint};
use crate::admin::LastPass;
use crate::model::{Node, NodeStatus, ResourceMap, ResourceName};

/// Returns a table of all nodes of a pass.
pub(super) fn text(pass: &LastPass, paint: Paint) -> String {
    let heading = [
        "<POD",
        "<GROUP",
        "<STATUS",
        "AGE",
        "IDLE",
        "<FREE",
        "<WAITS FOR",
    ];
    let rows: Vec<Vec<String>> = pass
        .snapshot
        .nodes
        .iter()
        .map(|node| row(node, pass))
        .collect();
    let lines = columns("  ", &heading, &rows);
    format!(
        "\n{}\n{}\n",
        paint.text(Colour::Bold, "NODES"),
        lines.join("\n")
    )
}

fn row(node: &Node, pass: &LastPass) -> Vec<String> {
    let since = |at| age(pass.at.millis_since(at));
    let free = match node.status {
        NodeStatus::Running => free(node).to_string(),
        _ => String::new(),
    };
    vec![
        node.name.to_string(),
        node.group.to_string(),
        status(node.status).to_owned(),
        node.created_at.map(since).unwrap_or_default(),
        node.idle_since.map(since).unwrap_or_default(),
        free,
        node.waiting_reason.clone(),
    ]
}

/// Returns what is free on a node, what is used up too, without what only names the node.
fn free(node: &Node) -> ResourceMap {
    let is_shown = |name: &ResourceName| {
        !name.as_str().starts_with("node:") && !name.as_str().contains("_group_")
    };
    let shown = node.total.iter().filter(|(name, _)| is_shown(name));
    let free = shown.map(|(name, _)| (name.clone(), node.available.get(name.as_str())));
    free.collect()
}

/// Returns a status as a word.
pub(super) const fn status(status: NodeStatus) -> &'static str {
    match status {
        NodeStatus::Queued => "queued",
        NodeStatus::Requested => "requested",
        NodeStatus::Starting => "starting",
        NodeStatus::Running => "running",
        NodeStatus::Draining => "draining",
        NodeStatus::Stopped => "stopped",
        NodeStatus::Failed => "failed",
        NodeStatus::Deleting => "deleting",
        NodeStatus::Terminating => "terminating",
        NodeStatus::Lost => "lost",
    }
}
