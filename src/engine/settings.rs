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
    /// From this age of the pods or the RayCluster on nothing is written at all.
    pub frozen_after: HumanDuration,
    /// How long nodes have to register after Ray's head or GCS was away; nothing is removed meanwhile.
    pub recover_within: HumanDuration,
    /// Whether an idle replica goes only when two replies of the GCS agree.
    pub seen_twice: bool,
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
            // A watch is opened anew within a minute; what is unknown for longer may be quite different.
            frozen_after: HumanDuration::from_ms(120_000),
            // A raylet tries to reach a GCS that was away every second, and a worker of a new head
            // registers within half a minute.
            recover_within: HumanDuration::from_ms(60_000),
            seen_twice: true,
            settle: true,
            tell_departures: true,
        }
    }
}
