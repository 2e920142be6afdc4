//! Placement groups as Ray sends them: where the bundles stand, and which of them are one.

use std::borrow::Cow;

use bytes::Bytes;
use prost::{DecodeError, Message as _};

use super::{Reading, in_order, request};
use crate::model::{GangRequest, PlacementStrategy, ResourceDemand, ResourceRequest};
use crate::wire::gcs::parts::GangParts;
use crate::wire::gcs::ray::rpc::autoscaler as wire;

/// A bundle, and how many of the kind stand in a row.
type Run = (wire::ResourceRequest, usize);

pub(super) fn gang_request(
    gang: GangParts,
    reading: &mut Reading,
) -> Result<Option<GangRequest>, DecodeError> {
    let requests = runs(&gang.requests)?;
    let mut lists = Vec::with_capacity(gang.bundle_selectors.len());
    for selector in &gang.bundle_selectors {
        // Without selectors the lists are the same.
        lists.push(if selector.resource_requests == gang.requests {
            Cow::Borrowed(requests.as_slice())
        } else {
            Cow::Owned(runs(&selector.resource_requests)?)
        });
    }
    Ok(read_gang(gang.details, (&requests, &lists), reading))
}

fn read_gang(
    details: String,
    (requests, lists): (&[Run], &[Cow<'_, [Run]>]),
    reading: &mut Reading,
) -> Option<GangRequest> {
    let wire_bundles = match lists.first() {
        Some(first) if !first.is_empty() => first,
        _ => requests,
    };
    if wire_bundles.is_empty() {
        return None;
    }
    let Some(strategy) = strategy_of(&details) else {
        let detail = format!(
            "pending_gang_resource_requests: details `{}`; expected <id>:<STRATEGY>|<STATE>",
            details
        );
        reading.add("bad_gang_details", detail);
        return None;
    };
    let bundles = counted_bundles(wire_bundles, strategy, reading)?;
    // One that cannot be read is no choice; the others are.
    let others = lists.iter().skip(1).filter(|other| !other.is_empty());
    let fallbacks = others
        .filter_map(|other| counted_bundles(other, strategy, reading))
        .collect();
    let constraints = requests
        .iter()
        .map(|(bundle, count)| bundle.placement_constraints.len() * count);
    let constraints: usize = constraints.sum();
    let bundles_sent: usize = requests.iter().map(|(_, count)| count).sum();
    Some(GangRequest {
        details,
        strategy,
        bundles,
        fallbacks,
        constraint_count: u64::try_from(constraints).unwrap_or(u64::MAX),
        bundle_count: u64::try_from(bundles_sent).unwrap_or(u64::MAX),
    })
}

/// Reads a list of bundles; neighbours of equal bytes are read once.
fn runs(encoded: &[Bytes]) -> Result<Vec<Run>, DecodeError> {
    let runs = encoded.chunk_by(|one, next| one == next);
    let read = |run: &[Bytes]| {
        let first = run.first().cloned().unwrap_or_default();
        Ok((wire::ResourceRequest::decode(first)?, run.len()))
    };
    runs.map(read).collect()
}

/// Returns the bundles of one list, equal neighbours counted.
fn counted_bundles(
    wire: &[Run],
    strategy: PlacementStrategy,
    reading: &mut Reading,
) -> Option<Vec<ResourceDemand>> {
    let bundles = wire.iter().map(|(wire_request, count)| {
        let count = u64::try_from(*count).unwrap_or(u64::MAX);
        let request = request(wire_request, reading)?;
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
    use super::wire;
    use crate::model::{ResourceDemand, Timestamp};
    use crate::observe::convert::ray_state;
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
        let reply = wire::ClusterResourceState {
            pending_gang_resource_requests: vec![gang],
            ..Default::default()
        };
        let state = ray_state(&reply, Timestamp::default());
        let read = state.gangs.first().expect("a placement group");
        assert_eq!(text(&read.bundles), "2 x {CPU: 1}");
        let fallbacks: Vec<String> = read.fallbacks.iter().map(|list| text(list)).collect();
        assert_eq!(fallbacks, ["2 x {CPU: 2}", "2 x {CPU: 3}"]);
        assert_eq!(state.problems.len(), 1);
    }
}
