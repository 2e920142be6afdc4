//! How much may change within a time: the arithmetic behind every rate limit.
//!
//! As in the HorizontalPodAutoscaler's behaviour there are several limits of a number or a part per
//! period, of which the largest or the smallest counts. Unlike there a removal does not give growth
//! back, and growth no removal: a group that goes up and down all the time is what a limit is for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{RemovalCause, Timestamp, WorkerGroupName};
use crate::placement::ReplicaState;

use super::lately::Lately;
use super::{GroupPlan, HumanDuration, Plan, PolicyContext};

/// History goes no further back. Units: milliseconds.
const PERIOD_MAX_MS: u64 = 3_600_000;

/// Says what a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    /// Nodes.
    Nodes,
    /// Hundredths of the nodes that were there when the period began; at least one node.
    Percent,
}

/// Says which of several limits counts.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(super) enum Select {
    /// The one that allows most.
    #[default]
    Max,
    /// The one that allows least.
    Min,
    /// None: nothing may change.
    Disabled,
}

/// Allows so much within a period.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    /// What `value` counts.
    #[serde(rename = "type")]
    pub(super) unit: Unit,
    /// How much; at least 1.
    pub(super) value: u32,
    /// Within which time; up to an hour.
    pub(super) period: HumanDuration,
}

/// Holds limits; without any nothing is limited.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rates {
    /// Which limit counts.
    pub(super) select: Select,
    /// The limits.
    pub(super) policies: Vec<Rate>,
}

/// Says what is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// What is known of nodes that may change. Units: nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    /// Nodes now, without what this decision changes.
    pub(super) nodes: u64,
    /// Nodes of one replica.
    pub(super) hosts: u64,
}

impl Rates {
    pub(super) fn is_set(&self) -> bool {
        !self.policies.is_empty() || self.select == Select::Disabled
    }

    /// Returns what is wrong with the limits, with the path of it.
    pub(super) fn problem(&self, path: &str) -> Option<String> {
        self.policies.iter().enumerate().find_map(|(at, rate)| {
            let period = rate.period.as_ms();
            if rate.value == 0 {
                let accepted = "accepted: 1 or more, or select: disabled";
                return Some(format!("{path}.policies[{at}].value: 0; {accepted}"));
            }
            (period == 0 || period > PERIOD_MAX_MS).then(|| {
                format!("{path}.policies[{at}].period: {period} ms; accepted: up to 1h, and not 0s")
            })
        })
    }

    /// Returns how many nodes may still change; `None` for no limit.
    ///
    /// `sums` returns what was asked for and what was removed within so many milliseconds. A period in
    /// which nothing has changed yet allows one replica, however many nodes it has.
    pub(super) fn left(
        &self,
        way: Way,
        base: Base,
        sums: impl Fn(u64) -> (u64, u64),
    ) -> Option<u64> {
        let left = self.policies.iter().map(|rate| {
            let (launched, removed) = sums(rate.period.as_ms());
            let (used, began) = match way {
                Way::Up => (launched, base.nodes.saturating_sub(launched)),
                Way::Down => (removed, base.nodes.saturating_add(removed)),
            };
            let allowed = match rate.unit {
                Unit::Nodes => u64::from(rate.value),
                Unit::Percent => (began.saturating_mul(u64::from(rate.value)) / 100).max(1),
            };
            let left = allowed.saturating_sub(used);
            if used == 0 {
                left.max(base.hosts)
            } else {
                left
            }
        });
        match self.select {
            Select::Max => left.max(),
            Select::Min => left.min(),
            Select::Disabled => Some(0),
        }
    }

    /// Returns the longest of the periods.
    pub(super) fn longest_ms(&self) -> u64 {
        let periods = self.policies.iter().map(|rate| rate.period.as_ms());
        periods.max().unwrap_or(0)
    }

    /// Returns when one of the limits may allow more.
    pub(super) fn again_at(
        &self,
        lately: &Lately,
        name: &WorkerGroupName,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let periods = self.policies.iter().map(|rate| rate.period.as_ms());
        periods
            .map(|period| lately.next_change(name, now, period))
            .min()
    }
}

/// Returns the sums of a group in nodes.
pub(super) fn in_nodes((launched, removed): (u32, u32), hosts: u64) -> (u64, u64) {
    let nodes = |replicas: u32| u64::from(replicas).saturating_mul(hosts);
    (nodes(launched), nodes(removed))
}

/// Lets idle replicas stay where too many would go at once.
pub(super) struct Brake<'a> {
    /// What may go of one group.
    pub(super) each: &'a Rates,
    /// What may go of all together.
    pub(super) all: &'a Rates,
    /// The reason.
    pub(super) code: &'a str,
}

/// What is known of one group. Units: nodes.
struct Tally {
    name: WorkerGroupName,
    base: Base,
    /// To go in this decision.
    going: u64,
    /// Replicas that are to stay instead.
    back: u64,
}

impl Brake<'_> {
    pub(super) fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let is_going = |name: &WorkerGroupName| plan.group(name).is_some_and(|it| going(it) > 0);
        if !plan.groups().iter().any(is_going) {
            return;
        }
        let lately = Lately::of(ctx);
        let mut tallies: Vec<Tally> = Vec::new();
        for group in &ctx.snapshot.groups {
            let Some(draft) = plan.group(&group.name) else {
                continue;
            };
            let hosts = u64::from(group.num_of_hosts.max(1));
            // What was drained and could not be named is there, and is counted as removed already.
            let is_counted = |replica: &&ReplicaState| {
                let mut nodes = replica.nodes(ctx.snapshot);
                nodes.any(|node| ctx.history.ends_idle(&node.name))
            };
            let present = draft.live.iter().filter(|replica| !is_counted(replica));
            let present = u64::try_from(present.count()).unwrap_or(u64::MAX);
            let nodes = present.saturating_mul(hosts);
            let mut tally = Tally {
                name: group.name.clone(),
                base: Base { nodes, hosts },
                going: going(draft).saturating_mul(hosts),
                back: 0,
            };
            let sums = |period| in_nodes(lately.sums(&group.name, ctx.now, period), hosts);
            if let Some(left) = self.each.left(Way::Down, tally.base, sums) {
                let too_many = tally.going.saturating_sub(left).div_ceil(hosts);
                tally.keep(too_many);
            }
            tallies.push(tally);
        }
        self.limit_all(ctx, &lately, &mut tallies);
        for tally in tallies.iter().filter(|tally| tally.back > 0) {
            let most = u32::try_from(tally.back).unwrap_or(u32::MAX);
            plan.take_back(&tally.name, most, self.code);
            for rates in [self.each, self.all] {
                if let Some(at) = rates.again_at(&lately, &tally.name, ctx.now) {
                    plan.recheck_at(at);
                }
            }
        }
    }

    /// Lets replicas stay until all groups together keep the limit, of the group that gives up most.
    fn limit_all(&self, ctx: PolicyContext<'_>, lately: &Lately, tallies: &mut [Tally]) {
        let of = |part: fn(&Tally) -> u64| tallies.iter().map(part).fold(0, u64::saturating_add);
        let moving = tallies.iter().filter(|tally| tally.going > 0);
        let base = Base {
            nodes: of(|tally| tally.base.nodes),
            hosts: moving.map(|tally| tally.base.hosts).min().unwrap_or(1),
        };
        let sums = |period| {
            let each = tallies
                .iter()
                .map(|tally| in_nodes(lately.sums(&tally.name, ctx.now, period), tally.base.hosts));
            each.fold((0, 0), |(up, down): (u64, u64), (launched, removed)| {
                (up.saturating_add(launched), down.saturating_add(removed))
            })
        };
        let Some(left) = self.all.left(Way::Down, base, sums) else {
            return;
        };
        let mut going = of(|tally| tally.going);
        // By size, so that each step takes the largest: ties go to the later group.
        let mut order: BTreeMap<(u64, usize), ()> = BTreeMap::new();
        order.extend(
            tallies
                .iter()
                .enumerate()
                .map(|(at, tally)| ((tally.going, at), ())),
        );
        let mut kept = vec![0_u64; tallies.len()];
        while going > left {
            let Some(((nodes, at), ())) = order.pop_last().filter(|((nodes, _), ())| *nodes > 0)
            else {
                return;
            };
            let Some(tally) = tallies.get_mut(at) else {
                return;
            };
            tally.keep(1);
            kept[at] += 1;
            going = going.saturating_sub(nodes.saturating_sub(tally.going));
            order.insert((tally.going, at), ());
        }
        // A replica of several hosts may have left room for smaller ones: else the next decision would use it.
        for (tally, kept) in tallies.iter_mut().zip(kept) {
            let room = left.saturating_sub(going) / tally.base.hosts.max(1);
            let more = room.min(kept);
            tally.let_go(more);
            going = going.saturating_add(more.saturating_mul(tally.base.hosts));
        }
    }
}

impl Tally {
    fn keep(&mut self, replicas: u64) {
        self.back = self.back.saturating_add(replicas);
        let nodes = replicas.saturating_mul(self.base.hosts);
        self.going = self.going.saturating_sub(nodes);
    }

    fn let_go(&mut self, replicas: u64) {
        self.back = self.back.saturating_sub(replicas);
        let nodes = replicas.saturating_mul(self.base.hosts);
        self.going = self.going.saturating_add(nodes);
    }
}

/// Counts the replicas that go because they are idle.
fn going(group: &GroupPlan) -> u64 {
    let removals = group.removals().iter();
    let idle = removals.filter(|removal| removal.cause == RemovalCause::Idle);
    u64::try_from(idle.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Base, Rate, Rates, Select, Unit, Way};
    use crate::policy::HumanDuration;

    fn rates(select: Select, policies: &[(Unit, u32, u64)]) -> Rates {
        let rate = |(unit, value, period): &(Unit, u32, u64)| Rate {
            unit: *unit,
            value: *value,
            period: HumanDuration::from_ms(*period),
        };
        Rates {
            select,
            policies: policies.iter().map(rate).collect(),
        }
    }

    /// Four launched and two removed within 10 s, twice that within a minute.
    fn sums(period: u64) -> (u64, u64) {
        if period <= 10_000 { (4, 2) } else { (8, 4) }
    }

    #[test]
    fn the_selected_limit_counts() {
        let base = Base {
            nodes: 20,
            hosts: 1,
        };
        let two = [(Unit::Nodes, 10, 10_000), (Unit::Percent, 100, 60_000)];
        let cases = [
            (Select::Max, Way::Up, Some(6)),
            (Select::Min, Way::Up, Some(4)),
            (Select::Max, Way::Down, Some(20)),
            (Select::Min, Way::Down, Some(8)),
            (Select::Disabled, Way::Up, Some(0)),
        ];
        for (select, way, expected) in cases {
            assert_eq!(rates(select, &two).left(way, base, sums), expected);
        }
        assert_eq!(rates(Select::Min, &[]).left(Way::Up, base, sums), None);
    }

    #[test]
    fn a_quiet_period_allows_one_replica_and_growth_from_nothing() {
        let base = Base {
            nodes: 0,
            hosts: 16,
        };
        let few = rates(Select::Max, &[(Unit::Nodes, 4, 10_000)]);
        assert_eq!(few.left(Way::Up, base, |_| (0, 0)), Some(16));
        assert_eq!(few.left(Way::Up, base, |_| (16, 0)), Some(0));
        let part = rates(Select::Max, &[(Unit::Percent, 50, 10_000)]);
        let one = Base { nodes: 0, hosts: 1 };
        assert_eq!(part.left(Way::Up, one, |_| (0, 0)), Some(1));
    }

    #[test]
    fn a_limit_that_could_never_be_kept_is_refused() {
        let wrong = rates(Select::Max, &[(Unit::Nodes, 0, 10_000)]);
        assert!(
            wrong
                .problem("each")
                .unwrap()
                .starts_with("each.policies[0].value")
        );
        let long = rates(Select::Max, &[(Unit::Nodes, 1, 3_600_001)]);
        assert!(
            long.problem("all")
                .unwrap()
                .starts_with("all.policies[0].period")
        );
        assert_eq!(
            rates(Select::Min, &[(Unit::Nodes, 1, 1)]).problem("all"),
            None
        );
    }
}
