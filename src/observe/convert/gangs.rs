//! Placement groups as Ray sends them: where the bundles stand, and which of them are one.

use super::{Reading, in_order, request};
use crate::model::{GangRequest, PlacementStrategy, ResourceDemand, ResourceRequest};
use crate::wire::gcs::ray::rpc::autoscaler as wire;

pub(super) fn gang_request(
    gang: wire::GangResourceRequest,
    reading: &mut Reading,
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
        reading.add("bad_gang_details", detail);
        return None;
    };
    let bundles = counted_bundles(wire_bundles, strategy, reading)?;
    // One that cannot be read is no choice; the others are.
    let others = gang.bundle_selectors.iter().skip(1);
    let fallbacks = others.filter(|other| !other.resource_requests.is_empty());
    let fallbacks = fallbacks
        .filter_map(|other| counted_bundles(&other.resource_requests, strategy, reading))
        .collect();
    let constraints: usize = gang
        .requests
        .iter()
        .map(|bundle| bundle.placement_constraints.len())
        .sum();
    Some(GangRequest {
        details: gang.details,
        strategy,
        bundles,
        fallbacks,
        constraint_count: u64::try_from(constraints).unwrap_or(u64::MAX),
        bundle_count: u64::try_from(gang.requests.len()).unwrap_or(u64::MAX),
    })
}

/// Returns the bundles of one list, equal neighbours counted.
fn counted_bundles(
    wire: &[wire::ResourceRequest],
    strategy: PlacementStrategy,
    reading: &mut Reading,
) -> Option<Vec<ResourceDemand>> {
    // Equal neighbours are read once.
    let runs = wire.chunk_by(|one, next| one == next);
    let bundles = runs.map(|run| {
        let count = u64::try_from(run.len()).unwrap_or(u64::MAX);
        let request = request(run.first()?, reading)?;
        Some(ResourceDemand { request, count })
    });
    let bundles: Option<Vec<ResourceDemand>> = bundles.collect();
    let bundles = match (bundles?, strategy) {
        (bundles, PlacementStrategy::StrictPack) => summed(bundles),
        (bundles, _) => bundles,
    };
    Some(in_order(bundles.into_iter()))
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
fn summed(bundles: Vec<ResourceDemand>) -> Vec<ResourceDemand> {
    let mut sums: Vec<ResourceDemand> = Vec::new();
    for ResourceDemand { request, count } in bundles {
        let sum = request.resources.times(count);
        match sums
            .iter_mut()
            .find(|sum| sum.request.selectors == request.selectors)
        {
            Some(known) => known.request.resources.add(&sum),
            None => sums.push(ResourceDemand {
                request: ResourceRequest {
                    resources: sum,
                    ..request
                },
                count: 1,
            }),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::{Reading, gang_request, wire};
    use crate::model::ResourceDemand;
    use std::collections::BTreeMap;

    fn list(cpus: f64) -> wire::BundleSelector {
        let bundle = wire::ResourceRequest {
            resources_bundle: BTreeMap::from([("CPU".to_owned(), cpus)]),
            ..Default::default()
        };
        wire::BundleSelector {
            resource_requests: vec![bundle; 2],
            locality_requirement: None,
        }
    }

    fn text(list: &[ResourceDemand]) -> String {
        let bundles = list.iter();
        bundles
            .map(|bundle| format!("{} x {}", bundle.count, bundle.request))
            .collect()
    }

    #[test]
    fn lists_of_bundles_behind_the_first_are_fallbacks() {
        let gang = wire::GangResourceRequest {
            details: "a:PACK|PENDING".to_owned(),
            requests: list(1.0).resource_requests,
            bundle_selectors: vec![list(1.0), list(f64::NAN), list(2.0), list(3.0)],
        };
        let mut reading = Reading::default();
        let read = gang_request(gang, &mut reading).expect("a placement group");
        assert_eq!(text(&read.bundles), "2 x {CPU: 1}");
        let fallbacks: Vec<String> = read.fallbacks.iter().map(|list| text(list)).collect();
        assert_eq!(fallbacks, ["2 x {CPU: 2}", "2 x {CPU: 3}"]);
        assert_eq!(reading.problems.len(), 1);
    }
}
