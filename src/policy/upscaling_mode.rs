//! Grows step by step where the RayCluster says `upscalingMode: Conservative`.
//!
//! Replicas of a group that start are at most as many as run, at least one. That holds however
//! fast decisions follow each other, since it counts what starts and not what was asked for lately.

use serde::{Deserialize, Serialize};

use crate::model::{ClusterSnapshot, UpscalingMode};
use crate::placement::ReplicaHealth;

use super::{
    GroupPlan, Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "upscaling_mode",
    stage: Stage::Shape,
    summary: "with upscalingMode Conservative, start at most as many replicas as run",
    build: |settings| Ok(Box::new(parse::<Upscaling>(settings)?)),
    default_settings: value_of::<Upscaling>,
    schema: schema_of::<Upscaling>,
};

/// Says where the mode is taken from.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// `autoscalerOptions.upscalingMode` of the RayCluster.
    #[default]
    Cluster,
    /// Whatever the RayCluster says: no limit.
    Unlimited,
    /// Whatever the RayCluster says: step by step.
    Conservative,
}

#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Upscaling {
    /// Where the mode is taken from.
    mode: Mode,
}

impl Policy for Upscaling {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let is_conservative = match self.mode {
            Mode::Cluster => ctx.snapshot.upscaling_mode == UpscalingMode::Conservative,
            Mode::Unlimited => false,
            Mode::Conservative => true,
        };
        for name in plan.groups().into_iter().filter(|_| is_conservative) {
            let surplus = plan
                .group(&name)
                .map_or(0, |group| surplus(ctx.snapshot, group));
            if surplus > 0 {
                plan.withdraw(&name, surplus, "upscaling_mode");
            }
        }
    }
}

/// Returns how many launches are too many; those for the minimum never are.
fn surplus(snapshot: &ClusterSnapshot, group: &GroupPlan) -> u32 {
    let alive = group
        .staying()
        .filter(|replica| replica.health == ReplicaHealth::Capacity);
    let running = alive.filter(|replica| replica.is_running(snapshot)).count();
    let running = u32::try_from(running).unwrap_or(u32::MAX);
    let present = group.capacity().saturating_sub(group.launched());
    let starting = present.saturating_sub(running);
    let allowed = running.max(1).saturating_sub(starting);
    let required = group.bounds().min.saturating_sub(present);
    group.launched().saturating_sub(allowed.max(required))
}
