//! Tasks and actors: what waits, and what runs where.

use super::ids::PlacementGroupId;
use crate::model::{LabelSelector, NodeId, ResourceMap, ResourceRequest, Timestamp};

/// Identifies tasks submitted together, or an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkId(pub(super) u64);

/// Identifies one task or actor that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunId(pub(super) u64);

/// Says where tasks go when several nodes can take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SchedulingStrategy {
    /// The caller's node, then any up to half of what it has, then the one with the most left.
    #[default]
    Default,
    /// The node with the least of this work.
    Spread,
}

/// Describes tasks of one shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tasks {
    /// What each of them needs.
    pub resources: ResourceMap,
    /// `label_selector` and then the fallbacks, most wanted first; without any, every node will do.
    pub selectors: Vec<LabelSelector>,
    /// How many there are.
    pub count: u64,
    /// How long each of them runs; `None` until it is cancelled.
    pub duration_ms: Option<u64>,
    /// Where they go.
    pub strategy: SchedulingStrategy,
    /// The placement group whose bundles they use.
    pub placement_group: Option<PlacementGroupId>,
}

/// Describes an actor, which runs until it is killed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// What it needs while it lives.
    pub resources: ResourceMap,
    /// `label_selector` and then the fallbacks.
    pub selectors: Vec<LabelSelector>,
    /// The placement group whose bundles it uses.
    pub placement_group: Option<PlacementGroupId>,
    /// Whether it starts again when its node dies (`max_restarts=-1`).
    pub restarts: bool,
}

/// Holds work that was submitted.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) request: ResourceRequest,
    pub(super) is_actor: bool,
    pub(super) duration_ms: Option<u64>,
    pub(super) strategy: SchedulingStrategy,
    pub(super) placement_group: Option<PlacementGroupId>,
    /// Whether it starts again after its node died.
    pub(super) restarts: bool,
    pub(super) queued: u64,
    pub(super) running: u64,
    pub(super) done: u64,
    pub(super) submitted_at: Timestamp,
    /// When the last of it had found a node for the first time.
    pub(super) placed_at: Option<Timestamp>,
}

impl Work {
    /// Returns tasks that wait; a lost task is tried again, as in Ray.
    pub(super) fn of_tasks(tasks: Tasks, now: Timestamp) -> Self {
        Self {
            request: request(tasks.resources, tasks.selectors),
            is_actor: false,
            duration_ms: tasks.duration_ms,
            strategy: tasks.strategy,
            placement_group: tasks.placement_group,
            restarts: true,
            queued: tasks.count,
            running: 0,
            done: 0,
            submitted_at: now,
            placed_at: None,
        }
    }

    /// Returns an actor that waits.
    pub(super) fn of_actor(actor: Actor, now: Timestamp) -> Self {
        let tasks = Tasks {
            resources: actor.resources,
            selectors: actor.selectors,
            placement_group: actor.placement_group,
            count: 1,
            ..Tasks::default()
        };
        Self {
            is_actor: true,
            restarts: actor.restarts,
            ..Self::of_tasks(tasks, now)
        }
    }
}

/// Ray sends one selector without conditions where there is none.
fn request(resources: ResourceMap, mut selectors: Vec<LabelSelector>) -> ResourceRequest {
    if selectors.is_empty() {
        selectors.push(LabelSelector::default());
    }
    ResourceRequest {
        resources,
        selectors,
        anti_affinity: None,
    }
}

/// Holds one task or actor that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) work: WorkId,
    pub(super) node: NodeId,
}
