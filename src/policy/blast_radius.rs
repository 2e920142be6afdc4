//! Limits how much of a group, and of all of them, may go as idle within a short time.
//!
//! Why on by default: a GCS that reports every node as idle for an instant, or a driver that starts
//! again, must not cost the cluster. Each node that goes by mistake costs minutes, each that stays a
//! minute too long costs a minute. A tenth, as disruption budgets often have it, would keep large
//! idle clusters for hours; with a quarter a minute 100 idle nodes are gone after seven minutes, and
//! groups of up to ten nodes are not slowed down at all.
//!
//! Orders are not limited: a lowered maximum, and names that a user wrote.

use serde::{Deserialize, Serialize};

use super::rate::{Brake, Rate, Rates, Select, Unit};
use super::{
    HumanDuration, Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "blast_radius",
    stage: Stage::Guard,
    summary: "remove only a part of a group, and of all, as idle within a minute",
    build: |settings| Ok(Box::new(parse::<BlastRadius>(settings)?.checked()?)),
    default_settings: value_of::<BlastRadius>,
    schema: schema_of::<BlastRadius>,
};

/// Both are allowed: whichever is more.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Share {
    /// Nodes; at least 1.
    nodes: u32,
    /// Hundredths of the nodes that were there when the window began; 100 is no limit.
    percent: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct BlastRadius {
    /// What may go of one group within the window.
    each: Share,
    /// What may go of all groups together.
    all: Share,
    /// The window; up to an hour.
    window: HumanDuration,
}

impl Default for BlastRadius {
    fn default() -> Self {
        let share = |nodes| Share { nodes, percent: 25 };
        Self {
            // Small groups are not held up.
            each: share(10),
            all: share(20),
            // As long as Ray's own idle timeout: what was idle by mistake is busy again by then.
            window: HumanDuration::from_ms(60_000),
        }
    }
}

impl BlastRadius {
    fn checked(self) -> Result<Self, String> {
        let problem = self.rates(self.each).problem("each");
        match problem.or_else(|| self.rates(self.all).problem("all")) {
            Some(_) => Err("each.nodes, each.percent, all.nodes, all.percent, window: accepted: 1 or more, and a window up to 1h".to_owned()),
            None => Ok(self),
        }
    }

    fn rates(&self, share: Share) -> Rates {
        let rate = |unit, value| Rate {
            unit,
            value,
            period: self.window,
        };
        Rates {
            select: Select::Max,
            policies: vec![
                rate(Unit::Nodes, share.nodes),
                rate(Unit::Percent, share.percent),
            ],
        }
    }
}

impl Policy for BlastRadius {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let brake = Brake {
            each: &self.rates(self.each),
            all: &self.rates(self.all),
            code: "blast_radius",
        };
        brake.apply(ctx, plan);
    }
}
