//! What is said about demand that found no place.

use std::collections::BTreeMap;

use crate::model::{ClusterSnapshot, ResourceDemand, ResourceRequest, Unserved};

use super::Plan;

/// Returns the demands sorted, equal ones as one, each with the position of its first.
pub(super) fn merged<'a>(demands: impl Iterator<Item = (usize, &'a ResourceDemand)>) -> Asks {
    let mut counts: BTreeMap<&ResourceRequest, (usize, u64)> = BTreeMap::new();
    for (at, demand) in demands.filter(|(_, demand)| demand.count > 0) {
        let (_, count) = counts.entry(&demand.request).or_insert((at, 0));
        *count = count.saturating_add(demand.count);
    }
    let mut asks = Asks::default();
    for (request, (at, count)) in counts {
        asks.positions.push(at);
        asks.demands.push(ResourceDemand {
            request: request.clone(),
            count,
        });
    }
    asks
}

/// Returns the demands as they are given, each with its position.
pub(super) fn listed<'a>(demands: impl Iterator<Item = (usize, &'a ResourceDemand)>) -> Asks {
    let (positions, demands) = demands.map(|(at, demand)| (at, demand.clone())).unzip();
    Asks { positions, demands }
}

/// Holds demand to be placed in one call.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// Where each stands in the snapshot.
    pub(super) positions: Vec<usize>,
    pub(super) demands: Vec<ResourceDemand>,
}

/// Says what could not be served.
pub(super) struct Missing<'a> {
    pub(super) what: String,
    pub(super) class: &'a str,
    /// Where it stands in the snapshot.
    pub(super) position: usize,
    pub(super) count: u64,
    /// The request that decides.
    pub(super) request: &'a ResourceRequest,
    /// Replicas that were to be launched in vain, by position of the group.
    pub(super) launched: BTreeMap<usize, u64>,
}

impl Plan {
    /// Returns what was reported as not served.
    pub(crate) fn not_served(&self) -> &[Unserved] {
        &self.decision.unserved
    }
}

/// Reports demand that found no place; returns whether it is infeasible for ever.
///
/// A skipped group might be the one it was made for, so that nothing is infeasible while there is one.
pub(super) fn report(snapshot: &ClusterSnapshot, plan: &mut Plan, missing: Missing<'_>) -> bool {
    if plan.has_run_out() {
        plan.unserved(Unserved {
            what: missing.what,
            class: missing.class.to_owned(),
            position: missing.position,
            count: missing.count,
            code: "work_budget".to_owned(),
            detail: "not looked at yet; the next pass goes on".to_owned(),
        });
        return false;
    }
    if plan.is_closed {
        plan.unserved(Unserved {
            what: String::new(),
            class: missing.class.to_owned(),
            position: missing.position,
            count: missing.count,
            code: String::new(),
            detail: String::new(),
        });
        return false;
    }
    let fit = plan.pool_mut().explain(missing.request, &missing.launched);
    let is_infeasible =
        fit.code == "infeasible" && snapshot.skipped.is_empty() && snapshot.set_aside.is_empty();
    let code = if fit.code == "infeasible" && !is_infeasible {
        "group_skipped"
    } else {
        fit.code
    };
    plan.unserved(Unserved {
        what: missing.what,
        class: missing.class.to_owned(),
        position: missing.position,
        count: missing.count,
        code: code.to_owned(),
        detail: fit.detail,
    });
    is_infeasible
}
