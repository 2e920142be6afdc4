//! Places pending placement groups, each whole or not at all.
//!
//! The strategies: STRICT_SPREAD bundles refuse a node that has a sibling; a STRICT_PACK group
//! arrives as one summed bundle; PACK and SPREAD are packed alike, as Ray's own scheduler does,
//! unless `spread` says otherwise.
//! Groups with placement constraints go first, then large ones.

use serde::{Deserialize, Serialize};

use crate::model::{AntiAffinity, GangRequest, Infeasible, PlacementStrategy};
use crate::placement::{Ledger, Placement};

use super::explain::{Missing, report};
use super::{Claim, Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "gangs",
    stage: Stage::Propose,
    summary: "launch for pending placement groups, each whole or not at all",
    build: |settings| Ok(Box::new(parse::<Gangs>(settings)?)),
    default_settings: value_of::<Gangs>,
    schema: schema_of::<Gangs>,
};

const CLASS: &str = "placement_group";

#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Gangs {
    /// Whether the bundles of a SPREAD group go to nodes of their own where that is possible,
    /// new nodes included; else they are packed, as in Ray.
    spread: bool,
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
        for (position, gang) in gangs {
            let placement = self.place(plan, gang);
            if placement.is_complete() {
                let claim = Claim {
                    what: name(gang),
                    class: CLASS.to_owned(),
                    position,
                    is_whole: true,
                };
                plan.accept(&placement, vec![claim; gang.bundles.len()], Ledger::Free);
            } else {
                refuse(ctx, plan, (position, gang), &placement);
            }
        }
    }
}

impl Gangs {
    fn place(&self, plan: &mut Plan, gang: &GangRequest) -> Placement {
        if self.spread && gang.strategy == PlacementStrategy::Spread {
            let mut bundles = gang.bundles.clone();
            let id = gang.details.split(':').next().unwrap_or_default();
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
        plan.place(&gang.bundles, Ledger::Free)
    }
}

fn refuse(
    ctx: PolicyContext<'_>,
    plan: &mut Plan,
    (position, gang): (usize, &GangRequest),
    placement: &Placement,
) {
    let never = gang
        .bundles
        .iter()
        .find(|bundle| !plan.pool_mut().could_ever_fit(&bundle.request));
    let unplaced = placement
        .unplaced
        .first()
        .and_then(|(at, _)| gang.bundles.get(*at));
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

fn name(gang: &GangRequest) -> String {
    let id = gang.details.split(':').next().unwrap_or_default();
    format!("placement group {id}")
}
