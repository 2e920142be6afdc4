//! Places pending placement groups, each whole or not at all.
//!
//! The strategies: STRICT_SPREAD bundles refuse a node that has a sibling; a STRICT_PACK group
//! arrives as one summed bundle; PACK and SPREAD are packed alike, as Ray's own scheduler does,
//! unless `spread` says otherwise.
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

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Gangs {
    /// Whether the bundles of a SPREAD group go to nodes of their own where that is possible,
    /// new nodes included; else they are packed, as in Ray.
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
                plan.accept(&placement, vec![claim; bundles.len()], Ledger::Free);
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
        if self.spread && gang.strategy == PlacementStrategy::Spread {
            let mut bundles = bundles.to_vec();
            let id = id(gang);
            for bundle in &mut bundles {
                bundle.request.anti_affinity = Some(AntiAffinity {
                    label_name: format!("_PG_{id}"),
                    label_value: String::new(),
                });
            }
            let placement = plan.place(&bundles, Ledger::Free);
            if placement.is_complete() {
                return placement;
            }
        }
        plan.place(bundles, Ledger::Free)
    }
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
