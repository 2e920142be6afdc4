//! Who may do what: RBAC, from the roles and bindings that are stored, and the reviews that ask about it.

use super::State;
use super::identity::User;
use super::kinds::{self, Kind};
use super::refusal::Refusal;
use super::request::{Query, Target, Verb};
use super::store::{Key, Scope};
use http::Method;
use serde_json::{Value, json};

/// What somebody wants to do, as RBAC sees it.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Resource {
        verb: String,
        group: String,
        /// With the subresource after a slash.
        resource: String,
        namespace: Option<String>,
        name: String,
    },
    Path {
        verb: String,
        path: String,
    },
}

impl Asked {
    pub(super) fn resource(verb: Verb, target: &Target, query: &Query) -> Self {
        let resource = match target.subresource.as_str() {
            "" => target.kind.plural.to_owned(),
            subresource => format!("{}/{subresource}", target.kind.plural),
        };
        // A list of one object by its name is about that object.
        let by_name = || {
            let selector = query.get("fieldSelector").unwrap_or_default();
            let mut fields = selector.split(',');
            let name = fields.find_map(|field| field.strip_prefix("metadata.name="));
            name.unwrap_or_default().trim_start_matches('=').to_owned()
        };
        let name = match verb {
            Verb::List | Verb::Watch | Verb::DeleteCollection => by_name(),
            _ => target.name.clone(),
        };
        // A namespace lies in itself.
        let own =
            (target.kind.is("Namespace") && !target.name.is_empty()).then(|| target.name.clone());
        Self::Resource {
            verb: verb.word().to_owned(),
            group: target.kind.group.to_owned(),
            resource,
            namespace: target.namespace.clone().or(own),
            name,
        }
    }

    pub(super) fn review(review: &str) -> Self {
        Self::Resource {
            verb: "create".to_owned(),
            group: "authorization.k8s.io".to_owned(),
            resource: review.to_owned(),
            namespace: None,
            name: String::new(),
        }
    }

    pub(super) fn path(method: &Method, path: &str) -> Self {
        Self::Path {
            verb: method.as_str().to_lowercase(),
            path: path.to_owned(),
        }
    }

    fn of_review(spec: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(path) = spec.get("nonResourceAttributes") {
            return Self::Path {
                verb: text(&path["verb"]),
                path: text(&path["path"]),
            };
        }
        let asked = &spec["resourceAttributes"];
        let resource = match asked["subresource"].as_str() {
            None | Some("") => text(&asked["resource"]),
            Some(subresource) => format!("{}/{subresource}", text(&asked["resource"])),
        };
        let namespace = asked["namespace"].as_str().filter(|name| !name.is_empty());
        Self::Resource {
            verb: text(&asked["verb"]),
            group: text(&asked["group"]),
            resource,
            namespace: namespace.map(str::to_owned),
            name: text(&asked["name"]),
        }
    }

    fn namespace(&self) -> Option<&str> {
        match self {
            Self::Resource { namespace, .. } => namespace.as_deref(),
            Self::Path { .. } => None,
        }
    }

    /// Returns true when a rule of a role allows it.
    fn is_allowed_by(&self, rule: &Value) -> bool {
        let has = |member: &str, wanted: &dyn Fn(&str) -> bool| {
            let entries = rule[member].as_array().into_iter().flatten();
            entries.filter_map(Value::as_str).any(wanted)
        };
        match self {
            Self::Resource {
                verb,
                group,
                resource,
                name,
                ..
            } => {
                let is_resource = |entry: &str| {
                    let is_any_parent = entry.strip_prefix("*/").is_some_and(|subresource| {
                        resource
                            .split_once('/')
                            .is_some_and(|(_, own)| own == subresource)
                    });
                    entry == "*" || entry == resource || is_any_parent
                };
                let names = rule["resourceNames"].as_array();
                let is_any_name = names.is_none_or(Vec::is_empty);
                has("verbs", &|entry| entry == "*" || entry == verb)
                    && has("apiGroups", &|entry| entry == "*" || entry == group)
                    && has("resources", &is_resource)
                    && (is_any_name || has("resourceNames", &|entry| entry == name))
            }
            Self::Path { verb, path } => {
                let is_path = |entry: &str| match entry.strip_suffix('*') {
                    Some(prefix) => path.starts_with(prefix),
                    None => entry == path,
                };
                has("verbs", &|entry| entry == "*" || entry == verb)
                    && has("nonResourceURLs", &is_path)
            }
        }
    }

    fn refusal(&self, user: &User) -> Refusal {
        let user = &user.name;
        match self {
            Self::Path { verb, path } => Refusal::forbidden_path(format!(
                "forbidden: User {user:?} cannot {verb} path {path:?}"
            )),
            Self::Resource {
                verb,
                group,
                resource,
                namespace,
                name,
            } => {
                let scope = match namespace {
                    Some(namespace) => format!("in the namespace {namespace:?}"),
                    None => "at the cluster scope".to_owned(),
                };
                let problem = format!(
                    "User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}"
                );
                let plural = resource.split('/').next().unwrap_or_default();
                let known = kinds::KINDS
                    .iter()
                    .find(|kind| kind.group == group && kind.plural == plural);
                let kind = known.copied().unwrap_or(REVIEW);
                Refusal::forbidden(&kind, name, &problem)
            }
        }
    }
}

/// Stands in messages for what is asked about and not stored.
const REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    version: "v1",
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    short_names: &[],
    is_namespaced: false,
    has_generation: false,
    subresources: &[],
    selectable: &[],
    read: None,
    columns: &[],
};

impl State {
    /// Refuses what no role allows.
    pub(super) fn authorize(&self, user: &User, asked: &Asked) -> Result<(), Refusal> {
        if self.is_allowed(user, asked) {
            return Ok(());
        }
        Err(asked.refusal(user))
    }

    fn is_allowed(&self, user: &User, asked: &Asked) -> bool {
        let rules = self.rules_of(user, asked.namespace());
        user.groups.iter().any(|group| group == "system:masters")
            || rules.iter().any(|rule| asked.is_allowed_by(rule))
    }

    /// Returns the rules that are bound to a user, for the whole cluster and for one namespace.
    fn rules_of(&self, user: &User, namespace: Option<&str>) -> Vec<Value> {
        let mut rules = Vec::new();
        let mut collect = |plural, of: Option<&str>| {
            let scope = Scope {
                plural,
                namespace: of.map(str::to_owned),
            };
            for (_, binding) in self.store.list(&scope) {
                let subjects = binding["subjects"].as_array().into_iter().flatten();
                if subjects
                    .into_iter()
                    .any(|subject| is_subject(user, subject, of))
                {
                    rules.extend(self.rules_of_role(&binding["roleRef"], of));
                }
            }
        };
        collect("clusterrolebindings", None);
        if namespace.is_some() {
            collect("rolebindings", namespace);
        }
        rules
    }

    fn rules_of_role(&self, role: &Value, namespace: Option<&str>) -> Vec<Value> {
        let is_of_cluster = role["kind"] == "ClusterRole";
        let key = Key {
            plural: if is_of_cluster {
                "clusterroles"
            } else {
                "roles"
            },
            namespace: if is_of_cluster {
                ""
            } else {
                namespace.unwrap_or_default()
            }
            .to_owned(),
            name: role["name"].as_str().unwrap_or_default().to_owned(),
        };
        let rules = self
            .store
            .get(&key)
            .and_then(|role| role["rules"].as_array());
        rules.cloned().unwrap_or_default()
    }

    /// Answers a review.
    pub(super) fn review(&self, user: &User, review: &str, body: Value) -> Result<Value, Refusal> {
        let mut review_object = body;
        let (kind, status) = match review {
            "selfsubjectaccessreviews" => {
                let asked = Asked::of_review(&review_object["spec"]);
                let status = json!({"allowed": self.is_allowed(user, &asked)});
                ("SelfSubjectAccessReview", status)
            }
            "selfsubjectrulesreviews" => {
                let namespace = review_object["spec"]["namespace"]
                    .as_str()
                    .unwrap_or_default();
                if namespace.is_empty() {
                    return Err(Refusal::bad_request("no namespace on request"));
                }
                ("SelfSubjectRulesReview", self.rules_review(user, namespace))
            }
            _ => return Err(Refusal::no_such_resource()),
        };
        review_object["kind"] = json!(kind);
        review_object["apiVersion"] = json!("authorization.k8s.io/v1");
        if !review_object["metadata"].is_object() {
            review_object["metadata"] = json!({});
        }
        review_object["status"] = status;
        Ok(review_object)
    }

    fn rules_review(&self, user: &User, namespace: &str) -> Value {
        let is_master = user.groups.iter().any(|group| group == "system:masters");
        let mut rules = self.rules_of(user, Some(namespace));
        if is_master {
            rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
            rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
        }
        let of_paths = |rule: &Value| {
            rule.get("nonResourceURLs")
                .is_some_and(|urls| !urls.is_null())
        };
        let (paths, resources): (Vec<Value>, Vec<Value>) = rules.into_iter().partition(of_paths);
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
    }
}

/// Returns true when a binding in a namespace (or none) means this user.
fn is_subject(user: &User, subject: &Value, binding_namespace: Option<&str>) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => name == user.name,
        Some("Group") => user.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let own = subject["namespace"].as_str().or(binding_namespace);
            let own = own.unwrap_or_default();
            user.name == format!("system:serviceaccount:{own}:{name}")
        }
        _ => false,
    }
}
