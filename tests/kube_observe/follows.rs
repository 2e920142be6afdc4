//! Pods and RayCluster followed under KubeRay's own Role.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::ray_access::{CLUSTER, RayAccess};
use crate::support::kube::KubeApi;
use kube::api::{DeleteParams, Patch, PatchParams};
use rayscaler::act::kube::KubeAct;
use rayscaler::act::patch::PatchPlan;
use rayscaler::model::Timestamp;
use rayscaler::observe::PollBounds;
use rayscaler::observe::access::Access;
use rayscaler::observe::cluster::{
    ClusterChange, ClusterName, ClusterSource, ClusterWatch, FollowSettings,
};
use rayscaler::wire::kube_client::{ApiAccess, KubeClient, KubeSettings};
use serde_json::{Value, json};

/// A busy machine takes ten times the usual.
const DEADLINE: Duration = Duration::from_secs(60);

fn groups(replicas: u32) -> Value {
    json!([{"groupName": "g", "replicas": replicas, "minReplicas": 0, "maxReplicas": 9, "template": {}}])
}

fn watch_rule() -> Value {
    json!({"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["list", "watch"],
        "resourceNames": [CLUSTER]})
}

fn name(access: &RayAccess<'_>) -> ClusterName {
    ClusterName {
        namespace: access.namespace.clone(),
        name: CLUSTER.to_owned(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock of a test")]
fn settings() -> FollowSettings {
    let start = std::time::Instant::now();
    let now = move || {
        let ms = start.elapsed().as_millis();
        Timestamp::from_ms(i64::try_from(ms).unwrap())
    };
    FollowSettings {
        poll: PollBounds {
            interval_min_ms: 50,
            interval_max_ms: 200,
        },
        seed: 7,
        now: Arc::new(now),
    }
}

fn follow(access: &RayAccess<'_>, client: &KubeClient, rights: &Access) -> ClusterWatch {
    ClusterWatch::new(client, &name(access), rights, &settings())
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.unwrap()
}

/// Follows until `is_there`, giving up waiting now and then, and returns the causes of losses on the way.
async fn until(watch: &mut ClusterWatch, is_there: impl Fn(&ClusterWatch) -> bool) -> Vec<String> {
    let mut lost = Vec::new();
    in_time(async {
        while !is_there(watch) {
            let change = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
            if let Ok(ClusterChange::Lost(source, error)) = change {
                lost.push(format!("{source:?} {}", error.kind()));
            }
        }
    })
    .await;
    lost
}

async fn until_lost(watch: &mut ClusterWatch, wanted: ClusterSource) -> String {
    in_time(async {
        loop {
            if let ClusterChange::Lost(source, error) = watch.next().await
                && source == wanted
            {
                return format!("{}: {error}", error.kind());
            }
        }
    })
    .await
}

fn names(watch: &ClusterWatch) -> Vec<&str> {
    let pods = watch.pods().pods();
    pods.map(|pod| pod.name.as_str()).collect()
}

fn replicas(watch: &ClusterWatch) -> Option<i64> {
    let group = watch.raycluster().current()?.spec.worker_groups.first()?;
    Some(group.as_ref().ok()?.replicas)
}

/// Returns whether the pods are being watched.
fn is_open(watch: &ClusterWatch) -> bool {
    let late = Timestamp::from_ms(i64::MAX);
    watch.pods().known_at(late) == Some(late)
}

async fn delete_pod(access: &RayAccess<'_>, name: &str) {
    let pods = access.pods();
    pods.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn kuberays_role_is_enough_and_what_it_lacks_is_known() {
    let access = RayAccess::on_shared(super::SERVER, &groups(1), &[]).await;
    let client = access.client().await;
    let rights = Access::ask(&client, &name(&access)).await.unwrap();
    assert_eq!(rights, Access::default());
    let mut watch = follow(&access, &client, &rights);
    let lost = until(&mut watch, |watch| replicas(watch) == Some(1)).await;
    assert!(lost.is_empty(), "{lost:?}");
    assert!(!watch.raycluster().is_watching());

    access.create_pod("a", CLUSTER).await;
    access.create_pod("stranger", "other").await;
    access.create_pod("b", CLUSTER).await;
    until(&mut watch, |watch| names(watch) == ["a", "b"]).await;
    let running = json!({"status": {"phase": "Running", "podIP": "10.0.0.7"}});
    let (params, pods) = (PatchParams::default(), access.pods());
    pods.patch_status("a", &params, &Patch::Merge(&running))
        .await
        .unwrap();
    until(&mut watch, |watch| {
        let mut pods = watch.pods().pods();
        pods.any(|pod| pod.pod_ip == "10.0.0.7")
    })
    .await;
    delete_pod(&access, "b").await;
    until(&mut watch, |watch| names(watch) == ["a"]).await;

    access
        .edit(&json!({"spec": {"workerGroupSpecs": groups(4)}}))
        .await;
    let lost = until(&mut watch, |watch| replicas(watch) == Some(4)).await;
    assert!(lost.is_empty(), "{lost:?}");
    let calls = access.calls();
    assert_eq!(calls.iter().filter(|call| call.0 == "watch").count(), 1);
    assert_eq!(calls[0], ("create", 201));
    assert!(calls.iter().all(|call| call.1 < 300), "{calls:?}");
}

#[tokio::test]
async fn a_role_that_allows_it_lets_the_raycluster_be_watched() {
    let access = RayAccess::on_shared(super::SERVER, &groups(1), &[watch_rule()]).await;
    let client = access.client().await;
    let rights = Access::ask(&client, &name(&access)).await.unwrap();
    assert!(rights.may_watch_raycluster());
    let mut watch = follow(&access, &client, &rights);
    until(&mut watch, |watch| replicas(watch) == Some(1)).await;
    assert!(watch.raycluster().is_watching());
    access
        .edit(&json!({"spec": {"workerGroupSpecs": groups(4)}}))
        .await;
    until(&mut watch, |watch| replicas(watch) == Some(4)).await;

    let act = KubeAct::new(client, &access.namespace, CLUSTER);
    let path = "/spec/workerGroupSpecs/0/replicas";
    let plan = PatchPlan {
        ops: vec![json!({"op": "add", "path": path, "value": 7})],
        groups: Vec::new(),
    };
    let written = act.patch(&plan).await.unwrap();
    assert!(watch.raycluster_mut().adopt(&written).unwrap());
    assert_eq!(replicas(&watch), Some(7));
    assert!(!watch.raycluster_mut().get_now().await.unwrap());

    access.delete().await;
    let lost = until_lost(&mut watch, ClusterSource::RayCluster).await;
    assert!(
        lost.starts_with("not_found: there is no RayCluster `c`"),
        "{lost}"
    );
    assert_eq!(replicas(&watch), Some(7));
}

#[tokio::test]
async fn a_watch_that_the_role_forbids_gives_way_to_reading() {
    let access = RayAccess::on_shared(super::SERVER, &groups(1), &[]).await;
    let other = RayAccess::on_shared(super::SERVER, &groups(1), &[watch_rule()]).await;
    let client = other.client().await;
    let wrong = Access::ask(&client, &name(&other)).await.unwrap();
    let client = access.client().await;
    let mut watch = follow(&access, &client, &wrong);
    let lost = until(&mut watch, |watch| replicas(watch) == Some(1)).await;
    assert_eq!(lost, ["RayCluster forbidden"]);
    assert!(!watch.raycluster().is_watching());
}

#[tokio::test]
async fn pods_that_may_not_be_seen_are_a_clear_error() {
    let access = RayAccess::on_shared(super::SERVER, &groups(1), &[]).await;
    let client = access.client().await;
    let elsewhere = ClusterName {
        namespace: "default".to_owned(),
        name: CLUSTER.to_owned(),
    };
    let mut watch = ClusterWatch::new(&client, &elsewhere, &Access::default(), &settings());
    let lost = until_lost(&mut watch, ClusterSource::Pods).await;
    assert_eq!(
        lost,
        "forbidden: may not list pods in namespace `default`: the Role of our ServiceAccount lacks it"
    );
    let rights = Access::ask(&client, &elsewhere).await.unwrap();
    assert!(!rights.may("list", "pods"));
}

#[tokio::test]
async fn several_pages_of_pods_are_listed_whole() {
    let access = RayAccess::on_shared(super::SERVER, &groups(1), &[]).await;
    let create = |number: u32| {
        let access = &access;
        async move { access.create_pod(&format!("p{number:03}"), CLUSTER).await }
    };
    futures_util::future::join_all((0..250).map(create)).await;
    let client = access.client().await;
    let mut watch = follow(&access, &client, &Access::default());
    until(&mut watch, |watch| watch.pods().pods().len() == 250).await;
    let lists = access
        .calls()
        .iter()
        .filter(|call| call.0 == "list")
        .count();
    assert_eq!(lists, 3);
}

#[tokio::test]
async fn an_api_server_that_comes_back_is_followed_again() {
    let api = KubeApi::start_on(super::SERVER).await;
    let access = RayAccess::on(&api, &groups(1), &[]).await;
    access.create_pod("a", CLUSTER).await;
    let client = access.client().await;
    let mut watch = follow(&access, &client, &Access::default());
    until(&mut watch, |watch| {
        names(watch) == ["a"] && replicas(watch) == Some(1)
    })
    .await;

    api.kill();
    let lost = until_lost(&mut watch, ClusterSource::Pods).await;
    assert!(lost.starts_with("unreachable"), "{lost}");
    assert!(!is_open(&watch));
    assert_eq!(names(&watch), ["a"]);
    until_lost(&mut watch, ClusterSource::RayCluster).await;
    assert_eq!(replicas(&watch), Some(1));

    api.restart().await;
    access.create_pod("b", CLUSTER).await;
    access
        .edit(&json!({"spec": {"workerGroupSpecs": groups(4)}}))
        .await;
    until(&mut watch, |watch| {
        names(watch) == ["a", "b"] && replicas(watch) == Some(4)
    })
    .await;
    until(&mut watch, is_open).await;
}

#[tokio::test]
async fn a_rotated_token_is_used_with_the_next_call() {
    let access = RayAccess::on_shared(super::SERVER, &groups(1), &[]).await;
    let client = access.client().await;
    let mut watch = follow(&access, &client, &Access::default());
    until(&mut watch, |watch| {
        replicas(watch) == Some(1) && is_open(watch)
    })
    .await;
    std::fs::write(access.token_path(), "expired").unwrap();
    let lost = until_lost(&mut watch, ClusterSource::RayCluster).await;
    assert!(lost.starts_with("unauthorized"), "{lost}");
    access.rotate_token().await;
    access
        .edit(&json!({"spec": {"workerGroupSpecs": groups(4)}}))
        .await;
    until(&mut watch, |watch| replicas(watch) == Some(4)).await;
    // The watch was opened with a token that is good until it expires: it has not been lost.
    access.create_pod("a", CLUSTER).await;
    until(&mut watch, |watch| names(watch) == ["a"]).await;
    let calls = access.calls();
    assert_eq!(calls.iter().filter(|call| call.0 == "watch").count(), 1);
}

#[tokio::test]
async fn a_token_that_cannot_be_read_for_a_moment_changes_nothing() {
    let access = RayAccess::on_shared(super::SERVER, &groups(1), &[]).await;
    let client = access.client().await;
    let mut watch = follow(&access, &client, &Access::default());
    until(&mut watch, |watch| replicas(watch) == Some(1)).await;
    std::fs::remove_file(access.token_path()).unwrap();
    assert!(!watch.raycluster_mut().get_now().await.unwrap());
    access.rotate_token().await;
    assert!(!watch.raycluster_mut().get_now().await.unwrap());
}

/// Replaces a file as a Secret's mount does: by another file of that name.
fn swap(path: &Path, content: &[u8]) {
    let next = path.with_extension("next");
    std::fs::write(&next, content).unwrap();
    std::fs::rename(next, path).unwrap();
}

#[tokio::test]
async fn a_rotated_ca_is_trusted_with_the_next_call() {
    let access = RayAccess::on_shared(super::SERVER, &groups(1), &[]).await;
    let ca_path = access.folder().join("ca.crt");
    let key = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
    swap(&ca_path, key.cert.pem().as_bytes());
    let mut settings = access.settings();
    if let ApiAccess::Pod(pod) = &mut settings.access {
        pod.ca_path.clone_from(&ca_path);
    }
    let client = access.client_with(&settings).await;
    let mut watch = follow(&access, &client, &Access::default());
    let error = watch.raycluster_mut().get_now().await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("certificate"), "{source}");
    swap(&ca_path, &std::fs::read(access.api.ca_file()).unwrap());
    assert!(watch.raycluster_mut().get_now().await.unwrap());
}

#[tokio::test]
async fn a_kubeconfig_is_as_good() {
    let access = RayAccess::on_shared(super::SERVER, &groups(1), &[]).await;
    let token = access.api.sidecar_token(&access.namespace, CLUSTER).await;
    let path = access.api.kubeconfig_for(&token);
    let (settings, warnings) = KubeSettings::read(Some(&path), &|_| None).unwrap();
    assert!(warnings.is_empty());
    let client = access.client_with(&settings).await;
    let mut watch = follow(&access, &client, &Access::default());
    until(&mut watch, |watch| replicas(watch) == Some(1)).await;
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace(&token, "expired")).unwrap();
    let error = watch.raycluster_mut().get_now().await.unwrap_err();
    assert_eq!(error.kind(), "unauthorized");
    std::fs::write(&path, good).unwrap();
    assert!(!watch.raycluster_mut().get_now().await.unwrap());
    let missing = Path::new("/nowhere/kubeconfig");
    let (settings, _) = KubeSettings::read(Some(missing), &|_| None).unwrap();
    let observer = Arc::new(|_, _| {});
    let error = KubeClient::connect(&settings, observer).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot use the kubeconfig");
}
