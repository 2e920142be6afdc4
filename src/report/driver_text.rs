//! What drivers print as `(autoscaler +12s) ...`, in the stock autoscaler's words.
//!
//! Why its words: people grep for them, and dashboards parse them. Unlike there, each is written once
//! per change, and "Adding" means that the patch went through.

use std::collections::{BTreeMap, BTreeSet};

use super::pass::{Outcome, PassReport};
use crate::model::{
    GangRequest, Infeasible, LabelOperator, NodeKind, RemovalCause, ResourceDemand, ResourceMap,
    ResourceRequest,
};

/// Most shapes and placement groups that one pass writes of.
const WARNINGS_MAX: usize = 20;

/// Says how loud a message is; drivers print from `Info` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Kept in the file.
    Debug,
    /// Printed.
    Info,
    /// Printed.
    Warning,
}

impl Severity {
    /// Returns the name that Ray's event format has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
        }
    }
}

/// Holds one message for drivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverMessage {
    /// How loud it is.
    pub severity: Severity,
    /// The text, in one line.
    pub text: String,
}

impl DriverMessage {
    const fn new(severity: Severity, text: String) -> Self {
        Self { severity, text }
    }
}

/// Remembers which demand was told to be infeasible.
#[derive(Debug, Default)]
pub(super) struct DriverText {
    infeasible: BTreeSet<String>,
}

impl DriverText {
    /// Returns the messages on one pass.
    pub(super) fn pass(&mut self, pass: &PassReport<'_>) -> Vec<DriverMessage> {
        let mut messages = Vec::new();
        if pass.acted.outcome == Outcome::Patched {
            messages.extend(additions(pass));
            messages.extend(removals(pass));
            if !messages.is_empty() {
                messages.extend(resized(pass));
            }
        }
        messages.extend(self.warnings(pass));
        messages
    }

    fn warnings(&mut self, pass: &PassReport<'_>) -> Vec<DriverMessage> {
        let all = infeasible_texts(pass);
        let new = all.iter().filter(|it| !self.infeasible.contains(&it.key));
        let warning = |it: &InfeasibleText| {
            let text = format!(
                "No available node types can fulfill {}. Add suitable node types to this cluster to resolve this issue.",
                it.text
            );
            DriverMessage::new(Severity::Warning, text)
        };
        let messages = new.take(WARNINGS_MAX).map(warning).collect();
        self.infeasible = all.into_iter().map(|it| it.key).collect();
        messages
    }
}

/// Holds what is said of infeasible demand, and what makes it the same demand in the next pass.
struct InfeasibleText {
    key: String,
    text: String,
}

fn additions(pass: &PassReport<'_>) -> Vec<DriverMessage> {
    let grown = pass.acted.scaled.iter().filter(|it| it.to > it.from);
    let text = |it: &super::pass::Scaled| {
        let pods = pass.snapshot.group(&it.group)?.pods_of(it.to - it.from);
        Some(format!("Adding {pods} node(s) of type {}.", it.group))
    };
    grown
        .filter_map(text)
        .map(|it| DriverMessage::new(Severity::Info, it))
        .collect()
}

fn removals(pass: &PassReport<'_>) -> Vec<DriverMessage> {
    let mut counts: BTreeMap<(&str, RemovalCause), usize> = BTreeMap::new();
    for scaled in &pass.acted.scaled {
        for removal in &scaled.removed {
            *counts
                .entry((scaled.group.as_str(), removal.cause))
                .or_default() += removal.pods.len();
        }
    }
    let text = |((group, cause), count): ((&str, RemovalCause), usize)| {
        let cause = match cause {
            RemovalCause::Idle => "idle",
            RemovalCause::AboveMax => "max number of worker nodes per type reached",
            RemovalCause::AboveTotal => "max number of worker nodes reached",
            RemovalCause::Stopped => "stopped",
            RemovalCause::Ordered => "ordered by a user",
            RemovalCause::Withdrawn => "no longer needed",
            RemovalCause::Stuck => "not coming up",
            RemovalCause::HalfStarted => "not coming up as a whole",
        };
        DriverMessage::new(
            Severity::Info,
            format!("Removing {count} nodes of type {group} ({cause})."),
        )
    };
    counts.into_iter().map(text).collect()
}

/// Returns the size that the cluster is going to have.
fn resized(pass: &PassReport<'_>) -> Option<DriverMessage> {
    let mut total = BTreeMap::new();
    let mut add = |resources: &ResourceMap, times: u64| {
        for name in ["CPU", "GPU", "TPU"] {
            if resources.contains(name) {
                let sum: &mut i128 = total.entry(name).or_default();
                *sum += i128::from(resources.get(name).units()) * i128::from(times);
            }
        }
    };
    for node in pass
        .snapshot
        .nodes
        .iter()
        .filter(|node| node.kind == NodeKind::Head)
    {
        add(&node.total, 1);
    }
    for group in &pass.snapshot.groups {
        let scaled = pass.acted.scaled.iter().find(|it| it.group == group.name);
        let replicas = scaled.map_or(group.replicas, |it| it.to);
        let template = pass.history.template(&group.name, &group.template);
        add(&template.resources, group.pods_of(replicas));
    }
    let whole = |name: &str| {
        total
            .get(name)
            .map(|sum| sum / i128::from(crate::model::Quantity::SCALE))
    };
    let mut text = format!("Resized to {} CPUs", whole("CPU").unwrap_or(0));
    for (name, plural) in [("GPU", "GPUs"), ("TPU", "TPUs")] {
        if let Some(count) = whole(name) {
            text.push_str(&format!(", {count} {plural}"));
        }
    }
    text.push('.');
    Some(DriverMessage::new(Severity::Info, text))
}

fn infeasible_texts(pass: &PassReport<'_>) -> Vec<InfeasibleText> {
    let one = |infeasible: &Infeasible| match infeasible {
        Infeasible::Tasks(request) => {
            let demand = pass
                .snapshot
                .demands
                .iter()
                .find(|it| it.request == *request);
            let count = demand.map_or(1, |it| it.count);
            let (shape, selectors) = (python_dict(&request.resources), selectors(request));
            Some(InfeasibleText {
                // A count that changes is no news.
                key: format!("{shape}{selectors}"),
                text: format!("resource requests {shape}*{count}{selectors}"),
            })
        }
        Infeasible::Gang(details) => {
            let mut gangs = pass.snapshot.gangs.iter();
            let gang = gangs.find(|gang: &&GangRequest| gang.details == *details)?;
            let bundles = counted(&gang.bundles);
            let text = format!("placement group requests (detail={details}): {bundles}");
            Some(InfeasibleText {
                key: text.clone(),
                text,
            })
        }
        Infeasible::Constraint => {
            let demands = &pass.snapshot.constraint.as_ref()?.demands;
            let text = format!("cluster constraint: {}", counted(demands));
            Some(InfeasibleText {
                key: text.clone(),
                text,
            })
        }
    };
    pass.decision.infeasible.iter().filter_map(one).collect()
}

fn counted(demands: &[ResourceDemand]) -> String {
    let one = |it: &ResourceDemand| format!("{}*{}", python_dict(&it.request.resources), it.count);
    demands.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Returns resources as Python prints a dictionary of floats.
fn python_dict(resources: &ResourceMap) -> String {
    let one = |(name, amount): (&crate::model::ResourceName, crate::model::Quantity)| {
        format!("'{name}': {:?}", amount.as_f64())
    };
    format!(
        "{{{}}}",
        resources.iter().map(one).collect::<Vec<_>>().join(", ")
    )
}

fn selectors(request: &ResourceRequest) -> String {
    let conditions = request.selectors.iter().flat_map(|it| &it.constraints);
    let one = |it: &crate::model::LabelConstraint| {
        let operator = match it.operator {
            LabelOperator::In => "LABEL_OPERATOR_IN",
            LabelOperator::NotIn => "LABEL_OPERATOR_NOT_IN",
            LabelOperator::Unknown => "LABEL_OPERATOR_UNSPECIFIED",
        };
        format!("{} {operator} [{}]", it.key, it.values.join(","))
    };
    let text = conditions.map(one).collect::<Vec<_>>().join("; ");
    if text.is_empty() {
        text
    } else {
        format!(" with label selectors: [{text}]")
    }
}

#[cfg(test)]
mod tests {
    use super::{DriverText, Severity};
    use crate::model::NodeStatus::Running;
    use crate::model::{Infeasible, RemovalCause, ReplicaRemoval};
    use crate::report::fixtures::{Pass, demand, group, grow, node, patched, snapshot};
    use crate::report::pass::Acted;

    fn texts(told: &mut DriverText, pass: &Pass) -> Vec<String> {
        let messages = told.pass(&pass.report());
        messages.into_iter().map(|it| it.text).collect()
    }

    #[test]
    fn growth_and_removal_are_told_in_rays_words() {
        let mut gpu = group("gpu", 2);
        gpu.template.resources = crate::report::fixtures::resources(&[("CPU", 8), ("GPU", 1)]);
        let groups = vec![group("cpu", 1), gpu];
        let nodes = vec![node("a", "cpu", Running)];
        let mut acted = patched("cpu", 1, 3);
        let mut shrunk = patched("gpu", 2, 1).scaled.remove(0);
        shrunk.removed.push(ReplicaRemoval {
            replica: "r".into(),
            pods: vec!["p".into()],
            cause: RemovalCause::Idle,
            idle_ms: 60_000,
            finish: crate::model::Finish::default(),
        });
        acted.scaled.push(shrunk);
        let pass = Pass::of(snapshot(groups, nodes)).with(grow("cpu", 1, 3), acted);
        let expected = [
            "Adding 2 node(s) of type cpu.",
            "Removing 1 nodes of type gpu (idle).",
            "Resized to 24 CPUs, 1 GPUs.",
        ];
        assert_eq!(texts(&mut DriverText::default(), &pass), expected);
    }

    #[test]
    fn a_decision_that_was_not_written_is_not_told() {
        let pass = Pass::of(snapshot(vec![group("g", 0)], vec![]));
        let pass = pass.with(grow("g", 0, 1), Acted::default());
        assert!(texts(&mut DriverText::default(), &pass).is_empty());
    }

    #[test]
    fn infeasible_demand_is_told_once_and_again_when_it_comes_back() {
        let mut told = DriverText::default();
        let mut pass = Pass::of(snapshot(vec![], vec![]));
        let task = demand(&[("CPU", 1_000)], 2);
        pass.decision.infeasible = vec![Infeasible::Tasks(task.request.clone())];
        pass.snapshot.demands = vec![task];
        let messages = told.pass(&pass.report());
        assert_eq!(messages[0].severity, Severity::Warning);
        assert_eq!(
            messages[0].text,
            "No available node types can fulfill resource requests {'CPU': 1000.0}*2. Add suitable node types to this cluster to resolve this issue."
        );
        pass.snapshot.demands[0].count = 3;
        assert!(texts(&mut told, &pass).is_empty());
        let infeasible = std::mem::take(&mut pass.decision.infeasible);
        assert!(texts(&mut told, &pass).is_empty());
        pass.decision.infeasible = infeasible;
        assert_eq!(texts(&mut told, &pass).len(), 1);
    }
}
