//! What our ServiceAccount may do, asked once; nothing here is ever required.
//!
//! KubeRay makes the Role once and never updates it: a cluster made under an older operator keeps
//! fewer verbs, and an administrator may have added some. One `SelfSubjectRulesReview` tells.

use std::collections::BTreeSet;

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::cluster::ClusterName;
use crate::wire::kube_client::{CallError, KubeClient};

/// Names one right and what it is good for.
#[derive(Debug, PartialEq, Eq)]
pub struct Right {
    /// The verb.
    pub verb: &'static str,
    /// The API group; empty for Kubernetes' own.
    pub group: &'static str,
    /// The resource, with its subresource.
    pub resource: &'static str,
    /// What does not work without it.
    pub without: &'static str,
    /// Whether KubeRay's Role has it.
    pub is_default: bool,
}

const PODS: (&str, &str) = ("", "pods");
const RAYCLUSTERS: (&str, &str) = ("ray.io", "rayclusters");
const EVENTS: (&str, &str) = ("events.k8s.io", "events");

/// Every right that we make use of.
pub const RIGHTS: [Right; 8] = [
    default("list", PODS, "pods are not seen and nothing is scaled"),
    default("watch", PODS, "pods are not followed and nothing is scaled"),
    default(
        "get",
        RAYCLUSTERS,
        "groups are not seen and nothing is scaled",
    ),
    default("patch", RAYCLUSTERS, "nothing is scaled"),
    extra(
        "list",
        RAYCLUSTERS,
        "the RayCluster is read every few seconds",
    ),
    extra(
        "watch",
        RAYCLUSTERS,
        "the RayCluster is read every few seconds",
    ),
    extra("create", EVENTS, "no Events are written on the RayCluster"),
    extra("patch", EVENTS, "Events that repeat are not counted up"),
];

const fn default(
    verb: &'static str,
    of: (&'static str, &'static str),
    without: &'static str,
) -> Right {
    Right {
        verb,
        group: of.0,
        resource: of.1,
        without,
        is_default: true,
    }
}

const fn extra(
    verb: &'static str,
    of: (&'static str, &'static str),
    without: &'static str,
) -> Right {
    Right {
        is_default: false,
        ..default(verb, of, without)
    }
}

/// Holds which of [`RIGHTS`] we have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    held: BTreeSet<usize>,
}

/// Holds the answer to a rules review.
#[derive(Debug, Deserialize)]
struct Review {
    status: Rules,
}

/// Holds what a rules review found; `incomplete` is true where an authorizer cannot list its rules.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    resource_rules: Vec<Rule>,
    incomplete: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

impl Access {
    /// Asks the API server what we may do.
    ///
    /// # Errors
    ///
    /// The question was not answered; then [`Access::default`] is the best guess.
    pub async fn ask(client: &KubeClient, cluster: &ClusterName) -> Result<Self, CallError> {
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": cluster.namespace},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let body = ("application/json", body.to_string().into_bytes());
        let review: Review = client.send(Method::POST, path, body).await?;
        Ok(Self::from_rules(&review.status, &cluster.name))
    }

    /// Returns the rights that `rules` give on the RayCluster of this name.
    #[must_use]
    pub fn from_rules(rules: &Rules, cluster: &str) -> Self {
        let gives = |right: &Right| {
            let rules = &mut rules.resource_rules.iter();
            rules.any(|rule| rule.gives(right, cluster))
        };
        let held = RIGHTS.iter().enumerate().filter(|(_, right)| {
            // Rules that could not be listed may well be the Role's.
            gives(right) || (rules.incomplete && right.is_default)
        });
        Self {
            held: held.map(|(index, _)| index).collect(),
        }
    }

    /// Returns whether we have a right.
    #[must_use]
    pub fn may(&self, verb: &str, resource: &str) -> bool {
        let held = &mut self.held.iter().filter_map(|index| RIGHTS.get(*index));
        held.any(|right| right.verb == verb && right.resource == resource)
    }

    /// Returns whether the RayCluster can be watched.
    #[must_use]
    pub fn may_watch_raycluster(&self) -> bool {
        self.may("list", RAYCLUSTERS.1) && self.may("watch", RAYCLUSTERS.1)
    }

    /// Returns the rights that we do not have.
    pub fn missing(&self) -> impl Iterator<Item = &'static Right> {
        let rights = RIGHTS.iter().enumerate();
        rights
            .filter(|(index, _)| !self.held.contains(index))
            .map(|(_, right)| right)
    }
}

impl Default for Access {
    /// Returns the rights of KubeRay's Role.
    fn default() -> Self {
        let rights = RIGHTS.iter().enumerate();
        let held = rights.filter(|(_, right)| right.is_default);
        Self {
            held: held.map(|(index, _)| index).collect(),
        }
    }
}

impl Rule {
    fn gives(&self, right: &Right, cluster: &str) -> bool {
        let has = |list: &[String], wanted: &str| {
            let list = &mut list.iter();
            list.any(|have| have == "*" || have == wanted)
        };
        // Names can only be those of the RayCluster: pods and Events have names of their own.
        let is_ours = self.resource_names.is_empty()
            || (right.resource == RAYCLUSTERS.1 && has(&self.resource_names, cluster));
        is_ours
            && has(&self.verbs, right.verb)
            && has(&self.api_groups, right.group)
            && has(&self.resources, right.resource)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Access, Rules};

    fn access(rules: &Value) -> Access {
        let rules: Rules = serde_json::from_value(rules.clone()).unwrap();
        Access::from_rules(&rules, "c")
    }

    fn kuberay() -> Value {
        json!({"resourceRules": [
            {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectrulesreviews"]},
            {"verbs": ["get", "list", "watch", "patch"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["patch"], "apiGroups": [""], "resources": ["pods/resize"]},
            {"verbs": ["get", "patch"], "apiGroups": ["ray.io"], "resources": ["rayclusters"]},
        ], "nonResourceRules": [], "incomplete": false})
    }

    #[test]
    fn kuberays_role_is_the_default() {
        let access = access(&kuberay());
        assert_eq!(access, Access::default());
        assert!(!access.may_watch_raycluster());
        let missing: Vec<(&str, &str)> = access
            .missing()
            .map(|right| (right.verb, right.resource))
            .collect();
        let expected = [
            ("list", "rayclusters"),
            ("watch", "rayclusters"),
            ("create", "events"),
            ("patch", "events"),
        ];
        assert_eq!(missing, expected);
    }

    #[test]
    fn stars_and_names_are_understood() {
        let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
        assert_eq!(access(&json!({"resourceRules": all})).missing().count(), 0);
        let named = |name: &str| {
            let rule = json!({"verbs": ["list", "watch"], "apiGroups": ["ray.io"],
                "resources": ["rayclusters"], "resourceNames": [name]});
            access(&json!({"resourceRules": [rule]})).may_watch_raycluster()
        };
        assert!(named("c"));
        assert!(!named("other"));
        let one_pod = json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["c"]}]);
        assert!(!access(&json!({"resourceRules": one_pod})).may("list", "pods"));
        let other_group =
            json!([{"verbs": ["create"], "apiGroups": [""], "resources": ["events"]}]);
        assert!(!access(&json!({"resourceRules": other_group})).may("create", "events"));
    }

    #[test]
    fn rules_that_cannot_be_listed_are_taken_to_be_the_role() {
        let empty = access(&json!({"resourceRules": []}));
        assert!(!empty.may("patch", "rayclusters"));
        let unlisted = access(&json!({"resourceRules": [], "incomplete": true}));
        assert_eq!(unlisted, Access::default());
    }
}
