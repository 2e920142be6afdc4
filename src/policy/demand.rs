//! Places pending tasks and actors, on nodes that are there first, and launches for the rest.
//!
//! What fits stays placed, what does not is reported. Shapes that only a placed placement group
//! could serve (`CPU_group_<id>`) are no demand: no new node ever offers them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Infeasible;
use crate::placement::Ledger;

use super::explain::{Missing, merged, report};
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
        let demands = ctx.snapshot.demands.iter();
        let asks = merged(demands.filter(|demand| !demand.request.is_inside_placement_group()));
        if asks.is_empty() {
            return;
        }
        let claims = asks.iter().map(|ask| Claim {
            what: ask.request.to_string(),
            class: "tasks".to_owned(),
            is_whole: false,
        });
        let claims = claims.collect();
        let placement = plan.place(&asks, Ledger::Free);
        plan.accept(&placement, claims, Ledger::Free);
        for (at, count) in &placement.unplaced {
            let Some(ask) = asks.get(*at) else { continue };
            let what = ask.request.to_string();
            let missing = Missing {
                what,
                class: "tasks",
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
