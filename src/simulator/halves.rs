//! Replicas of several hosts of which one has gone and another one works: nobody may take them down, and the operator
//! replaces no single host.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::SimulatorError;
use super::gangs::room;
use super::run::Run;
use super::witness::has_work;
use crate::embedded::ray::{HeadView, NodeCondition, NodeView, WorkId};
use crate::wire::pod::LABEL_REPLICA_NAME;

impl Run {
    /// Returns whether what waits is more than the maxima leave, for as many hosts are gone beside others at work.
    pub(super) async fn are_all_there_can_be(
        &self,
        probes: &[(WorkId, String)],
    ) -> Result<bool, SimulatorError> {
        let view = self.world.ray.view();
        let workers = self.world.workers(None).await?;
        let room = room(&self.world.raycluster().await?);
        let lost = lost_beside_work(&workers, &view);
        Ok(probes.iter().all(|(id, name)| {
            let work = view.works.iter().find(|work| work.id == *id);
            let (queued, running) = work.map_or((0, 0), |work| (work.queued, work.running));
            let lost = lost.iter().filter(|node| node.total.contains(name)).count();
            let most = room.get(name.as_str()).copied().unwrap_or(0);
            let most = most.saturating_sub(u64::try_from(lost).unwrap_or(0));
            queued == 0 || (lost > 0 && running >= most)
        }))
    }
}

/// Returns, for each pod without a raylet beside which another host of its replica has work, the node of that one.
fn lost_beside_work<'a>(workers: &[Pod], view: &'a HeadView) -> Vec<&'a NodeView> {
    let node_of = |pod: &Pod| {
        let mut nodes = view.nodes.iter().rev();
        nodes.find(|node| node.pod == pod.name_any())
    };
    let at_work: BTreeMap<&String, &NodeView> = workers
        .iter()
        .filter_map(|pod| Some((pod.labels().get(LABEL_REPLICA_NAME)?, node_of(pod)?)))
        .filter(|(_, node)| has_work(node))
        .collect();
    let is_lost = |pod: &&Pod| {
        let node = node_of(pod);
        node.is_some_and(|node| node.condition == NodeCondition::Dead)
    };
    let lost = workers.iter().filter(is_lost);
    let replicas = lost.filter_map(|pod| pod.labels().get(LABEL_REPLICA_NAME));
    replicas
        .filter_map(|name| at_work.get(name).copied())
        .collect()
}
