//! Keeps every group at its `minReplicas`.
//!
//! The operator itself creates up to the minimum; this adds what it cannot see: a replica whose
//! raylets are gone or draining is no capacity, and is replaced while it still stands in the way.

use serde::{Deserialize, Serialize};

use super::{
    GroupPlan, Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "minimum",
    stage: Stage::Settle,
    summary: "keep every group at its minReplicas",
    build: |settings| Ok(Box::new(parse::<Minimum>(settings)?)),
    default_settings: value_of::<Minimum>,
    schema: schema_of::<Minimum>,
};

/// Has no settings.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Minimum {}

impl Policy for Minimum {
    fn apply(&self, _: PolicyContext<'_>, plan: &mut Plan) {
        for name in plan.groups() {
            let missing = plan.group(&name).map_or(0, missing);
            if missing > 0 {
                plan.launch_required(&name, missing, "minimum");
            }
        }
    }
}

fn missing(group: &GroupPlan) -> u32 {
    group.bounds().min.saturating_sub(group.capacity())
}
