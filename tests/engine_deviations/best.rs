//! The minimal case of each deviation of the profile `best` alone: what the default profile makes of it, and what that.

use rayscaler::model::{LabelConstraint, LabelOperator, LabelSelector, PlacementStrategy};

use super::rows::{Row, cpu4, row};
use crate::support::builders::{Cluster, gang, group, resources, running};

/// Returns the rows; `ray` holds what the default profile decides.
pub(crate) fn best() -> Vec<Row> {
    let mut price = Cluster::default().group(group("any", "CPU=8 memory=16e9"));
    for (pod, available) in [("w1", "CPU=8 memory=1e9"), ("w2", "CPU=2 memory=16e9")] {
        let mut node = running("any", pod, "CPU=8 memory=16e9");
        node.available = resources(available);
        price = price.node(node);
    }
    let price = price
        .gang("a", PlacementStrategy::Pack, &[("CPU=2", 1)])
        .demand("CPU=8", 1);
    let spread = cpu4().gang("a", PlacementStrategy::Spread, &[("CPU=1", 3)]);
    let zoned = |zone: &str| {
        let constraint = LabelConstraint {
            key: "zone".into(),
            operator: LabelOperator::In,
            values: vec![zone.into()],
        };
        vec![LabelSelector {
            constraints: vec![constraint],
        }]
    };
    let mut wanted = gang("a", PlacementStrategy::Pack, &[("CPU=4", 1)]);
    wanted.fallbacks = vec![wanted.bundles.clone()];
    wanted.bundles[0].request.selectors = zoned("nowhere");
    let mut fallbacks = cpu4();
    fallbacks.snapshot.gangs.push(wanted);
    vec![
        row("price", price, &["any 2 -> 3: tasks"], &[]),
        row(
            "spread",
            spread,
            &["cpu4 0 -> 1: placement_group"],
            &["cpu4 0 -> 3: placement_group"],
        ),
        row(
            "fallbacks",
            fallbacks,
            &[],
            &["cpu4 0 -> 1: placement_group"],
        ),
    ]
}
