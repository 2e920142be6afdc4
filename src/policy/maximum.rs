//! Brings groups back to a lowered `maxReplicas`, and caps what all groups together may have.
//!
//! Replicas that have no pod yet go by lowering the number; the others are named, busy ones if
//! there are no others: the maximum is an order. The caps over all groups only stop growth, and
//! never that of a minimum.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Quantity, ResourceName};
use crate::placement::Caps;

use super::{Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "maximum",
    stage: Stage::Settle,
    summary: "keep every group at its maxReplicas, and all of them below the caps",
    build: |settings| Ok(Box::new(Maximum::checked(parse(settings)?)?)),
    default_settings: value_of::<Maximum>,
    schema: schema_of::<Maximum>,
};

#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Maximum {
    /// Worker nodes of all groups together; absent for no limit.
    nodes_max: Option<u64>,
    /// Resources of all worker nodes together, by name; absent for no limit.
    resources_max: BTreeMap<String, f64>,
}

impl Maximum {
    fn checked(self) -> Result<Self, String> {
        let is_bad = |value: f64| Quantity::from_f64(value).is_none() || value < 0.0;
        let bad = self.resources_max.iter().find(|(_, value)| is_bad(**value));
        match bad {
            Some((name, value)) => Err(format!(
                "resources_max.{name}: {value} is not an amount of 0 or more"
            )),
            None => Ok(self),
        }
    }

    fn all_caps(&self) -> Caps {
        let amount = |(name, value): (&String, &f64)| {
            Some((
                ResourceName::from(name.as_str()),
                Quantity::from_f64(*value)?,
            ))
        };
        Caps {
            nodes_max: self.nodes_max,
            resources_max: self.resources_max.iter().filter_map(amount).collect(),
        }
    }
}

impl Policy for Maximum {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let mut sorted = Vec::new();
        for name in plan.groups() {
            let ranked = plan.shrink_to_maximum(ctx, &name);
            sorted.push(
                ranked
                    .into_iter()
                    .flat_map(|replica| replica.hosts)
                    .collect(),
            );
        }
        let corrections = plan.pool().corrections();
        if !corrections.order {
            plan.list_by_group(ctx, &sorted);
        }
        if let Some(nodes_max) = self.nodes_max.filter(|_| !corrections.soft_cap) {
            let ranked = plan.shrink_to_total(ctx, nodes_max);
            if !ranked.is_empty() {
                plan.list_by_group(ctx, &[ranked]);
            }
        }
        let mut caps = self.all_caps();
        if corrections.soft_cap {
            let missing = missing_hosts(ctx, plan);
            caps.nodes_max = caps.nodes_max.map(|max| max.saturating_sub(missing));
        }
        plan.pool_mut().set_caps(caps);
    }

    fn caps(&self) -> Option<Caps> {
        Some(self.all_caps())
    }
}

/// Returns how many hosts the replicas lack that are there: the operator makes such a replica whole.
fn missing_hosts(ctx: PolicyContext<'_>, plan: &Plan) -> u64 {
    let groups = ctx.snapshot.groups.iter();
    let missing = groups.filter_map(|spec| {
        let hosts = usize::try_from(spec.num_of_hosts).unwrap_or(usize::MAX);
        let staying = plan.group(&spec.name)?.staying();
        let missing = staying.map(|replica| hosts.saturating_sub(replica.hosts.len()));
        Some(missing.sum::<usize>())
    });
    u64::try_from(missing.sum::<usize>()).unwrap_or(u64::MAX)
}
