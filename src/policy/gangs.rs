//! Places pending placement groups, each whole or not at all.
//!
//! The strategies: STRICT_SPREAD bundles refuse a node that has a sibling; a STRICT_PACK group
//! arrives as one summed bundle; PACK and SPREAD are packed alike, as Ray's own scheduler does
//! (SPREAD asks for distinct nodes only where there are any, which is no reason to launch some).
//! Groups with placement constraints go first, then large ones.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::model::{GangRequest, Infeasible};
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

/// Has no settings.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Gangs {}

impl Policy for Gangs {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        // A group without bundles has nothing left to place.
        let pending = ctx
            .snapshot
            .gangs
            .iter()
            .filter(|gang| !gang.bundles.is_empty());
        let mut gangs: Vec<&GangRequest> = pending.collect();
        gangs.sort_by_key(|gang| {
            (
                Reverse((gang.constraint_count, gang.bundle_count)),
                &gang.details,
                &gang.bundles,
            )
        });
        for gang in gangs {
            let placement = plan.place(&gang.bundles, Ledger::Free);
            if placement.is_complete() {
                let claim = Claim {
                    what: name(gang),
                    class: CLASS.to_owned(),
                    is_whole: true,
                };
                plan.accept(&placement, vec![claim; gang.bundles.len()], Ledger::Free);
            } else {
                refuse(ctx, plan, gang, &placement);
            }
        }
    }
}

fn refuse(ctx: PolicyContext<'_>, plan: &mut Plan, gang: &GangRequest, placement: &Placement) {
    let never = gang
        .bundles
        .iter()
        .find(|bundle| !plan.pool().could_ever_fit(&bundle.request));
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
