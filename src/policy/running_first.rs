//! Places requests on nodes that run before nodes that only start.
//!
//! Why: Ray's own scheduler treats both alike, so that a placement group that was planned on the
//! head and two new nodes is planned on three of those nodes as soon as they are on their way,
//! and whatever they were meant for asks for one more. With this, a plan stays what it was.

use serde::{Deserialize, Serialize};

use super::{Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "running_first",
    stage: Stage::Settle,
    summary: "place on nodes that run before nodes that start",
    build: |settings| Ok(Box::new(parse::<RunningFirst>(settings)?)),
    default_settings: value_of::<RunningFirst>,
    schema: schema_of::<RunningFirst>,
};

/// Has no settings.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RunningFirst {}

impl Policy for RunningFirst {
    fn apply(&self, _: PolicyContext<'_>, plan: &mut Plan) {
        plan.pool_mut().choice_mut().is_running_first = true;
    }
}
