//! Settings of what no policy can switch off.

use serde::{Deserialize, Serialize};

use crate::policy::HumanDuration;

/// Holds the settings of the engine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Knowledge older than this is stale: nothing is removed on it.
    pub stale_after: HumanDuration,
    /// How long a name whose pod was never seen stays in `workersToDelete`.
    pub forget_after: HumanDuration,
    /// Whether a decision is repeated until it is stable before it is returned.
    pub settle: bool,
    /// Whether Ray is told of nodes whose pods are gone or going.
    pub tell_departures: bool,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            // Polls come every 0.1 to 5 s and may take 5 s to fail: two misses in a row are stale, one is not.
            stale_after: HumanDuration::from_ms(15_000),
            // The operator acts within 3 s even on 500 names; a watch shows pods within 0.1 s.
            forget_after: HumanDuration::from_ms(5_000),
            settle: true,
            tell_departures: true,
        }
    }
}
