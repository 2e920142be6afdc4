//! Rights: what a ServiceAccount may do, what it is told when it may not, reviews, tokens, discovery.

use super::SERVER;
use crate::world::{MERGE, World, cluster, pod};
use serde_json::{Value, json};

/// Exactly what KubeRay gives the autoscaler.
fn kuberays() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]},
        {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "patch"]},
    ])
}

/// Returns the world, and what the account sees of it.
async fn with_account(rules: &Value) -> (World, World) {
    let world = World::new(SERVER).await;
    let token = world.account("sa", rules).await;
    let account = world.with_token(&token).await;
    (world, account)
}

#[tokio::test]
async fn the_role_says_what_is_allowed() {
    let (world, account) = with_account(&kuberays()).await;
    world.post("pods", &pod("p")).await.ok();
    world.post("rayclusters", &cluster("c")).await.ok();
    for path in ["pods", "pods/p", "rayclusters/c"] {
        assert_eq!(account.get(path).await.code, 200, "{path}");
    }
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    for path in ["pods/p", "rayclusters/c"] {
        assert_eq!(account.patch(path, MERGE, &label).await.code, 200, "{path}");
    }
    let query = "pods?watch=true&timeoutSeconds=1&resourceVersion=0";
    assert_eq!(account.watch(query).await.rest().await, ["ADDED p"]);
    assert_eq!(
        account.get("rayclusters/absent").await.refused(),
        (404, "NotFound")
    );
}

/// Method and path; resource and name (or `-`) that the answer is about; what is asked for; where.
const FORBIDDEN: &str = "
GET rayclusters                                   rayclusters.ray.io -  list rayclusters ray.io          here
GET rayclusters?fieldSelector=metadata.name%3Dc   rayclusters.ray.io c  list rayclusters ray.io          here
GET rayclusters?watch=true                        rayclusters.ray.io -  watch rayclusters ray.io         here
PATCH rayclusters/c/status                        rayclusters.ray.io c  patch rayclusters/status ray.io  here
DELETE pods/p                                     pods p                delete pods -                    here
DELETE pods                                       pods -                deletecollection pods -          here
POST pods                                         pods -                create pods -                    here
GET /api/v1/nodes                                 nodes -               list nodes -                     cluster
GET /api/v1/pods                                  pods -                list pods -                      cluster
GET /api/v1/namespaces/default/pods               pods -                list pods -                      default
GET /apis/nobody.io/v1/things                     things.nobody.io -    list things nobody.io            cluster
";

#[tokio::test]
async fn everything_else_is_forbidden_with_the_reason() {
    let (world, account) = with_account(&kuberays()).await;
    let namespace = world.namespace.as_str();
    let user = format!("User \"system:serviceaccount:{namespace}:sa\" cannot");
    for row in FORBIDDEN.trim().lines() {
        let words: Vec<&str> = row.split_whitespace().collect();
        let [method, path, about, name, verb, resource, group, place] = words[..] else {
            panic!("{row}");
        };
        let name = match name {
            "-" => String::new(),
            name => format!(" {name:?}"),
        };
        let group = group.trim_start_matches('-');
        let place = match place {
            "cluster" => "at the cluster scope".to_owned(),
            "here" => format!("in the namespace {namespace:?}"),
            other => format!("in the namespace {other:?}"),
        };
        let refused = account
            .send(method, path, ("application/json", b"{}".to_vec()))
            .await;
        assert_eq!(refused.refused(), (403, "Forbidden"), "{row}");
        let expected = format!(
            "{about}{name} is forbidden: {user} {verb} resource {resource:?} in API group {group:?} {place}"
        );
        assert_eq!(refused.message(), expected, "{row}");
    }
    let refused = account.get("/metrics").await;
    assert_eq!(
        refused.message(),
        format!("forbidden: {user} get path \"/metrics\"")
    );
    let refused = account.delete("pods/p", &Value::Null).await;
    assert_eq!(
        refused.body["details"],
        json!({"name": "p", "kind": "pods"})
    );
}

#[tokio::test]
async fn a_rule_can_be_about_one_name() {
    let watch = json!([{"apiGroups": ["ray.io"], "resources": ["rayclusters"],
        "verbs": ["list", "watch", "get"], "resourceNames": ["c"]}]);
    let (_, account) = with_account(&watch).await;
    assert_eq!(
        account
            .get("rayclusters?fieldSelector=metadata.name%3Dc")
            .await
            .code,
        200
    );
    assert_eq!(account.get("rayclusters").await.code, 403);
    assert_eq!(account.get("rayclusters/c").await.code, 404);
    assert_eq!(account.get("rayclusters/d").await.code, 403);
}

#[tokio::test]
async fn wildcards_cover_everything_of_their_sort() {
    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["*/status"], "verbs": ["patch"]}]);
    let (_, account) = with_account(&all).await;
    assert_eq!(account.get("secrets/absent").await.code, 404);
    assert_eq!(account.get("secrets").await.code, 403);
    assert_eq!(
        account
            .patch("pods/absent/status", MERGE, &json!({}))
            .await
            .code,
        404
    );
    assert_eq!(
        account.patch("pods/absent", MERGE, &json!({})).await.code,
        403
    );
}

/// Asks until the answer is as expected: the real server learns of changed roles a moment later.
async fn until_code(account: &World, path: &str, code: u16) {
    let asking = async {
        while account.get(path).await.code != code {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(30), asking).await;
    assert!(in_time.is_ok(), "{path} is never answered with {code}");
}

#[tokio::test]
async fn rights_can_be_taken_away_and_given_back() {
    let (world, account) = with_account(&kuberays()).await;
    until_code(&account, "pods", 200).await;
    world
        .patch("roles/sa", MERGE, &json!({"rules": []}))
        .await
        .ok();
    until_code(&account, "pods", 403).await;
    world
        .patch("roles/sa", MERGE, &json!({"rules": kuberays()}))
        .await
        .ok();
    until_code(&account, "pods", 200).await;
    let refused = world
        .patch("rolebindings/sa", MERGE, &json!({"roleRef": {"name": "x"}}))
        .await;
    assert_eq!(
        (refused.refused(), refused.causes()),
        ((422, "Invalid"), vec![("roleRef", "FieldValueInvalid")])
    );
}

#[tokio::test]
async fn a_review_tells_all_rules_of_a_namespace() {
    let (world, account) = with_account(&kuberays()).await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let review = json!({"spec": {"namespace": world.namespace}});
    let answer = account.post(path, &review).await;
    assert_eq!(answer.code, 201);
    let status = answer.ok()["status"].clone();
    assert_eq!(status["incomplete"], false);
    let rules = status["resourceRules"].as_array().unwrap();
    for rule in kuberays().as_array().unwrap() {
        assert!(rules.contains(rule), "{rule} {status}");
    }
    let refused = account.post(path, &json!({"spec": {}})).await;
    assert_eq!(refused.refused(), (400, "BadRequest"));
    assert_eq!(refused.message(), "no namespace on request");
}

#[tokio::test]
async fn a_review_answers_one_question() {
    let (world, account) = with_account(&kuberays()).await;
    let ask = async |attributes: Value| {
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        account.post(path, &json!({"spec": attributes})).await.ok()["status"].clone()
    };
    let namespace = &world.namespace;
    let pods = |verb: &str| json!({"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": namespace}});
    let expected = json!({
        "allowed": true,
        "reason": format!("RBAC: allowed by RoleBinding \"sa/{namespace}\" of Role \"sa\" to ServiceAccount \"sa/{namespace}\""),
    });
    assert_eq!(ask(pods("get")).await, expected);
    assert_eq!(ask(pods("delete")).await, json!({"allowed": false}));
    let resize = json!({"resourceAttributes": {"verb": "patch", "resource": "pods", "subresource": "resize", "namespace": namespace}});
    assert_eq!(ask(resize).await["allowed"], true);
    let path = json!({"nonResourceAttributes": {"verb": "get", "path": "/version"}});
    assert_eq!(ask(path).await["allowed"], true);
}

#[tokio::test]
async fn tokens_belong_to_an_account() {
    let world = World::new(SERVER).await;
    let request = json!({"spec": {"expirationSeconds": 60}});
    let absent = world
        .post("serviceaccounts/absent/token", &json!({"spec": {}}))
        .await;
    assert_eq!(absent.refused(), (404, "NotFound"));
    world
        .post("serviceaccounts", &json!({"metadata": {"name": "sa"}}))
        .await
        .ok();
    let refused = world.post("serviceaccounts/sa/token", &request).await;
    assert_eq!(refused.refused(), (422, "Invalid"));
    assert_eq!(
        refused.causes(),
        [("spec.expirationSeconds", "FieldValueInvalid")]
    );
    let token = world
        .post("serviceaccounts/sa/token", &json!({"spec": {}}))
        .await;
    assert_eq!(
        (token.code, &token.body["spec"]["expirationSeconds"]),
        (201, &json!(3600))
    );
    let account = world
        .with_token(token.body["status"]["token"].as_str().unwrap())
        .await;
    until_code(&account, "/version", 200).await;
    world.delete("serviceaccounts/sa", &Value::Null).await.ok();
    until_code(&account, "/version", 401).await;
}

#[tokio::test]
async fn discovery_names_what_is_served() {
    let (_, account) = with_account(&json!([])).await;
    assert_eq!(account.get("/readyz").await.body, json!("ok"));
    assert_eq!(account.get("/version").await.ok()["major"], "1");
    assert_eq!(account.get("/api").await.ok()["versions"], json!(["v1"]));
    let groups = account.get("/apis").await.ok();
    let groups = groups["groups"].as_array().unwrap();
    let ray = groups
        .iter()
        .find(|group| group["name"] == "ray.io")
        .unwrap();
    assert_eq!(ray["preferredVersion"]["groupVersion"], "ray.io/v1");
    let resources = account.get("/apis/ray.io/v1").await.ok();
    let names: Vec<&str> = resources["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"rayclusters") && names.contains(&"rayclusters/status"),
        "{names:?}"
    );
    let core = account.get("/api/v1").await.ok();
    let pods = core["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["name"] == "pods")
        .unwrap();
    assert_eq!(
        (&pods["kind"], &pods["namespaced"], &pods["shortNames"]),
        (&json!("Pod"), &json!(true), &json!(["po"]))
    );
}
