//! Limits how fast groups shrink, as the `scaleDown` behaviour of a HorizontalPodAutoscaler does.
//!
//! Limits are in nodes, of each group and of all together. Only what goes because it is idle is
//! limited; a lowered maximum and a user's names are orders. Without limits as the default:
//! `blast_radius` is the careful one, this is for those who want it slower or stepwise.

use serde::{Deserialize, Serialize};

use super::rate::{Brake, Rates};
use super::{Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "rate_down",
    stage: Stage::Guard,
    summary: "shrink no faster than so many nodes, or such a part, per period",
    build: |settings| Ok(Box::new(parse::<RateDown>(settings)?.checked()?)),
    default_settings: value_of::<RateDown>,
    schema: schema_of::<RateDown>,
};

#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RateDown {
    /// Limits of each group.
    each: Rates,
    /// Limits of all groups together.
    all: Rates,
}

impl RateDown {
    fn checked(self) -> Result<Self, String> {
        let problem = self
            .each
            .problem("each")
            .or_else(|| self.all.problem("all"));
        problem.map_or(Ok(self), Err)
    }
}

impl Policy for RateDown {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        if !self.each.is_set() && !self.all.is_set() {
            return;
        }
        let brake = Brake {
            each: &self.each,
            all: &self.all,
            code: "rate_down",
        };
        brake.apply(ctx, plan);
    }
}
