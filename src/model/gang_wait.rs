//! How long placement groups have been waiting for nodes that were planned for them.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Holds how long a placement group has waited for nodes that were planned for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GangWait {
    /// Since when nothing has come of it: no further bundle found a node that runs.
    pub since: Timestamp,
    /// How many of its bundles had a node that runs, at most.
    pub ready: u64,
    /// How many times it was given up for a while.
    pub tries: u32,
    /// Until when nothing is planned for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
}
