//! Pods as real Ray nodes: what the tests of whole clusters stand on.

mod support;

use rayscaler::embedded::pods;
use std::time::Duration;
use support::kube::KubeApi;
use support::raycluster::{Group, Manifest};
use support::real_pods::{Programs, RealPods};
use support::stand_ins::{StandIns, eventually};

#[tokio::test]
async fn worker_pods_become_ray_nodes_and_end_with_their_processes() {
    let ray = support::env("RAYSCALER_TEST_RAY_2_60_0")
        .expect("RAYSCALER_TEST_RAY_2_60_0 names a Ray 2.60.0");
    let ray = std::path::Path::new(&ray).join("bin");
    let programs = Programs {
        ray,
        sidecar: None,
        env: Default::default(),
    };
    let runtime = RealPods::new(programs).await;
    let namespace = KubeApi::shared().await.new_namespace().await;
    let mut settings = pods::Settings::new(namespace);
    settings.first_address = RealPods::first_address();
    let stand_ins = StandIns::start_with(settings, runtime.clone()).await;
    let port = support::free_port().to_string();
    let group = Group::new("g")
        .replicas(1, 0, 3)
        .param("resources", r#"'{"X": 2}'"#);
    let manifest = Manifest::new("c")
        .autoscaler("v2")
        .head_param("port", &port)
        .group(group);
    let cluster = stand_ins.create(&manifest).await;
    let worker = cluster.wait_for_pods("g", 1).await;
    let script = "import json, ray; ray.init(logging_level='ERROR'); \
                  nodes = [n for n in ray.nodes() if n['Alive']]; \
                  print('NODES', json.dumps(sorted([n['Resources'].get('X', 0), n['NodeManagerAddress'].startswith('127.')] for n in nodes)))";
    eventually("two Ray nodes", || async {
        let driver = runtime.driver(script, &port).start();
        driver.wait(Duration::from_secs(30)).await;
        driver
            .log_tail()
            .contains("NODES [[0, false], [2.0, true]]")
            .then_some(())
    })
    .await;
    let uid = cluster.pods_of("g").await[0].metadata.uid.clone().unwrap();
    let pid = runtime.pid(&uid).unwrap();
    cluster.scale(0, 0, &worker).await;
    cluster.wait_for_pods("g", 0).await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}/status")).exists());
    stand_ins.end().await;
}
