//! Sees that what the sidecar knows of is asked for at once, and not only some time.

use kube::ResourceExt as _;

use super::SimulatorError;
use super::gangs::asked;
use super::run::Run;
use super::witness::{groups, text};
use crate::admin::LastPass;
use crate::embedded::ray::{NodeCondition, NodeView, WorkId};
use crate::model::{NodeStatus, ResourceName, ScalingMode, Timestamp};

/// What two passes may take once demand is seen and nothing is in the way. Units: milliseconds.
const ASKED_WITHIN_MS: u64 = 2_000;

impl Run {
    /// Objects when demand was seen two passes ago, nothing holds the sidecar back, and too few replicas stand in the
    /// RayCluster; `seen_at` is since when it was so.
    pub(super) async fn check_asked(
        &self,
        probes: &[(WorkId, String)],
        asked_at: Timestamp,
        seen_at: &mut Option<Timestamp>,
    ) -> Result<(), SimulatorError> {
        let pass = self.world.admin().and_then(|admin| admin.last_pass());
        let age_ms = self.world.pass_age_ms().unwrap_or(u64::MAX);
        let is_after = age_ms <= self.world.clock.now().millis_since(asked_at);
        let is_free = |pass: &LastPass| is_after && is_free(pass);
        let Some(pass) = pass.filter(is_free) else {
            *seen_at = None;
            return Ok(());
        };
        let view = self.world.ray.view();
        let waiting = probes.iter().filter_map(|(id, name)| {
            let work = view.works.iter().find(|work| work.id == *id)?;
            (work.queued > 0).then_some((name, work.queued))
        });
        let waiting: Vec<_> = waiting.collect();
        if !waiting
            .iter()
            .all(|(name, queued)| seen(&pass, name) >= *queued)
        {
            *seen_at = None;
            return Ok(());
        }
        let now = self.world.clock.now();
        if now.millis_since(*seen_at.get_or_insert(now)) <= ASKED_WITHIN_MS {
            return Ok(());
        }
        let raycluster = self.world.raycluster().await?;
        let asked = asked(&raycluster);
        let specs = groups(&raycluster);
        let pods = self.world.workers(None).await?;
        // Work on nodes that go, or that nobody counts as replicas, takes none of what is asked for.
        let is_counted = |node: &&NodeView| {
            let mut specs = specs.iter().map(|spec| text(spec, "groupName"));
            let mut pods = pods.iter();
            node.condition == NodeCondition::Busy
                && specs.any(|name| name == node.group)
                && pods.any(|pod| pod.name_any() == node.pod)
        };
        let busy: Vec<&NodeView> = view.nodes.iter().filter(is_counted).collect();
        for (name, queued) in waiting {
            let busy = busy.iter().filter(|node| node.total.contains(name)).count();
            let wanted = queued + u64::try_from(busy).unwrap_or(0);
            let asked = asked.get(name.as_str()).copied().unwrap_or(0);
            if asked < wanted {
                let text = format!("{name}: {asked} nodes asked for, {wanted} wanted, {pass:?}");
                self.world.witness.object(text);
            }
        }
        Ok(())
    }
}

/// Returns whether a pass saw everything, wrote what it wanted, and has no reason to wait with any group.
fn is_free(pass: &LastPass) -> bool {
    pass.decision.mode == ScalingMode::Normal
        && ["nothing", "patched"].contains(&pass.outcome.as_str())
        && pass.decision.holds.is_empty()
        && knows_all_pods(pass)
}

/// Returns whether every node has a pod: a watch that broke is opened again after a pause, and until then nobody
/// knows whether new nodes are those that were asked for.
fn knows_all_pods(pass: &LastPass) -> bool {
    let mut nodes = pass.snapshot.nodes.iter();
    nodes.all(|node| node.status != NodeStatus::Lost)
}

/// Returns how many requests for a resource a pass saw.
fn seen(pass: &LastPass, resource: &str) -> u64 {
    let name = ResourceName::from(resource);
    let demands = pass.snapshot.demands.iter();
    let of_it = demands.filter(|demand| demand.request.resources.contains(name.as_str()));
    of_it.fold(0, |sum, demand| sum.saturating_add(demand.count))
}
