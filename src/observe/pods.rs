//! The pods of one RayCluster, followed by a watch.

use std::collections::BTreeMap;

use futures_util::FutureExt;

use super::cluster::{ClusterError, ClusterName};
use super::failed_starts::EndedPods;
use super::object_watch::{Now, ObjectWatch, Scope, Told, Watched, query_value};
use crate::model::{FailedStart, Timestamp};
use crate::wire::kube_client::KubeClient;
use crate::wire::pod::{LABEL_CLUSTER, PodFacts, PodObject};

/// A burst of changes (a thousand pods start) is taken in one go, but the loop must come round.
const CHANGES_MAX: usize = 1_000;

impl Watched for PodObject {
    fn version(&self) -> &str {
        &self.facts().resource_version
    }
}

/// Says what happened to our view of the pods.
#[derive(Debug)]
pub enum PodChange {
    /// A pod came, went or changed in a field that we read; the view is in step.
    Changed,
    /// The view is in step (again), nothing changed.
    InStep,
    /// The view is out of step and no longer follows.
    Lost(ClusterError),
}

/// Returns the facts without the version, which changes with every field that we do not read.
fn comparable(pod: &PodObject) -> PodFacts {
    let mut facts = pod.facts().clone();
    facts.resource_version = String::new();
    facts
}

/// Follows the pods of one RayCluster.
pub struct PodWatch {
    watch: ObjectWatch<PodObject>,
    pods: BTreeMap<String, PodFacts>,
    is_in_step: bool,
    namespace: String,
    next: Option<PodChange>,
    departed: Departed,
    ended: EndedPods,
}

impl PodWatch {
    /// Returns a watch that has not begun; the seed beside the clock spreads pauses after failures.
    #[must_use]
    pub fn new(client: KubeClient, cluster: &ClusterName, clock: (Now, u64)) -> Self {
        let label = query_value(&format!("{LABEL_CLUSTER}={}", cluster.name));
        let scope = Scope {
            path: format!("/api/v1/namespaces/{}/pods", cluster.namespace),
            selector: format!("labelSelector={label}"),
        };
        Self {
            departed: Departed::new(clock.0.clone()),
            ended: EndedPods::new(clock.0.clone()),
            watch: ObjectWatch::new(client, scope, clock),
            pods: BTreeMap::new(),
            is_in_step: false,
            namespace: cluster.namespace.clone(),
            next: None,
        }
    }

    /// Returns the pods as they were last known, in the order of their names.
    pub fn pods(&self) -> impl ExactSizeIterator<Item = &PodFacts> {
        self.pods.values()
    }

    /// Returns whether the pods are known to be right now.
    #[must_use]
    pub const fn is_in_step(&self) -> bool {
        self.is_in_step
    }

    /// Returns the `metadata.uid` of a pod of this name that was there and went a short while ago; `None` while
    /// the watch is out of step, when nobody knows.
    #[must_use]
    pub fn departed(&self, name: &str) -> Option<&str> {
        self.departed.uid(name).filter(|_| self.is_in_step)
    }

    /// Returns the workers that ended by themselves lately; the operator deletes them within a moment.
    pub fn ended(&self) -> impl Iterator<Item = &FailedStart> {
        self.ended.iter()
    }

    /// Returns the last moment at which the pods were known to be right, `now` while a watch is open;
    /// `None` before the first list.
    #[must_use]
    pub fn known_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.watch.known_at(now)
    }

    /// Returns when the last list that was answered had been asked for; `None` before the first.
    #[must_use]
    pub const fn listed_from(&self) -> Option<Timestamp> {
        self.watch.listed_from()
    }

    /// Has all pods listed anew, at most once a minute; returns whether they will be.
    pub fn doubt(&mut self) -> bool {
        self.watch.doubt()
    }

    /// Has all pods listed anew, however new the last list is, unless a list is under way; returns whether they will be.
    pub fn relist(&mut self) -> bool {
        self.watch.relist()
    }

    /// Waits for the next change that matters; may be given up at any time without losing one.
    pub async fn next(&mut self) -> PodChange {
        if let Some(change) = self.next.take() {
            return change;
        }
        loop {
            let told = self.watch.next().await;
            match self.take(told) {
                Some(PodChange::Changed) => {
                    self.take_what_is_there();
                    return PodChange::Changed;
                }
                Some(change) => return change,
                None => {}
            }
        }
    }

    /// Takes in changes that have arrived already, so that one burst is one change.
    fn take_what_is_there(&mut self) {
        for _ in 0..CHANGES_MAX {
            let Some(told) = self.watch.next().now_or_never() else {
                return;
            };
            if let Some(change) = self.take(told)
                && !matches!(change, PodChange::Changed)
            {
                self.next = Some(change);
                return;
            }
        }
    }

    fn take(&mut self, told: Told<PodObject>) -> Option<PodChange> {
        let changed = match told {
            Told::Listed(pods) => {
                let was_in_step = std::mem::replace(&mut self.is_in_step, true);
                let changed = self.replace(&pods);
                if !changed && !was_in_step {
                    return Some(PodChange::InStep);
                }
                changed
            }
            Told::Applied(pod) => self.apply(&pod),
            Told::Deleted(pod) => {
                let gone = self.pods.remove(&pod.facts().name);
                self.departed.extend(gone.iter());
                gone.is_some()
            }
            Told::InStep => {
                self.is_in_step = true;
                return Some(PodChange::InStep);
            }
            Told::Lost(verb, source) => {
                self.is_in_step = false;
                let error = ClusterError::of((verb, "pods"), &self.namespace, source);
                return Some(PodChange::Lost(error));
            }
        };
        changed.then_some(PodChange::Changed)
    }

    /// Takes over a whole list and returns whether anything differs.
    fn replace(&mut self, listed: &[PodObject]) -> bool {
        let facts = listed.iter().map(comparable);
        let pods: BTreeMap<String, PodFacts> =
            facts.map(|facts| (facts.name.clone(), facts)).collect();
        let differs = pods != self.pods;
        pods.values().for_each(|pod| self.ended.note(pod));
        let before = std::mem::replace(&mut self.pods, pods);
        let is_gone = |pod: &&PodFacts| {
            let now = self.pods.get(&pod.name);
            now.is_none_or(|now| now.uid != pod.uid)
        };
        self.departed.extend(before.values().filter(is_gone));
        for name in self.pods.keys() {
            self.departed.uids.remove(name);
        }
        differs
    }

    fn apply(&mut self, pod: &PodObject) -> bool {
        let facts = comparable(pod);
        let differs = self.pods.get(&facts.name) != Some(&facts);
        self.departed.uids.remove(&facts.name);
        self.ended.note(&facts);
        self.pods.insert(facts.name.clone(), facts);
        differs
    }
}

/// The GCS notices by itself within a minute; longer than that nobody asks, since a pod that only lost its label
/// lives on for good. Units: milliseconds.
const DEPARTED_KEPT_MS: u64 = 300_000;

/// Remembers pods that are gone, until the GCS has surely noticed too.
struct Departed {
    uids: BTreeMap<String, (String, Timestamp)>,
    now: Now,
    cleared_at: Timestamp,
}

impl Departed {
    fn new(now: Now) -> Self {
        Self {
            uids: BTreeMap::new(),
            now,
            cleared_at: Timestamp::default(),
        }
    }

    fn uid(&self, name: &str) -> Option<&str> {
        let (uid, at) = self.uids.get(name)?;
        let is_late = (self.now)().millis_since(*at) >= DEPARTED_KEPT_MS;
        (!is_late).then_some(uid.as_str())
    }

    fn extend<'a>(&mut self, pods: impl Iterator<Item = &'a PodFacts>) {
        let now = (self.now)();
        if now.millis_since(self.cleared_at) >= DEPARTED_KEPT_MS {
            self.cleared_at = now;
            self.uids
                .retain(|_, (_, at)| now.millis_since(*at) < DEPARTED_KEPT_MS);
        }
        let seen = pods.map(|pod| (pod.name.clone(), (pod.uid.clone(), now)));
        self.uids.extend(seen);
    }
}

#[cfg(test)]
mod tests;
