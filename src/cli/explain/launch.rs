//! What would be done for a demand: decided with it and without it, and compared.

use std::collections::BTreeMap;

use serde::Serialize;

use super::unschedulable::{Unschedulable, unschedulable};
use super::verdict::{Verdict, verdicts};
use crate::admin::LastPass;
use crate::engine::Engine;
use crate::model::{
    ClusterSnapshot, Hold, NodeStatus, Quantity, ResourceDemand, ResourceRequest, ScaleDecision,
    Unserved, WorkerGroupName,
};

/// Says what would become of a demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// Nothing is decided at all.
    Held,
    /// Nodes that run have room, and nothing else waits for it.
    FitsNow,
    /// Nodes that run or are on their way have room.
    FitsStarting,
    /// Some of it, or all, has a place only on pods that cannot be scheduled.
    Unschedulable,
    /// A group grows for it.
    Launches,
    /// Some of it, or all, finds no place.
    NoPlace,
}

/// Explains a demand.
#[derive(Debug, Serialize)]
pub(super) struct Launch {
    /// The demand, readable.
    pub(super) request: String,
    /// How many were asked about.
    pub(super) count: u64,
    /// How many of it Ray is waiting for already.
    pub(super) pending: u64,
    /// What would become of it.
    pub(super) fate: Fate,
    /// What keeps everything as it is.
    pub(super) holds: Vec<Hold>,
    /// What is free on nodes that run, were nothing else waiting.
    pub(super) room: Room,
    /// Groups that grow for it.
    pub(super) launches: Vec<Growth>,
    /// Groups that keep a node for it that would go otherwise.
    pub(super) keeps: Vec<Growth>,
    /// What finds no place.
    pub(super) unserved: Vec<Unserved>,
    /// What has its place on pods that cannot be scheduled.
    pub(super) unschedulable: Unschedulable,
    /// Every group, skipped ones too.
    pub(super) groups: Vec<Verdict>,
}

/// Counts the room on nodes that run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Room {
    /// Nodes with room for at least one.
    pub(super) nodes: u64,
    /// How many fit on them together.
    pub(super) requests: u64,
}

/// Shows what the demand makes of a group.
///
/// Units: replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Growth {
    /// The group.
    pub(super) group: WorkerGroupName,
    /// Without the demand.
    pub(super) from: u32,
    /// With it.
    pub(super) to: u32,
}

/// Decides with `asked` and without it.
pub(super) fn explain(pass: &LastPass, engine: &Engine, asked: &ResourceDemand) -> Launch {
    let snapshot = &pass.snapshot;
    let request = pending_form(snapshot, &asked.request);
    let is_same = |demand: &&ResourceDemand| demand.request == request;
    let same = snapshot.demands.iter().filter(is_same);
    let pending = same.map(|demand| demand.count).sum::<u64>();
    let mut without = ClusterSnapshot::clone(snapshot);
    without.demands.retain(|demand| demand.request != request);
    let is_alone =
        without.demands.is_empty() && without.gangs.is_empty() && without.constraint.is_none();
    let mut with = without.clone();
    // What waits already is asked about as it is; more of it only if more was asked about.
    let count = pending.max(asked.count);
    with.demands.push(ResourceDemand {
        request: request.clone(),
        count,
    });
    with.sort();
    let decide = |snapshot: &ClusterSnapshot| engine.decide(snapshot, &pass.memory, pass.at);
    let (facts, without, with) = (&with, decide(&without), decide(&with));
    let unschedulable = unschedulable((pass, engine), (facts, &request), &with);
    let differences = differences(&without, &with);
    let (launches, keeps): (Vec<Growth>, Vec<Growth>) = differences.into_iter().partition(|it| {
        let now = snapshot.group(&it.group).map_or(0, |group| group.replicas);
        it.to > now
    });
    let name = request.to_string();
    let unserved = with.unserved.iter();
    let unserved = unserved.filter(|it| it.class == "tasks" && it.what == name);
    let mut launch = Launch {
        request: name.clone(),
        count,
        pending,
        fate: Fate::FitsStarting,
        holds: with
            .holds
            .iter()
            .filter(|it| it.group.is_none())
            .cloned()
            .collect(),
        room: room(snapshot, &request),
        launches,
        keeps,
        unserved: unserved.cloned().collect(),
        unschedulable,
        groups: Vec::new(),
    };
    launch.fate = fate(&launch, is_closed(&with), is_alone);
    launch.groups = verdicts(pass, &request, (&launch, &with));
    launch
}

/// Returns the request as Ray sent it, if it waits: without conditions on labels there are two forms of it.
fn pending_form(snapshot: &ClusterSnapshot, request: &ResourceRequest) -> ResourceRequest {
    let is_alike = |other: &&ResourceRequest| {
        other.resources == request.resources
            && other.anti_affinity.is_none()
            && other.to_string() == request.to_string()
    };
    let mut requests = snapshot.demands.iter().map(|demand| &demand.request);
    requests.find(is_alike).unwrap_or(request).clone()
}

/// Returns whether nothing was decided at all; other holds only keep something from being removed or written.
fn is_closed(decision: &ScaleDecision) -> bool {
    let mut holds = decision.holds.iter().filter(|hold| hold.group.is_none());
    holds.any(|hold| match hold.code.as_str() {
        "deleting" | "suspended" | "unreadable" | "incomplete" | "head_not_running" => true,
        "stale" => hold.detail.starts_with("GCS "),
        _ => false,
    })
}

fn fate(launch: &Launch, is_closed: bool, is_alone: bool) -> Fate {
    if is_closed {
        Fate::Held
    } else if !launch.unserved.is_empty() {
        Fate::NoPlace
    } else if !launch.launches.is_empty() {
        Fate::Launches
    } else if launch.unschedulable.requests > 0 {
        Fate::Unschedulable
    } else if is_alone && launch.room.requests >= launch.count {
        Fate::FitsNow
    } else {
        Fate::FitsStarting
    }
}

/// Returns the groups that have more replicas with the demand than without it.
fn differences(without: &ScaleDecision, with: &ScaleDecision) -> Vec<Growth> {
    let before: BTreeMap<&WorkerGroupName, u32> = without
        .groups
        .iter()
        .map(|group| (&group.name, group.replicas_to))
        .collect();
    let growth = |group: &crate::model::GroupDecision| {
        let from = before.get(&group.name).copied()?;
        (group.replicas_to > from).then(|| Growth {
            group: group.name.clone(),
            from,
            to: group.replicas_to,
        })
    };
    with.groups.iter().filter_map(growth).collect()
}

fn room(snapshot: &ClusterSnapshot, request: &ResourceRequest) -> Room {
    let mut room = Room::default();
    let running = snapshot
        .nodes
        .iter()
        .filter(|node| node.status == NodeStatus::Running)
        .filter(|node| request.matching_selector(&node.labels).is_some());
    for node in running {
        let times = |(name, amount): (&crate::model::ResourceName, Quantity)| {
            let free = node.available.get(name.as_str()).units();
            u64::try_from(free.checked_div(amount.units())?).ok()
        };
        let wanted = request.resources.iter().filter(|(_, it)| !it.is_zero());
        // A demand for nothing fits everywhere, as often as one likes.
        let times = wanted.map(|it| times(it).unwrap_or(0)).min();
        let times = times.unwrap_or(u64::MAX);
        if times > 0 {
            room.nodes += 1;
            room.requests = room.requests.saturating_add(times);
        }
    }
    room
}
