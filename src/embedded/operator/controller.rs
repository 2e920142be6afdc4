//! The loop around the operator: watches say what changed, failed passes come again after a delay.

use super::names::CLUSTER_LABEL;
use super::{Operator, OperatorError, Requeue, Settings, ray_cluster_resource};
use crate::embedded::lean::PodOutline;
use crate::embedded::{Now, watched};
use crate::model::Timestamp;
use futures_util::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{Config, Event};
use kube::{Client, Resource, ResourceExt};
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

/// The first delay after a failed pass; each further failure doubles it.
const BACKOFF_MIN_MS: u64 = 5;
/// The longest delay after failed passes.
const BACKOFF_MAX_MS: u64 = 1_000_000;

/// Serves the RayClusters of one namespace until it is dropped.
///
/// One pass at a time, whatever the cluster; what changes during a pass is seen by the next one.
pub async fn run(client: Client, settings: Settings, now: Now) {
    let (namespace, resource) = (settings.namespace.clone(), ray_cluster_resource());
    let clusters: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let pods: Api<PodOutline> = Api::namespaced(client.clone(), &namespace);
    let mut clusters = pin!(watched(clusters, Config::default()));
    let mut pods = pin!(watched(pods, Config::default().labels(CLUSTER_LABEL)));
    let mut operator = Operator::new(client, settings, now.clone());
    let mut queue = Queue::default();
    loop {
        let next = queue.next();
        let wait_ms = next
            .as_ref()
            .map_or(u64::MAX, |(_, due)| due.millis_since(now()));
        tokio::select! {
            biased;
            Some(event) = clusters.next() => queue.on_cluster(event, now()),
            Some(event) = pods.next() => queue.on_pod(event, now()),
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {
                if let Some((name, _)) = next {
                    let done = operator.reconcile(&name).await;
                    queue.on_pass(&name, &done, now());
                }
            }
        }
    }
}

/// Tells a change that matters from a mere write of the status.
type Fingerprint = (Option<String>, Option<i64>, String);

/// Holds which cluster is due when.
#[derive(Debug, Default)]
struct Queue {
    due: BTreeMap<String, Timestamp>,
    failures: BTreeMap<String, u32>,
    seen: BTreeMap<String, Fingerprint>,
}

impl Queue {
    fn next(&self) -> Option<(String, Timestamp)> {
        let next = self.due.iter().min_by_key(|(_, due)| **due);
        next.map(|(name, due)| (name.clone(), *due))
    }

    fn on_cluster(&mut self, event: Event<DynamicObject>, now: Timestamp) {
        match event {
            Event::Apply(cluster) | Event::InitApply(cluster) => {
                let name = cluster.name_any();
                let meta = cluster.meta();
                let texts = format!("{:?} {:?}", meta.labels, meta.annotations);
                let new = (meta.uid.clone(), meta.generation, texts);
                if self.seen.insert(name.clone(), new.clone()) != Some(new) {
                    self.due.insert(name, now);
                }
            }
            Event::Delete(cluster) => {
                self.seen.remove(&cluster.name_any());
                self.due.insert(cluster.name_any(), now);
            }
            Event::Init | Event::InitDone => {}
        }
    }

    fn on_pod(&mut self, event: Event<PodOutline>, now: Timestamp) {
        match event {
            Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod) => {
                let owners = pod.owner_references().iter();
                for owner in owners.filter(|owner| owner.kind == "RayCluster") {
                    self.due.insert(owner.name.clone(), now);
                }
            }
            // Deletions may have been missed.
            Event::InitDone => self
                .due
                .extend(self.seen.keys().map(|name| (name.clone(), now))),
            Event::Init => {}
        }
    }

    fn on_pass(&mut self, name: &str, done: &Result<Requeue, OperatorError>, now: Timestamp) {
        self.due.remove(name);
        let delay_ms = match done {
            Ok(Requeue::OnChange) => {
                self.failures.remove(name);
                return;
            }
            Ok(Requeue::After(delay)) => {
                self.failures.remove(name);
                u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
            }
            Err(_) => {
                let failures = self.failures.entry(name.to_owned()).or_default();
                let factor = 1_u64.checked_shl(*failures).unwrap_or(u64::MAX);
                *failures = failures.saturating_add(1).min(63);
                BACKOFF_MIN_MS.saturating_mul(factor).min(BACKOFF_MAX_MS)
            }
        };
        self.due.insert(name.to_owned(), now.plus_ms(delay_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::{Queue, Requeue};
    use crate::embedded::operator::OperatorError;
    use crate::model::Timestamp;
    use kube::api::DynamicObject;
    use kube::runtime::watcher::Event;
    use serde_json::json;
    use std::time::Duration;

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn due(queue: &Queue) -> Option<i64> {
        queue.next().map(|(_, due)| due.as_ms())
    }

    #[test]
    fn failures_double_the_delay_and_an_event_cuts_it_short() {
        let mut queue = Queue::default();
        let failed = || Err(OperatorError::Again("x".to_owned()));
        for (now, expected) in [(0, 5), (5, 15), (15, 35), (35, 75)] {
            queue.on_pass("c", &failed(), at(now));
            assert_eq!(due(&queue), Some(expected));
        }
        let event = json!({"metadata": {"name": "p", "ownerReferences": [
            {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": "c", "uid": "u"}]}});
        queue.on_pod(
            Event::Delete(serde_json::from_value(event).unwrap()),
            at(40),
        );
        assert_eq!(due(&queue), Some(40));
        queue.on_pass("c", &Ok(Requeue::After(Duration::from_secs(2))), at(40));
        assert_eq!(due(&queue), Some(2040));
        queue.on_pass("c", &failed(), at(2040));
        assert_eq!(due(&queue), Some(2045));
    }

    #[test]
    fn a_write_of_the_status_alone_is_no_change() {
        let cluster = |generation: i64, version: &str, note: &str| -> DynamicObject {
            let metadata = json!({"name": "c", "generation": generation,
                "resourceVersion": version, "annotations": {"note": note}});
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let mut queue = Queue::default();
        queue.on_cluster(Event::Apply(cluster(1, "1", "")), at(0));
        assert_eq!(due(&queue), Some(0));
        queue.on_pass("c", &Ok(Requeue::OnChange), at(1));
        queue.on_cluster(Event::Apply(cluster(1, "2", "")), at(2));
        assert_eq!(due(&queue), None);
        queue.on_cluster(Event::Apply(cluster(1, "3", "kick")), at(3));
        assert_eq!(due(&queue), Some(3));
    }
}
