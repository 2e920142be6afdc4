//! The status as the first autoscaler wrote it, for clusters that run with `RAY_enable_autoscaler_v2=0`.
//!
//! There `ray status`, the dashboard's agent and usage statistics read one JSON value from the GCS's
//! key-value store. Its two reports are read as keyword arguments, so a key too many is an error in
//! the reader; the keys here are those that Ray 2.47 and 2.60 both know.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::failures::Failures;
use super::gauges::{is_active, missing_pods};
use super::pass::PassReport;
use crate::model::{
    Node, NodeKind, NodeStatus, PlacementStrategy, ResourceDemand, ResourceMap, Timestamp,
};

/// Most nodes with a line of their own: the value is read every few seconds by every dashboard agent.
const NODES_MAX: usize = 200;

/// Returns the value without what changes by itself (`time`).
pub(super) fn status(
    pass: &PassReport<'_>,
    failures: &Failures,
    monitor_pid: u32,
) -> Map<String, Value> {
    let mut status = Map::new();
    status.insert("monitor_pid".to_owned(), json!(monitor_pid));
    status.insert("load_metrics_report".to_owned(), load_metrics(pass));
    status.insert("autoscaler_report".to_owned(), autoscaler(pass, failures));
    status
}

/// Returns the text for the key-value store.
pub(super) fn text(mut status: Map<String, Value>, now: Timestamp) -> String {
    let seconds = Timestamp::as_ms(now).unsigned_abs();
    let seconds = std::time::Duration::from_millis(seconds).as_secs_f64();
    status.insert("time".to_owned(), json!(seconds));
    Value::Object(status).to_string()
}

fn load_metrics(pass: &PassReport<'_>) -> Value {
    let snapshot = pass.snapshot;
    let active = || snapshot.nodes.iter().filter(|node| is_active(node));
    let mut usage = BTreeMap::new();
    let mut node_types: BTreeMap<&ResourceMap, u64> = BTreeMap::new();
    for node in active() {
        for (name, used, total) in usage_of(node) {
            let sum: &mut (f64, f64) = usage.entry(name).or_default();
            *sum = (sum.0 + used, sum.1 + total);
        }
        *node_types.entry(&node.total).or_default() += 1;
    }
    let by_node = (active().count() <= NODES_MAX).then(|| {
        let one = |node: &Node| {
            let usage = usage_of(node).map(|(name, used, total)| (name, json!([used, total])));
            (node.name.to_string(), usage.collect::<Map<_, _>>())
        };
        active().map(one).collect::<BTreeMap<_, _>>()
    });
    let gangs = snapshot.gangs.iter().map(|gang| {
        let value = json!({"bundles": counted(&gang.bundles), "strategy": strategy(gang.strategy)});
        json!([value, 1])
    });
    let constraint = snapshot.constraint.iter().flat_map(|it| &it.demands);
    json!({
        "usage": usage,
        "resource_demand": counted(&snapshot.demands),
        "pg_demand": gangs.collect::<Vec<_>>(),
        "request_demand": constraint.map(one_counted).collect::<Vec<_>>(),
        "node_types": node_types.iter().map(|(it, count)| json!([bundle(it), count])).collect::<Vec<_>>(),
        "usage_by_node": by_node,
    })
}

fn autoscaler(pass: &PassReport<'_>, failures: &Failures) -> Value {
    let snapshot = pass.snapshot;
    let mut active: BTreeMap<&str, u64> = BTreeMap::new();
    let mut mapping = BTreeMap::new();
    for node in snapshot.nodes.iter().filter(|node| is_active(node)) {
        *active.entry(node.group.as_str()).or_default() += 1;
        mapping.insert(node.name.as_str(), node.group.as_str());
    }
    let mut launches = missing_pods(snapshot);
    for scaled in &pass.acted.scaled {
        if let (Some(group), Some(count)) = (
            snapshot.group(&scaled.group),
            launches.get_mut(&scaled.group),
        ) {
            *count += group.pods_of(scaled.to.saturating_sub(group.replicas));
        }
    }
    launches.retain(|_, count| *count > 0);
    let launches: BTreeMap<&str, u64> = launches
        .iter()
        .map(|(group, count)| (group.as_str(), *count))
        .collect();
    let workers = || {
        snapshot
            .nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Worker)
    };
    let pending = workers()
        .filter(|node| node.status == NodeStatus::Starting)
        .map(|node| {
            let status = match node.waiting_reason.as_str() {
                "" => "starting",
                reason => reason,
            };
            json!([node.name.as_str(), node.group.as_str(), status])
        });
    let failed = workers().filter(|node| node.status == NodeStatus::Failed);
    json!({
        "active_nodes": active,
        "idle_nodes": null,
        "pending_nodes": pending.collect::<Vec<_>>(),
        "pending_launches": launches,
        "failed_nodes": failed.map(|node| json!([node.name.as_str(), node.group.as_str()])).collect::<Vec<_>>(),
        "node_availability_summary": {"node_availabilities": availabilities(failures)},
        "pending_resources": {},
        "node_type_mapping": mapping,
        "legacy": true,
    })
}

/// Returns the latest failure of each group, in the place that `ray status` reads launch failures from.
fn availabilities(failures: &Failures) -> Map<String, Value> {
    let mut all = Map::new();
    for (group, reason, failure) in failures.latest() {
        all.entry(group.as_str()).or_insert_with(|| {
            json!({
                "node_type": group.as_str(),
                "is_available": false,
                "last_checked_timestamp": failure.last.as_secs(),
                "unavailable_node_information": {"category": "LaunchFailed", "description": reason},
            })
        });
    }
    all
}

/// Returns name, used and total of each resource; what Ray leaves out of `available` is used up.
fn usage_of(node: &Node) -> impl Iterator<Item = (String, f64, f64)> {
    node.total.iter().map(|(name, total)| {
        let available = node.available.get(name.as_str());
        let used = total.saturating_sub(available);
        (name.to_string(), used.as_f64(), total.as_f64())
    })
}

fn counted(demands: &[ResourceDemand]) -> Vec<Value> {
    demands.iter().map(one_counted).collect()
}

fn one_counted(demand: &ResourceDemand) -> Value {
    json!([bundle(&demand.request.resources), demand.count])
}

fn bundle(resources: &ResourceMap) -> Map<String, Value> {
    let entries = resources.iter();
    entries
        .map(|(name, amount)| (name.to_string(), json!(amount.as_f64())))
        .collect()
}

const fn strategy(strategy: PlacementStrategy) -> &'static str {
    match strategy {
        PlacementStrategy::Pack => "PACK",
        PlacementStrategy::Spread => "SPREAD",
        PlacementStrategy::StrictPack => "STRICT_PACK",
        PlacementStrategy::StrictSpread => "STRICT_SPREAD",
    }
}

#[cfg(test)]
mod tests {
    use super::{status, text};
    use crate::model::NodeStatus::{Running, Starting};
    use crate::report::failures::Failures;
    use crate::report::fixtures::{Pass, at, demand, group, node, resources, snapshot};

    #[test]
    fn the_reports_have_the_keys_that_rays_readers_take_and_no_other() {
        let mut busy = node("w1", "g", Running);
        busy.available = resources(&[("CPU", 3)]);
        let mut pass = Pass::of(snapshot(
            vec![group("g", 3)],
            vec![busy, node("w2", "g", Starting)],
        ));
        pass.snapshot.demands.push(demand(&[("CPU", 4)], 5));
        let text = text(status(&pass.report(), &Failures::default(), 7), at(1_500));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys = |name: &str| {
            let object = value[name].as_object().unwrap();
            object.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            keys("load_metrics_report"),
            "node_types pg_demand request_demand resource_demand usage usage_by_node"
        );
        assert_eq!(
            keys("autoscaler_report"),
            "active_nodes failed_nodes idle_nodes legacy node_availability_summary node_type_mapping pending_launches pending_nodes pending_resources"
        );
        assert_eq!(value["time"], 1.5);
        assert_eq!(
            value["load_metrics_report"]["usage"]["CPU"],
            serde_json::json!([5.0, 8.0])
        );
        assert_eq!(
            value["load_metrics_report"]["resource_demand"],
            serde_json::json!([[{"CPU": 4.0}, 5]])
        );
        let report = &value["autoscaler_report"];
        assert_eq!(report["pending_launches"], serde_json::json!({"g": 1}));
        assert_eq!(
            report["pending_nodes"],
            serde_json::json!([["w2", "g", "starting"]])
        );
    }
}
