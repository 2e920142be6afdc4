//! Lets a group follow only what was asked of it for some time.
//!
//! As in a HorizontalPodAutoscaler: within the window for growing the lowest number counts that the
//! group was to have, within the one for shrinking the highest. Both are 0 by default. Growing waits
//! for nothing, since pending work is there now; and for shrinking each node has its own idle timeout
//! already, so that a second wait would only cost nodes.
//!
//! Nodes for placement groups are not held up: they are asked for whole or not at all, and a part of
//! them would only wait for the rest.

use serde::{Deserialize, Serialize};

use crate::model::{Reason, Recommendation, Timestamp, WorkerGroupName};

use super::{
    HumanDuration, Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "stabilization",
    stage: Stage::Guard,
    summary: "grow to the lowest, shrink to the highest number of the last minutes",
    build: |settings| Ok(Box::new(parse::<Stabilization>(settings)?.checked()?)),
    default_settings: value_of::<Stabilization>,
    schema: schema_of::<Stabilization>,
};

const CODE: &str = "stabilization";

/// Longer windows are for schedules. Units: milliseconds.
const WINDOW_MAX_MS: u64 = 3_600_000;

/// Entries of a window; what lies closer together becomes one and counts for longer.
const ENTRIES: u64 = 60;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Stabilization {
    /// Window for growing; up to an hour.
    up: HumanDuration,
    /// Window for shrinking; up to an hour.
    down: HumanDuration,
}

impl Default for Stabilization {
    fn default() -> Self {
        let none = HumanDuration::from_ms(0);
        Self {
            up: none,
            down: none,
        }
    }
}

impl Policy for Stabilization {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let longest = self.up.as_ms().max(self.down.as_ms());
        if longest == 0 {
            return;
        }
        for name in plan.groups() {
            let (from, wanted) = (plan.replicas_from(&name), plan.replicas_to(&name));
            let past = ctx.history.pace.recommended(&name);
            self.hold_growth(ctx, plan, (&name, past));
            self.hold_shrinking(ctx, plan, (&name, past));
            let list = with(past, ctx.now, (from, wanted), longest);
            plan.remember_recommended(&name, list);
        }
    }
}

impl Stabilization {
    fn checked(self) -> Result<Self, String> {
        for (key, window) in [("up", self.up), ("down", self.down)] {
            let ms = window.as_ms();
            if ms > WINDOW_MAX_MS {
                return Err(format!("{key}: {ms} ms; accepted: up to 1h"));
            }
        }
        Ok(self)
    }

    fn hold_growth(
        &self,
        ctx: PolicyContext<'_>,
        plan: &mut Plan,
        (name, past): (&WorkerGroupName, &[Recommendation]),
    ) {
        let (from, to) = (plan.replicas_from(name), plan.replicas_to(name));
        if self.up.as_ms() == 0 || to <= from {
            return;
        }
        let within = within(past, ctx.now, self.up.as_ms());
        // Nothing remembered is no reason to hurry: as if it had been as it is.
        let lowest = within.min_by_key(|it| (it.min, it.at));
        let (least, at) = lowest.map_or((from, ctx.now), |it| (it.min, it.at));
        let surplus = to.saturating_sub(least.max(from));
        let reasons = plan
            .group(name)
            .into_iter()
            .flat_map(|group| &group.reasons);
        let for_tasks = reasons.filter(|it| it.code == "tasks").map(grown);
        let surplus = surplus.min(for_tasks.fold(0, u32::saturating_add));
        if surplus > 0 {
            plan.withdraw(name, surplus, CODE);
            plan.recheck_at(at.plus_ms(self.up.as_ms()).max(ctx.now.plus_ms(1)));
        }
    }

    fn hold_shrinking(
        &self,
        ctx: PolicyContext<'_>,
        plan: &mut Plan,
        (name, past): (&WorkerGroupName, &[Recommendation]),
    ) {
        let (from, to) = (plan.replicas_from(name), plan.replicas_to(name));
        if self.down.as_ms() == 0 || to >= from {
            return;
        }
        let within = within(past, ctx.now, self.down.as_ms());
        let highest = within.max_by_key(|it| (it.max, it.at));
        let (most, at) = highest.map_or((from, ctx.now), |it| (it.max, it.at));
        let missing = most.min(from).saturating_sub(to);
        if missing > 0 && plan.take_back(name, missing, CODE) > 0 {
            plan.recheck_at(at.plus_ms(self.down.as_ms()).max(ctx.now.plus_ms(1)));
        }
    }
}

fn grown(reason: &Reason) -> u32 {
    reason.to.saturating_sub(reason.from)
}

fn within(
    past: &[Recommendation],
    now: Timestamp,
    window_ms: u64,
) -> impl Iterator<Item = &Recommendation> {
    past.iter()
        .filter(move |it| now.millis_since(it.at) < window_ms)
}

/// Returns what is to be remembered: what lies within the window, and this.
fn with(
    past: &[Recommendation],
    now: Timestamp,
    (from, wanted): (u32, u32),
    window_ms: u64,
) -> Vec<Recommendation> {
    let mut list: Vec<Recommendation> = within(past, now, window_ms).copied().collect();
    // An entry is closed when it is as old as its part of the window, counted from the one before.
    let opened = list.iter().rev().nth(1).map(|it| it.at);
    let is_open = opened.is_some_and(|at| now.millis_since(at) < 2 * (window_ms / ENTRIES).max(1));
    if list.is_empty() {
        // As if it had been as it is until now.
        list.push(Recommendation {
            at: now,
            min: from,
            max: from,
        });
    }
    match list.last_mut().filter(|_| is_open) {
        Some(last) => {
            last.at = now;
            last.min = last.min.min(wanted);
            last.max = last.max.max(wanted);
        }
        None => list.push(Recommendation {
            at: now,
            min: wanted,
            max: wanted,
        }),
    }
    list
}

#[cfg(test)]
mod tests {
    use super::{ENTRIES, with};
    use crate::model::Timestamp;

    #[test]
    fn what_is_remembered_is_bounded_and_forgets_no_extreme() {
        let mut list = Vec::new();
        for at in 0..20_000 {
            let wanted = if at == 19_000 { 9 } else { 5 };
            list = with(&list, Timestamp::from_ms(at * 100), (5, wanted), 600_000);
            assert!(
                u64::try_from(list.len()).unwrap() <= 2 * ENTRIES + 2,
                "{}",
                list.len()
            );
        }
        assert!(list.len() > 10);
        assert_eq!(list.iter().map(|it| it.max).max(), Some(9));
        assert_eq!(list.iter().map(|it| it.min).min(), Some(5));
    }
}
