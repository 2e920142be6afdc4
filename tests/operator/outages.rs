//! The stand-ins outlive an outage of the API server, as what they stand for does.

use crate::support::kube::KubeApi;
use crate::support::raycluster::{Group, Manifest};
use crate::support::stand_ins::StandIns;
use rayscaler::embedded::pods::{self, Pretend};

#[tokio::test]
async fn work_goes_on_when_the_api_server_comes_back() {
    // Its own one; the process that holds it is ended with the test process.
    let api: &'static KubeApi = Box::leak(Box::new(KubeApi::start_on(super::SERVER).await));
    let settings = pods::Settings::new(api.new_namespace().await);
    let stand_ins = StandIns::start_on(api, settings, Pretend::default()).await;
    let manifest = Manifest::new("c").group(Group::new("g").replicas(1, 0, 3));
    let cluster = stand_ins.create(&manifest).await;
    cluster.wait_for_status("/readyWorkerReplicas", 1).await;
    api.kill();
    api.restart().await;
    cluster.scale(0, 3, &[]).await;
    cluster.wait_for_pods("g", 3).await;
    cluster.wait_for_status("/readyWorkerReplicas", 3).await;
    let names = cluster.names_of("g").await;
    cluster.scale(0, 0, &names).await;
    cluster.wait_for_pods("g", 0).await;
    stand_ins.end().await;
}
