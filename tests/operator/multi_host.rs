//! Groups whose replicas have several hosts (U04 and the replicas of U14 of KubeRay's own tests).

use crate::support::raycluster::Group;
use crate::support::stand_ins::{Cluster, StandIns, eventually};
use crate::{delete, hold, let_a_pass_go_by, release, with_canary};
use kube::ResourceExt;
use rayscaler::embedded::pods::{Exit, Pretend};
use std::collections::BTreeMap;

const REPLICA: &str = "ray.io/worker-group-replica-name";

/// Returns index and hosts of each replica, by replica name.
async fn replicas(cluster: &Cluster) -> BTreeMap<String, (String, Vec<String>)> {
    let mut replicas: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for pod in cluster.pods_of("g").await {
        let index = pod.labels()["ray.io/worker-group-replica-index"].clone();
        let replica = replicas.entry(pod.labels()[REPLICA].clone());
        let replica = replica.or_insert_with(|| (index.clone(), Vec::new()));
        assert_eq!(replica.0, index);
        replica.1.push(pod.name_any());
    }
    replicas
}

#[tokio::test]
async fn replicas_have_names_and_hosts_and_one_name_deletes_all_of_one() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let group = Group::new("g").replicas(2, 0, 5).hosts(4);
    let cluster = stand_ins.create(&with_canary([group])).await;
    cluster.wait_for_pods("g", 8).await;
    let before = replicas(&cluster).await;
    assert_eq!(
        before
            .values()
            .map(|(_, hosts)| hosts.len())
            .collect::<Vec<_>>(),
        [4, 4]
    );
    assert!(before.keys().all(|name| name.starts_with("g-")));
    let mut hosts: Vec<String> = Vec::new();
    for pod in cluster.pods_of("g").await {
        hosts.push(pod.labels()["ray.io/replica-host-index"].clone());
    }
    hosts.sort_unstable();
    assert_eq!(hosts, ["0", "0", "1", "1", "2", "2", "3", "3"]);
    cluster.wait_for_status("/desiredWorkerReplicas", 8).await;
    let (victim, (index, members)) = before.iter().next().unwrap();
    cluster.scale(0, 1, &members[2..3]).await;
    let left = cluster.wait_for_pods("g", 4).await;
    assert!(members.iter().all(|name| !left.contains(name)));
    cluster.scale(0, 2, &[]).await;
    cluster.wait_for_pods("g", 8).await;
    let after = replicas(&cluster).await;
    assert!(!after.contains_key(victim), "a new replica has a new name");
    assert!(
        after.values().any(|(again, _)| again == index),
        "and the free index"
    );
    stand_ins.end().await;
}

#[tokio::test]
async fn all_hosts_named_one_by_one_are_one_replica_gone() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let group = Group::new("g").replicas(3, 0, 5).hosts(4);
    let cluster = stand_ins.create(&with_canary([group])).await;
    cluster.wait_for_pods("g", 12).await;
    let before = replicas(&cluster).await;
    let (victim, (_, members)) = before.iter().next().unwrap();
    cluster.scale(0, 2, members).await;
    cluster.wait_for_pods("g", 8).await;
    let_a_pass_go_by(&cluster).await;
    let after = replicas(&cluster).await;
    assert!(!after.contains_key(victim));
    assert_eq!(after.len(), 2);
    stand_ins.end().await;
}

#[tokio::test]
async fn growth_waits_until_every_host_of_the_victim_is_gone() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let group = Group::new("g").replicas(1, 0, 5).hosts(2);
    let cluster = stand_ins.create(&with_canary([group])).await;
    let names = cluster.wait_for_pods("g", 2).await;
    hold(&cluster, &names[1]).await;
    cluster.scale(0, 3, &names[..1]).await;
    eventually("the victim's deletion", || async {
        cluster.names_of("g").await.is_empty().then_some(())
    })
    .await;
    let_a_pass_go_by(&cluster).await;
    assert!(cluster.names_of("g").await.is_empty());
    release(&cluster, &names[1]).await;
    cluster.wait_for_pods("g", 6).await;
    stand_ins.end().await;
}

#[tokio::test]
async fn a_host_deleted_by_hand_takes_its_replica_along() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let group = Group::new("g").replicas(2, 0, 5).hosts(2);
    let cluster = stand_ins.create(&with_canary([group])).await;
    cluster.wait_for_pods("g", 4).await;
    // A pod that goes before the operator has seen it locks its group for 30 seconds.
    cluster.wait_for_status("/readyWorkerReplicas", 4).await;
    let before = replicas(&cluster).await;
    let (victim, (_, members)) = before.iter().next().unwrap();
    delete(&cluster, &members[0]).await;
    let after = eventually("a new replica", || async {
        let after = replicas(&cluster).await;
        let is_whole = after.values().all(|(_, hosts)| hosts.len() == 2);
        (after.len() == 2 && is_whole && !after.contains_key(victim)).then_some(after)
    })
    .await;
    assert_eq!(
        after
            .keys()
            .filter(|name| before.contains_key(*name))
            .count(),
        1
    );
    stand_ins.end().await;
}

#[tokio::test]
async fn an_unhealthy_host_has_its_replica_replaced() {
    let runtime = Pretend::default();
    let stand_ins = StandIns::start(super::SERVER, runtime.clone()).await;
    let group = Group::new("g").replicas(1, 0, 5).hosts(2);
    let cluster = stand_ins.create(&with_canary([group])).await;
    let names = cluster.wait_for_pods("g", 2).await;
    cluster.wait_for_status("/readyWorkerReplicas", 2).await;
    let crash = Exit {
        container: "ray".to_owned(),
        code: 1,
        reason: None,
    };
    assert!(runtime.end(&names[0], crash));
    eventually("a new replica", || async {
        let after = cluster.names_of("g").await;
        (after.len() == 2 && names.iter().all(|name| !after.contains(name))).then_some(())
    })
    .await;
    stand_ins.end().await;
}

#[tokio::test]
async fn names_from_elsewhere_are_ignored() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let group = Group::new("g").replicas(1, 0, 5).hosts(2);
    let groups = [group, Group::new("other").replicas(1, 0, 5)];
    let cluster = stand_ins.create(&with_canary(groups)).await;
    let own = cluster.wait_for_pods("g", 2).await;
    let other = cluster.wait_for_pods("other", 1).await;
    let head = cluster.wait_for_pods("headgroup", 1).await;
    cluster
        .scale(
            0,
            1,
            &[other[0].clone(), head[0].clone(), "nobody".to_owned()],
        )
        .await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(cluster.names_of("g").await, own);
    assert_eq!(cluster.names_of("other").await, other);
    assert_eq!(cluster.names_of("headgroup").await, head);
    stand_ins.end().await;
}
