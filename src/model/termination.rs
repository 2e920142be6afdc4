//! The end of a cluster that nobody uses: `spec.idleTerminationOptions`.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Says what becomes of a cluster without drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TerminationPolicy {
    /// It is suspended: `spec.idleSuspend`.
    Suspend,
    /// It is deleted, after a finalizer for the operator's cleanup was added.
    Delete,
}

impl TerminationPolicy {
    /// Returns the stable word for logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Delete => "delete",
        }
    }
}

/// Holds what Ray says of its drivers, those of its own apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drivers {
    /// When it said so.
    pub at: Timestamp,
    /// Whether any is attached.
    pub is_any: bool,
    /// When the last one ended, by Ray's clock; 0 when none has.
    ///
    /// Units: milliseconds since 1970.
    pub ended_at_ms: u64,
}

/// Holds what the RayCluster asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleTermination {
    /// How long there must have been no driver.
    pub timeout_ms: u64,
    /// What is done then.
    pub policy: TerminationPolicy,
    /// Whether `spec.idleSuspend` is set already.
    #[serde(default)]
    pub is_suspending: bool,
    /// What Ray says; `None` when it did not say, which counts as a driver.
    pub drivers: Option<Drivers>,
    /// Why it cannot be done; `None` while it can, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}
