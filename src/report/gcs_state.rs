//! What Ray is told, so that `ray status` and the dashboard show the truth.
//!
//! # Why not as the stock autoscaler reports
//!
//! It names a pending node by an id of its own and leaves `details` and `reason` empty; `ray status`
//! then shows a random id and no reason. It counts entries and not their `count`. Here a pending
//! node is its pod, one entry stands for one node, and what `ray status` has a place for is filled.

use std::collections::{BTreeMap, BTreeSet};

use super::failures::Failures;
use super::gauges::missing_pods;
use super::pass::PassReport;
use super::to_wire;
use crate::model::{GangRequest, Infeasible, NodeKind, NodeStatus, WorkerGroup};
use crate::wire::gcs::ray::rpc::autoscaler as wire;

/// Most entries of one kind: a report of 2 000 pods is 100 kB, and nobody reads more.
pub(super) const ENTRIES_MAX: usize = 2_000;

/// Most bundles of all placement groups that are told: Ray wants them one by one, and twice.
const BUNDLES_MAX: usize = 2_000;

/// Longest text of a reason; `ray status` puts it into one line.
const TEXT_MAX: usize = 300;

/// Returns the report on a pass, without its version; of what is infeasible it tells this.
pub(super) fn autoscaling_state(
    pass: &PassReport<'_>,
    failures: &Failures,
    told: &[&Infeasible],
) -> wire::AutoscalingState {
    let mut state = wire::AutoscalingState {
        last_seen_cluster_resource_state_version: pass.snapshot.state_version,
        pending_instance_requests: pending_requests(pass),
        pending_instances: pending_instances(pass),
        failed_instance_requests: failed_requests(failures),
        ..wire::AutoscalingState::default()
    };
    let wanted: BTreeSet<&str> = told
        .iter()
        .filter_map(|infeasible| match infeasible {
            Infeasible::Gang(details) => Some(details.as_str()),
            _ => None,
        })
        .collect();
    let gangs = pass.snapshot.gangs.iter();
    let gangs = gangs.map(|gang| (gang.details.as_str(), gang));
    let gangs: BTreeMap<&str, &GangRequest> = gangs
        .filter(|(details, _)| wanted.contains(details))
        .collect();
    let mut room = BUNDLES_MAX;
    for infeasible in told {
        match infeasible {
            Infeasible::Tasks(request) => {
                let request = to_wire::request(request);
                state.infeasible_resource_requests.push(request);
            }
            Infeasible::Gang(details) => {
                let gang = gangs.get(details.as_str()).filter(|_| room > 0);
                let gang = gang.map(|gang| to_wire::gang(gang, room));
                room -= gang.as_ref().map_or(0, |gang| gang.requests.len());
                state.infeasible_gang_resource_requests.extend(gang);
            }
            Infeasible::Constraint => {
                let constraint = pass.snapshot.constraint.as_ref().map(to_wire::constraint);
                state
                    .infeasible_cluster_resource_constraints
                    .extend(constraint);
            }
        }
    }
    state
}

/// Returns an entry for each pod that is asked for and not there; what does not fit is one more entry.
fn pending_requests(pass: &PassReport<'_>) -> Vec<wire::PendingInstanceRequest> {
    let missing = missing_pods(pass.snapshot);
    let mut entries = Vec::new();
    for group in &pass.snapshot.groups {
        let asked = asked_in_this_pass(pass, group);
        let missing = missing
            .get(&group.name)
            .copied()
            .unwrap_or(0)
            .saturating_add(asked);
        let asked_at = pass.history.scaled_up_at.get(&group.name);
        let entry = |count: i32| wire::PendingInstanceRequest {
            instance_type_name: String::new(),
            ray_node_type_name: group.name.to_string(),
            count,
            request_ts: asked_at.map_or(0, |at| at.as_secs()),
        };
        let room = u64::try_from(ENTRIES_MAX.saturating_sub(entries.len())).unwrap_or(0);
        let single = missing.min(room);
        entries.extend((0..single).map(|_| entry(1)));
        if missing > single {
            entries.push(entry(i32::try_from(missing - single).unwrap_or(i32::MAX)));
        }
    }
    entries
}

/// Returns the pods that this pass asked for: the snapshot is older than the patch.
fn asked_in_this_pass(pass: &PassReport<'_>, group: &WorkerGroup) -> u64 {
    let scaled = pass.acted.scaled.iter().find(|it| it.group == group.name);
    scaled.map_or(0, |it| group.pods_of(it.to.saturating_sub(group.replicas)))
}

fn pending_instances(pass: &PassReport<'_>) -> Vec<wire::PendingInstance> {
    let starting = pass
        .snapshot
        .nodes
        .iter()
        .filter(|node| node.kind == NodeKind::Worker && node.status == NodeStatus::Starting);
    let entry = |node: &crate::model::Node| wire::PendingInstance {
        instance_type_name: String::new(),
        ray_node_type_name: node.group.to_string(),
        instance_id: node.name.to_string(),
        ip_address: String::new(),
        details: match node.waiting_reason.as_str() {
            "" => "starting".to_owned(),
            reason => cut(reason),
        },
    };
    starting.take(ENTRIES_MAX).map(entry).collect()
}

fn failed_requests(failures: &Failures) -> Vec<wire::FailedInstanceRequest> {
    let all = failures.latest().into_iter();
    all.map(|(group, reason, failure)| wire::FailedInstanceRequest {
        instance_type_name: String::new(),
        ray_node_type_name: group.to_string(),
        count: i32::try_from(failure.count).unwrap_or(i32::MAX),
        reason: cut(reason),
        // `ray status` shows this one as the latest attempt.
        start_ts: failure.last.as_secs(),
        failed_ts: failure.last.as_secs(),
    })
    .collect()
}

fn cut(text: &str) -> String {
    text.chars()
        .take(TEXT_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{ENTRIES_MAX, autoscaling_state};
    use crate::model::NodeStatus::{Running, Starting};
    use crate::model::{
        ClusterConstraint, GangRequest, Infeasible, LabelConstraint, LabelOperator, LabelSelector,
        PlacementStrategy, WorkerGroupName,
    };
    use crate::report::failures::Failures;
    use crate::report::fixtures::{Pass, at, demand, group, grow, node, patched, snapshot};
    use crate::report::node_watch::NodeChange;

    #[test]
    fn each_missing_pod_is_an_entry_and_each_starting_pod_has_its_name() {
        let mut waiting = node("g-x", "g", Starting);
        waiting.waiting_reason = "ImagePullBackOff".to_owned();
        let nodes = vec![node("g-a", "g", Running), waiting];
        let mut pass = Pass::of(snapshot(vec![group("g", 4)], nodes));
        pass.history
            .scaled_up_at
            .insert(WorkerGroupName::from("g"), at(9_000));
        let state = autoscaling_state(&pass.report(), &Failures::default(), &[]);
        let requests = &state.pending_instance_requests;
        assert_eq!(requests.len(), 2);
        assert!(
            requests
                .iter()
                .all(|it| it.count == 1 && it.request_ts == 9)
        );
        assert_eq!(state.pending_instances.len(), 1);
        assert_eq!(state.pending_instances[0].instance_id, "g-x");
        assert_eq!(state.pending_instances[0].details, "ImagePullBackOff");
    }

    #[test]
    fn what_this_pass_asked_for_is_pending_at_once() {
        let mut hosts = group("g", 1);
        hosts.num_of_hosts = 2;
        let nodes = vec![node("a", "g", Running), node("b", "g", Running)];
        let pass = Pass::of(snapshot(vec![hosts], nodes)).with(grow("g", 1, 3), patched("g", 1, 3));
        let state = autoscaling_state(&pass.report(), &Failures::default(), &[]);
        assert_eq!(state.pending_instance_requests.len(), 4);
    }

    #[test]
    fn a_huge_number_is_a_bounded_report() {
        let groups = vec![group("g", 2_147_483_647), group("h", 7)];
        let pass = Pass::of(snapshot(groups, vec![]));
        let state = autoscaling_state(&pass.report(), &Failures::default(), &[]);
        let requests = &state.pending_instance_requests;
        assert_eq!(requests.len(), ENTRIES_MAX + 2);
        assert_eq!(requests[ENTRIES_MAX].count, 2_147_483_647 - 2_000);
        assert_eq!(
            (
                requests[ENTRIES_MAX + 1].ray_node_type_name.as_str(),
                requests[ENTRIES_MAX + 1].count
            ),
            ("h", 7)
        );
    }

    #[test]
    fn infeasible_demand_is_told_in_rays_own_shape() {
        let mut pass = Pass::of(snapshot(vec![], vec![]));
        let mut task = demand(&[("GPU", 8)], 3);
        task.request.selectors = vec![LabelSelector {
            constraints: vec![LabelConstraint {
                key: "zone".to_owned(),
                operator: LabelOperator::NotIn,
                values: vec!["z1".to_owned()],
            }],
        }];
        pass.snapshot.gangs.push(GangRequest {
            details: "pg:STRICT_SPREAD|PENDING".to_owned(),
            strategy: PlacementStrategy::StrictSpread,
            bundles: vec![demand(&[("CPU", 1)], 3)],
            fallbacks: Vec::new(),
            constraint_count: 0,
            bundle_count: 3,
        });
        pass.snapshot.constraint = Some(ClusterConstraint {
            demands: vec![demand(&[("CPU", 9)], 2)],
        });
        pass.decision.infeasible = vec![
            Infeasible::Tasks(task.request),
            Infeasible::Gang("pg:STRICT_SPREAD|PENDING".to_owned()),
            Infeasible::Gang("gone:PACK|PENDING".to_owned()),
            Infeasible::Constraint,
        ];
        let told: Vec<&Infeasible> = pass.decision.infeasible.iter().collect();
        let state = autoscaling_state(&pass.report(), &Failures::default(), &told);
        let request = &state.infeasible_resource_requests[0];
        assert_eq!(request.resources_bundle["GPU"].to_bits(), 8.0_f64.to_bits());
        assert_eq!(request.label_selectors[0].label_constraints[0].operator, 2);
        assert_eq!(state.infeasible_gang_resource_requests.len(), 1);
        let gang = &state.infeasible_gang_resource_requests[0];
        assert_eq!(
            (
                gang.requests.len(),
                gang.bundle_selectors[0].resource_requests.len()
            ),
            (3, 3)
        );
        let constraint = &state.infeasible_cluster_resource_constraints[0];
        assert_eq!(constraint.resource_requests[0].count, 2);
    }

    #[test]
    fn many_large_placement_groups_are_a_bounded_report() {
        let mut pass = Pass::of(snapshot(vec![], vec![]));
        for at in 0..3_000 {
            pass.snapshot.gangs.push(GangRequest {
                details: format!("pg{at}:PACK|PENDING"),
                strategy: PlacementStrategy::Pack,
                bundles: vec![demand(&[("GPU", 1)], 900)],
                fallbacks: Vec::new(),
                constraint_count: 0,
                bundle_count: 900,
            });
            let details = format!("pg{at}:PACK|PENDING");
            pass.decision.infeasible.push(Infeasible::Gang(details));
        }
        let told: Vec<&Infeasible> = pass.decision.infeasible.iter().collect();
        let state = autoscaling_state(&pass.report(), &Failures::default(), &told);
        let gangs = state.infeasible_gang_resource_requests.iter();
        let bundles: Vec<usize> = gangs.map(|gang| gang.requests.len()).collect();
        assert_eq!(bundles, [900, 900, 200]);
    }

    #[test]
    fn failures_carry_their_reason() {
        let pass = Pass::of(snapshot(vec![group("g", 1)], vec![]));
        let mut failures = Failures::default();
        let change = NodeChange::Failed {
            pod: "p".into(),
            group: "g".into(),
            had_started: false,
            reason: "Evicted:\nno disk".to_owned(),
        };
        failures.pass(&pass.report(), &[change], at(4_000));
        let state = autoscaling_state(&pass.report(), &failures, &[]);
        let failed = &state.failed_instance_requests[0];
        assert_eq!(
            (failed.reason.as_str(), failed.failed_ts),
            ("Evicted: no disk", 4)
        );
    }
}
