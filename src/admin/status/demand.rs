//! What Ray waits for, and what its nodes have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{
    ClusterSnapshot, GangRequest, NodeStatus, PlacementStrategy, Quantity, ResourceDemand,
};

/// Shows equal demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemandStatus {
    /// `tasks` (actors too), `placement_group` or `request_resources`.
    pub class: String,
    /// The shape, readable: `{CPU: 4}`, `STRICT_SPREAD of 4 x {GPU: 1}`.
    pub what: String,
    /// How many.
    pub count: u64,
}

/// Shows one resource over all running nodes, the head included.
///
/// Units: as Ray shows it; memory in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceUsage {
    /// The resource.
    pub name: String,
    /// In use.
    pub used: f64,
    /// There.
    pub total: f64,
}

/// Returns all demand, the largest counts first.
pub(super) fn demand(snapshot: &ClusterSnapshot) -> Vec<DemandStatus> {
    let mut counts: BTreeMap<(&str, String), u64> = BTreeMap::new();
    let mut add = |class: &'static str, what: String, count: u64| {
        let sum = counts.entry((class, what)).or_default();
        *sum = sum.saturating_add(count);
    };
    for demand in &snapshot.demands {
        add("tasks", demand.request.to_string(), demand.count);
    }
    for gang in &snapshot.gangs {
        add("placement_group", shape(gang), 1);
    }
    for demand in snapshot.constraint.iter().flat_map(|it| &it.demands) {
        add(
            "request_resources",
            demand.request.to_string(),
            demand.count,
        );
    }
    let shown = counts
        .into_iter()
        .map(|((class, what), count)| DemandStatus {
            class: class.to_owned(),
            what,
            count,
        });
    let mut shown: Vec<DemandStatus> = shown.collect();
    shown.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.what.cmp(&b.what)));
    shown
}

/// Returns a placement group without what tells it from others of its shape.
fn shape(gang: &GangRequest) -> String {
    let strategy = match gang.strategy {
        PlacementStrategy::Pack => "PACK",
        PlacementStrategy::Spread => "SPREAD",
        PlacementStrategy::StrictPack => "STRICT_PACK",
        PlacementStrategy::StrictSpread => "STRICT_SPREAD",
    };
    let bundle =
        |ResourceDemand { request, count }: &ResourceDemand| format!("{count} x {request}");
    let bundles: Vec<String> = gang.bundles.iter().map(bundle).collect();
    format!("{strategy} of {}", bundles.join(" + "))
}

/// Returns the resources of running nodes; those that only name a node or a placement group left out.
pub(super) fn usage(snapshot: &ClusterSnapshot) -> Vec<ResourceUsage> {
    let mut sums: BTreeMap<&str, (i128, i128)> = BTreeMap::new();
    let running = snapshot
        .nodes
        .iter()
        .filter(|node| node.status == NodeStatus::Running);
    for node in running {
        let shown = |name: &str| !name.starts_with("node:") && !name.contains("_group_");
        for (name, total) in node.total.iter().filter(|(name, _)| shown(name.as_str())) {
            let used = total.saturating_sub(node.available.get(name.as_str()));
            let sum = sums.entry(name.as_str()).or_default();
            sum.0 += i128::from(used.units());
            sum.1 += i128::from(total.units());
        }
    }
    let usage = sums.into_iter().map(|(name, (used, total))| ResourceUsage {
        name: name.to_owned(),
        used: amount(used),
        total: amount(total),
    });
    usage.collect()
}

/// Returns a sum as Ray shows it.
fn amount(units: i128) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for display only")]
    let units = units as f64;
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    let scale = Quantity::SCALE as f64;
    units / scale
}
