//! Keeps requests that need no accelerator away from nodes that have one, while others fit.

use serde::{Deserialize, Serialize};

use super::{Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "gpu_sparing",
    stage: Stage::Settle,
    summary: "keep work without accelerators away from nodes with one",
    build: |settings| Ok(Box::new(parse::<GpuSparing>(settings)?)),
    default_settings: value_of::<GpuSparing>,
    schema: schema_of::<GpuSparing>,
};

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct GpuSparing {
    /// The resources to spare. Ray's own autoscaler knows `GPU` only.
    resources: Vec<String>,
}

impl Default for GpuSparing {
    fn default() -> Self {
        Self {
            resources: vec!["GPU".to_owned(), "TPU".to_owned()],
        }
    }
}

impl Policy for GpuSparing {
    fn apply(&self, _: PolicyContext<'_>, plan: &mut Plan) {
        self.resources
            .clone_into(&mut plan.pool_mut().choice_mut().spare);
    }
}
