//! A cluster that nobody uses comes to its end, or says why not.

use std::time::Duration;

use crate::ray_access::{CLUSTER, RayAccess};
use rayscaler::act::{Terminated, Terminator};
use rayscaler::embedded::ray::{NodeSpec, RayHead, Settings};
use rayscaler::model::{Labels, ResourceMap, TerminationPolicy};
use rayscaler::observe::termination::drivers;
use rayscaler::wire::gcs::{AuthSettings, GcsClient};
use serde_json::{Value, json};

const FINALIZER: &str = "ray.io/idle-termination-cleanup-finalizer";

/// A head whose GCS answers.
pub(super) fn head() -> RayHead {
    let head = RayHead::new(Settings::default(), crate::support::now());
    head.start_node(NodeSpec {
        pod: "head-0".to_owned(),
        group: "headgroup".to_owned(),
        resources: ResourceMap::new(),
        labels: Labels::new(),
        address: "10.0.0.1".to_owned(),
        port: 1,
        is_head: true,
    });
    head
}

pub(super) async fn end(
    access: &RayAccess<'_>,
    head: &RayHead,
    policy: TerminationPolicy,
) -> Terminated {
    let gcs = GcsClient::over(head.gcs_channel(), AuthSettings::Disabled);
    let terminator = Terminator::new(&gcs, access.client().await, &access.namespace, CLUSTER);
    let stored = access.stored().await;
    let uid = stored["metadata"]["uid"].as_str().unwrap();
    let is_used = |reply: &_| drivers(reply, Default::default()).is_any;
    terminator.end((policy, uid), is_used).await
}

async fn cluster(extra: &[Value]) -> RayAccess<'static> {
    RayAccess::on_shared(super::SERVER, &json!([]), extra).await
}

fn may_delete() -> Value {
    json!({"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["delete"]})
}

#[tokio::test]
async fn a_definition_that_drops_the_field_is_named() {
    let access = cluster(&[]).await;
    let ended = end(&access, &head(), TerminationPolicy::Suspend).await;
    let Terminated::Refused(why) = ended else {
        panic!("{ended:?}");
    };
    assert!(why.contains("does not know spec.idleSuspend"), "{why}");
    assert_eq!(access.calls(), [("get", 200), ("patch", 200)]);
}

#[tokio::test]
async fn kuberays_own_role_cannot_delete_and_then_nothing_is_touched() {
    let access = cluster(&[]).await;
    let before = access.stored().await;
    let ended = end(&access, &head(), TerminationPolicy::Delete).await;
    let Terminated::Refused(why) = ended else {
        panic!("{ended:?}");
    };
    assert!(why.contains("no verb `delete` on rayclusters"), "{why}");
    assert_eq!(access.stored().await, before);
}

#[tokio::test]
async fn a_cluster_is_deleted_behind_its_finalizer() {
    let access = cluster(&[may_delete()]).await;
    access
        .edit(&json!({"metadata": {"finalizers": ["example.com/kept"]}}))
        .await;
    let ended = end(&access, &head(), TerminationPolicy::Delete).await;
    assert_eq!(ended, Terminated::Done);
    let stored = access.stored().await;
    let metadata = &stored["metadata"];
    assert_eq!(
        metadata["finalizers"],
        json!(["example.com/kept", FINALIZER])
    );
    assert!(metadata["deletionTimestamp"].is_string(), "{metadata}");
    // It is on its way: nothing is done again.
    let again = end(&access, &head(), TerminationPolicy::Delete).await;
    assert_eq!(again, Terminated::Stale);
}

#[tokio::test]
async fn a_driver_that_came_at_the_last_moment_keeps_it() {
    let access = cluster(&[may_delete()]).await;
    let head = head();
    head.start_driver("_ray_internal_dashboard");
    let driver = head.start_driver("mine");
    for policy in [TerminationPolicy::Delete, TerminationPolicy::Suspend] {
        assert_eq!(end(&access, &head, policy).await, Terminated::Stale);
    }
    assert_eq!(access.calls(), [], "nobody else is asked");
    head.stop_driver(driver);
    let ended = end(&access, &head, TerminationPolicy::Delete).await;
    assert_eq!(ended, Terminated::Done);
}

#[tokio::test]
async fn without_an_answer_of_the_gcs_the_cluster_stays() {
    let access = cluster(&[may_delete()]).await;
    let head = head();
    head.stop_gcs();
    let end = end(&access, &head, TerminationPolicy::Delete);
    let ended = tokio::time::timeout(Duration::from_secs(60), end).await;
    assert!(matches!(ended.unwrap(), Terminated::Failed(_)));
    assert_eq!(access.stored().await["metadata"].get("finalizers"), None);
}
