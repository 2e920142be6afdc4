//! Which pods the operator deletes of its own accord.
//!
//! It deletes a worker whose Ray container has ended and will not be started again, whoever else has deleted it
//! before, and with one host of a replica all others of it. While such a pod is there its group is locked, as it is by
//! one that a list names: a container beside Ray's may take its time to end, and a finalizer may hold the pod.

use std::collections::{BTreeMap, BTreeSet};

use super::replicas;
use crate::model::{Node, PodName, WorkerGroupName};
use crate::wire::pod::PodFacts;
use crate::wire::raycluster::{RayCluster, WorkerGroupSpec};

/// The pods of one replica, by its group and name.
type Replicas<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a PodFacts>>;

/// Returns the workers that are being deleted and that the operator deletes whether a list names them or not, with
/// their group.
pub(super) fn taken_down(
    raycluster: &RayCluster,
    pods: &[&PodFacts],
    nodes: &[Node],
) -> BTreeMap<PodName, WorkerGroupName> {
    if !pods.iter().any(|pod| pod.is_terminating()) {
        return BTreeMap::new();
    }
    let specs = raycluster.spec.worker_groups.iter().flatten();
    let specs: BTreeMap<&str, &WorkerGroupSpec> =
        specs.map(|spec| (spec.group_name.as_str(), spec)).collect();
    let uncounted = nodes
        .iter()
        .filter(|node| replicas::is_uncounted(&node.group));
    let uncounted: BTreeSet<&str> = uncounted.map(|node| node.name.as_str()).collect();
    let workers = pods.iter().filter(|pod| pod.node_type == "worker");
    let mut replicas: Replicas<'_> = BTreeMap::new();
    for pod in workers.clone() {
        if let Some(replica) = indexed_replica(pod) {
            let hosts = replicas.entry((pod.group.as_str(), replica)).or_default();
            hosts.push(pod);
        }
    }
    let is_taken_down = |pod: &&&PodFacts| {
        let Some(spec) = specs.get(pod.group.as_str()) else {
            return false;
        };
        if !pod.is_terminating() || uncounted.contains(pod.name.as_str()) {
            return false;
        }
        let replica = indexed_replica(pod).filter(|_| spec.num_of_hosts > 1);
        let hosts = replica.and_then(|replica| replicas.get(&(pod.group.as_str(), replica)));
        hosts.map_or(pod.has_ended(), |hosts| goes_whole(spec, hosts))
    };
    let taken_down = workers.filter(is_taken_down);
    let entry = |pod: &&PodFacts| {
        let group = WorkerGroupName::from(pod.group.as_str());
        (PodName::from(pod.name.as_str()), group)
    };
    taken_down.map(entry).collect()
}

/// Returns whether the operator deletes all hosts of a replica: one has ended, is named, or is gone.
fn goes_whole(spec: &WorkerGroupSpec, hosts: &[&PodFacts]) -> bool {
    let count = i64::try_from(hosts.len()).unwrap_or(i64::MAX);
    let mut names = spec.workers_to_delete.iter().flatten();
    count < spec.num_of_hosts
        || hosts.iter().any(|host| host.has_ended())
        || names.any(|name| hosts.iter().any(|host| host.name == *name))
}

/// Returns the replica of a pod whose operator indexes replicas; other software labels pods with its name, too.
fn indexed_replica(pod: &PodFacts) -> Option<&str> {
    let name = pod.replica_name.as_deref();
    name.filter(|_| pod.replica_index.is_some())
}
