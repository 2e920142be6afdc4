//! The stand-in for KubeRay's operator, on a real API server.

mod support;

use rayscaler::embedded::pods::Pretend;
use support::raycluster::{Group, Manifest};
use support::stand_ins::StandIns;

#[tokio::test]
async fn named_workers_go_and_raised_replicas_come() {
    let stand_ins = StandIns::start(Pretend::default()).await;
    let manifest = Manifest::new("c").group(Group::new("g").replicas(3, 0, 5));
    let cluster = stand_ins.create(&manifest).await;
    let names = cluster.wait_for_pods("g", 3).await;
    cluster.scale(0, 2, &names[..1]).await;
    assert_eq!(cluster.wait_for_pods("g", 2).await, names[1..]);
    cluster.scale(0, 4, &[]).await;
    cluster.wait_for_pods("g", 4).await;
}
