//! A definition of RayClusters that has `spec.idleSuspend`, which those of KubeRay up to 1.7 drop.
//!
//! On the real API server alone: the embedded one has the definition of one version.

use super::endings::{end, head};
use crate::ray_access::RayAccess;
use crate::support::kube::KubeApi;
use crate::support::wait::eventually;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use rayscaler::act::Terminated;
use rayscaler::model::TerminationPolicy;
use serde_json::json;

#[tokio::test]
async fn a_cluster_that_nobody_uses_is_suspended() {
    let api = KubeApi::start().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(api.admin_client().await);
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/idleSuspend";
    let patch =
        serde_json::from_value(json!([{"op": "add", "path": path, "value": {"type": "boolean"}}]));
    let patch: Patch<()> = Patch::Json(patch.unwrap());
    let name = "rayclusters.ray.io";
    let params = PatchParams::default();
    definitions.patch(name, &params, &patch).await.unwrap();

    let access = RayAccess::on(&api, &json!([]), &[]).await;
    eventually("the field is served", async || {
        let own = json!({"spec": {"idleSuspend": false}});
        access.edit(&own).await;
        let stored = access.stored().await;
        (stored["spec"]["idleSuspend"] == false).then_some(())
    })
    .await;
    let before = access.stored().await;
    let ended = end(&access, &head(), TerminationPolicy::Suspend).await;
    assert_eq!(ended, Terminated::Done);
    let stored = access.stored().await;
    assert_eq!(stored["spec"]["idleSuspend"], true);
    let mut expected = before["spec"].clone();
    expected["idleSuspend"] = json!(true);
    assert_eq!(stored["spec"], expected, "and nothing else");
    assert_eq!(access.calls(), [("get", 200), ("patch", 200)]);
    let again = end(&access, &head(), TerminationPolicy::Suspend).await;
    assert_eq!(again, Terminated::Done);
    assert_eq!(access.calls(), [("get", 200)], "what is so stays");
}
