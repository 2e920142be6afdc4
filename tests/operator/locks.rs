//! A group with an unfinished deletion is left alone (U13, and the Terminating pods of U14).

use crate::support::raycluster::Group;
use crate::support::stand_ins::{StandIns, eventually};
use crate::{delete, hold, let_a_pass_go_by, release, with_canary};
use kube::ResourceExt;
use rayscaler::embedded::pods::Pretend;

#[tokio::test]
async fn growth_in_the_patch_that_names_a_victim_is_done_and_later_growth_waits_for_its_end() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("g").replicas(2, 0, 9)]))
        .await;
    let names = cluster.wait_for_pods("g", 2).await;
    hold(&cluster, &names[0]).await;
    cluster.scale(0, 5, &names[..1]).await;
    eventually("five pods beside the victim", || async {
        (cluster.names_of("g").await.len() == 5).then_some(())
    })
    .await;
    assert_eq!(cluster.pods_of("g").await.len(), 6);
    cluster.scale(0, 6, &names[..1]).await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(cluster.names_of("g").await.len(), 5, "the group is locked");
    cluster.scale(0, 5, &names[..]).await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(
        cluster.names_of("g").await.len(),
        5,
        "nor is anybody deleted"
    );
    release(&cluster, &names[0]).await;
    eventually("the second victim's end", || async {
        let left = cluster.names_of("g").await;
        (left.len() == 5 && !left.contains(&names[1])).then_some(())
    })
    .await;
    stand_ins.end().await;
}

#[tokio::test]
async fn names_are_deleted_whoever_owns_them_and_lock_the_group_that_named_them() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let groups = [
        Group::new("a").replicas(1, 0, 9),
        Group::new("b").replicas(1, 0, 9),
    ];
    let cluster = stand_ins.create(&with_canary(groups)).await;
    cluster.wait_for_pods("a", 1).await;
    let victim = cluster.wait_for_pods("b", 1).await;
    hold(&cluster, &victim[0]).await;
    cluster.scale(0, 1, &victim).await;
    eventually("the victim's deletion", || async {
        cluster.names_of("b").await.is_empty().then_some(())
    })
    .await;
    cluster.scale(0, 2, &victim).await;
    cluster.scale(1, 2, &[]).await;
    // The pod on its way out counts in its own group, so of two one is missing.
    eventually("growth of the other group", || async {
        (cluster.names_of("b").await.len() == 1).then_some(())
    })
    .await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(
        cluster.names_of("a").await.len(),
        1,
        "the naming group is locked"
    );
    release(&cluster, &victim[0]).await;
    cluster.wait_for_pods("a", 2).await;
    cluster.wait_for_pods("b", 2).await;
    stand_ins.end().await;
}

#[tokio::test]
async fn a_pod_deleted_by_hand_counts_until_it_is_gone_and_locks_nothing() {
    let stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("g").replicas(2, 0, 9)]))
        .await;
    let names = cluster.wait_for_pods("g", 2).await;
    hold(&cluster, &names[0]).await;
    delete(&cluster, &names[0]).await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(cluster.names_of("g").await, names[1..]);
    cluster.scale(0, 3, &[]).await;
    eventually("growth", || async {
        (cluster.names_of("g").await.len() == 2).then_some(())
    })
    .await;
    release(&cluster, &names[0]).await;
    cluster.wait_for_pods("g", 3).await;
    stand_ins.end().await;
}

#[tokio::test]
async fn a_restart_of_the_operator_forgets_the_lock() {
    let mut stand_ins = StandIns::start(super::SERVER, Pretend::default()).await;
    let cluster = stand_ins
        .create(&with_canary([Group::new("g").replicas(2, 0, 9)]))
        .await;
    let names = cluster.wait_for_pods("g", 2).await;
    hold(&cluster, &names[0]).await;
    cluster.scale(0, 1, &names[..1]).await;
    eventually("the deletion", || async {
        (cluster.names_of("g").await.len() == 1).then_some(())
    })
    .await;
    cluster.scale(0, 3, &[]).await;
    let_a_pass_go_by(&cluster).await;
    assert_eq!(cluster.names_of("g").await.len(), 1);
    stand_ins = stand_ins.restart_operator().await;
    eventually("growth", || async {
        (cluster.names_of("g").await.len() == 2).then_some(())
    })
    .await;
    release(&cluster, &names[0]).await;
    cluster.wait_for_pods("g", 3).await;
    stand_ins.end().await;
}

#[tokio::test]
async fn deletions_take_their_grace_period() {
    let stand_ins = StandIns::start(
        super::SERVER,
        Pretend::stopping_in(std::time::Duration::MAX),
    )
    .await;
    let group = Group::new("g").set("/template/spec/terminationGracePeriodSeconds", 1);
    let cluster = stand_ins
        .create(&with_canary([group.replicas(1, 0, 9)]))
        .await;
    let names = cluster.wait_for_pods("g", 1).await;
    cluster.wait_for_status("/readyWorkerReplicas", 1).await;
    cluster.scale(0, 0, &names).await;
    eventually("a pod that is being deleted", || async {
        let pods = cluster.pods_of("g").await;
        pods.iter()
            .any(|pod| pod.metadata.deletion_timestamp.is_some())
            .then_some(())
    })
    .await;
    assert_eq!(
        cluster
            .pods_of("g")
            .await
            .iter()
            .map(ResourceExt::name_any)
            .collect::<Vec<_>>(),
        names
    );
    cluster.wait_for_pods("g", 0).await;
    stand_ins.end().await;
}
