//! Freezes a group that is asked for again and again although nothing comes of it, or that goes up
//! and down all the time.
//!
//! Neither happens while everything works: every replica that was launched is on its way, runs, or
//! was taken away by us, and an idle timeout lies between growing and shrinking. So the limits are
//! generous and on by default; they catch what nobody has thought of: a second writer that lowers
//! `replicas`, nodes that are not what their spec promises, a policy that contradicts another one.
//!
//! A frozen group neither grows (but for its minimum) nor gives up what is idle. It thaws by itself,
//! when enough of what was done lies outside of the window.

use serde::{Deserialize, Serialize};

use crate::model::{Hold, NodeStatus, Timestamp, WorkerGroup};

use super::lately::Lately;
use super::{
    GroupPlan, HumanDuration, Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of,
    value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "runaway",
    stage: Stage::Settle,
    summary: "freeze groups that are launched in vain, or that go up and down all the time",
    build: |settings| Ok(Box::new(parse::<Runaway>(settings)?.checked()?)),
    default_settings: value_of::<Runaway>,
    schema: schema_of::<Runaway>,
};

const CODE: &str = "runaway";

/// History goes no further back. Units: milliseconds.
const WINDOW_MAX_MS: u64 = 3_600_000;

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Runaway {
    /// How far back is looked; up to an hour.
    window: HumanDuration,
    /// Nodes of one group that may be launched in vain within the window, and as many as it has.
    vain_each: u64,
    /// The same of all groups together.
    vain_all: u64,
    /// How often a group may change its direction within the window.
    turns: u32,
}

impl Default for Runaway {
    fn default() -> Self {
        Self {
            window: HumanDuration::from_ms(600_000),
            // A burst that somebody takes back by hand before its pods come is no runaway.
            vain_each: 50,
            vain_all: 100,
            // Ray's own idle timeout of a minute allows at most ten rises and falls.
            turns: 30,
        }
    }
}

/// What was done in vain, and what there is. Units: nodes.
#[derive(Debug, Clone, Copy, Default)]
struct Balance {
    vain: u64,
    present: u64,
}

impl Policy for Runaway {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let window_ms = self.window.as_ms();
        let lately = Lately::of(ctx);
        let mut all = Balance::default();
        for group in &ctx.snapshot.groups {
            let (launched, _) = lately.sums(&group.name, ctx.now, window_ms);
            let Some(draft) = plan.group(&group.name) else {
                continue;
            };
            let balance = self.balance(ctx, (group, draft), launched);
            all.vain = all.vain.saturating_add(balance.vain);
            all.present = all.present.saturating_add(balance.present);
            let turns = turns(&lately, group, ctx.now, window_ms);
            let detail = if balance.is_above(self.vain_each) {
                format!("{} nodes were launched in vain", balance.vain)
            } else if turns > self.turns {
                format!("its direction changed {turns} times")
            } else {
                continue;
            };
            let until = lately.next_change(&group.name, ctx.now, window_ms);
            freeze(plan, group, &detail, until);
        }
        if all.is_above(self.vain_all) {
            let detail = format!("{} nodes of all groups were launched in vain", all.vain);
            for group in &ctx.snapshot.groups {
                let until = lately.next_change(&group.name, ctx.now, window_ms);
                freeze(plan, group, &detail, until);
            }
        }
    }
}

impl Runaway {
    fn checked(self) -> Result<Self, String> {
        let window_ms = self.window.as_ms();
        if window_ms == 0 || window_ms > WINDOW_MAX_MS {
            return Err(format!(
                "window: {window_ms} ms; accepted: up to 1h, and not 0s"
            ));
        }
        Ok(self)
    }

    /// Returns what came of the launches: whoever is on its way, runs since then or was taken away by us.
    fn balance(
        &self,
        ctx: PolicyContext<'_>,
        (group, draft): (&WorkerGroup, &GroupPlan),
        launched: u32,
    ) -> Balance {
        let hosts = u64::from(group.num_of_hosts.max(1));
        let since = ctx.now.minus_ms(self.window.as_ms());
        let has_come = |node: &crate::model::Node| match node.status {
            NodeStatus::Queued | NodeStatus::Requested | NodeStatus::Starting => true,
            _ => node.created_at.is_some_and(|at| at >= since),
        };
        let nodes = draft
            .live
            .iter()
            .flat_map(|replica| replica.nodes(ctx.snapshot));
        let (mut present, mut come) = (0_u64, 0_u64);
        for node in nodes {
            present = present.saturating_add(1);
            come = come.saturating_add(u64::from(has_come(node)));
        }
        let to_come = u64::from(draft.to_come()).saturating_mul(hosts);
        let gone = ctx.history.pace.events(&group.name).iter();
        let gone = gone
            .filter(|event| event.at >= since)
            .fold(0_u64, |sum, event| {
                sum.saturating_add(u64::from(event.named))
            });
        let come = come
            .saturating_add(to_come)
            .saturating_add(gone.saturating_mul(hosts));
        let launched = u64::from(launched).saturating_mul(hosts);
        Balance {
            vain: launched.saturating_sub(come),
            present: present.saturating_add(to_come),
        }
    }
}

impl Balance {
    fn is_above(self, allowed: u64) -> bool {
        self.vain > allowed.max(self.present)
    }
}

/// Counts how often a group went the other way.
fn turns(lately: &Lately, group: &WorkerGroup, now: Timestamp, window_ms: u64) -> u32 {
    let (mut turns, mut was_up) = (0_u32, None);
    for event in lately.within(&group.name, now, window_ms) {
        let ways = [(event.launched, true), (event.removed, false)];
        for (_, is_up) in ways.into_iter().filter(|(count, _)| *count > 0) {
            let has_turned = was_up.is_some_and(|was_up| was_up != is_up);
            turns = turns.saturating_add(u32::from(has_turned));
            was_up = Some(is_up);
        }
    }
    turns
}

fn freeze(plan: &mut Plan, group: &WorkerGroup, detail: &str, until: Timestamp) {
    plan.freeze(&group.name, CODE, &format!("frozen: {detail}"));
    plan.recheck_at(until);
    plan.hold(Hold {
        group: Some(group.name.clone()),
        code: CODE.to_owned(),
        detail: detail.to_owned(),
    });
}
