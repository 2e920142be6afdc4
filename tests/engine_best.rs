//! The profile `best`: where its packer chooses otherwise than Ray's, and that nothing is served less for it.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::{Engine, Profile};
use rayscaler::model::{LabelConstraint, LabelOperator, LabelSelector, PlacementStrategy};
use rayscaler::policy::Registry;
use serde_json::{Value, json};
use support::builders::{Cluster, gang, group, lines, resources, running};

fn engine(profile: Profile, changed: &[(&str, Value)]) -> Engine {
    let mut chain = profile.chain();
    for (name, settings) in changed {
        let entry = chain.iter_mut().find(|entry| entry.name == *name).unwrap();
        entry.settings = settings.clone();
    }
    Engine::new(&chain, &Registry::default())
        .unwrap()
        .with_profile(profile)
}

fn decided(cluster: &Cluster, engine: &Engine) -> Vec<String> {
    lines(&cluster.decide_with(engine))
}

fn sizes() -> Cluster {
    Cluster::default()
        .group(group("small", "CPU=4"))
        .group(group("big", "CPU=16"))
}

#[test]
fn new_nodes_are_chosen_by_what_they_serve_for_their_price() {
    let cluster = sizes().demand("CPU=3", 1);
    let by_resources = engine(Profile::Best, &[]);
    assert_eq!(decided(&cluster, &by_resources), ["small 0 -> 1: tasks"]);
    let prices = json!({"scoring": "price", "node_prices": {"small": 10.0, "big": 1.0}});
    let configured = engine(Profile::Best, &[("packing", prices)]);
    assert_eq!(decided(&cluster, &configured), ["big 0 -> 1: tasks"]);
}

fn at_prices(prices: &[(&str, f64)]) -> Engine {
    let prices: serde_json::Map<String, Value> = prices
        .iter()
        .map(|(name, price)| ((*name).to_owned(), json!(price)))
        .collect();
    let settings = json!({"scoring": "price", "node_prices": prices});
    engine(Profile::Best, &[("packing", settings)])
}

#[test]
fn what_costs_nothing_is_the_best() {
    let cluster = Cluster::default()
        .group(group("free", "CPU=4"))
        .group(group("paid", "CPU=4"))
        .demand("CPU=3", 1);
    let prices = at_prices(&[("free", 0.0), ("paid", 10.0)]);
    assert_eq!(decided(&cluster, &prices), ["free 0 -> 1: tasks"]);
}

#[test]
fn all_hosts_of_a_replica_are_paid() {
    let slices = |hosts: u32, tasks: u64| {
        let mut slice = group("slice", "CPU=4");
        slice.num_of_hosts = hosts;
        let single = group("single", "CPU=8");
        let cluster = Cluster::default().group(slice).group(single);
        cluster.demand("CPU=3", tasks)
    };
    let best = engine(Profile::Best, &[]);
    let decided_for = |hosts, tasks| decided(&slices(hosts, tasks), &best);
    assert_eq!(decided_for(16, 1), ["single 0 -> 1: tasks"]);
    // Each of them fills three quarters of what is paid; the one goes first that can be had in smaller parts.
    assert_eq!(decided_for(16, 16), ["single 0 -> 8: tasks"]);
    let decided_at = |slice, tasks| {
        let prices = at_prices(&[("single", 8.0), ("slice", slice)]);
        decided(&slices(16, tasks), &prices)
    };
    assert_eq!(decided_at(4.0, 1), ["single 0 -> 1: tasks"]);
    // A slice that is worth its price once it is full.
    assert_eq!(decided_at(1.0, 1), ["single 0 -> 1: tasks"]);
    assert_eq!(decided_at(1.0, 16), ["slice 0 -> 1: tasks"]);
    // Hosts that are alike: the one that leaves nothing unused.
    let mut cluster = slices(16, 1);
    cluster.group_mut("single").template.resources = resources("CPU=4");
    assert_eq!(decided(&cluster, &best), ["single 0 -> 1: tasks"]);
}

#[test]
fn among_nodes_that_serve_alike_the_cheaper_goes_first() {
    let mut cluster = Cluster::default()
        .group(group("big", "CPU=64 special=1"))
        .group(group("small", "CPU=1 special=1"))
        .demand("special=1", 10);
    cluster.group_mut("small").bounds.max = 20;
    let best = engine(Profile::Best, &[]);
    assert_eq!(decided(&cluster, &best), ["small 0 -> 10: tasks"]);
}

/// A node that starts is paid already, so that what it costs says nothing of what should stand on it.
#[test]
fn nodes_that_start_are_filled_by_fit_and_not_by_price() {
    let cluster = Cluster::default()
        .group(group("a", "CPU=8"))
        .group(group("b", "CPU=2"))
        .starting("a", "a-1")
        .starting("b", "b-1")
        .gang("g", PlacementStrategy::Pack, &[("CPU=2", 1)])
        .demand("CPU=8", 1);
    let none: [&str; 0] = [];
    let prices = at_prices(&[("a", 1.0), ("b", 10.0)]);
    assert_eq!(decided(&cluster, &prices), none);
    assert_eq!(decided(&cluster, &engine(Profile::Best, &[])), none);
    // Nor does it when they are but asked for.
    let mut cluster = Cluster::default()
        .group(group("a", "CPU=8"))
        .group(group("b", "CPU=2"))
        .gang("g", PlacementStrategy::Pack, &[("CPU=2", 1)])
        .demand("CPU=8", 1);
    cluster.group_mut("a").replicas = 1;
    cluster.group_mut("b").replicas = 1;
    assert_eq!(decided(&cluster, &prices), none);
}

/// However much memory there is for a core, cores are compared with cores.
#[test]
fn how_full_a_node_becomes_is_asked_of_what_is_requested_only() {
    for (memory, shape) in [
        ("memory=512e9", "CPU=8 memory=512e9"),
        ("GPU=1", "CPU=8 GPU=1"),
    ] {
        let mut cluster = Cluster::default().group(group("any", shape));
        let half = if memory == "GPU=1" {
            "CPU=8"
        } else {
            "CPU=8 memory=256e9"
        };
        for (pod, available) in [("w1", half.to_owned()), ("w2", format!("CPU=2 {memory}"))] {
            let mut node = running("any", pod, shape);
            node.available = resources(&available);
            cluster = cluster.node(node);
        }
        let cluster = cluster
            .gang("a", PlacementStrategy::Pack, &[("CPU=2", 1)])
            .demand("CPU=8", 1);
        let none: [&str; 0] = [];
        assert_eq!(
            decided(&cluster, &engine(Profile::Best, &[])),
            none,
            "{memory}"
        );
    }
}

/// Each launch by itself is the best for its price, and what it leaves for the next one may make both dear.
#[test]
fn one_node_is_launched_for_the_rest_where_several_would_cost_more() {
    let six = |other: &str| {
        let cluster = Cluster::default().group(group("small", "CPU=4"));
        cluster.group(group("other", other)).demand("CPU=1", 6)
    };
    let best = engine(Profile::Best, &[]);
    assert_eq!(decided(&six("CPU=7"), &best), ["other 0 -> 1: tasks"]);
    let prices = at_prices(&[("small", 5.0), ("other", 8.0)]);
    assert_eq!(decided(&six("CPU=16"), &prices), ["other 0 -> 1: tasks"]);
    // What comes before is full, and stays.
    let prices = at_prices(&[("small", 4.0), ("other", 7.5)]);
    let lines = decided(&six("CPU=7").demand("CPU=1", 8), &prices);
    assert_eq!(lines, ["small 0 -> 2: tasks", "other 0 -> 1: tasks"]);
    // It costs as much: nothing to be saved.
    assert_eq!(decided(&six("CPU=8"), &best), ["small 0 -> 2: tasks"]);
    // There may be none of it, by its maximum or by a cap over all groups.
    let mut none = six("CPU=7");
    none.group_mut("other").bounds.max = 0;
    assert_eq!(decided(&none, &best), ["small 0 -> 2: tasks"]);
    let capped = json!({"resources_max": {"CPU": 6}});
    let capped = engine(Profile::Best, &[("maximum", capped)]);
    let lines = decided(&six("CPU=7"), &capped);
    assert_eq!(lines[0], "small 0 -> 1: tasks", "{lines:?}");
    // What is to be spread is, whatever it costs, and a priority comes before any price.
    let mut apart = six("CPU=7");
    apart.snapshot.demands.clear();
    let apart = apart.gang("a", PlacementStrategy::StrictSpread, &[("CPU=3", 2)]);
    assert_eq!(decided(&apart, &best), ["small 0 -> 2: placement_group"]);
    let mut first = six("CPU=7");
    first.group_mut("small").priority = 9;
    let by_priority = engine(
        Profile::Best,
        &[("group_priority", json!({"rule": "first"}))],
    );
    assert_eq!(decided(&first, &by_priority), ["small 0 -> 2: tasks"]);
}

/// Ray multiplies shares with raw amounts, so that a node with memory in use beats every better fit.
#[test]
fn the_best_fit_does_not_mix_cores_with_bytes() {
    let mut cluster = Cluster::default().group(group("any", "CPU=8 memory=16e9"));
    for (pod, available) in [("w1", "CPU=8 memory=1e9"), ("w2", "CPU=2 memory=16e9")] {
        let mut node = running("any", pod, "CPU=8 memory=16e9");
        node.available = resources(available);
        cluster = cluster.node(node);
    }
    let cluster = cluster
        .gang("a", PlacementStrategy::Pack, &[("CPU=2", 1)])
        .demand("CPU=8", 1);
    let none: [&str; 0] = [];
    assert_eq!(decided(&cluster, &engine(Profile::Best, &[])), none);
    assert_eq!(
        decided(&cluster, &engine(Profile::Default, &[])),
        ["any 2 -> 3: tasks"]
    );
}

#[test]
fn a_spread_group_is_spread_where_that_is_possible() {
    let mut cluster = Cluster::default().group(group("cpu4", "CPU=4"));
    let spread = PlacementStrategy::Spread;
    cluster = cluster.gang("a", spread, &[("CPU=1", 3)]);
    let best = engine(Profile::Best, &[]);
    assert_eq!(decided(&cluster, &best), ["cpu4 0 -> 3: placement_group"]);
    assert_eq!(
        decided(&cluster, &engine(Profile::Default, &[])),
        ["cpu4 0 -> 1: placement_group"]
    );
    // With two nodes at most it is served all the same, on both of them.
    cluster.group_mut("cpu4").bounds.max = 2;
    assert_eq!(decided(&cluster, &best), ["cpu4 0 -> 2: placement_group"]);
}

#[test]
fn a_spread_group_takes_as_many_nodes_as_it_can_have() {
    let spread = |bundles: u64, nodes: u32, strategy| {
        let mut cluster = Cluster::default().group(group("cpu4", "CPU=4"));
        cluster.group_mut("cpu4").bounds.max = nodes;
        cluster = cluster.gang("a", strategy, &[("CPU=1", bundles)]);
        decided(&cluster, &engine(Profile::Best, &[]))
    };
    for (bundles, nodes) in [(4, 3), (5, 3), (8, 2), (9, 7)] {
        let line = format!("cpu4 0 -> {nodes}: placement_group");
        assert_eq!(spread(bundles, nodes, PlacementStrategy::Spread), [line]);
    }
    // Nine cores have no place on two nodes of four, however they are spread.
    let unserved = spread(9, 2, PlacementStrategy::Spread);
    assert!(unserved[0].starts_with("unserved 1"), "{unserved:?}");
    let strict = spread(4, 3, PlacementStrategy::StrictSpread);
    assert!(strict[0].starts_with("unserved 1"), "{strict:?}");
    // As evenly as possible: four bundles each, as two nodes of which one has 4 cores could not hold more of the one.
    let mut cluster = Cluster::default().group(group("cpu5", "CPU=5"));
    cluster.group_mut("cpu5").bounds.max = 2;
    cluster = cluster.gang("a", PlacementStrategy::Spread, &[("CPU=1", 8)]);
    cluster = cluster.demand("CPU=1", 2);
    let best = engine(Profile::Best, &[]);
    assert_eq!(decided(&cluster, &best), ["cpu5 0 -> 2: placement_group"]);
}

fn in_zone(zone: &str) -> Vec<LabelSelector> {
    vec![LabelSelector {
        constraints: vec![LabelConstraint {
            key: "zone".into(),
            operator: LabelOperator::In,
            values: vec![zone.into()],
        }],
    }]
}

#[test]
fn a_group_takes_its_fallback_where_it_cannot_have_what_it_wants() {
    let mut cluster = sizes();
    for (name, zone) in [("small", "z1"), ("big", "z2")] {
        let labels = &mut cluster.group_mut(name).template.labels;
        labels.insert("zone".into(), zone.into());
    }
    let want = |zones: [&str; 2]| {
        let mut wanted = gang("a", PlacementStrategy::StrictSpread, &[("CPU=4", 2)]);
        wanted.bundles[0].request.selectors = in_zone(zones[0]);
        let mut other = wanted.bundles.clone();
        other[0].request.selectors = in_zone(zones[1]);
        wanted.fallbacks = vec![other];
        let mut cluster = cluster.clone();
        cluster.snapshot.gangs.push(wanted);
        cluster
    };
    let best = engine(Profile::Best, &[]);
    let taken = |zones| decided(&want(zones), &best);
    assert_eq!(taken(["z1", "z2"]), ["small 0 -> 2: placement_group"]);
    assert_eq!(taken(["z2", "z1"]), ["big 0 -> 2: placement_group"]);
    assert_eq!(taken(["z9", "z1"]), ["small 0 -> 2: placement_group"]);
    // Ray looks at the first list only.
    let ray = decided(&want(["z9", "z1"]), &engine(Profile::Default, &[]));
    assert!(ray.contains(&"infeasible gang a".to_owned()), "{ray:?}");
    // What is at its maximum is waited for, and never called impossible.
    let mut full = want(["z9", "z1"]);
    full.group_mut("small").bounds.max = 1;
    let waiting = decided(&full, &best);
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert!(
        waiting[0].starts_with("unserved 1 x placement group a"),
        "{waiting:?}"
    );
}

#[test]
fn priority_comes_first_when_asked() {
    let mut cluster = sizes().demand("CPU=1", 1);
    cluster.group_mut("small").priority = 1;
    cluster.group_mut("big").priority = 9;
    for profile in [Profile::Default, Profile::Best] {
        let usual = engine(profile, &[]);
        assert_eq!(decided(&cluster, &usual), ["small 0 -> 1: tasks"]);
        let first = engine(profile, &[("group_priority", json!({"rule": "first"}))]);
        assert_eq!(decided(&cluster, &first), ["big 0 -> 1: tasks"]);
    }
}
