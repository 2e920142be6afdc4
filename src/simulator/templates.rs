//! Edits of what the pods of a group are made of, and work that needs exactly what new pods have.
//!
//! The operator leaves pods as they are when their group's template is edited. So a group has nodes of several
//! shapes, and whoever asks for what the template says now gets it from new nodes, whatever old ones have.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::SimulatorError;
use super::edits::replace;
use super::gangs::hosts;
use super::random::Random;
use super::run::{Run, SERVED_WITHIN_MS};
use super::witness::{groups, number, text};
use super::workload::LABEL;
use super::world::World;
use crate::embedded::ray::{Tasks, WorkId};
use crate::model::{
    LabelConstraint, LabelOperator, LabelSelector, Quantity, ResourceMap, ResourceName,
};

/// A resource that no template has at first.
const EXTRA: &str = "extra";

/// What has a flag of its own in `rayStartParams`, and may stand in the limits of the Ray container: its name at Ray's,
/// the flag, and Kubernetes' name.
const FLAGGED: [(&str, &str, &str); 2] = [
    ("CPU", "num-cpus", "cpu"),
    ("GPU", "num-gpus", "nvidia.com/gpu"),
];

/// Where a container of a group says what it may have.
const LIMITS: &str = "/template/spec/containers/0/resources/limits";

/// What a new node of some groups has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    amounts: ResourceMap,
    zone: Option<String>,
}

/// Edits the template of a group; returns what was done, in words.
pub(super) async fn edit(world: &World, random: &mut Random) -> Result<String, SimulatorError> {
    replace(world, |object| {
        let specs = object["spec"]["workerGroupSpecs"].as_array_mut();
        let specs = specs.map_or(&mut [][..], Vec::as_mut_slice);
        let count = u64::try_from(specs.len()).unwrap_or(1).max(1);
        let at = usize::try_from(random.next() % count).unwrap_or(0);
        match specs.get_mut(at) {
            Some(spec) => format!("{}: {}", text(spec, "groupName"), change(random, spec)),
            None => "there are no groups".to_owned(),
        }
    })
    .await
}

fn change(random: &mut Random, spec: &mut Value) -> String {
    let mut amounts = amounts(spec);
    let has = |name: &str| amounts.contains_key(name);
    let (name, amount) = match random.between(0, 7) {
        0..=2 => ("CPU", random.between(1, 8)),
        3 => ("GPU", u64::from(!has("GPU"))),
        4 => (EXTRA, u64::from(!has(EXTRA))),
        5 => return change_zone(random, spec),
        6 => {
            let release = random.between(1, 9).to_string();
            spec["template"]["metadata"]["labels"]["release"] = json!(release);
            return format!("release {release}");
        }
        _ => {
            spec["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "linux"});
            return "machines with Linux".to_owned();
        }
    };
    amounts.insert(name.to_owned(), amount);
    amounts.retain(|_, amount| *amount > 0);
    let text = format!("{amounts:?}");
    format!("{text} in {}", set_amounts(random, spec, amounts))
}

fn change_zone(random: &mut Random, spec: &mut Value) -> String {
    let zone = random.pick(&["a", "b", ""]).copied().unwrap_or_default();
    spec["labels"] = if zone.is_empty() {
        json!({})
    } else {
        json!({LABEL: zone})
    };
    format!("zone {zone:?}")
}

/// Returns what a new node of a group has, wherever the group says so: its `resources` and `rayStartParams` stand above
/// the limits of its container.
pub(super) fn amounts(spec: &Value) -> BTreeMap<String, u64> {
    let params = &spec["rayStartParams"];
    let custom = params["resources"].as_str().unwrap_or_default();
    let custom: Value = serde_json::from_str(custom.trim_matches('\'')).unwrap_or_default();
    let limits = spec.pointer(LIMITS).unwrap_or(&Value::Null);
    let flagged = FLAGGED.iter().flat_map(|(name, flag, limit)| {
        let amounts = [whole(&limits[*limit]), whole(&params[*flag])];
        amounts
            .into_iter()
            .map(|amount| Some(((*name).to_owned(), amount?)))
    });
    let tables = [&custom, &spec["resources"]];
    let tables = tables.into_iter().filter_map(Value::as_object).flatten();
    let named = tables.map(|(name, amount)| Some((name.clone(), whole(amount)?)));
    flagged.chain(named).flatten().collect()
}

fn whole(amount: &Value) -> Option<u64> {
    let text = amount.as_str().map(str::to_owned);
    text.unwrap_or_else(|| amount.to_string()).parse().ok()
}

/// Has a group say so in one place, and in no other; returns that place.
fn set_amounts(
    random: &mut Random,
    spec: &mut Value,
    mut amounts: BTreeMap<String, u64>,
) -> &'static str {
    let places = ["resources", "rayStartParams", "limits"];
    let place = random.pick(&places).copied().unwrap_or_default();
    let (mut params, mut limits) = (Map::new(), Map::new());
    if place != "resources" {
        for (name, flag, limit) in FLAGGED {
            let Some(amount) = amounts.remove(name) else {
                continue;
            };
            let text = json!(amount.to_string());
            if place == "limits" {
                limits.insert(limit.to_owned(), text);
            } else {
                params.insert(flag.to_owned(), text);
            }
        }
    }
    if place == "rayStartParams" {
        let custom = json!(std::mem::take(&mut amounts));
        params.insert("resources".to_owned(), json!(format!("'{custom}'")));
    }
    let amounts = amounts.iter();
    let amounts = amounts.map(|(name, amount)| (name.clone(), json!(amount.to_string())));
    spec["resources"] = Value::Object(amounts.collect());
    spec["rayStartParams"] = Value::Object(params);
    spec["template"]["spec"]["containers"][0]["resources"] = json!({"limits": limits});
    place
}

impl Shape {
    fn of(spec: &Value) -> Self {
        let amounts = amounts(spec).into_iter().map(|(name, amount)| {
            let amount = i64::try_from(amount).unwrap_or(i64::MAX);
            let name = ResourceName::from(name.as_str());
            (name, Quantity::from_whole(amount))
        });
        Self {
            amounts: amounts.collect(),
            zone: spec["labels"][LABEL].as_str().map(str::to_owned),
        }
    }

    /// Returns whether a node of this shape can do what needs all of the other one.
    fn serves(&self, other: &Self) -> bool {
        let mut amounts = other.amounts.iter();
        amounts.all(|(name, amount)| self.amounts.get(name.as_str()) >= amount)
            && (other.zone.is_none() || other.zone == self.zone)
    }

    fn tasks(&self, count: u64) -> Tasks {
        let selectors = self.zone.iter().map(|zone| LabelSelector {
            constraints: vec![LabelConstraint {
                key: LABEL.to_owned(),
                operator: LabelOperator::In,
                values: vec![zone.clone()],
            }],
        });
        Tasks {
            resources: self.amounts.clone(),
            count,
            selectors: selectors.collect(),
            ..Tasks::default()
        }
    }
}

impl Run {
    /// Asks for all that a new node of some group has, and sees it come and go; nodes that are there may have less.
    pub(super) async fn check_templates(&mut self) -> Result<(), SimulatorError> {
        let specs = groups(&self.world.raycluster().await?);
        let Some(spec) = self.shapes.pick(&specs) else {
            return Ok(());
        };
        let shape = Shape::of(spec);
        // A group never has fewer nodes than its minimum, and those may all be older.
        let room = specs
            .iter()
            .filter(|spec| Shape::of(spec).serves(&shape))
            .map(|spec| {
                let (min, max) = (number(spec, "minReplicas"), number(spec, "maxReplicas"));
                max.saturating_sub(min) * hosts(spec)
            })
            .sum::<u64>();
        if room == 0 {
            return Ok(());
        }
        let count = self.shapes.between(1, room.min(6));
        self.world.trace.say(&format!("ask {count} of {shape:?}"));
        let work = self.world.ray.submit_tasks(shape.tasks(count));
        self.see_served(work, &shape).await?;
        self.world.ray.cancel(work);
        self.see_small().await
    }

    async fn see_served(&mut self, work: WorkId, shape: &Shape) -> Result<(), SimulatorError> {
        let scenario = &self.world.scenario;
        let slow_ms = scenario.boot.as_ms() + scenario.join.as_ms();
        let deadline = self.world.after(slow_ms + SERVED_WITHIN_MS);
        while self.is_well() && !self.is_placed(work) {
            if self.world.clock.now() > deadline {
                let text = self.describe(&[]).await?;
                let witness = &self.world.witness;
                witness.object(format!("{shape:?} is not served: {text}"));
            }
            self.step().await?;
        }
        Ok(())
    }
}
