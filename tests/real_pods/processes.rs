//! Pods as real processes: what the tests of whole clusters stand on.

use crate::support::kube::KubeApi;
use crate::support::process::Start as _;
use crate::support::ray_venv::RayVersion;
use crate::support::raycluster::{Group, Manifest};
use crate::support::real_pods::{Programs, RayNodes, RealPods};
use crate::support::stand_ins::{StandIns, eventually};
use rayscaler::embedded::pods;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Prints how much of X each node that lives has, whenever that changes; the head may still be starting.
const NODES: &str = "
import time
import ray
seen = None
while True:
    try:
        ray.is_initialized() or ray.init(logging_level='ERROR')
        nodes = [node for node in ray.nodes() if node['Alive']]
    except ConnectionError:
        time.sleep(1)
        continue
    now = sorted(node['Resources'].get('X', 0) for node in nodes)
    if now != seen:
        print('NODES', now, flush=True)
    seen = now
    time.sleep(0.2)
";

async fn stand_ins(sidecar: Option<PathBuf>) -> (StandIns, RealPods) {
    let ray = RayVersion::Newest.programs();
    let api = KubeApi::shared_on(super::SERVER).await;
    let runtime = RealPods::new(
        api,
        Programs {
            ray: RayNodes::Installed(ray),
            sidecar,
            env: BTreeMap::new(),
        },
    );
    let mut settings = pods::Settings::new(api.new_namespace().await);
    settings.first_address = RealPods::first_address();
    (
        StandIns::start_on(api, settings, runtime.clone()).await,
        runtime,
    )
}

#[tokio::test]
async fn worker_pods_become_ray_nodes_and_end_with_their_processes() {
    let (stand_ins, runtime) = stand_ins(None).await;
    let port = crate::support::free_port().to_string();
    let group = Group::new("g")
        .replicas(2, 0, 3)
        .param("resources", r#"'{"X": 2}'"#);
    let manifest = Manifest::new("c")
        .autoscaler("v2")
        .head_param("port", &port)
        .group(group);
    let cluster = stand_ins.create(&manifest).await;
    let workers = cluster.wait_for_pods("g", 2).await;
    // One driver looks all the time: to start one for each look takes what the nodes need to start.
    let driver = runtime.driver(NODES, &port).start();
    let see = |nodes: &'static str| {
        let driver = &driver;
        eventually(nodes, move || async move {
            let log = driver.log_tail();
            (log.lines().last() == Some(nodes)).then_some(())
        })
    };
    see("NODES [0, 2.0, 2.0]").await;
    let victim = cluster.pods().get(&workers[0]).await.unwrap();
    let pid = runtime.pid(&victim.metadata.uid.unwrap()).unwrap();
    cluster.scale(0, 1, &workers[..1]).await;
    cluster.wait_for_pods("g", 1).await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    see("NODES [0, 2.0]").await;
    stand_ins.end().await;
}

#[tokio::test]
async fn the_sidecar_gets_its_pods_command_environment_and_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("sidecar");
    let lines = r#"#!/bin/sh
echo "${0##*/}" "$@"
echo $RAY_CLUSTER_NAME $RAY_CLUSTER_NAMESPACE $RAY_HEAD_POD_NAME $KUBERAY_CRD_VER $KUBECONFIG
exec sleep infinity
"#;
    fs::write(&script, lines).unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let (stand_ins, runtime) = stand_ins(Some(script)).await;
    let port = crate::support::free_port().to_string();
    let manifest = Manifest::new("c")
        .autoscaler("v2")
        .head_param("port", &port);
    let cluster = stand_ins.create(&manifest).await;
    let head = cluster.wait_for_pods("headgroup", 1).await.remove(0);
    let log = eventually("the sidecar's log", || async {
        let log = runtime.log(&head, "autoscaler");
        (log.lines().count() == 2).then_some(log)
    })
    .await;
    let namespace = &cluster.namespace;
    let (first, second) = log.trim().split_once('\n').unwrap();
    assert_eq!(
        first,
        format!(
            "bash -c -- ray kuberay-autoscaler --cluster-name c --cluster-namespace {namespace}"
        )
    );
    let (names, kubeconfig) = second.rsplit_once(' ').unwrap();
    assert_eq!(names, format!("c {namespace} {head} v1"));
    let kubeconfig: serde_json::Value =
        serde_json::from_slice(&fs::read(kubeconfig).unwrap()).unwrap();
    let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap();
    let own = crate::support::stand_ins::Cluster {
        client: stand_ins.api.client_for(token).await,
        ..cluster
    };
    assert_eq!(own.get().await["metadata"]["name"], "c");
    stand_ins.end().await;
}
