//! Prefers groups whose nodes come when they are asked for.
//!
//! A group whose pod took longer than an hour to start is marked, and counts as less available
//! until some time has passed or a later pod of it runs. As in Ray this decides between groups
//! that fit equally well.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::placement::Availability;

use super::{
    HumanDuration, Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "group_availability",
    stage: Stage::Settle,
    summary: "prefer groups whose nodes came when they were asked for",
    build: |settings| Ok(Box::new(parse::<GroupAvailability>(settings)?)),
    default_settings: value_of::<GroupAvailability>,
    schema: schema_of::<GroupAvailability>,
};

/// After a failure a group is not available at all for so long, if the window is not shorter.
const NOT_AT_ALL_MS: u64 = 10_000;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct GroupAvailability {
    /// How long a group takes to count as available again.
    window: HumanDuration,
    /// Availability of groups by name, in place of what was seen; 1 is full, 0 is none.
    fixed: BTreeMap<String, Fixed>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Fixed {
    /// Decides before the priority of groups.
    recoverable: f64,
    /// Decides after it.
    lasting: f64,
}

impl Default for Fixed {
    fn default() -> Self {
        Self {
            recoverable: 1.0,
            lasting: 1.0,
        }
    }
}

impl Default for GroupAvailability {
    fn default() -> Self {
        Self {
            // What Ray's own autoscaler takes.
            window: HumanDuration::from_ms(600_000),
            fixed: BTreeMap::new(),
        }
    }
}

impl Policy for GroupAvailability {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let failures = &ctx.history.start_failed_at;
        if failures.is_empty() && self.fixed.is_empty() {
            return;
        }
        let newest = failures.values().max().copied().unwrap_or_default();
        let mut availability = BTreeMap::new();
        for (at, name) in plan.groups().iter().enumerate() {
            if let Some(fixed) = self.fixed.get(name.as_str()) {
                let (recoverable, lasting) = (fixed.recoverable, fixed.lasting);
                availability.insert(
                    at,
                    Availability {
                        recoverable,
                        lasting,
                    },
                );
            } else if let Some(failed_at) = failures.get(name) {
                let recoverable = self.recovered(ctx.now.millis_since(*failed_at));
                let lasting = lasting(*failed_at, newest);
                availability.insert(
                    at,
                    Availability {
                        recoverable,
                        lasting,
                    },
                );
            }
        }
        plan.pool_mut().choice_mut().availability = availability;
    }
}

impl GroupAvailability {
    fn recovered(&self, age_ms: u64) -> f64 {
        let window = self.window.as_ms();
        if age_ms >= window {
            return 1.0;
        }
        if age_ms < NOT_AT_ALL_MS.min(window / 10) {
            return 0.0;
        }
        share(age_ms, window)
    }
}

/// Returns an order of failures, the newest last; as in Ray the numbers mean nothing else.
fn lasting(failed_at: Timestamp, newest: Timestamp) -> f64 {
    share(
        newest.millis_since(failed_at),
        newest.millis_since(Timestamp::default()).max(1),
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 are exact in f64"
)]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
