//! Turns what Ray sends into the model: rounding, missing fields, unknown enum values.
//!
//! Total: whatever arrives, something usable comes out. A part that makes no sense is left out and
//! named in `problems`; leaving out never removes anything, because a node that cannot be read is
//! neither capacity nor idle.

mod gangs;
mod reading;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use gangs::gang_request;
use prost::{DecodeError, Message as _};
use reading::Reading;

use super::ray_state::{RayNode, RayNodeStatus, RayState};
use crate::model::{
    AntiAffinity, ClusterConstraint, LabelConstraint, LabelOperator, LabelSelector, NodeId,
    Problem, Quantity, ResourceDemand, ResourceMap, ResourceName, ResourceRequest, Timestamp,
};
use crate::wire::gcs::parts::{StateParts, StateReplyParts};
use crate::wire::gcs::ray::rpc;
use crate::wire::gcs::ray::rpc::autoscaler as wire;

/// The total by which Ray marks its head.
const HEAD_RESOURCE: &str = "node:__internal_head__";

/// Returns what an encoded reply of `GetClusterResourceState` says; `None` when there is no state in it.
///
/// # Errors
///
/// The reply, or a part of it, is not in Ray's format.
pub fn encoded_state(
    reply: Bytes,
    received_at: Timestamp,
) -> Result<Option<RayState>, DecodeError> {
    let state = StateReplyParts::decode(reply)?.cluster_resource_state;
    state.map(|state| of_parts(state, received_at)).transpose()
}

/// Returns what a reply of `GetClusterResourceState` says that has been decoded for another purpose.
///
/// It is read again as it came: there is one way to read a reply.
#[must_use]
pub fn ray_state(reply: &wire::ClusterResourceState, received_at: Timestamp) -> RayState {
    let parts = StateParts::decode(Bytes::from(reply.encode_to_vec()));
    // What was just encoded is in Ray's format.
    let state = parts.and_then(|parts| of_parts(parts, received_at));
    state.unwrap_or_default()
}

fn of_parts(reply: StateParts, received_at: Timestamp) -> Result<RayState, DecodeError> {
    let mut reading = Reading::default();
    let mut nodes = Vec::with_capacity(reply.node_states.len());
    for node in reply.node_states {
        nodes.extend(ray_node(wire::NodeState::decode(node)?, &mut reading));
    }
    let pending = reply.pending_resource_requests.iter();
    let demands = pending
        .filter_map(|demand| counted(demand, &mut reading))
        .collect();
    let mut gangs = Vec::with_capacity(reply.pending_gang_resource_requests.len());
    for gang in reply.pending_gang_resource_requests {
        gangs.extend(gang_request(gang, &mut reading)?);
    }
    let constraint = constraint(&reply.cluster_resource_constraints, &mut reading);
    Ok(RayState {
        drivers: None,
        received_at,
        state_version: reply.cluster_resource_state_version,
        session_name: reply.cluster_session_name,
        nodes,
        demands,
        gangs,
        constraint,
        problems: reading.problems,
    })
}

/// Returns the `request_resources` of a cluster with `RAY_enable_autoscaler_v2=0`.
///
/// Shape: a JSON list of bundles, `[{"CPU": 1}, {"GPU": 2}]`.
/// Errors: a problem when it is anything else.
/// Source: the KV key `autoscaler_resource_request`.
pub fn kv_constraint(json: &[u8]) -> Result<Option<ClusterConstraint>, Problem> {
    let bundles: Vec<BTreeMap<String, f64>> = serde_json::from_slice(json).map_err(|error| {
        let detail = format!("KV key autoscaler_resource_request: {error}; expected a JSON list of {{resource: number}}");
        Problem { code: "bad_resource_request".to_owned(), detail }
    })?;
    let mut reading = Reading::default();
    let requests = bundles.iter().filter_map(|bundle| {
        Some(ResourceDemand {
            request: ResourceRequest::of(amounts(bundle, &"request_resources", &mut reading)?),
            count: 1,
        })
    });
    let demands = merged(requests);
    Ok((!demands.is_empty()).then_some(ClusterConstraint { demands }))
}

/// Returns the requests that a raylet queues.
///
/// Source: `ResourcesData.resource_load_by_shape`; the same three counts whose sum the GCS reports.
#[must_use]
pub fn raylet_demands(load: Option<&rpc::ResourceLoad>) -> Vec<ResourceDemand> {
    let mut reading = Reading::default();
    let shapes = load
        .map(|load| load.resource_demands.as_slice())
        .unwrap_or_default();
    let demands = shapes.iter().filter_map(|shape| {
        let backlog = u64::try_from(shape.backlog_size).unwrap_or(0);
        let queued = shape
            .num_ready_requests_queued
            .saturating_add(shape.num_infeasible_requests_queued);
        let resources = amounts(&shape.shape, &"resource_load_by_shape", &mut reading)?;
        let selectors = selectors(&shape.label_selectors);
        let request = ResourceRequest {
            resources,
            selectors,
            anti_affinity: None,
        };
        Some(ResourceDemand {
            request,
            count: queued.saturating_add(backlog),
        })
        .filter(|demand| demand.count > 0)
    });
    merged(demands)
}

/// Returns amounts from the wire without the ones that are no numbers.
#[must_use]
pub fn lenient_amounts(wire: &BTreeMap<String, f64>) -> ResourceMap {
    wire.iter()
        .filter_map(|(name, value)| {
            Some((
                ResourceName::from(name.as_str()),
                Quantity::from_f64(*value)?,
            ))
        })
        .collect()
}

fn ray_node(node: wire::NodeState, reading: &mut Reading) -> Option<RayNode> {
    let Some(node_id) = NodeId::from_bytes(&node.node_id) else {
        let detail = format!(
            "node_states: node_id of instance `{}` has {} bytes; expected 28",
            node.instance_id,
            node.node_id.len()
        );
        reading.add("bad_node_id", detail);
        return None;
    };
    let mut status = node_status(node.status);
    if status == RayNodeStatus::Unknown {
        let detail = format!(
            "node_states: status {} of node {node_id}; expected 1 to 4",
            node.status
        );
        reading.add("unknown_node_status", detail);
    }
    let place = format_args!("node_states {node_id}");
    let total = amounts(&node.total_resources, &place, reading);
    let available = amounts(&node.available_resources, &place, reading);
    if total.is_none() || available.is_none() {
        status = RayNodeStatus::Unknown;
    }
    let mut labels = node.labels;
    labels.extend(node.dynamic_labels);
    let idle_ms = u64::try_from(node.idle_duration_ms).unwrap_or(0);
    Some(RayNode {
        node_id,
        instance_id: node.instance_id,
        group: node.ray_node_type_name,
        ip_address: node.node_ip_address,
        raylet_address: None,
        status,
        is_head: node.total_resources.contains_key(HEAD_RESOURCE),
        total: total.unwrap_or_default(),
        available: available.unwrap_or_default(),
        labels: labels.into(),
        idle_ms: if status == RayNodeStatus::Idle {
            idle_ms
        } else {
            0
        },
    })
}

fn node_status(status: i32) -> RayNodeStatus {
    match wire::NodeStatus::try_from(status) {
        Ok(wire::NodeStatus::Running) => RayNodeStatus::Running,
        Ok(wire::NodeStatus::Idle) => RayNodeStatus::Idle,
        Ok(wire::NodeStatus::Draining) => RayNodeStatus::Draining,
        Ok(wire::NodeStatus::Dead) => RayNodeStatus::Dead,
        Ok(wire::NodeStatus::Unspecified) | Err(_) => RayNodeStatus::Unknown,
    }
}

fn counted(demand: &wire::ResourceRequestByCount, reading: &mut Reading) -> Option<ResourceDemand> {
    let wire_request = demand.request.as_ref()?;
    let Ok(count) = u64::try_from(demand.count) else {
        reading.add(
            "negative_count",
            format!(
                "pending_resource_requests: count {}; expected 0 or more",
                demand.count
            ),
        );
        return None;
    };
    let request = request(wire_request, reading)?;
    (count > 0).then_some(ResourceDemand { request, count })
}

fn request(wire: &wire::ResourceRequest, reading: &mut Reading) -> Option<ResourceRequest> {
    let resources = amounts(&wire.resources_bundle, &"resources_bundle", reading)?;
    if let Some((name, amount)) = resources.iter().find(|(_, amount)| amount.units() < 0) {
        reading.add(
            "negative_amount",
            format!("resources_bundle: {name} is {amount}; expected 0 or more"),
        );
        return None;
    }
    let anti_affinity = wire
        .placement_constraints
        .iter()
        .find_map(|constraint| constraint.anti_affinity.as_ref());
    let anti_affinity = anti_affinity.map(|label| AntiAffinity {
        label_name: label.label_name.clone(),
        label_value: label.label_value.clone(),
    });
    Some(ResourceRequest {
        resources,
        selectors: selectors(&wire.label_selectors),
        anti_affinity,
    })
}

fn selectors(wire: &[rpc::LabelSelector]) -> Vec<LabelSelector> {
    let constraint = |constraint: &rpc::LabelSelectorConstraint| {
        let mut values = constraint.label_values.clone();
        values.sort();
        let operator = match rpc::LabelSelectorOperator::try_from(constraint.operator) {
            Ok(rpc::LabelSelectorOperator::LabelOperatorIn) => LabelOperator::In,
            Ok(rpc::LabelSelectorOperator::LabelOperatorNotIn) => LabelOperator::NotIn,
            Ok(rpc::LabelSelectorOperator::LabelOperatorUnspecified) | Err(_) => {
                LabelOperator::Unknown
            }
        };
        LabelConstraint {
            key: constraint.label_key.clone(),
            operator,
            values,
        }
    };
    let selector = |selector: &rpc::LabelSelector| LabelSelector {
        constraints: selector.label_constraints.iter().map(constraint).collect(),
    };
    wire.iter().map(selector).collect()
}

fn constraint(
    wire: &[wire::ClusterResourceConstraint],
    reading: &mut Reading,
) -> Option<ClusterConstraint> {
    if wire.len() > 1 {
        let detail = format!(
            "cluster_resource_constraints: {} entries; expected at most one, took all",
            wire.len()
        );
        reading.add("several_constraints", detail);
    }
    let demands = wire
        .iter()
        .flat_map(|constraint| &constraint.resource_requests);
    let demands = in_order(demands.filter_map(|demand| counted(demand, reading)));
    (!demands.is_empty()).then_some(ClusterConstraint { demands })
}

/// Returns demands in their order, equal neighbours as one; ties are settled by the order in Ray.
fn in_order(demands: impl Iterator<Item = ResourceDemand>) -> Vec<ResourceDemand> {
    let mut ordered: Vec<ResourceDemand> = Vec::new();
    for demand in demands {
        match ordered
            .last_mut()
            .filter(|last| last.request == demand.request)
        {
            Some(last) => last.count = last.count.saturating_add(demand.count),
            None => ordered.push(demand),
        }
    }
    ordered
}

fn merged(demands: impl Iterator<Item = ResourceDemand>) -> Vec<ResourceDemand> {
    let mut counts: BTreeMap<ResourceRequest, u64> = BTreeMap::new();
    for demand in demands {
        let count = counts.entry(demand.request).or_default();
        *count = count.saturating_add(demand.count);
    }
    counts
        .into_iter()
        .map(|(request, count)| ResourceDemand { request, count })
        .collect()
}

fn amounts(
    wire: &BTreeMap<String, f64>,
    place: &dyn fmt::Display,
    reading: &mut Reading,
) -> Option<ResourceMap> {
    let amounts = wire.iter().map(|(name, value)| {
        let Some(amount) = Quantity::from_f64(*value) else {
            reading.add(
                "bad_amount",
                format!("{place}: {name} is {value}; expected a finite number"),
            );
            return None;
        };
        Some((reading.name(name), amount))
    });
    amounts.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{kv_constraint, ray_state, raylet_demands};
    use crate::model::{PlacementStrategy, Timestamp};
    use crate::observe::ray_state::RayNodeStatus;
    use crate::wire::gcs::ray::rpc;
    use crate::wire::gcs::ray::rpc::autoscaler as wire;

    fn bundle(amounts: &[(&str, f64)]) -> wire::ResourceRequest {
        let resources_bundle = amounts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        wire::ResourceRequest {
            resources_bundle,
            ..Default::default()
        }
    }

    fn node(id: &[u8], status: i32, cpu: f64) -> wire::NodeState {
        let total_resources = BTreeMap::from([("CPU".to_owned(), cpu)]);
        wire::NodeState {
            node_id: id.to_vec(),
            status,
            total_resources,
            idle_duration_ms: -5,
            ..Default::default()
        }
    }

    fn gang(details: &str, bundles: Vec<wire::ResourceRequest>) -> wire::GangResourceRequest {
        wire::GangResourceRequest {
            details: details.to_owned(),
            requests: bundles,
            bundle_selectors: vec![],
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_out_by_name_and_the_rest_is_used() {
        let by_count = |request, count| wire::ResourceRequestByCount {
            request: Some(request),
            count,
        };
        let reply = wire::ClusterResourceState {
            node_states: vec![
                node(&[1; 28], 77, 1.0),
                node(&[2; 28], 3, f64::NAN),
                node(&[3], 1, 1.0),
                node(&[4; 28], 3, 1.0),
            ],
            pending_resource_requests: vec![
                by_count(bundle(&[("CPU", 1.0)]), i64::MAX),
                by_count(bundle(&[("CPU", 2.0)]), -4),
                by_count(bundle(&[("CPU", f64::INFINITY)]), 1),
                by_count(bundle(&[("CPU", -1.0)]), 1),
                wire::ResourceRequestByCount {
                    request: None,
                    count: 9,
                },
            ],
            pending_gang_resource_requests: vec![
                gang("nonsense", vec![bundle(&[])]),
                gang("a:PACK|PENDING", vec![]),
            ],
            ..Default::default()
        };
        let state = ray_state(&reply, Timestamp::from_ms(7));
        let statuses: Vec<RayNodeStatus> = state.nodes.iter().map(|node| node.status).collect();
        assert_eq!(
            statuses,
            [
                RayNodeStatus::Unknown,
                RayNodeStatus::Unknown,
                RayNodeStatus::Idle
            ]
        );
        assert_eq!(state.nodes[2].idle_ms, 0);
        assert_eq!(state.demands.len(), 1);
        assert_eq!(state.demands[0].count, i64::MAX.unsigned_abs());
        assert!(state.gangs.is_empty());
        let codes: Vec<&str> = state
            .problems
            .iter()
            .map(|problem| problem.code.as_str())
            .collect();
        let expected = [
            "unknown_node_status",
            "bad_amount",
            "bad_node_id",
            "negative_count",
            "bad_amount",
            "negative_amount",
            "bad_gang_details",
        ];
        assert_eq!(codes, expected);
    }

    #[test]
    fn bundles_of_a_strict_pack_group_are_summed() {
        let bundles = vec![
            bundle(&[("CPU", 2.0)]),
            bundle(&[("CPU", 2.0), ("GPU", 1.0)]),
        ];
        for (strategy, count) in [
            ("STRICT_PACK", 1),
            ("PACK", 2),
            ("SPREAD", 2),
            ("STRICT_SPREAD", 2),
        ] {
            let gangs = vec![gang(&format!("ab:{strategy}|PENDING"), bundles.clone())];
            let reply = wire::ClusterResourceState {
                pending_gang_resource_requests: gangs,
                ..Default::default()
            };
            let state = ray_state(&reply, Timestamp::default());
            assert_eq!(state.gangs[0].bundles.len(), count, "{strategy}");
            assert_eq!(state.gangs[0].bundle_count, 2);
            if strategy == "STRICT_PACK" {
                assert_eq!(state.gangs[0].strategy, PlacementStrategy::StrictPack);
                assert_eq!(
                    state.gangs[0].bundles[0].request.resources.to_string(),
                    "{CPU: 4, GPU: 1}"
                );
            }
        }
    }

    #[test]
    fn the_constraint_of_the_key_value_store_is_counted_by_shape() {
        let constraint = kv_constraint(br#"[{"CPU": 1}, {"GPU": 2}, {"CPU": 1}]"#)
            .unwrap()
            .unwrap();
        let counts: Vec<u64> = constraint
            .demands
            .iter()
            .map(|demand| demand.count)
            .collect();
        assert_eq!(counts, [2, 1]);
        assert_eq!(kv_constraint(b"[]").unwrap(), None);
        assert!(
            kv_constraint(b"{}")
                .unwrap_err()
                .detail
                .contains("expected a JSON list")
        );
    }

    #[test]
    fn a_raylet_counts_ready_infeasible_and_backlog() {
        let shape = rpc::ResourceDemand {
            shape: BTreeMap::from([("CPU".to_owned(), 1.0)]),
            num_ready_requests_queued: 2,
            num_infeasible_requests_queued: 3,
            backlog_size: 4,
            label_selectors: vec![],
        };
        let nothing = rpc::ResourceDemand {
            backlog_size: -1,
            ..Default::default()
        };
        let load = rpc::ResourceLoad {
            resource_demands: vec![shape, nothing],
        };
        let demands = raylet_demands(Some(&load));
        assert_eq!(demands.len(), 1);
        assert_eq!(demands[0].count, 9);
        assert!(raylet_demands(None).is_empty());
    }
}
