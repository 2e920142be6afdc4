//! Holds the cluster at what `ray.autoscaler.sdk.request_resources` asks for.
//!
//! Running nodes count with everything they have, busy or not. What the maxima do not allow is
//! reported and the rest is launched: Ray itself launches nothing then. The nodes that are
//! counted are not idle.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Infeasible;
use crate::placement::Ledger;

use super::explain::{Missing, listed, merged, report};
use super::{Claim, Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "constraint",
    stage: Stage::Propose,
    summary: "launch for request_resources, and keep the nodes that serve it",
    build: |settings| Ok(Box::new(parse::<Constraint>(settings)?)),
    default_settings: value_of::<Constraint>,
    schema: schema_of::<Constraint>,
};

const CLASS: &str = "request_resources";

/// Has no settings.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Constraint {}

impl Policy for Constraint {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let Some(constraint) = &ctx.snapshot.constraint else {
            return;
        };
        let corrections = plan.pool().corrections();
        let demands = constraint.demands.iter().enumerate();
        let asks = if corrections.order {
            merged(demands)
        } else {
            listed(demands)
        };
        let claims = asks.demands.iter().map(|demand| Claim {
            what: format!("request_resources {}", demand.request),
            class: CLASS.to_owned(),
            position: 0,
            is_whole: false,
        });
        let placement = plan.place(&asks.demands, Ledger::Whole);
        if corrections.partial_constraint || placement.is_complete() {
            plan.accept(&placement, claims.collect(), Ledger::Whole);
        }
        let mut is_infeasible = false;
        for (at, count) in &placement.unplaced {
            let request = &asks.demands[*at].request;
            let missing = Missing {
                what: format!("request_resources {request}"),
                class: CLASS,
                position: 0,
                count: *count,
                request,
                launched: BTreeMap::new(),
            };
            is_infeasible |= report(ctx.snapshot, plan, missing);
        }
        if is_infeasible {
            plan.infeasible(Infeasible::Constraint);
        }
    }
}
