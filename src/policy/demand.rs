//! Places pending tasks and actors, on nodes that are there first, and launches for the rest.
//!
//! What fits stays placed, what does not is reported. Shapes that only a placed placement group
//! could serve (`CPU_group_<id>`) are no demand: no new node ever offers them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Infeasible, NextDemand, ResourceDemand};
use crate::placement::Ledger;

use super::explain::{Missing, listed, merged, report};
use super::{Claim, Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "demand",
    stage: Stage::Propose,
    summary: "launch for pending tasks and actors",
    build: |settings| Ok(Box::new(parse::<Demand>(settings)?)),
    default_settings: value_of::<Demand>,
    schema: schema_of::<Demand>,
};

/// Has no settings.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Demand {}

impl Policy for Demand {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let corrections = plan.pool().corrections();
        let demands = ctx.snapshot.demands.iter().enumerate();
        let is_demand = |demand: &ResourceDemand| {
            !(corrections.group_shapes && demand.request.is_inside_placement_group())
        };
        let demands = demands.filter(|(_, demand)| is_demand(demand));
        let asks = if corrections.order {
            merged(demands)
        } else {
            listed(demands)
        };
        if asks.demands.is_empty() {
            return;
        }
        let numbered = asks.positions.iter().zip(&asks.demands);
        let claims = numbered.map(|(position, ask)| Claim {
            what: ask.request.to_string(),
            class: "tasks".to_owned(),
            position: *position,
            is_whole: false,
        });
        let claims = claims.collect();
        let placement = plan.place(&asks.demands, Ledger::Free);
        if placement.is_cut {
            plan.stop_at(NextDemand::Tasks, None);
        }
        plan.accept(&placement, claims, Ledger::Free);
        for (at, count) in &placement.unplaced {
            let ask = &asks.demands[*at];
            let missing = Missing {
                what: ask.request.to_string(),
                class: "tasks",
                position: asks.positions[*at],
                count: *count,
                request: &ask.request,
                launched: BTreeMap::new(),
            };
            if report(ctx.snapshot, plan, missing) {
                plan.infeasible(Infeasible::Tasks(ask.request.clone()));
            }
        }
    }
}
