//! Shares what is left below a cap over all groups between the groups that demand asks for.
//!
//! Without it the first shape of the list takes all that a cap leaves. Where a cap is short, the
//! groups that would be launched for pending tasks get nodes in turn, the smallest group first, so
//! that in the end none has more than another while that one still wants some. Placement groups and
//! `request_resources` come before: they are whole or a promise. Where no cap is set, or it is not
//! short, or only one group is wanted, nothing changes.

use serde::{Deserialize, Serialize};

use crate::model::ResourceDemand;

use super::explain::merged;
use super::{Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "fair_share",
    stage: Stage::Propose,
    summary: "share what a cap over all groups leaves between the groups that are asked for",
    build: |settings| Ok(Box::new(parse::<FairShare>(settings)?)),
    default_settings: value_of::<FairShare>,
    schema: schema_of::<FairShare>,
};

/// Has no settings.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct FairShare {}

impl Policy for FairShare {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        if !plan.pool().is_capped() {
            return;
        }
        let is_demand = |demand: &ResourceDemand| !demand.request.is_inside_placement_group();
        let demands = ctx.snapshot.demands.iter().enumerate();
        let asks = merged(demands.filter(|(_, demand)| is_demand(demand)));
        let Some(shares) = plan.pool_mut().shares(&asks.demands) else {
            return;
        };
        for (at, name) in plan.groups().iter().enumerate() {
            let share = shares.get(&at).copied().unwrap_or(0);
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            let most = plan.replicas_to(name).saturating_add(share);
            plan.limit(
                name,
                most,
                "fair_share",
                "at its share of the cap over all groups",
            );
        }
    }
}
