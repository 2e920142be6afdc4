//! Asks for many pods in slices, as fast as they appear.
//!
//! # Why
//!
//! The operator makes all pods of a group in one pass, and nothing stops a pass: 600 replicas that
//! are taken back after half a second are made all the same. So no more pods of a group are
//! outstanding, asked for and without an object so far, than a slice; the next slice follows when
//! pods appear. A slice is small enough to change one's mind, and large enough to keep the operator
//! busy.
//!
//! What follows comes in portions, too: a patch for every pod that appears would be hundreds of them,
//! each a pass of the operator.
//!
//! Counted by group, so that a group whose pods do not come holds no other one back. What must come
//! together is not cut: minima, `request_resources` and placement groups are asked for whole.

use serde::{Deserialize, Serialize};

use crate::placement::Origin;

use super::{
    GroupPlan, Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "growth_slices",
    stage: Stage::Shape,
    summary: "ask for many pods in slices, as fast as they appear",
    build: |settings| Ok(Box::new(parse::<GrowthSlices>(settings)?)),
    default_settings: value_of::<GrowthSlices>,
    schema: schema_of::<GrowthSlices>,
};

/// What follows a slice is asked for once this part of it has come.
const PORTIONS: u32 = 4;

/// The reason, and the word for demand that waits for its slice.
pub(super) const CODE: &str = "growth_slice";

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct GrowthSlices {
    /// Pods of a group that may be outstanding for tasks and actors; null for no limit.
    pods: Option<u32>,
}

impl Default for GrowthSlices {
    fn default() -> Self {
        Self {
            // What the operator makes in two thirds of a second.
            pods: Some(100),
        }
    }
}

impl Policy for GrowthSlices {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let Some(slice) = self.pods else {
            return;
        };
        for (at, spec) in ctx.snapshot.groups.iter().enumerate() {
            let hosts = spec.num_of_hosts.max(1);
            let replicas = (slice / hosts).max(1);
            let excess = plan
                .group(&spec.name)
                .map_or(0, |group| excess(group, replicas));
            if excess > 0 {
                let free = u64::from(for_tasks(plan, at, u64::from(excess), u64::from(hosts)));
                let less = u32::try_from(free).unwrap_or(u32::MAX).min(excess);
                plan.withdraw(&spec.name, less, CODE);
            }
        }
    }
}

/// Returns how many launches are too many for one slice: all, where what is left of it is less than a portion.
fn excess(group: &GroupPlan, slice: u32) -> u32 {
    let (allowed, launched) = (slice.saturating_sub(group.to_come()), group.launched());
    if allowed < launched && allowed < slice.div_ceil(PORTIONS) {
        return launched;
    }
    launched.saturating_sub(allowed)
}

/// Returns how many of the newest launches of a group, at most `most`, serve tasks alone.
fn for_tasks(plan: &Plan, group: usize, most: u64, hosts: u64) -> u32 {
    let mut nodes: u64 = 0;
    let launched = plan.pool().slots().iter().rev();
    let launched = launched.filter(|slot| {
        slot.group == Some(group) && slot.origin == Origin::Launch && slot.count > 0
    });
    for slot in launched {
        if nodes >= most.saturating_mul(hosts) {
            break;
        }
        let mut classes = slot.uses.iter().map(|(claim, _)| plan.class_of(*claim));
        // A host without a use belongs to a replica of which another host has one.
        if !classes.all(|class| class == Some("tasks")) || (slot.uses.is_empty() && hosts == 1) {
            break;
        }
        nodes = nodes.saturating_add(slot.count);
    }
    u32::try_from(nodes / hosts).unwrap_or(u32::MAX)
}
