//! What there is to look at: for a screen, a summary or a test.

use super::cluster::Cluster;
use super::gcs::Record;
use super::ids::PlacementGroupId;
use super::placement_group::PlacementGroupState;
use super::work::WorkId;
use crate::model::{NodeId, PlacementStrategy, ResourceMap, ResourceRequest, Timestamp};

/// Shows a cluster as it is, which the GCS may learn later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadView {
    /// When this was so.
    pub at: Timestamp,
    /// The nodes, oldest first; dead ones among them.
    pub nodes: Vec<NodeView>,
    /// Tasks and actors, oldest first.
    pub works: Vec<WorkView>,
    /// Placement groups, oldest first.
    pub placement_groups: Vec<PlacementGroupView>,
    /// What `request_resources` last asked for.
    pub constraint: Vec<(ResourceMap, u64)>,
}

/// Says what a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeCondition {
    /// It has work.
    Busy,
    /// It has none.
    Idle,
    /// It takes no new work and will end.
    Draining,
    /// Its raylet is gone and the GCS does not know.
    Lost,
    /// It is gone.
    Dead,
}

/// Shows a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Its pod.
    pub pod: String,
    /// Its group.
    pub group: String,
    /// Whether it is the head's.
    pub is_head: bool,
    /// What it does.
    pub condition: NodeCondition,
    /// When it joined.
    pub started_at: Timestamp,
    /// When it was found dead.
    pub ended_at: Option<Timestamp>,
    /// How long it has been idle. Units: milliseconds.
    pub idle_ms: u64,
    /// What it has; empty when its raylet is gone.
    pub total: ResourceMap,
    /// What is not taken.
    pub available: ResourceMap,
}

/// Shows tasks that were submitted together, or an actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkView {
    /// Its id.
    pub id: WorkId,
    /// What each of them needs.
    pub request: ResourceRequest,
    /// Whether it is an actor.
    pub is_actor: bool,
    /// How many wait.
    pub queued: u64,
    /// How many run.
    pub running: u64,
    /// How many have ended.
    pub done: u64,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When the last of it had got a node.
    pub placed_at: Option<Timestamp>,
}

/// Shows a placement group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementGroupView {
    /// Its id.
    pub id: PlacementGroupId,
    /// How its bundles are laid out.
    pub strategy: PlacementStrategy,
    /// What became of it.
    pub state: PlacementGroupState,
    /// What each bundle reserves.
    pub bundles: Vec<ResourceMap>,
    /// The node of each bundle.
    pub nodes: Vec<Option<NodeId>>,
    /// When it was asked for.
    pub submitted_at: Timestamp,
    /// When it was wholly placed for the first time.
    pub placed_at: Option<Timestamp>,
}

impl Cluster {
    /// Returns what there is to look at.
    pub(super) fn view(&self) -> HeadView {
        let mut records: Vec<_> = self.gcs.records.iter().collect();
        records.sort_by_key(|(_, record)| record.number);
        let nodes = records
            .into_iter()
            .map(|(id, record)| self.node_view(*id, record));
        let works = self.works.iter().map(|(id, work)| WorkView {
            id: *id,
            request: work.request.clone(),
            is_actor: work.is_actor,
            queued: work.queued,
            running: work.running,
            done: work.done,
            submitted_at: work.submitted_at,
            placed_at: work.placed_at,
        });
        let groups = self.groups.iter().map(|(id, group)| PlacementGroupView {
            id: *id,
            strategy: group.spec.strategy,
            state: group.state,
            bundles: group
                .spec
                .bundles
                .iter()
                .map(|bundle| bundle.resources.clone())
                .collect(),
            nodes: group.nodes.clone(),
            submitted_at: group.submitted_at,
            placed_at: group.placed_at,
        });
        let mut placement_groups: Vec<PlacementGroupView> = groups.collect();
        placement_groups.sort_by_key(|group| (group.submitted_at, group.id));
        let constraint = self.gcs.constraint.clone().unwrap_or_default();
        HeadView {
            at: self.now,
            nodes: nodes.collect(),
            works: works.collect(),
            placement_groups,
            constraint: constraint.into_iter().collect(),
        }
    }

    fn node_view(&self, id: NodeId, record: &Record) -> NodeView {
        let raylet = self.raylets.get(&id);
        let condition = match (&record.death, raylet) {
            (Some(_), _) => NodeCondition::Dead,
            (None, None) => NodeCondition::Lost,
            (None, Some(raylet)) if raylet.drain.is_some() => NodeCondition::Draining,
            (None, Some(raylet)) if raylet.is_idle() => NodeCondition::Idle,
            (None, Some(_)) => NodeCondition::Busy,
        };
        NodeView {
            id,
            pod: record.spec.pod.clone(),
            group: record.spec.group.clone(),
            is_head: record.spec.is_head,
            condition,
            started_at: record.registered_at,
            ended_at: record.death.as_ref().map(|death| death.at),
            idle_ms: raylet.map_or(0, |raylet| raylet.idle_ms(self.now)),
            total: raylet
                .map(|raylet| raylet.total.clone())
                .unwrap_or_default(),
            available: raylet
                .map(|raylet| raylet.available.clone())
                .unwrap_or_default(),
        }
    }
}
