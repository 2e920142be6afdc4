//! What every new cluster has: its namespaces, and the roles of everybody.

use super::State;
use super::kinds::KINDS;
use super::request::{Query, Target};
use super::write::WriteOptions;
use serde_json::{Value, json};

const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Paths that anybody who is known may read.
const DISCOVERY: [&str; 10] = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
];
/// Paths that nobody needs a token for.
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

impl State {
    /// Makes it.
    pub(super) fn create_what_every_cluster_has(&mut self) {
        for name in NAMESPACES {
            self.create_own("Namespace", json!({"metadata": {"name": name}}));
        }
        let of_paths = |paths: &[&str]| json!([{"nonResourceURLs": paths, "verbs": ["get"]}]);
        let reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
        let everything = json!([
            {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
            {"nonResourceURLs": ["*"], "verbs": ["*"]},
        ]);
        let basic = json!([{"apiGroups": ["authorization.k8s.io"], "resources": reviews, "verbs": ["create"]}]);
        let rows = [
            ("cluster-admin", everything, vec!["system:masters"]),
            ("system:basic-user", basic, vec!["system:authenticated"]),
            (
                "system:discovery",
                of_paths(&DISCOVERY),
                vec!["system:authenticated"],
            ),
            (
                "system:public-info-viewer",
                of_paths(&PUBLIC),
                vec!["system:authenticated", "system:unauthenticated"],
            ),
        ];
        for (name, rules, groups) in rows {
            self.create_own(
                "ClusterRole",
                json!({"metadata": {"name": name}, "rules": rules}),
            );
            let subject = |group| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group});
            self.create_own("ClusterRoleBinding", json!({
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                "subjects": groups.into_iter().map(subject).collect::<Vec<_>>(),
            }));
        }
    }

    /// Nothing can be wrong with these; the tests of a new cluster see them all.
    fn create_own(&mut self, kind: &str, object: Value) {
        let Some(kind) = KINDS.iter().find(|row| row.is(kind)) else {
            return;
        };
        let target = Target {
            kind,
            namespace: None,
            name: String::new(),
            subresource: String::new(),
        };
        let options = WriteOptions::new(&Query::default(), "kube-apiserver");
        drop(self.create(&target, object, &options));
    }
}
