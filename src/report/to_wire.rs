//! Model → wire, for what Ray is told.

use crate::model::{
    ClusterConstraint, GangRequest, LabelOperator, LabelSelector, ResourceDemand, ResourceRequest,
};
use crate::wire::gcs::ray::rpc;
use crate::wire::gcs::ray::rpc::autoscaler as wire;

/// Most bundles of one placement group that are told; Ray wants them one by one.
const BUNDLES_MAX: usize = 1_000;

/// Returns a request as Ray sent it.
///
/// The shape has to be the very same: Ray may cancel tasks whose shape equals a reported one.
pub(super) fn request(request: &ResourceRequest) -> wire::ResourceRequest {
    let resources = request.resources.iter();
    let anti_affinity = request.anti_affinity.iter();
    wire::ResourceRequest {
        resources_bundle: resources
            .map(|(name, amount)| (name.to_string(), amount.as_f64()))
            .collect(),
        placement_constraints: anti_affinity
            .map(|it| wire::PlacementConstraint {
                anti_affinity: Some(wire::AntiAffinityConstraint {
                    label_name: it.label_name.clone(),
                    label_value: it.label_value.clone(),
                }),
                affinity: None,
            })
            .collect(),
        label_selectors: request.selectors.iter().map(selector).collect(),
    }
}

/// Returns a placement group as Ray sent it, up to so many bundles: each twice, once without its selectors.
pub(super) fn gang(gang: &GangRequest, most: usize) -> wire::GangResourceRequest {
    let most = most.min(BUNDLES_MAX);
    let bundles: Vec<_> = gang
        .bundles
        .iter()
        .flat_map(|it| {
            let count = usize::try_from(it.count).unwrap_or(most);
            std::iter::repeat_n(&it.request, count.min(most))
        })
        .take(most)
        .map(request)
        .collect();
    let without_selectors = bundles.iter().map(|bundle| wire::ResourceRequest {
        label_selectors: Vec::new(),
        ..bundle.clone()
    });
    wire::GangResourceRequest {
        requests: without_selectors.collect(),
        details: gang.details.clone(),
        bundle_selectors: vec![wire::BundleSelector {
            resource_requests: bundles,
            locality_requirement: None,
        }],
    }
}

/// Returns what `request_resources` asked for, as Ray sent it.
pub(super) fn constraint(constraint: &ClusterConstraint) -> wire::ClusterResourceConstraint {
    let by_count = |demand: &ResourceDemand| wire::ResourceRequestByCount {
        request: Some(request(&demand.request)),
        count: i64::try_from(demand.count).unwrap_or(i64::MAX),
    };
    wire::ClusterResourceConstraint {
        resource_requests: constraint.demands.iter().map(by_count).collect(),
    }
}

fn selector(selector: &LabelSelector) -> rpc::LabelSelector {
    let one = |it: &crate::model::LabelConstraint| rpc::LabelSelectorConstraint {
        label_key: it.key.clone(),
        operator: operator(it.operator).into(),
        label_values: it.values.clone(),
    };
    rpc::LabelSelector {
        label_constraints: selector.constraints.iter().map(one).collect(),
    }
}

const fn operator(operator: LabelOperator) -> rpc::LabelSelectorOperator {
    match operator {
        LabelOperator::In => rpc::LabelSelectorOperator::LabelOperatorIn,
        LabelOperator::NotIn => rpc::LabelSelectorOperator::LabelOperatorNotIn,
        LabelOperator::Unknown => rpc::LabelSelectorOperator::LabelOperatorUnspecified,
    }
}
