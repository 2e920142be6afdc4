//! Limits how fast groups grow, as the `scaleUp` behaviour of a HorizontalPodAutoscaler does.
//!
//! Limits are in nodes, of each group and of all together, and known to placing: what one group may
//! not take goes to another that fits, and a placement group is planned whole or not at all. A
//! minimum is never held up. Without limits as the default: demand is there now.
//!
//! # Why a placement group may exceed a limit
//!
//! It needs all of its nodes at one time. One that needs more than a period allows would wait for
//! ever, so that a period in which nothing was launched yet admits the largest one that is pending.

use serde::{Deserialize, Serialize};

use crate::model::{ClusterSnapshot, GangRequest, WorkerGroup};

use super::lately::Lately;
use super::rate::{Base, Rates, Select, Way, in_nodes};
use super::{Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "rate_up",
    stage: Stage::Settle,
    summary: "grow no faster than so many nodes, or such a part, per period",
    build: |settings| Ok(Box::new(parse::<RateUp>(settings)?.checked()?)),
    default_settings: value_of::<RateUp>,
    schema: schema_of::<RateUp>,
};

const CODE: &str = "rate_up";

#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RateUp {
    /// Limits of each group.
    each: Rates,
    /// Limits of all groups together.
    all: Rates,
}

impl RateUp {
    fn checked(self) -> Result<Self, String> {
        let problem = self
            .each
            .problem("each")
            .or_else(|| self.all.problem("all"));
        problem.map_or(Ok(self), Err)
    }
}

impl Policy for RateUp {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        if !self.each.is_set() && !self.all.is_set() {
            return;
        }
        let lately = Lately::of(ctx);
        let gang = largest_gang(ctx.snapshot);
        let (mut nodes, mut smallest, mut largest) = (0_u64, u64::MAX, 1_u64);
        for group in &ctx.snapshot.groups {
            let hosts = hosts(group);
            let now = u64::from(plan.replicas_to(&group.name)).saturating_mul(hosts);
            nodes = nodes.saturating_add(now);
            (smallest, largest) = (smallest.min(hosts), largest.max(hosts));
            let sums = |period| in_nodes(lately.sums(&group.name, ctx.now, period), hosts);
            let base = Base { nodes: now, hosts };
            let wanted = gang.saturating_mul(hosts);
            if let Some(left) = left(&self.each, base, (wanted, &sums)) {
                let left = u32::try_from(left / hosts).unwrap_or(u32::MAX);
                let most = plan.replicas_to(&group.name).saturating_add(left);
                plan.limit(&group.name, most, CODE, "no more nodes per period");
            }
            for rates in [&self.each, &self.all] {
                if let Some(at) = rates.again_at(&lately, &group.name, ctx.now) {
                    plan.recheck_at(at);
                }
            }
        }
        let sums = |period| {
            let groups = ctx.snapshot.groups.iter();
            let each = groups.map(|it| in_nodes(lately.sums(&it.name, ctx.now, period), hosts(it)));
            each.fold((0, 0), |(up, down): (u64, u64), (launched, removed)| {
                (up.saturating_add(launched), down.saturating_add(removed))
            })
        };
        let base = Base {
            nodes,
            hosts: smallest.min(largest),
        };
        if let Some(left) = left(&self.all, base, (gang.saturating_mul(largest), &sums)) {
            plan.pool_mut().cap_growth(left, CODE);
        }
    }
}

fn hosts(group: &WorkerGroup) -> u64 {
    u64::from(group.num_of_hosts.max(1))
}

/// Returns how many nodes may still come; a quiet period admits the largest placement group.
fn left(rates: &Rates, base: Base, (gang, sums): (u64, &dyn Fn(u64) -> (u64, u64))) -> Option<u64> {
    let left = rates.left(Way::Up, base, sums)?;
    let is_quiet = sums(rates.longest_ms()).0 == 0;
    let is_admitted = is_quiet && rates.select != Select::Disabled;
    Some(if is_admitted { left.max(gang) } else { left })
}

/// Returns the most nodes that a pending placement group may need: one for each of its bundles.
fn largest_gang(snapshot: &ClusterSnapshot) -> u64 {
    let nodes = |gang: &GangRequest| gang.bundles.iter().map(|bundle| bundle.count).sum();
    snapshot.gangs.iter().map(nodes).max().unwrap_or(0)
}
