//! Where a decision stopped that was cut short, so that the next one goes on there.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{GangRequest, WorkerGroupName};

/// Names the demand that comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextDemand {
    /// Placement groups from this one on, and tasks.
    Gang {
        /// As the GCS has it.
        details: String,
        /// Bundles with constraints.
        constraint_count: u64,
        /// Bundles in all.
        bundle_count: u64,
    },
    /// Tasks and actors.
    Tasks,
}

impl NextDemand {
    /// Names a placement group.
    #[must_use]
    pub fn gang(gang: &GangRequest) -> Self {
        Self::Gang {
            details: gang.details.clone(),
            constraint_count: gang.constraint_count,
            bundle_count: gang.bundle_count,
        }
    }

    /// Returns whether a placement group comes before this.
    #[must_use]
    pub fn is_after(&self, gang: &GangRequest) -> bool {
        let place = |constraints, bundles| (Reverse(constraints), Reverse(bundles));
        match self {
            Self::Tasks => true,
            Self::Gang {
                details,
                constraint_count,
                bundle_count,
            } => {
                let own = place(*constraint_count, *bundle_count);
                let other = place(gang.constraint_count, gang.bundle_count);
                (other, &gang.details) < (own, details)
            }
        }
    }
}

/// Holds what the next decision has to know of those that were cut short before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Where it goes on.
    pub next: NextDemand,
    /// Replicas that were launched for what has been looked at, by group: they serve nothing else.
    pub launched: BTreeMap<WorkerGroupName, u32>,
}
