//! Who may do what: RBAC, from the roles and bindings that are stored, and the reviews that ask about it.

use super::State;
use super::identity::User;
use super::members::list;
use super::refusal::Refusal;
use super::request::{Query, Target, Unserved, Verb};
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

    pub(super) fn unserved(unserved: &Unserved, verb: &str) -> Self {
        Self::Resource {
            verb: verb.to_owned(),
            group: unserved.group.clone(),
            resource: unserved.resource.clone(),
            namespace: unserved.namespace.clone(),
            name: unserved.name.clone(),
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
                Refusal::forbidden_on((group, plural), name, &problem)
            }
        }
    }
}

impl State {
    /// Refuses what no role allows.
    pub(super) fn authorize(&self, user: &User, asked: &Asked) -> Result<(), Refusal> {
        if self.is_allowed(user, asked) {
            return Ok(());
        }
        Err(asked.refusal(user))
    }

    fn is_allowed(&self, user: &User, asked: &Asked) -> bool {
        user.is_master() || self.why_allowed(user, asked).is_some()
    }

    /// Returns by which binding a user may do something.
    fn why_allowed(&self, user: &User, asked: &Asked) -> Option<String> {
        let granted = self.granted(user, asked.namespace());
        let granted = granted
            .into_iter()
            .find(|granted| asked.is_allowed_by(&granted.rule));
        granted.map(|granted| granted.source)
    }

    /// Returns what is bound to a user, for the whole cluster and for one namespace.
    fn granted(&self, user: &User, namespace: Option<&str>) -> Vec<Granted> {
        let mut granted = Vec::new();
        let mut collect = |plural, of: Option<&str>| {
            let scope = Scope {
                plural,
                namespace: of.map(str::to_owned),
            };
            for (_, binding) in self.store.list(&scope) {
                let mut subjects = list(binding, "subjects").iter();
                let subject = subjects.find(|subject| is_subject(user, subject, of));
                if let Some(subject) = subject {
                    let source = source(binding, subject);
                    let rules = self.rules_of_role(&binding["roleRef"], of);
                    granted.extend(rules.into_iter().map(|rule| Granted {
                        source: source.clone(),
                        rule,
                    }));
                }
            }
        };
        collect("clusterrolebindings", None);
        if namespace.is_some() {
            collect("rolebindings", namespace);
        }
        granted
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
        let role = self.store.get(&key);
        role.map(|role| list(role, "rules").to_vec())
            .unwrap_or_default()
    }

    /// Answers a review.
    pub(super) fn review(&self, user: &User, review: &str, body: Value) -> Result<Value, Refusal> {
        let mut review_object = body;
        let (kind, status) = match review {
            "selfsubjectaccessreviews" => {
                let asked = Asked::of_review(&review_object["spec"]);
                let mut status = json!({"allowed": self.is_allowed(user, &asked)});
                if let Some(source) = self.why_allowed(user, &asked) {
                    status["reason"] = json!(format!("RBAC: allowed by {source}"));
                }
                ("SelfSubjectAccessReview", status)
            }
            "selfsubjectrulesreviews" => {
                let namespace = review_object["spec"]["namespace"]
                    .as_str()
                    .unwrap_or_default();
                if namespace.is_empty() {
                    return Err(Refusal::bad_request("no namespace on request"));
                }
                let status = self.rules_review(user, namespace);
                review_object["spec"] = json!({});
                ("SelfSubjectRulesReview", status)
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
        let granted = self.granted(user, Some(namespace)).into_iter();
        let rules = granted.map(|granted| granted.rule);
        let is_of_paths = |rule: &Value| !list(rule, "nonResourceURLs").is_empty();
        let (paths, resources): (Vec<Value>, Vec<Value>) = rules.partition(is_of_paths);
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
    }
}

/// A rule that a user holds, and where from.
struct Granted {
    /// The binding, in the words of a review.
    source: String,
    rule: Value,
}

fn source(binding: &Value, subject: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &binding["metadata"];
    let placed = |name: &Value, namespace: &Value| match namespace.as_str() {
        Some(namespace) => format!("{}/{namespace}", text(name)),
        None => text(name),
    };
    let role = &binding["roleRef"];
    format!(
        "{} {:?} of {} {:?} to {} {:?}",
        text(&binding["kind"]),
        placed(&metadata["name"], &metadata["namespace"]),
        text(&role["kind"]),
        text(&role["name"]),
        text(&subject["kind"]),
        placed(&subject["name"], &subject["namespace"]),
    )
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
