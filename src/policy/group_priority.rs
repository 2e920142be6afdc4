//! Lets the `priority` of a worker group weigh in the choice between groups.

use serde::{Deserialize, Serialize};

use crate::placement::PriorityRule;

use super::{Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "group_priority",
    stage: Stage::Settle,
    summary: "prefer groups with a higher priority",
    build: |settings| Ok(Box::new(parse::<GroupPriority>(settings)?)),
    default_settings: value_of::<GroupPriority>,
    schema: schema_of::<GroupPriority>,
};

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct GroupPriority {
    /// When it weighs: `equal_fits` (as Ray), `first`, or `ignored`.
    rule: PriorityRule,
}

impl Default for GroupPriority {
    fn default() -> Self {
        Self {
            rule: PriorityRule::EqualFits,
        }
    }
}

impl Policy for GroupPriority {
    fn apply(&self, _: PolicyContext<'_>, plan: &mut Plan) {
        plan.pool_mut().choice_mut().priority = self.rule;
    }
}
