//! Places pending placement groups, each whole or not at all.
//!
//! The strategies: STRICT_SPREAD bundles refuse a node that has a sibling; a STRICT_PACK group
//! arrives as one summed bundle; PACK and SPREAD are packed alike, as Ray's own scheduler does,
//! unless `spread` says otherwise. Then it is tried with every bundle apart, and where that is too much to ask for the
//! largest number of nodes is looked for by halves: a dozen tries for thousands of bundles.
//! Groups with placement constraints go first, then large ones.
//!
//! A group that stays incomplete for too long lets go of its nodes for a while, see `patience`.

use serde::{Deserialize, Serialize};

use crate::model::{
    AntiAffinity, GangRequest, Infeasible, NextDemand, PlacementStrategy, ResourceDemand, Unserved,
};
use crate::placement::{Ledger, Placement};

use super::explain::{Missing, report};
use super::patience::{Patience, Waits, id};
use super::{
    Claim, HumanDuration, Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of,
    value_of,
};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "gangs",
    stage: Stage::Propose,
    summary: "launch for pending placement groups, each whole or not at all",
    build: |settings| Ok(Box::new(parse::<Gangs>(settings)?)),
    default_settings: value_of::<Gangs>,
    schema: schema_of::<Gangs>,
};

const CLASS: &str = "placement_group";

/// Bundles of a SPREAD group that may share a node before it is packed: each is told apart from the others, which costs
/// memory.
const BUNDLES_MAX: u64 = 64;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Gangs {
    /// Whether the bundles of a SPREAD group go to nodes of their own where that is possible,
    /// new nodes included, else to as many nodes as possible; unless set they are packed, as in Ray.
    spread: bool,
    /// Whether a group that cannot be placed as it is most wanted is placed as it would do instead
    /// (`bundle_selectors`); Ray looks at the first list only.
    fallbacks: bool,
    /// How long a group may wait while no further bundle finds a node that runs; null for ever.
    incomplete_after: Option<HumanDuration>,
    /// How long nothing is planned for it then, the first time; doubled each time.
    pause: HumanDuration,
    /// Longest pause.
    pause_max: HumanDuration,
}

impl Default for Gangs {
    fn default() -> Self {
        let minutes = |count: u64| HumanDuration::from_ms(count * 60_000);
        Self {
            spread: false,
            fallbacks: false,
            // As long as a pod may find no Kubernetes node before it is replaced.
            incomplete_after: Some(minutes(15)),
            // Long enough for idle nodes to go, and for others to take them.
            pause: minutes(2),
            pause_max: minutes(30),
        }
    }
}

impl Policy for Gangs {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let is_by_name = plan.pool().corrections().order;
        // A group without bundles has nothing left to place.
        let pending = ctx.snapshot.gangs.iter().enumerate();
        let mut gangs: Vec<(usize, &GangRequest)> = pending
            .filter(|(_, gang)| !gang.bundles.is_empty())
            .collect();
        gangs.sort_by(|(_, a), (_, b)| {
            let size = |gang: &GangRequest| (gang.constraint_count, gang.bundle_count);
            let by_size = size(b).cmp(&size(a));
            let by_name = || (&a.details, &a.bundles).cmp(&(&b.details, &b.bundles));
            if is_by_name {
                by_size.then_with(by_name)
            } else {
                by_size
            }
        });
        let patience = Patience {
            incomplete_after: self.incomplete_after,
            pause: self.pause,
            pause_max: self.pause_max,
        };
        let mut waits = Waits::of(ctx, patience, gangs.iter().map(|(_, gang)| *gang));
        for (at, (position, gang)) in gangs.iter().copied().enumerate() {
            if let Some(until) = waits.paused_until(gang, ctx.now) {
                waits.keep(gang);
                plan.recheck_at(until);
                plan.unserved(waits.pause(gang, (name(gang), CLASS, position)));
                continue;
            }
            if plan.leave_out(gang, || left_out(gang, position)) {
                waits.keep(gang);
                continue;
            }
            let (placement, bundles) = self.place(plan, gang);
            if placement.is_cut {
                let then = gangs.get(at + 1).map(|(_, gang)| NextDemand::gang(gang));
                plan.stop_at(
                    NextDemand::gang(gang),
                    Some(then.unwrap_or(NextDemand::Tasks)),
                );
            }
            if placement.is_complete() {
                let claim = Claim {
                    what: name(gang),
                    class: CLASS.to_owned(),
                    position,
                    is_whole: true,
                };
                waits.planned(gang, placement.ready(plan.pool()), ctx.now);
                plan.accept(&placement, vec![claim; placement.asked()], Ledger::Free);
            } else {
                if placement.is_cut {
                    waits.keep(gang);
                } else {
                    waits.refused(gang);
                }
                refuse(ctx, plan, (position, gang), (&placement, bundles));
            }
        }
        waits.remember(plan);
    }
}

impl Gangs {
    /// Returns the best placement, and the bundles that it is for.
    fn place<'a>(
        &self,
        plan: &mut Plan,
        gang: &'a GangRequest,
    ) -> (Placement, &'a [ResourceDemand]) {
        let mut best: (Placement, &[ResourceDemand]) =
            (self.place_list(plan, gang, &gang.bundles), &gang.bundles);
        let others = gang.fallbacks.iter().filter(|_| self.fallbacks);
        for other in others {
            if best.0.is_complete() {
                break;
            }
            let placement = self.place_list(plan, gang, other);
            // What can never be is not what the group waits for, if something else can.
            if placement.is_complete() || (!plan.is_closed && never(plan, best.1).is_some()) {
                best = (placement, other);
            }
        }
        best
    }

    fn place_list(
        &self,
        plan: &mut Plan,
        gang: &GangRequest,
        bundles: &[ResourceDemand],
    ) -> Placement {
        if !self.spread || gang.strategy != PlacementStrategy::Spread {
            return plan.place(bundles, Ledger::Free);
        }
        let label = format!("_PG_{}", id(gang));
        let count = bundles
            .iter()
            .fold(0, |sum: u64, bundle| sum.saturating_add(bundle.count));
        let apart = plan.place(&spread_over(count, bundles, &label), Ledger::Free);
        if apart.is_complete() {
            return apart;
        }
        let mut best = plan.place(bundles, Ledger::Free);
        // What has no place even together has none apart.
        let (mut least, mut most) = (count.div_ceil(BUNDLES_MAX).max(2), count);
        while best.is_complete() && least < most {
            let nodes = least.midpoint(most);
            let placement = plan.place(&spread_over(nodes, bundles, &label), Ledger::Free);
            if placement.is_cut {
                break;
            }
            if placement.is_complete() {
                (best, least) = (placement, nodes.saturating_add(1));
            } else {
                most = nodes;
            }
        }
        best
    }
}

/// Returns bundles that need so many nodes, each with as many of them as any other or one less: the first ones keep
/// apart from each other, so do the next ones, and so on.
fn spread_over(nodes: u64, bundles: &[ResourceDemand], label: &str) -> Vec<ResourceDemand> {
    let nodes = nodes.max(1);
    let mut spread = Vec::with_capacity(bundles.len());
    let mut at = 0_u64;
    for bundle in bundles {
        let mut left = bundle.count;
        while left > 0 {
            let count = left.min(nodes - at % nodes);
            let turn = at / nodes;
            let mut part = bundle.clone();
            part.count = count;
            part.request.anti_affinity = Some(AntiAffinity {
                label_name: label.to_owned(),
                label_value: if turn == 0 {
                    String::new()
                } else {
                    turn.to_string()
                },
            });
            spread.push(part);
            (at, left) = (at.saturating_add(count), left - count);
        }
    }
    spread
}

/// Returns a bundle that nothing could ever hold.
fn never<'a>(plan: &mut Plan, bundles: &'a [ResourceDemand]) -> Option<&'a ResourceDemand> {
    let pool = plan.pool_mut();
    let mut bundles = bundles.iter();
    bundles.find(|bundle| !pool.could_ever_fit(&bundle.request))
}

fn refuse(
    ctx: PolicyContext<'_>,
    plan: &mut Plan,
    (position, gang): (usize, &GangRequest),
    (placement, bundles): (&Placement, &[ResourceDemand]),
) {
    let unplaced = placement
        .unplaced
        .first()
        .and_then(|(at, _)| bundles.get(*at));
    let never = if plan.is_closed {
        None
    } else {
        never(plan, bundles)
    };
    let Some(bundle) = never.or(unplaced) else {
        return;
    };
    let missing = Missing {
        what: name(gang),
        class: CLASS,
        position,
        count: 1,
        request: &bundle.request,
        launched: placement.launched.clone(),
    };
    if report(ctx.snapshot, plan, missing) {
        plan.infeasible(Infeasible::Gang(gang.details.clone()));
    }
}

/// Returns what is said of a group that an earlier decision has looked at.
fn left_out(gang: &GangRequest, position: usize) -> Unserved {
    Unserved {
        what: name(gang),
        class: CLASS.to_owned(),
        position,
        count: 1,
        code: "work_budget".to_owned(),
        detail: "looked at in an earlier pass; its turn comes again".to_owned(),
    }
}

fn name(gang: &GangRequest) -> String {
    format!("placement group {}", id(gang))
}
