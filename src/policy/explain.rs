//! What is said about demand that found no place.

use std::collections::BTreeMap;

use crate::model::{ClusterSnapshot, ResourceDemand, ResourceRequest, Unserved};

use super::Plan;

/// Returns the demands sorted, equal ones as one.
pub(super) fn merged<'a>(demands: impl Iterator<Item = &'a ResourceDemand>) -> Vec<ResourceDemand> {
    let mut counts: BTreeMap<&ResourceRequest, u64> = BTreeMap::new();
    for demand in demands.filter(|demand| demand.count > 0) {
        let count = counts.entry(&demand.request).or_default();
        *count = count.saturating_add(demand.count);
    }
    let merged = counts.into_iter();
    merged
        .map(|(request, count)| ResourceDemand {
            request: request.clone(),
            count,
        })
        .collect()
}

/// Says what could not be served.
pub(super) struct Missing<'a> {
    pub(super) what: String,
    pub(super) class: &'a str,
    pub(super) count: u64,
    /// The request that decides.
    pub(super) request: &'a ResourceRequest,
    /// Replicas that were to be launched in vain, by position of the group.
    pub(super) launched: BTreeMap<usize, u64>,
}

/// Reports demand that found no place; returns whether it is infeasible for ever.
///
/// A skipped group might be the one it was made for, so that nothing is infeasible while there is one.
pub(super) fn report(snapshot: &ClusterSnapshot, plan: &mut Plan, missing: Missing<'_>) -> bool {
    let fit = plan.pool().explain(missing.request, &missing.launched);
    let is_infeasible = fit.code == "infeasible" && snapshot.skipped.is_empty();
    let code = if fit.code == "infeasible" && !is_infeasible {
        "group_skipped"
    } else {
        fit.code
    };
    plan.unserved(Unserved {
        what: missing.what,
        class: missing.class.to_owned(),
        count: missing.count,
        code: code.to_owned(),
        detail: fit.detail,
    });
    is_infeasible
}
