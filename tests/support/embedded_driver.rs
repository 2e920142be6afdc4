//! The users' script of the acceptance tests once more, for an embedded head: the same words, the same meaning.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use rayscaler::embedded::ray::{
    Actor, Bundle, PlacementGroup, PlacementGroupId, RayHead, Tasks, WorkId,
};
use rayscaler::model::{
    LabelConstraint, LabelOperator, LabelSelector, PlacementStrategy, Quantity, ResourceMap,
    ResourceName,
};
use tokio::time::sleep;

/// How often the script looks whether what it waits for is there.
const LOOK: Duration = Duration::from_millis(20);

/// Does what users do to an embedded head.
#[derive(Debug)]
pub struct EmbeddedDriver {
    head: RayHead,
    actors: Mutex<BTreeMap<String, WorkId>>,
    groups: Mutex<BTreeMap<String, PlacementGroupId>>,
}

/// The words of one call.
struct Arguments<'a> {
    command: &'a str,
    names: Vec<&'a str>,
    flags: BTreeMap<&'a str, &'a str>,
}

impl<'a> Arguments<'a> {
    fn parse(words: &[&'a str]) -> Self {
        let (flags, names): (Vec<&str>, Vec<&str>) = words
            .iter()
            .copied()
            .partition(|word| word.starts_with("--"));
        let flags = flags
            .into_iter()
            .map(|flag| flag.split_once('=').unwrap_or((flag, "")));
        let mut names = names.into_iter();
        Self {
            command: names.next().expect("a command"),
            names: names.collect(),
            flags: flags.collect(),
        }
    }

    fn flag(&self, name: &str) -> Option<&'a str> {
        self.flags.get(name).copied()
    }

    fn number(&self, name: &str) -> f64 {
        self.flag(name).map_or(0.0, |text| text.parse().unwrap())
    }

    fn count(&self, name: &str, default: u64) -> u64 {
        self.flag(name)
            .map_or(default, |text| text.parse().unwrap())
    }

    fn resources(&self) -> ResourceMap {
        let mut wanted: BTreeMap<String, f64> = self
            .flag("--resources")
            .map_or_else(BTreeMap::new, |json| serde_json::from_str(json).unwrap());
        wanted.insert("CPU".to_owned(), self.number("--num-cpus"));
        wanted.insert("GPU".to_owned(), self.number("--num-gpus"));
        wanted.retain(|_, amount| *amount > 0.0);
        resource_map(&wanted)
    }

    fn bundles(&self) -> Vec<ResourceMap> {
        let bundles: Vec<BTreeMap<String, f64>> = self
            .flag("--bundles")
            .map_or_else(Vec::new, |json| serde_json::from_str(json).unwrap());
        bundles.iter().map(resource_map).collect()
    }
}

/// Returns amounts given as plain numbers.
pub fn resource_map(amounts: &BTreeMap<String, f64>) -> ResourceMap {
    let amounts = amounts.iter();
    amounts
        .map(|(name, amount)| {
            (
                ResourceName::from(name.as_str()),
                Quantity::from_f64(*amount).unwrap(),
            )
        })
        .collect()
}

/// Returns the selector that Ray makes of `{"zone": "in(a,b)", "tier": "!spot"}`.
pub fn selector(json: &str) -> LabelSelector {
    let words: BTreeMap<String, String> = serde_json::from_str(json).unwrap();
    let constraints = words.into_iter().map(|(key, text)| {
        let (operator, text) = match text.strip_prefix('!') {
            Some(rest) => (LabelOperator::NotIn, rest.to_owned()),
            None => (LabelOperator::In, text),
        };
        let inner = text
            .strip_prefix("in(")
            .and_then(|rest| rest.strip_suffix(')'));
        let values = inner.unwrap_or(&text).split(',');
        LabelConstraint {
            key,
            operator,
            values: values.map(|value| value.trim().to_owned()).collect(),
        }
    });
    LabelSelector {
        constraints: constraints.collect(),
    }
}

impl EmbeddedDriver {
    /// Returns a user of this head who has asked for nothing.
    pub fn new(head: RayHead) -> Self {
        Self {
            head,
            actors: Mutex::default(),
            groups: Mutex::default(),
        }
    }

    /// Does what the words say and returns what the script would print.
    pub async fn run(&self, words: &[&str]) -> String {
        let arguments = Arguments::parse(words);
        let job = self.head.start_driver("acceptance");
        let printed = self.command(&arguments).await;
        self.head.stop_driver(job);
        printed
    }

    async fn command(&self, arguments: &Arguments<'_>) -> String {
        match arguments.command {
            "actor" => self.actor(arguments).await,
            "kill" => {
                for name in &arguments.names {
                    let actor = self.actors.lock().unwrap().remove(*name);
                    self.head.cancel(actor.expect("an actor of this name"));
                }
            }
            "tasks" => self.tasks(arguments).await,
            "gang" => self.gang(arguments).await,
            "remove_gang" => {
                for name in &arguments.names {
                    let group = self.groups.lock().unwrap().remove(*name);
                    self.head
                        .remove_placement_group(group.expect("a group of this name"));
                }
            }
            "gang_nodes" => return self.gang_nodes(arguments).await,
            "request" => {
                let mut bundles: Vec<(ResourceMap, u64)> = arguments
                    .bundles()
                    .into_iter()
                    .map(|bundle| (bundle, 1))
                    .collect();
                let cpu = BTreeMap::from([("CPU".to_owned(), 1.0)]);
                let cpus = arguments.count("--num-cpus", 0);
                bundles.extend((cpus > 0).then(|| (resource_map(&cpu), cpus)));
                self.head.request_resources(&bundles);
            }
            other => panic!("`{other}` is for real Ray only"),
        }
        String::new()
    }

    async fn actor(&self, arguments: &Arguments<'_>) {
        let mut actors = Vec::new();
        for name in &arguments.names {
            let actor = self.head.create_actor(Actor {
                resources: arguments.resources(),
                selectors: arguments
                    .flag("--label-selector")
                    .map(selector)
                    .into_iter()
                    .collect(),
                ..Actor::default()
            });
            self.actors
                .lock()
                .unwrap()
                .insert((*name).to_owned(), actor);
            actors.push(actor);
        }
        while arguments.flag("--no-wait").is_none() && !actors.iter().all(|actor| self.runs(*actor))
        {
            sleep(LOOK).await;
        }
    }

    fn runs(&self, id: WorkId) -> bool {
        let works = self.head.view().works;
        works.iter().any(|work| work.id == id && work.running == 1)
    }

    async fn tasks(&self, arguments: &Arguments<'_>) {
        let duration_ms =
            Duration::from_secs_f64(arguments.number("--seconds").max(0.001)).as_millis();
        let count = arguments.count("--count", 1);
        let id = self.head.submit_tasks(Tasks {
            resources: resource_map(&BTreeMap::from([("CPU".to_owned(), 1.0)])),
            count,
            duration_ms: u64::try_from(duration_ms).ok(),
            ..Tasks::default()
        });
        while !self
            .head
            .view()
            .works
            .iter()
            .any(|work| work.id == id && work.done == count)
        {
            sleep(LOOK).await;
        }
    }

    async fn gang(&self, arguments: &Arguments<'_>) {
        let strategy = match arguments.flag("--strategy").unwrap_or("PACK") {
            "PACK" => PlacementStrategy::Pack,
            "SPREAD" => PlacementStrategy::Spread,
            "STRICT_PACK" => PlacementStrategy::StrictPack,
            "STRICT_SPREAD" => PlacementStrategy::StrictSpread,
            other => panic!("no strategy `{other}`"),
        };
        let bundles = arguments.bundles().into_iter();
        let bundles = bundles.map(|resources| Bundle {
            resources,
            ..Bundle::default()
        });
        let group = PlacementGroup {
            strategy,
            bundles: bundles.collect(),
        };
        let id = self.head.create_placement_group(group);
        self.groups
            .lock()
            .unwrap()
            .insert(arguments.names[0].to_owned(), id);
        while arguments.flag("--no-wait").is_none() && self.nodes_of(id).is_none() {
            sleep(LOOK).await;
        }
    }

    async fn gang_nodes(&self, arguments: &Arguments<'_>) -> String {
        let id = self.groups.lock().unwrap()[arguments.names[0]];
        loop {
            match self.nodes_of(id) {
                Some(nodes) => return serde_json::to_string(&nodes).unwrap(),
                None => sleep(LOOK).await,
            }
        }
    }

    /// Returns the ids of the nodes that hold the bundles, once all are placed.
    fn nodes_of(&self, id: PlacementGroupId) -> Option<Vec<String>> {
        let groups = self.head.view().placement_groups;
        let group = groups.into_iter().find(|group| group.id == id)?;
        group
            .nodes
            .iter()
            .map(|node| Some((*node)?.to_string()))
            .collect()
    }
}
