//! What users ask for in a scenario: started when its time comes, ended when it has run, watched in between.

use crate::embedded::ray::{
    Actor, Bundle, HeadView, PlacementGroup, PlacementGroupId, PlacementGroupState, RayHead, Tasks,
    WorkId,
};
use crate::model::{
    LabelConstraint, LabelOperator, LabelSelector, PlacementStrategy, Quantity, ResourceMap,
    ResourceName, Timestamp,
};

use super::scenario::{Amounts, Event, Strategy};

/// Holds one thing that users asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// How it is called.
    pub(super) name: String,
    /// When it was asked for.
    pub(super) at: Timestamp,
    /// When the last of it had got its place.
    pub(super) placed_at: Option<Timestamp>,
    /// Whether anything has to find a place at all.
    pub(super) is_demand: bool,
    handles: Handles,
    /// How long it stays once it is placed, where nothing else ends it. Units: milliseconds.
    duration_ms: u64,
    is_ended: bool,
}

#[derive(Debug, Default)]
struct Handles {
    works: Vec<WorkId>,
    actors: Vec<WorkId>,
    groups: Vec<PlacementGroupId>,
}

impl Asked {
    /// Asks Ray for what an event says; pods to lose are not asked of Ray.
    pub(super) fn ask(event: &Event, ray: &RayHead, now: Timestamp) -> Self {
        let mut handles = Handles::default();
        let mut duration_ms = 0;
        if let Some(tasks) = &event.tasks {
            handles.works.push(ray.submit_tasks(Tasks {
                resources: resources(&tasks.resources),
                selectors: selectors(&tasks.labels),
                count: u64::from(tasks.count),
                duration_ms: Some(tasks.duration.as_ms()),
                ..Tasks::default()
            }));
        }
        if let Some(actors) = &event.actors {
            duration_ms = actors.duration.as_ms();
            let actor = Actor {
                resources: resources(&actors.resources),
                selectors: selectors(&actors.labels),
                restarts: true,
                ..Actor::default()
            };
            let made = (0..actors.count).map(|_| ray.create_actor(actor.clone()));
            handles.actors.extend(made);
        }
        if let Some(group) = &event.placement_group {
            duration_ms = group.duration.as_ms();
            let spec = PlacementGroup {
                strategy: strategy(group.strategy),
                bundles: group.bundles.iter().map(bundle).collect(),
            };
            let made = (0..group.count).map(|_| ray.create_placement_group(spec.clone()));
            handles.groups.extend(made);
        }
        if let Some(bundles) = &event.request_resources {
            let bundles: Vec<(ResourceMap, u64)> = bundles
                .iter()
                .map(|bundle| (resources(bundle), 1))
                .collect();
            ray.request_resources(&bundles);
        }
        Self {
            name: name(event),
            at: now,
            placed_at: None,
            is_demand: !handles.is_empty(),
            handles,
            duration_ms,
            is_ended: false,
        }
    }

    /// Sees what has found its place, and ends what has stayed long enough.
    pub(super) fn follow(&mut self, view: &HeadView, ray: &RayHead) {
        if self.placed_at.is_none() {
            self.placed_at = self.handles.placed_at(view);
        }
        let Some(placed_at) = self.placed_at else {
            return;
        };
        if !self.is_ended && view.at.millis_since(placed_at) >= self.duration_ms {
            self.is_ended = true;
            for actor in &self.handles.actors {
                ray.cancel(*actor);
            }
            for group in &self.handles.groups {
                ray.remove_placement_group(*group);
            }
        }
    }

    /// Returns how long it waited for its place, or has been waiting until `now`.
    ///
    /// Units: milliseconds.
    pub(super) fn waited_ms(&self, now: Timestamp) -> u64 {
        self.placed_at.unwrap_or(now).millis_since(self.at)
    }
}

impl Handles {
    fn is_empty(&self) -> bool {
        self.works.is_empty() && self.actors.is_empty() && self.groups.is_empty()
    }

    /// Returns when the last part had got its place; `None` while one waits.
    fn placed_at(&self, view: &HeadView) -> Option<Timestamp> {
        let ids = self.works.iter().chain(&self.actors);
        let works = ids.map(|id| view.works.iter().find(|work| work.id == *id)?.placed_at);
        let groups = self.groups.iter().map(|id| {
            let group = view.placement_groups.iter().find(|group| group.id == *id)?;
            let is_placed = group.state == PlacementGroupState::Created;
            group.placed_at.filter(|_| is_placed)
        });
        let all: Option<Vec<Timestamp>> = works.chain(groups).collect();
        all?.into_iter().max()
    }
}

fn name(event: &Event) -> String {
    event.name.clone().unwrap_or_else(|| what(event))
}

/// Returns what an event asks for, in a few words.
pub(super) fn what(event: &Event) -> String {
    if let Some(tasks) = &event.tasks {
        return format!("{} tasks of {}", tasks.count, shape(&tasks.resources));
    }
    if let Some(actors) = &event.actors {
        return format!("{} actors of {}", actors.count, shape(&actors.resources));
    }
    if let Some(group) = &event.placement_group {
        let bundles: Vec<String> = group.bundles.iter().map(shape).collect();
        let groups = group.count;
        let word = if groups == 1 { "group" } else { "groups" };
        return format!(
            "{groups} placement {word}, {} of {}",
            strategy_word(group.strategy),
            bundles.join(" ")
        );
    }
    if let Some(bundles) = &event.request_resources {
        let bundles: Vec<String> = bundles.iter().map(shape).collect();
        return format!("request_resources [{}]", bundles.join(" "));
    }
    if let Some(lose) = &event.lose_pods {
        return format!("{} pods of {} are lost", lose.count, lose.group);
    }
    String::new()
}

fn shape(amounts: &Amounts) -> String {
    let parts: Vec<String> = amounts
        .iter()
        .map(|(name, amount)| format!("{name}: {}", amount.0))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

/// Returns amounts as Ray counts them; what is too large for that is as much as it can count.
fn resources(amounts: &Amounts) -> ResourceMap {
    let mut map = ResourceMap::default();
    for (name, amount) in amounts {
        if let Some(quantity) = Quantity::from_f64(amount.0) {
            map.set(ResourceName::from(name.as_str()), quantity);
        }
    }
    map
}

fn selectors(labels: &std::collections::BTreeMap<String, String>) -> Vec<LabelSelector> {
    if labels.is_empty() {
        return Vec::new();
    }
    let constraints = labels.iter().map(|(key, value)| LabelConstraint {
        key: key.clone(),
        operator: LabelOperator::In,
        values: vec![value.clone()],
    });
    vec![LabelSelector {
        constraints: constraints.collect(),
    }]
}

fn bundle(amounts: &Amounts) -> Bundle {
    Bundle {
        resources: resources(amounts),
        ..Bundle::default()
    }
}

const fn strategy(strategy: Strategy) -> PlacementStrategy {
    match strategy {
        Strategy::Pack => PlacementStrategy::Pack,
        Strategy::Spread => PlacementStrategy::Spread,
        Strategy::StrictPack => PlacementStrategy::StrictPack,
        Strategy::StrictSpread => PlacementStrategy::StrictSpread,
    }
}

const fn strategy_word(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Pack => "PACK",
        Strategy::Spread => "SPREAD",
        Strategy::StrictPack => "STRICT_PACK",
        Strategy::StrictSpread => "STRICT_SPREAD",
    }
}
