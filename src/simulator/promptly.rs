//! Sees that what the sidecar knows of is asked for at once, and not only some time.

use super::SimulatorError;
use super::gangs::asked;
use super::run::Run;
use super::witness::{groups, has_work, text};
use crate::admin::LastPass;
use crate::embedded::ray::{NodeCondition, WorkId};
use crate::model::{ResourceName, ScalingMode, Timestamp};

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
            (work.queued > 0).then_some((name, work.queued + work.running))
        });
        let waiting: Vec<_> = waiting.collect();
        if !waiting.iter().all(|(name, _)| is_seen(&pass, name)) {
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
        let is_known = |group: &str| specs.iter().any(|spec| text(spec, "groupName") == group);
        for (name, wanted) in waiting {
            // Nodes of groups that were removed or renamed work on as long as they are there, and those that drain
            // finish what they have.
            let left = view.nodes.iter().filter(|node| {
                let is_there = match node.condition {
                    NodeCondition::Busy | NodeCondition::Idle => !is_known(&node.group),
                    NodeCondition::Draining => has_work(node),
                    NodeCondition::Lost | NodeCondition::Dead => false,
                };
                is_there && node.total.contains(name)
            });
            let left = u64::try_from(left.count()).unwrap_or(0);
            let asked = asked.get(name.as_str()).copied().unwrap_or(0) + left;
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
}

fn is_seen(pass: &LastPass, resource: &str) -> bool {
    let name = ResourceName::from(resource);
    let mut demands = pass.snapshot.demands.iter();
    demands.any(|demand| demand.request.resources.contains(name.as_str()))
}
