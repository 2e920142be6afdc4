//! What no policy can switch off: bounds, completeness, and when to ask again.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    GroupDecision, Hold, NodeStatus, PodName, PodSize, RemovalCause, ReplicaBounds, ResizeRequest,
    ResizeState, ScaleDecision, Timestamp, WorkerGroupName,
};
use crate::placement::Carry;
use crate::policy::{GroupPlan, Plan, PolicyContext};

use super::EngineSettings;

/// When a decision that was cut short goes on; as often as demand is looked at. Units: milliseconds.
const CUT_PAUSE_MS: u64 = 100;

/// Says what the state of the input allows.
#[derive(Debug)]
pub(super) struct Gate {
    /// Nothing is decided at all.
    pub(super) is_closed: bool,
    /// Something may be removed.
    pub(super) may_remove: bool,
    holds: Vec<Hold>,
    /// When the oldest source will be stale.
    stale_at: Option<Timestamp>,
}

pub(super) fn gate(ctx: PolicyContext<'_>, settings: &EngineSettings) -> Gate {
    let snapshot = ctx.snapshot;
    let mut gate = Gate {
        is_closed: false,
        may_remove: true,
        holds: Vec::new(),
        stale_at: None,
    };
    if snapshot.is_deleting {
        gate.close("deleting", "the RayCluster is being deleted");
    }
    if snapshot.is_suspended {
        gate.close("suspended", "spec.suspend is set");
    }
    let known = &snapshot.completeness;
    let sources = [
        ("GCS", known.gcs_at),
        ("pods", known.pods_at),
        ("RayCluster", known.raycluster_at),
    ];
    for (source, at) in sources {
        gate.judge_source(ctx.now, settings, (source, at));
    }
    if known.is_complete() && !snapshot.is_head_running() {
        gate.close("head_not_running", "no raylet of the head is alive");
    }
    if let Some(why) = &snapshot.paused {
        // Deciding goes on, so that one can see what would be done; nothing is written meanwhile.
        gate.add("paused", why);
    }
    if let Some(why) = &snapshot.writing.fenced {
        gate.add("fenced", why);
    }
    for group in &snapshot.skipped {
        gate.holds.push(Hold {
            group: Some(group.name.clone()),
            code: "group_skipped".to_owned(),
            detail: format!("{}: {}", group.code, group.detail),
        });
    }
    gate
}

impl Gate {
    fn judge_source(
        &mut self,
        now: Timestamp,
        settings: &EngineSettings,
        source: (&str, Option<Timestamp>),
    ) {
        let (name, Some(at)) = source else {
            self.close("incomplete", &format!("{} has not been read yet", source.0));
            return;
        };
        let stale_at = at.plus_ms(settings.stale_after.as_ms());
        if now <= stale_at {
            let at = stale_at.plus_ms(1);
            self.stale_at = Some(self.stale_at.map_or(at, |other| other.min(at)));
            return;
        }
        let detail = format!("{name} is {} ms old", now.millis_since(at));
        self.may_remove = false;
        if name == "GCS" {
            // Demand that old may long be served.
            self.close("stale", &detail);
        } else {
            self.add("stale", &detail);
        }
    }

    fn close(&mut self, code: &str, detail: &str) {
        self.is_closed = true;
        self.add(code, detail);
    }

    fn add(&mut self, code: &str, detail: &str) {
        self.holds.push(Hold {
            group: None,
            code: code.to_owned(),
            detail: detail.to_owned(),
        });
    }
}

/// Returns the decision that changes nothing, with what holds it.
pub(super) fn nothing(ctx: PolicyContext<'_>, gate: Gate) -> ScaleDecision {
    let groups = ctx.snapshot.groups.iter().map(|group| GroupDecision {
        name: group.name.clone(),
        replicas_from: group.replicas,
        replicas_to: group.replicas,
        remove: Vec::new(),
        forget: Vec::new(),
        reasons: Vec::new(),
    });
    let mut holds = gate.holds;
    holds.sort();
    holds.dedup();
    ScaleDecision {
        groups: groups.collect(),
        holds,
        next_check_at: gate.stale_at,
        ..ScaleDecision::default()
    }
}

/// Enforces what holds whatever the policies did, and returns the decision and what the next round may use.
pub(super) fn conclude(
    ctx: PolicyContext<'_>,
    mut plan: Plan,
    gate: Gate,
    settings: &EngineSettings,
) -> (ScaleDecision, Carry) {
    for name in plan.groups() {
        enforce(ctx, &mut plan, &name);
    }
    let mut forget = BTreeMap::new();
    if gate.may_remove {
        forget = names_to_forget(ctx, &mut plan, settings);
    }
    gate.holds.into_iter().for_each(|hold| plan.hold(hold));
    super::traps::name_traps(ctx, &mut plan);
    plan.resize(resizes(ctx, &plan));
    if let Some(at) = gate.stale_at {
        plan.recheck_at(at);
    }
    if plan.is_cut() {
        plan.recheck_at(ctx.now.plus_ms(CUT_PAUSE_MS));
    }
    plan.into_decision(forget)
}

fn enforce(ctx: PolicyContext<'_>, plan: &mut Plan, name: &WorkerGroupName) {
    let Some(group) = plan.group(name) else {
        return;
    };
    let bounds = bounds(group);
    if group.replicas_to() < bounds.min {
        plan.retarget(name, bounds.min, "minimum");
    } else if group.replicas_to() > bounds.max {
        plan.retarget(name, bounds.max, "maximum");
        plan.shrink_to_maximum(ctx, name);
    }
    let Some(group) = plan.group(name) else {
        return;
    };
    let is_out = bounds.clamp(group.replicas_to()) != group.replicas_to();
    // Fewer than will be left would be a shrink of which nobody says what goes.
    let is_nameless = group.replicas_to() < staying(group);
    let is_blind = !plan.may_remove() && group.replicas_to() < group.replicas_from();
    if is_out || is_nameless || is_blind {
        plan.revert(name);
    }
}

/// Returns the pods to resize: those that are to serve demand, and those decided on before.
fn resizes(ctx: PolicyContext<'_>, plan: &Plan) -> Vec<ResizeRequest> {
    let mut resizes: BTreeMap<PodName, PodSize> = BTreeMap::new();
    let pods = &ctx.snapshot.resizing.pods;
    for node in ctx
        .snapshot
        .nodes
        .iter()
        .filter(|node| node.node_id.is_some())
    {
        let decided = pods
            .get(&node.name)
            .filter(|pod| pod.state == ResizeState::Decided);
        if let Some(pod) = decided {
            resizes.insert(node.name.clone(), pod.desired);
        }
    }
    let chosen = plan
        .pool()
        .resized()
        .iter()
        .filter_map(|at| ctx.snapshot.nodes.get(*at));
    for node in chosen.filter(|node| node.node_id.is_some()) {
        if let Some(pod) = pods.get(&node.name).filter(|pod| pod.desired != pod.max) {
            resizes.insert(node.name.clone(), pod.max);
        }
    }
    let request = |(pod, desired)| ResizeRequest { pod, desired };
    resizes.into_iter().map(request).collect()
}

/// Returns the bounds that hold; an order for all groups together goes before a minimum, as in Ray.
fn bounds(group: &GroupPlan) -> ReplicaBounds {
    let mut bounds = group.bounds();
    if group
        .removals()
        .iter()
        .any(|removal| removal.cause == RemovalCause::AboveTotal)
    {
        bounds.min = bounds.min.min(group.replicas_to());
    }
    bounds
}

fn staying(group: &GroupPlan) -> u32 {
    u32::try_from(group.staying().count()).unwrap_or(u32::MAX)
}

/// Returns the names whose pods are gone and that the operator has had its time with.
///
/// A name that stands in the list for nothing costs the operator a call on each of its passes;
/// one that is taken out before the operator has acted is a deletion that never happens.
fn names_to_forget(
    ctx: PolicyContext<'_>,
    plan: &mut Plan,
    settings: &EngineSettings,
) -> BTreeMap<WorkerGroupName, Vec<PodName>> {
    let nodes = ctx
        .snapshot
        .nodes
        .iter()
        .filter(|node| node.status != NodeStatus::Lost);
    let pods: BTreeSet<&PodName> = nodes.map(|node| &node.name).collect();
    let mut forget: BTreeMap<WorkerGroupName, Vec<PodName>> = BTreeMap::new();
    for group in &ctx.snapshot.groups {
        let absent: BTreeSet<&PodName> = group
            .workers_to_delete
            .iter()
            .filter(|pod| !pods.contains(pod))
            .collect();
        for pod in absent {
            let since = ctx
                .history
                .listed_without_pod_since
                .get(pod)
                .copied()
                .unwrap_or(ctx.now);
            let until = since.plus_ms(settings.forget_after.as_ms());
            if ctx.history.named_seen.contains(pod) || until <= ctx.now {
                forget
                    .entry(group.name.clone())
                    .or_default()
                    .push(pod.clone());
            } else {
                plan.recheck_at(until);
            }
        }
    }
    forget
}
