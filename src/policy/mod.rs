//! The rules, one file each: a chain of policies edits a draft, the [`Plan`].
//!
//! A policy is built once from its settings and keeps no state; what may be remembered is in
//! `History`. The registry can be extended from outside the crate, see [`Registry::register`].
//!
//! # Why there is a stage before proposing
//!
//! What the RayCluster itself demands (minimum, lowered maximum, pods without a raylet) comes
//! before any demand is looked at, as in Ray: nodes that leave must not take requests. Its limits
//! are known to placing, so that no later rule can exceed them. `stopped`, `minimum` and
//! `maximum` are therefore in a stage of their own, `Settle`, rather than among the proposals.
#![deny(clippy::disallowed_types)]

mod blast_radius;
mod constraint;
mod course;
mod demand;
mod explain;
mod fair_share;
mod gangs;
mod gpu_sparing;
mod group_availability;
mod group_plan;
mod group_priority;
mod growth_slices;
mod idle;
mod lately;
mod leaving;
mod limits;
mod locked;
mod maximum;
mod minimum;
mod ordered;
mod packing;
mod patience;
mod pending_idle;
mod plan;
mod rate;
mod rate_down;
mod rate_up;
mod recycle;
mod registry;
mod runaway;
mod running_first;
mod settings;
mod stabilization;
mod staying;
mod stopped;
mod to_come;
mod upscaling_mode;

use serde::{Deserialize, Serialize};

use crate::model::{ClusterSnapshot, History, Timestamp};
use crate::placement::Caps;

pub use group_plan::GroupPlan;
pub use leaving::Release;
pub(crate) use locked::{LOCK_AFTER_MS, LOCKED, lock_of};
pub use plan::{Claim, Plan};
pub use registry::{PolicyEntry, Registry, policies};
pub use settings::{HumanDuration, parse, schema_of, value_of};

/// Orders the chain; inside a stage the configuration decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Applies what the RayCluster itself demands, and sets how groups are chosen.
    Settle,
    /// Raises groups for demand.
    Propose,
    /// Reshapes what was proposed.
    Shape,
    /// Holds back what must not happen.
    Guard,
}

/// Holds what a policy may look at.
#[derive(Debug, Clone, Copy)]
pub struct PolicyContext<'a> {
    /// The facts.
    pub snapshot: &'a ClusterSnapshot,
    /// What is remembered.
    pub history: &'a History,
    /// The moment of the decision.
    pub now: Timestamp,
}

/// Edits the draft of a decision.
pub trait Policy: Send + Sync {
    /// Applies the rule.
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan);

    /// Returns the caps over all groups that it sets, for whoever checks decisions.
    fn caps(&self) -> Option<Caps> {
        None
    }
}
