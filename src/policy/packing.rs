//! Says how nodes are compared: in Ray's way, or by price.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::placement::Packing as Prices;

use super::{Plan, Policy, PolicyContext, PolicyEntry, Stage, parse, schema_of, value_of};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    name: "packing",
    stage: Stage::Settle,
    summary: "compare nodes in Ray's way, or by price",
    build: |settings| Ok(Box::new(Packing::checked(parse(settings)?)?)),
    default_settings: value_of::<Packing>,
    schema: schema_of::<Packing>,
};

/// Says how nodes are compared.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
enum Scoring {
    /// By v·u³ of each resource, as Ray does.
    #[default]
    Ray,
    /// By what is served for the price of the node.
    Price,
}

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Packing {
    /// How nodes are compared.
    scoring: Scoring,
    /// Price of one unit of each resource, in any currency; others are free.
    unit_prices: BTreeMap<String, f64>,
    /// Price of one node of a group, by name; what its resources cost unless given.
    node_prices: BTreeMap<String, f64>,
}

impl Default for Packing {
    fn default() -> Self {
        // What clouds ask for is about one to an eighth for a core and a GiB, and tens of cores for an accelerator.
        let prices = [
            ("CPU", 1.0),
            ("memory", 0.125 / f64::from(1 << 30)),
            ("GPU", 24.0),
            ("TPU", 24.0),
        ];
        Self {
            scoring: Scoring::default(),
            unit_prices: prices.map(|(name, price)| (name.to_owned(), price)).into(),
            node_prices: BTreeMap::new(),
        }
    }
}

impl Packing {
    fn checked(self) -> Result<Self, String> {
        let maps = [
            ("unit_prices", &self.unit_prices),
            ("node_prices", &self.node_prices),
        ];
        for (key, prices) in maps {
            let bad = prices
                .iter()
                .find(|(_, price)| !price.is_finite() || **price < 0.0);
            if let Some((name, price)) = bad {
                return Err(format!("{key}.{name}: {price} is not a price of 0 or more"));
            }
        }
        Ok(self)
    }
}

impl Policy for Packing {
    fn apply(&self, _: PolicyContext<'_>, plan: &mut Plan) {
        if self.scoring == Scoring::Ray {
            return;
        }
        let groups = plan.groups();
        let price = |name: &str| self.node_prices.get(name).copied();
        let node_prices = groups.iter().enumerate();
        plan.pool_mut().choice_mut().packing = Some(Prices {
            unit_prices: self.unit_prices.clone(),
            node_prices: node_prices
                .filter_map(|(at, name)| Some((at, price(name.as_str())?)))
                .collect(),
        });
    }
}
