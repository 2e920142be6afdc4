//! Placement groups as Ray sends them: where the bundles stand, and which of them are one.

use super::{Problems, in_order, request};
use crate::model::{GangRequest, PlacementStrategy, ResourceDemand, ResourceRequest};
use crate::wire::gcs::ray::rpc::autoscaler as wire;

pub(super) fn gang_request(
    gang: &wire::GangResourceRequest,
    problems: &mut Problems,
) -> Option<GangRequest> {
    let wire_bundles = match gang.bundle_selectors.first() {
        Some(first) if !first.resource_requests.is_empty() => &first.resource_requests,
        _ => &gang.requests,
    };
    if wire_bundles.is_empty() {
        return None;
    }
    let Some(strategy) = strategy_of(&gang.details) else {
        let detail = format!(
            "pending_gang_resource_requests: details `{}`; expected <id>:<STRATEGY>|<STATE>",
            gang.details
        );
        problems.add("bad_gang_details", detail);
        return None;
    };
    let bundles: Option<Vec<ResourceRequest>> = wire_bundles
        .iter()
        .map(|bundle| request(bundle, problems))
        .collect();
    let bundles = match (bundles?, strategy) {
        (bundles, PlacementStrategy::StrictPack) => summed(bundles),
        (bundles, _) => bundles,
    };
    let constraints: usize = gang
        .requests
        .iter()
        .map(|bundle| bundle.placement_constraints.len())
        .sum();
    Some(GangRequest {
        details: gang.details.clone(),
        strategy,
        bundles: in_order(
            bundles
                .into_iter()
                .map(|request| ResourceDemand { request, count: 1 }),
        ),
        constraint_count: u64::try_from(constraints).unwrap_or(u64::MAX),
        bundle_count: u64::try_from(gang.requests.len()).unwrap_or(u64::MAX),
    })
}

fn strategy_of(details: &str) -> Option<PlacementStrategy> {
    let (_, rest) = details.split_once(':')?;
    match rest.split('|').next()? {
        "PACK" => Some(PlacementStrategy::Pack),
        "SPREAD" => Some(PlacementStrategy::Spread),
        "STRICT_PACK" => Some(PlacementStrategy::StrictPack),
        "STRICT_SPREAD" => Some(PlacementStrategy::StrictSpread),
        _ => None,
    }
}

/// Sums the bundles that one node has to hold together, one sum per set of selectors, as Ray does.
fn summed(bundles: Vec<ResourceRequest>) -> Vec<ResourceRequest> {
    let mut sums: Vec<ResourceRequest> = Vec::new();
    for bundle in bundles {
        match sums
            .iter_mut()
            .find(|sum| sum.selectors == bundle.selectors)
        {
            Some(sum) => sum.resources.add(&bundle.resources),
            None => sums.push(bundle),
        }
    }
    sums
}
