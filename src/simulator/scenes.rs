//! Clusters on which runs are played.

use std::collections::BTreeMap;

use super::random::Random;
use super::workload::{LABEL, own_resource};
use crate::config::{Config, HumanDuration, PolicyChoice};
use crate::sandbox::scenario::{Amount, Group, Scenario};

/// Longer than any raylet takes here that comes at all.
const UNREGISTERED_AFTER: &str = "1m";

/// Returns a cluster of some groups, drawn from the seed.
pub(super) fn random(seed: u64) -> Scenario {
    let mut random = Random::new(seed, "scene");
    let mut groups = vec![group("small", &[("CPU", 2.0)], &mut random)];
    if random.chance(70) {
        groups.push(group("large", &[("CPU", 8.0)], &mut random));
    }
    if random.chance(60) {
        let mut gpu = group("gpu", &[("CPU", 4.0), ("GPU", 1.0)], &mut random);
        gpu.labels.insert(LABEL.to_owned(), "a".to_owned());
        groups.push(gpu);
    }
    if random.chance(60) {
        let mut slice = group("slice", &[("CPU", 4.0)], &mut random);
        slice.hosts = 2;
        slice.max = slice.max.min(3);
        groups.push(slice);
    }
    Scenario {
        name: format!("seed {seed}"),
        duration: HumanDuration::from_secs(0),
        idle_timeout: HumanDuration::from_secs(random.between(5, 20)),
        boot: HumanDuration::from_ms(random.between(500, 15_000)),
        join: HumanDuration::from_ms(random.between(500, 3_000)),
        head: BTreeMap::new(),
        groups,
        events: Vec::new(),
    }
}

/// Returns a config in which three seeds of four ask Ray less often than they might: most of what a run costs
/// is questions about nothing new.
pub(super) fn paced(seed: u64, config: &Config) -> Config {
    let mut random = Random::new(seed, "pace");
    let mut config = config.clone();
    impatient(&mut config);
    if random.chance(75) {
        let slow_ms = random.between(400, 1_000);
        let gcs = &mut config.poll.gcs;
        gcs.interval_min = HumanDuration::from_ms(slow_ms.max(gcs.interval_min.as_ms()));
        gcs.interval_max =
            HumanDuration::from_ms(gcs.interval_min.as_ms().max(gcs.interval_max.as_ms()));
    }
    config
}

/// Has pods replaced soon that run without a raylet: whoever drained it has not lived to name the pod. By
/// default that takes half an hour, which no run lasts.
fn impatient(config: &mut Config) {
    if config.policies.is_some() {
        return;
    }
    let chosen = config.scaling.profile.chain().into_iter();
    let policies = chosen.map(|entry| {
        let mut settings = entry.settings.as_object().cloned().unwrap_or_default();
        if entry.name == "recycle" {
            settings.insert("unregistered_after".to_owned(), UNREGISTERED_AFTER.into());
        }
        PolicyChoice {
            name: entry.name,
            settings,
        }
    });
    config.policies = Some(policies.collect());
}

/// Returns a group whose nodes offer these, and one of what is its own.
fn group(name: &str, amounts: &[(&str, f64)], random: &mut Random) -> Group {
    let own = own_resource(name);
    let amounts = amounts.iter().copied().chain([(own.as_str(), 1.0)]);
    let resources = amounts.map(|(name, amount)| (name.to_owned(), Amount(amount)));
    let max = random.size(2, 6);
    Group {
        name: name.to_owned(),
        resources: resources.collect(),
        labels: BTreeMap::new(),
        min: random.size(0, 1),
        max,
        hosts: 1,
        priority: 0,
        idle_timeout: None,
        capacity: true,
    }
}
