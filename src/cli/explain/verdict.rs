//! Why a group is grown for a demand, or is not.

use serde::Serialize;

use super::launch::{Fate, Growth, Launch};
use super::unschedulable::StuckGroup;
use crate::admin::LastPass;
use crate::model::{
    LabelSelector, Labels, NodeTemplate, Quantity, ResourceMap, ResourceRequest, ScaleDecision,
    WorkerGroup,
};

/// Says of one group what it could do for a demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// The group.
    pub(super) group: String,
    /// A stable word: `grows`, `keeps`, `too_small`, `labels_differ`, `at_maximum`, `not_needed`,
    /// `other_preferred`, `unschedulable`, `held`, `skipped`, or the code of what is unserved.
    pub(super) code: String,
    /// Why, with the values.
    pub(super) detail: String,
}

/// Returns a verdict for every group: those that can be scaled, then those that cannot.
pub(super) fn verdicts(
    pass: &LastPass,
    request: &ResourceRequest,
    (launch, with): (&Launch, &ScaleDecision),
) -> Vec<Verdict> {
    let good = pass.snapshot.groups.iter().map(|group| {
        let template = pass.memory.template(&group.name, &group.template);
        let (code, detail) =
            shape(group, &template, request).unwrap_or_else(|| outcome(pass, group, launch, with));
        Verdict {
            group: group.name.to_string(),
            code,
            detail,
        }
    });
    let skipped = pass.snapshot.skipped.iter().map(|group| Verdict {
        group: group.name.to_string(),
        code: "skipped".to_owned(),
        detail: format!("{}: {}", group.code, group.detail),
    });
    good.chain(skipped).collect()
}

type Why = (String, String);

fn why(code: &str, detail: String) -> Why {
    (code.to_owned(), detail)
}

/// Returns why not even an empty node of the group could serve the request; `None` when it could.
pub(super) fn shape(
    group: &WorkerGroup,
    template: &NodeTemplate,
    request: &ResourceRequest,
) -> Option<Why> {
    if request.matching_selector(&template.labels).is_none() {
        let unmet = request
            .selectors
            .iter()
            .map(|it| unmet(it, &template.labels));
        let unmet: Vec<String> = unmet.collect();
        return Some(why("labels_differ", unmet.join("; or ")));
    }
    let mut first = template.resources.clone();
    first.add(&template.host_zero_resources);
    let lacking = lacking(&first, request);
    if lacking.is_empty() {
        return None;
    }
    let node = if group.num_of_hosts > 1 {
        "each host has "
    } else {
        "a node has "
    };
    Some(why(
        "too_small",
        format!("{}; {node}{}", lacking.join(", "), template.resources),
    ))
}

/// Returns each resource of which a node has too little, with both amounts.
fn lacking(has: &ResourceMap, request: &ResourceRequest) -> Vec<String> {
    let wanted = request.resources.iter();
    let short = wanted.filter(|(_, amount)| *amount > Quantity::ZERO);
    let short = short.filter(|(name, amount)| has.get(name.as_str()) < *amount);
    let shown = short.map(|(name, amount)| {
        let has_it = has.get(name.as_str());
        match real_name(has, name.as_str()).filter(|_| has_it.is_zero()) {
            Some(other) => format!("{name} {amount} > 0 (it is called {other})"),
            None => format!("{name} {amount} > {has_it}"),
        }
    });
    shown.collect()
}

/// Returns the name under which a node has what was probably meant.
fn real_name<'a>(has: &'a ResourceMap, name: &str) -> Option<&'a str> {
    // What Ray's decorators call it is no resource's name.
    let plain = match name.to_ascii_lowercase().as_str() {
        "num_cpus" | "num-cpus" | "cpus" => "CPU".to_owned(),
        "num_gpus" | "num-gpus" | "gpus" => "GPU".to_owned(),
        other => other.to_owned(),
    };
    let mut names = has.iter().map(|(other, _)| other.as_str());
    names.find(|other| *other != name && other.eq_ignore_ascii_case(&plain))
}

/// Returns the conditions of a selector that the labels do not meet.
fn unmet(selector: &LabelSelector, labels: &Labels) -> String {
    let unmet = selector.constraints.iter().filter(|it| !it.matches(labels));
    let shown = unmet.map(|constraint| match labels.get(&constraint.key) {
        Some(value) => format!("{constraint}, and the group has {value}"),
        None => format!("{constraint}, and the group has no such label"),
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// Returns why a group that could serve the request is grown, or is not.
fn outcome(pass: &LastPass, group: &WorkerGroup, launch: &Launch, with: &ScaleDecision) -> Why {
    let of_group = |growth: &&Growth| growth.group == group.name;
    if let Some(Growth { from, to, .. }) = launch.launches.iter().find(of_group) {
        return why("grows", format!("{from} -> {to} replicas"));
    }
    if let Some(Growth { from, to, .. }) = launch.keeps.iter().find(of_group) {
        let detail = format!("{to} replicas stay where {from} would");
        return why("keeps", detail);
    }
    if launch.fate == Fate::Held {
        return why("held", "nothing is decided".to_owned());
    }
    let max = group.bounds.max;
    let to = with
        .group(&group.name)
        .map_or(group.replicas, |it| it.replicas_to);
    if let Some(stuck) = launch.unschedulable.of(&group.name) {
        let most = (to >= max).then_some(max);
        let detail = waits_for(stuck, launch.unschedulable.is_recycled, most);
        return why("unschedulable", detail);
    }
    if to >= max {
        return why("at_maximum", format!("maxReplicas is {max}"));
    }
    if let Some(unserved) = launch.unserved.first() {
        let detail = crate::cli::codes::unserved(&unserved.code).to_owned();
        return why(&unserved.code, detail);
    }
    match launch
        .launches
        .first()
        .and_then(|it| pass.snapshot.group(&it.group))
    {
        Some(chosen) => why("other_preferred", preferred(chosen, group)),
        None if launch.fate == Fate::Unschedulable => {
            let groups = launch.unschedulable.groups.iter();
            let groups: Vec<String> = groups.map(|it| it.group.to_string()).collect();
            let detail = format!(
                "pods of group {} were asked for before, and some of them cannot be scheduled",
                groups.join(", ")
            );
            why("other_preferred", detail)
        }
        None => why(
            "not_needed",
            "it could serve it; nodes that are there do".to_owned(),
        ),
    }
}

/// Says what becomes of a group that waits for pods without a machine; `most` is its maximum where it is reached.
fn waits_for(stuck: &StuckGroup, is_recycled: bool, most: Option<u32>) -> String {
    let (pods, them) = match stuck.pods {
        1 => ("1 pod".to_owned(), "it"),
        pods => (format!("{pods} pods"), "them"),
    };
    let until = if is_recycled {
        format!(" until the policy recycle gives {them} up")
    } else {
        String::new()
    };
    let most = most.map_or_else(String::new, |max| format!("; maxReplicas is {max}"));
    format!("{pods} of it cannot be scheduled; no other is asked for in its place{until}{most}")
}

fn preferred(chosen: &WorkerGroup, group: &WorkerGroup) -> String {
    if chosen.priority == group.priority {
        return format!(
            "group {} is used up better by it, or stands earlier",
            chosen.name
        );
    }
    format!(
        "group {} has priority {}, this one {}",
        chosen.name, chosen.priority, group.priority
    )
}
