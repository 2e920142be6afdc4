//! What the GCS and the raylets answer, in Ray's messages.

use super::cluster::Cluster;
use super::gcs::{Death, Job, JobId, Record};
use super::ids::PlacementGroupId;
use super::placement_group::{Group, PlacementGroupState, label_of};
use super::raylet::{Cause, Report, Waiting};
use crate::model::{
    LabelOperator, LabelSelector, NodeId, PlacementStrategy, ResourceMap, ResourceRequest,
    Timestamp,
};
use crate::wire::gcs::ray::rpc::autoscaler as wire;
use crate::wire::gcs::ray::rpc::node_death_info::Reason;
use crate::wire::gcs::ray::rpc::{self, gcs_node_info::GcsNodeState};
use std::collections::BTreeMap;

impl Cluster {
    /// Returns all nodes and all demand, as the GCS knows them.
    pub(super) fn cluster_resource_state(&mut self) -> wire::ClusterResourceState {
        self.gcs.state_version += 1;
        let version = self.gcs.state_version;
        let (alive, dead): (Vec<_>, Vec<_>) = self
            .gcs
            .records
            .iter()
            .partition(|(_, record)| record.death.is_none());
        let node_states = alive
            .into_iter()
            .chain(dead)
            .map(|(id, record)| wire::NodeState {
                node_state_version: version,
                ..self.node_state(*id, record)
            });
        let constraint = self
            .gcs
            .constraint
            .as_ref()
            .filter(|_| self.settings.autoscaler_v2);
        let waiting = self
            .groups
            .iter()
            .filter(|(_, group)| group.state != PlacementGroupState::Created);
        wire::ClusterResourceState {
            cluster_resource_state_version: version,
            last_seen_autoscaler_state_version: 0,
            node_states: node_states.collect(),
            pending_resource_requests: self.pending_requests(),
            pending_gang_resource_requests: waiting.map(|(id, group)| gang(*id, group)).collect(),
            cluster_resource_constraints: constraint.map(constraint_message).into_iter().collect(),
            cluster_session_name: self.gcs.session_name.clone(),
        }
    }

    fn node_state(&self, id: NodeId, record: &Record) -> wire::NodeState {
        let state = wire::NodeState {
            node_id: id.as_bytes().to_vec(),
            instance_id: record.spec.pod.clone(),
            ray_node_type_name: record.spec.group.clone(),
            node_ip_address: record.spec.address.clone(),
            ..wire::NodeState::default()
        };
        if record.death.is_some() {
            return wire::NodeState {
                status: wire::NodeStatus::Dead.into(),
                ..state
            };
        }
        let report = &record.report;
        let (status, idle_ms) = match (&report.drain, report.idle_ms) {
            (Some(_), _) => (wire::NodeStatus::Draining, 0),
            (None, 0) => (wire::NodeStatus::Running, 0),
            (None, idle_ms) => {
                let since = self.now.millis_since(report.at);
                (wire::NodeStatus::Idle, idle_ms.saturating_add(since))
            }
        };
        let holds = |group: &Group| group.nodes.contains(&Some(id));
        let held = self.groups.iter().filter(|(_, group)| holds(group));
        wire::NodeState {
            available_resources: amounts(&report.available),
            total_resources: amounts(&report.total),
            dynamic_labels: held
                .map(|(group, _)| (label_of(*group), String::new()))
                .collect(),
            status: status.into(),
            idle_duration_ms: i64::try_from(idle_ms).unwrap_or(i64::MAX),
            node_activity: report.activity.clone(),
            labels: BTreeMap::clone(&record.labels),
            ..state
        }
    }

    fn pending_requests(&self) -> Vec<wire::ResourceRequestByCount> {
        let mut counts: BTreeMap<&ResourceRequest, u64> = BTreeMap::new();
        for waiting in self
            .gcs
            .alive()
            .flat_map(|(_, record)| &record.report.waiting)
        {
            *counts.entry(&waiting.request).or_default() +=
                waiting.ready + waiting.infeasible + waiting.backlog;
        }
        let by_count = counts
            .into_iter()
            .map(|(wanted, count)| wire::ResourceRequestByCount {
                request: Some(request(wanted)),
                count: i64::try_from(count).unwrap_or(i64::MAX),
            });
        by_count.collect()
    }

    /// Returns addresses and ports of all nodes.
    pub(super) fn node_infos(&self) -> Vec<rpc::GcsNodeInfo> {
        let infos = self
            .gcs
            .records
            .iter()
            .map(|(id, record)| rpc::GcsNodeInfo {
                node_id: id.as_bytes().to_vec(),
                node_manager_address: record.spec.address.clone(),
                node_manager_port: record.spec.port.into(),
                state: match record.death {
                    None => GcsNodeState::Alive.into(),
                    Some(_) => GcsNodeState::Dead.into(),
                },
                instance_id: record.spec.pod.clone(),
                node_type_name: record.spec.group.clone(),
                start_time_ms: since_1970(record.registered_at),
                end_time_ms: record
                    .death
                    .as_ref()
                    .map_or(0, |death| since_1970(death.at)),
                is_head_node: record.spec.is_head,
                death_info: record.death.as_ref().map(death_info),
                temp_dir: self.settings.temp_dir.clone(),
            });
        infos.collect()
    }

    /// Returns what each raylet last told the GCS.
    pub(super) fn resource_usage(&self) -> rpc::ResourceUsageBatchData {
        let alive = self.gcs.alive();
        let batch = alive.map(|(id, record)| resources_data(id, &record.report, record));
        let mut total: BTreeMap<&ResourceRequest, Waiting> = BTreeMap::new();
        for waiting in self
            .gcs
            .alive()
            .flat_map(|(_, record)| &record.report.waiting)
        {
            let none = Waiting {
                ready: 0,
                infeasible: 0,
                backlog: 0,
                ..waiting.clone()
            };
            let sum = total.entry(&waiting.request).or_insert(none);
            sum.ready += waiting.ready;
            sum.infeasible += waiting.infeasible;
            sum.backlog += waiting.backlog;
        }
        rpc::ResourceUsageBatchData {
            batch: batch.collect(),
            resource_load_by_shape: Some(load(total.values())),
        }
    }

    /// Returns what a raylet says of itself; `None` when it does not run.
    pub(super) fn resource_load(&mut self, id: NodeId) -> Option<rpc::ResourcesData> {
        let report = self.report_of(id)?;
        let raylet = self.raylets.get(&id)?;
        let mut data = resources(id, &report);
        data.node_manager_address.clone_from(&raylet.spec.address);
        data.labels.clone_from(&raylet.labels);
        Some(data)
    }

    /// Returns the drivers, past and present.
    pub(super) fn job_infos(&self) -> Vec<rpc::JobTableData> {
        self.gcs
            .jobs
            .iter()
            .map(|(id, job)| job_info(*id, job))
            .collect()
    }
}

fn job_info(id: JobId, job: &Job) -> rpc::JobTableData {
    let (node_id, address) = match &job.node {
        Some((node, address)) => (node.as_bytes().to_vec(), address.clone()),
        None => (Vec::new(), String::new()),
    };
    rpc::JobTableData {
        job_id: id.0.to_be_bytes().to_vec(),
        is_dead: job.ended_at.is_some(),
        driver_ip_address: address.clone(),
        config: Some(rpc::JobConfig {
            ray_namespace: job.namespace.clone(),
        }),
        start_time: since_1970(job.started_at),
        end_time: job.ended_at.map_or(0, since_1970),
        driver_address: Some(rpc::Address {
            node_id,
            ip_address: address,
            port: 0,
        }),
    }
}

fn resources_data(id: NodeId, report: &Report, record: &Record) -> rpc::ResourcesData {
    let mut data = resources(id, report);
    data.node_manager_address.clone_from(&record.spec.address);
    data.labels.clone_from(&record.labels);
    data
}

fn resources(id: NodeId, report: &Report) -> rpc::ResourcesData {
    let deadline = report.drain.as_ref().and_then(|drain| drain.deadline);
    rpc::ResourcesData {
        node_id: id.as_bytes().to_vec(),
        resources_available: amounts(&report.available),
        resources_total: amounts(&report.total),
        resource_load_by_shape: Some(load(&report.waiting)),
        idle_duration_ms: i64::try_from(report.idle_ms).unwrap_or(i64::MAX),
        is_draining: report.drain.is_some(),
        draining_deadline_timestamp_ms: deadline.map_or(0, Timestamp::as_ms),
        ..rpc::ResourcesData::default()
    }
}

fn load<'a>(waiting: impl IntoIterator<Item = &'a Waiting>) -> rpc::ResourceLoad {
    let demands = waiting.into_iter().map(|waiting| rpc::ResourceDemand {
        shape: amounts(&waiting.request.resources),
        num_ready_requests_queued: waiting.ready,
        num_infeasible_requests_queued: waiting.infeasible,
        backlog_size: i64::try_from(waiting.backlog).unwrap_or(i64::MAX),
        label_selectors: waiting.request.selectors.iter().map(selector).collect(),
    });
    rpc::ResourceLoad {
        resource_demands: demands.collect(),
    }
}

/// Returns amounts as Ray sends them: what is used up is absent.
pub(super) fn amounts(map: &ResourceMap) -> BTreeMap<String, f64> {
    let there = map.iter().filter(|(_, amount)| !amount.is_zero());
    there
        .map(|(name, amount)| (name.as_str().to_owned(), amount.as_f64()))
        .collect()
}

fn request(request: &ResourceRequest) -> wire::ResourceRequest {
    wire::ResourceRequest {
        resources_bundle: amounts(&request.resources),
        placement_constraints: Vec::new(),
        label_selectors: request.selectors.iter().map(selector).collect(),
    }
}

fn selector(selector: &LabelSelector) -> rpc::LabelSelector {
    let constraints = selector.constraints.iter().map(|constraint| {
        let operator = match constraint.operator {
            LabelOperator::In => rpc::LabelSelectorOperator::LabelOperatorIn,
            LabelOperator::NotIn => rpc::LabelSelectorOperator::LabelOperatorNotIn,
            LabelOperator::Unknown => rpc::LabelSelectorOperator::LabelOperatorUnspecified,
        };
        rpc::LabelSelectorConstraint {
            label_key: constraint.key.clone(),
            operator: operator.into(),
            label_values: constraint.values.clone(),
        }
    });
    rpc::LabelSelector {
        label_constraints: constraints.collect(),
    }
}

fn constraint_message(counts: &BTreeMap<ResourceMap, u64>) -> wire::ClusterResourceConstraint {
    let requests = counts
        .iter()
        .map(|(resources, count)| wire::ResourceRequestByCount {
            request: Some(request(&ResourceRequest::of(resources.clone()))),
            count: i64::try_from(*count).unwrap_or(i64::MAX),
        });
    wire::ClusterResourceConstraint {
        resource_requests: requests.collect(),
    }
}

fn gang(id: PlacementGroupId, group: &Group) -> wire::GangResourceRequest {
    let strategy = group.spec.strategy;
    let (label_name, label_value) = (label_of(id), String::new());
    let constraint = match strategy {
        PlacementStrategy::StrictPack => Some(wire::PlacementConstraint {
            affinity: Some(wire::AffinityConstraint {
                label_name,
                label_value,
            }),
            anti_affinity: None,
        }),
        PlacementStrategy::StrictSpread => Some(wire::PlacementConstraint {
            affinity: None,
            anti_affinity: Some(wire::AntiAffinityConstraint {
                label_name,
                label_value,
            }),
        }),
        PlacementStrategy::Pack | PlacementStrategy::Spread => None,
    };
    let mut requests = Vec::new();
    let mut selected = Vec::new();
    let unplaced = group.unplaced();
    for bundle in unplaced.iter().filter_map(|at| group.spec.bundles.get(*at)) {
        let plain = wire::ResourceRequest {
            resources_bundle: amounts(&bundle.resources),
            placement_constraints: constraint.clone().into_iter().collect(),
            label_selectors: Vec::new(),
        };
        let is_selected = !bundle.selector.constraints.is_empty();
        selected.push(wire::ResourceRequest {
            label_selectors: is_selected
                .then(|| selector(&bundle.selector))
                .into_iter()
                .collect(),
            ..plain.clone()
        });
        requests.push(plain);
    }
    let word = match strategy {
        PlacementStrategy::Pack => rpc::PlacementStrategy::Pack,
        PlacementStrategy::Spread => rpc::PlacementStrategy::Spread,
        PlacementStrategy::StrictPack => rpc::PlacementStrategy::StrictPack,
        PlacementStrategy::StrictSpread => rpc::PlacementStrategy::StrictSpread,
    };
    wire::GangResourceRequest {
        requests,
        details: format!("{id}:{}|{}", word.as_str_name(), group.state.as_str()),
        bundle_selectors: vec![wire::BundleSelector {
            resource_requests: selected,
            locality_requirement: None,
        }],
    }
}

fn death_info(death: &Death) -> rpc::NodeDeathInfo {
    let reason = match death.cause {
        Cause::Expected => Reason::ExpectedTermination,
        Cause::Unexpected => Reason::UnexpectedTermination,
        Cause::Preempted => Reason::AutoscalerDrainPreempted,
        Cause::Idle => Reason::AutoscalerDrainIdle,
    };
    rpc::NodeDeathInfo {
        reason: reason.into(),
        reason_message: death.message.clone(),
    }
}

fn since_1970(at: Timestamp) -> u64 {
    u64::try_from(at.as_ms()).unwrap_or(0)
}
