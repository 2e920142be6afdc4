//! The stand-in for KubeRay's operator, on a real API server.

mod support;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use support::kube::KubeApi;

#[tokio::test]
async fn a_service_account_without_a_role_may_do_nothing() {
    let api = KubeApi::shared().await;
    let namespace = api.new_namespace().await;
    let accounts: Api<ServiceAccount> = Api::namespaced(api.admin_client().await, &namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    accounts
        .create(&PostParams::default(), &account)
        .await
        .unwrap();
    let token = api.sidecar_token(&namespace, "a").await;
    let pods: Api<Pod> = Api::namespaced(api.client_for(&token).await, &namespace);
    let answer = pods.list(&ListParams::default()).await.unwrap_err();
    assert!(answer.to_string().contains("forbidden"), "{answer}");
}
