//! Scenario files: a cluster, and what its users do when.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::config::{self, ConfigError, HumanDuration, Mistake};

/// The scenario that is played when none is named.
pub const BUILT_IN: &str = include_str!("tour.yaml");

/// A cluster, and what its users do when.
///
/// Every moment counts from the first decision of the sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Shown in the title.
    pub name: String,
    /// How long it lasts.
    pub duration: HumanDuration,
    /// How long a worker is idle before it goes, where its group says nothing else.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: HumanDuration,
    /// From a pod's creation to its running containers.
    #[serde(default = "default_boot")]
    pub boot: HumanDuration,
    /// From the running container to the raylet that offers its resources.
    #[serde(default = "default_join")]
    pub join: HumanDuration,
    /// What the head offers to tasks; usually no processor.
    #[serde(default)]
    pub head: Amounts,
    /// The worker groups, in the order of the RayCluster.
    pub groups: Vec<Group>,
    /// What happens.
    pub events: Vec<Event>,
}

/// Amounts by the resource's name, as Ray names it: `{CPU: 4, GPU: 1, memory: 8000000000}`.
pub type Amounts = BTreeMap<String, Amount>;

/// An amount of a resource; memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amount(pub f64);

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0})
    }
}

/// A worker group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What one of its nodes offers.
    pub resources: Amounts,
    /// Labels of its nodes.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Fewest replicas.
    #[serde(default)]
    pub min: u32,
    /// Most replicas.
    #[serde(default = "default_max")]
    pub max: u32,
    /// Nodes of one replica.
    #[serde(default = "one")]
    pub hosts: u32,
    /// Preferred where nodes fit equally well; larger is better.
    #[serde(default)]
    pub priority: i32,
    /// How long its workers are idle before they go.
    #[serde(default)]
    pub idle_timeout: Option<HumanDuration>,
    /// Whether the cloud has machines for it; without, its pods stay pending for ever.
    #[serde(default = "yes")]
    pub capacity: bool,
}

/// Something that happens; exactly one of its members beside `at` and `name` is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// When.
    pub at: HumanDuration,
    /// How it is called in the view; without a name, by what it asks for.
    #[serde(default)]
    pub name: Option<String>,
    /// A driver submits tasks.
    #[serde(default)]
    pub tasks: Option<Tasks>,
    /// A driver creates actors.
    #[serde(default)]
    pub actors: Option<Tasks>,
    /// A driver creates placement groups.
    #[serde(default)]
    pub placement_group: Option<PlacementGroup>,
    /// A driver calls `request_resources`, which replaces what was asked for before; `[]` takes it back.
    #[serde(default)]
    pub request_resources: Option<Vec<Amounts>>,
    /// Pods of a group go without a word, the longest running first: a spot reclaim, an eviction.
    #[serde(default)]
    pub lose_pods: Option<LosePods>,
}

/// Tasks or actors of one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tasks {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// What each needs.
    pub resources: Amounts,
    /// Labels that its node must have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How long each runs once it has a node.
    pub duration: HumanDuration,
}

/// Placement groups of one form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlacementGroup {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// How its bundles lie to each other.
    #[serde(default)]
    pub strategy: Strategy,
    /// What each bundle needs.
    pub bundles: Vec<Amounts>,
    /// How long it stays once it is placed.
    pub duration: HumanDuration,
}

/// How bundles lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Strategy {
    /// Together if that is possible.
    #[default]
    Pack,
    /// Apart if that is possible.
    Spread,
    /// On one node.
    StrictPack,
    /// On as many nodes as there are bundles.
    StrictSpread,
}

/// Pods that go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LosePods {
    /// The worker group.
    pub group: String,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
}

const fn default_idle_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

const fn default_boot() -> HumanDuration {
    HumanDuration::from_secs(4)
}

const fn default_join() -> HumanDuration {
    HumanDuration::from_secs(2)
}

const fn default_max() -> u32 {
    10
}

const fn one() -> u32 {
    1
}

const fn yes() -> bool {
    true
}

impl Scenario {
    /// Returns the scenario in a file's text.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, each with its line, its key and what would be accepted.
    pub fn parse(text: &str) -> Result<Self, Vec<ConfigError>> {
        config::read(text, Self::mistakes)
    }

    /// Returns what the schema cannot say.
    fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            mistakes.extend(group.mistakes(&format!("groups[{at}]"), &names));
            names.push(&group.name);
        }
        for (at, event) in self.events.iter().enumerate() {
            mistakes.extend(event.mistakes(&format!("events[{at}]"), &names));
        }
        mistakes
    }
}

impl Group {
    fn mistakes(&self, place: &str, earlier: &[&str]) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let name = &self.name;
        if !is_label_like(name) {
            let accepted = "lower-case letters, digits and `-`, at most 40, a letter first";
            mistakes.push(mistake(place, "name", format!("found `{name}`"), accepted));
        }
        if earlier.contains(&name.as_str()) {
            let problem = format!("`{name}` is the name of an earlier group");
            mistakes.push(mistake(place, "name", problem, "a name of its own"));
        }
        if self.min > self.max {
            let problem = format!("{} is more than max, {}", self.min, self.max);
            mistakes.push(mistake(place, "min", problem, "at most max"));
        }
        if self.hosts == 0 {
            mistakes.push(mistake(place, "hosts", "found 0".to_owned(), "at least 1"));
        }
        mistakes
    }
}

impl Event {
    fn mistakes(&self, place: &str, groups: &[&str]) -> Vec<Mistake> {
        let set = [
            self.tasks.is_some(),
            self.actors.is_some(),
            self.placement_group.is_some(),
            self.request_resources.is_some(),
            self.lose_pods.is_some(),
        ];
        let count = set.iter().filter(|is_set| **is_set).count();
        let mut mistakes = Vec::new();
        if count != 1 {
            let problem = format!("{count} of its keys say what happens");
            let accepted =
                "exactly one of tasks, actors, placementGroup, requestResources, losePods";
            mistakes.push(Mistake {
                path: place.to_owned(),
                problem,
                accepted: accepted.to_owned(),
            });
        }
        if let Some(lose) = &self.lose_pods
            && !groups.contains(&lose.group.as_str())
        {
            let problem = format!("there is no group `{}`", lose.group);
            mistakes.push(mistake(
                place,
                "losePods.group",
                problem,
                &groups.join(", "),
            ));
        }
        mistakes
    }
}

fn mistake(place: &str, key: &str, problem: String, accepted: &str) -> Mistake {
    Mistake {
        path: format!("{place}.{key}"),
        problem,
        accepted: accepted.to_owned(),
    }
}

fn is_label_like(name: &str) -> bool {
    let is_known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=40).contains(&name.len())
        && name.chars().all(is_known)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::{BUILT_IN, Scenario};

    fn mistakes(text: &str) -> Vec<String> {
        let errors = Scenario::parse(text).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_built_in_scenario_is_one() {
        let scenario = Scenario::parse(BUILT_IN).unwrap();
        assert_eq!(scenario.groups.len(), 4);
        assert!(
            scenario
                .events
                .iter()
                .all(|event| event.at < scenario.duration)
        );
    }

    #[test]
    fn what_the_format_does_not_know_is_named_with_its_line() {
        let text = "\
name: n
duration: 10s
groups:
  - {name: a, resources: {CPU: -1}}
  - {name: b, resources: {CPU: 1}, colour: red}
events:
  - {at: soon, tasks: {resources: {CPU: 1}, duration: 1s}}
";
        assert_eq!(
            mistakes(text),
            [
                "line 4: groups[0].resources.CPU: found the number -1; accepted: a number from 0",
                "line 5: groups[1].colour: unknown key; accepted: capacity, hosts, idleTimeout, \
                 labels, max, min, name, priority, resources",
                "line 7: events[0].at: found `soon`; accepted: a duration, such as 100ms, 30s or 1m 30s",
            ]
        );
    }

    #[test]
    fn what_contradicts_itself_is_named_with_its_line() {
        let text = "\
name: n
duration: 10s
groups:
  - name: A_
    resources: {CPU: 1}
    min: 3
    max: 2
    hosts: 0
events:
  - at: 1s
  - {at: 2s, losePods: {group: c}}
";
        assert_eq!(
            mistakes(text),
            [
                "line 4: groups[0].name: found `A_`; accepted: lower-case letters, digits and `-`, \
                 at most 40, a letter first",
                "line 6: groups[0].min: 3 is more than max, 2; accepted: at most max",
                "line 8: groups[0].hosts: found 0; accepted: at least 1",
                "line 10: events[0]: 0 of its keys say what happens; accepted: exactly one of tasks, \
                 actors, placementGroup, requestResources, losePods",
                "line 11: events[1].losePods.group: there is no group `c`; accepted: A_",
            ]
        );
    }
}
