//! What a request asks for: the verb, the resource, the options in its query.

use super::kinds::{self, Kind};
use super::refusal::Refusal;
use super::store::{Key, Scope};
use http::Method;

/// The options of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self(pairs.into_owned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns true for `true`, `1` and a bare name.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| !matches!(value, "false" | "0"))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let number = text.parse().map_err(|_| {
            Refusal::bad_request(format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax"
            ))
        });
        number.map(Some)
    }
}

/// The object or the objects that a request is about.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) kind: &'static Kind,
    pub(super) namespace: Option<String>,
    /// Empty for a collection.
    pub(super) name: String,
    /// Empty for the object itself.
    pub(super) subresource: String,
}

impl Target {
    pub(super) fn key(&self) -> Key {
        Key::new(self.kind, self.namespace.as_deref(), &self.name)
    }

    pub(super) fn scope(&self) -> Scope {
        Scope {
            plural: self.kind.plural,
            namespace: self.namespace.clone(),
        }
    }

    /// Returns the same place without the subresource.
    pub(super) fn object(&self) -> Self {
        Self {
            subresource: String::new(),
            ..self.clone()
        }
    }
}

/// Where a path leads.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A resource that is served.
    Resource(Target),
    /// A virtual resource, which answers when it is created.
    Review(String),
    /// Something that looks like a resource and is not served.
    Unserved(Unserved),
    /// Discovery, health, or nothing at all.
    Other,
}

impl Place {
    pub(super) fn parse(path: &str) -> Self {
        let parts: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(unescaped)
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Self::Other,
        };
        if let ("authorization.k8s.io", "v1", [review]) = (group, version, rest) {
            return Self::Review((*review).to_owned());
        }
        let target = match rest {
            ["namespaces", name, sub @ ("status" | "finalize")] => {
                target(("", version, "namespaces"), None, &[name, sub])
            }
            ["namespaces", namespace, plural, more @ ..] => {
                target((group, version, plural), Some(namespace), more)
            }
            [plural, more @ ..] => target((group, version, plural), None, more),
            [] => None,
        };
        match (target, rest) {
            (Some(target), _) => Self::Resource(target),
            (None, []) => Self::Other,
            (None, rest) => Self::Unserved(Unserved::new((group, version), rest)),
        }
    }
}

/// What a path names that is not served; whoever may not have it is not told so.
#[derive(Debug, Clone)]
pub(super) struct Unserved {
    pub(super) group: String,
    /// With the subresource after a slash.
    pub(super) resource: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// The group's version is served.
    pub(super) is_in_a_group: bool,
}

impl Unserved {
    fn new((group, version): (&str, &str), rest: &[&str]) -> Self {
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let part = |index: usize| rest.get(index).copied().unwrap_or_default();
        let resource = match part(2) {
            "" => part(0).to_owned(),
            subresource => format!("{}/{subresource}", part(0)),
        };
        Self {
            group: group.to_owned(),
            resource,
            namespace: namespace.map(str::to_owned),
            name: part(1).to_owned(),
            is_in_a_group: kinds::KINDS
                .iter()
                .any(|kind| kind.group == group && kind.version == version),
        }
    }

    /// Returns the verb of a method on it.
    pub(super) fn verb(&self, method: &Method, query: &Query) -> &'static str {
        let verb = Verb::on(method, self.name.is_empty(), query);
        verb.map_or("get", Verb::word)
    }
}

fn unescaped(part: &str) -> String {
    // A plus sign is a plain character in a path.
    let query = format!("p={}", part.replace('+', "%2B"));
    let value = Query::parse(&query).get("p").map(str::to_owned);
    value.unwrap_or_default()
}

fn target(
    (group, version, plural): (&str, &str, &str),
    namespace: Option<&str>,
    more: &[&str],
) -> Option<Target> {
    let kind = kinds::find(group, version, plural)?;
    let (name, subresource) = match more {
        [] => ("", ""),
        [name] => (*name, ""),
        [name, subresource] if kind.has(subresource) => (*name, *subresource),
        _ => return None,
    };
    let is_namespaced = namespace.is_some();
    // A namespaced collection can be read across namespaces; one object cannot.
    let is_fitting = kind.is_namespaced == is_namespaced || (!is_namespaced && name.is_empty());
    is_fitting.then(|| Target {
        kind,
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    })
}

/// The verbs of RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// Returns none for methods that resources do not have.
    pub(super) fn of(method: &Method, target: &Target, query: &Query) -> Option<Self> {
        Self::on(method, target.name.is_empty(), query)
    }

    fn on(method: &Method, is_collection: bool, query: &Query) -> Option<Self> {
        let is_watch = query.is_true("watch");
        match (method.as_str(), is_collection) {
            ("GET" | "HEAD", true) if is_watch => Some(Self::Watch),
            ("GET" | "HEAD", true) => Some(Self::List),
            ("GET" | "HEAD", false) => Some(Self::Get),
            ("POST", _) => Some(Self::Create),
            ("PUT", false) => Some(Self::Update),
            ("PATCH", false) => Some(Self::Patch),
            ("DELETE", true) => Some(Self::DeleteCollection),
            ("DELETE", false) => Some(Self::Delete),
            _ => None,
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Query, Verb};
    use http::Method;

    fn described(method: &str, path: &str, query: &str) -> String {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        match Place::parse(path) {
            Place::Resource(target) => {
                let verb = Verb::of(&method, &target, &Query::parse(query));
                let verb = verb.map_or("none", Verb::word);
                let namespace = target.namespace.as_deref().unwrap_or("-");
                let (kind, name) = (target.kind.kind, target.name);
                format!("{verb} {kind} {namespace} {name} {}", target.subresource)
            }
            Place::Review(review) => format!("review {review}"),
            Place::Unserved(unserved) => {
                let verb = unserved.verb(&method, &Query::parse(query));
                let namespace = unserved.namespace.as_deref().unwrap_or("-");
                format!(
                    "no {verb} {} {namespace} {}",
                    unserved.resource, unserved.name
                )
            }
            Place::Other => "other".to_owned(),
        }
    }

    #[test]
    fn paths_lead_to_resources() {
        let reviews = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let rows = [
            ("GET", "/api/v1/pods", "", "list Pod -  "),
            ("GET", "/api/v1/pods", "watch=1", "watch Pod -  "),
            (
                "GET",
                "/api/v1/namespaces/n/pods",
                "watch=true",
                "watch Pod n  ",
            ),
            (
                "POST",
                "/api/v1/namespaces/n/pods/p/binding",
                "",
                "create Pod n p binding",
            ),
            ("GET", "/api/v1/namespaces/n", "", "get Namespace - n "),
            (
                "PUT",
                "/api/v1/namespaces/n/status",
                "",
                "update Namespace - n status",
            ),
            (
                "PATCH",
                "/apis/ray.io/v1/namespaces/n/rayclusters/c",
                "",
                "patch RayCluster n c ",
            ),
            (
                "DELETE",
                "/api/v1/namespaces/n/pods",
                "",
                "deletecollection Pod n  ",
            ),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "",
                "get ClusterRole - system:node ",
            ),
            ("POST", reviews, "", "review selfsubjectrulesreviews"),
            ("GET", "/api/v1/pods/p", "", "no get pods - p"),
            (
                "GET",
                "/api/v1/namespaces/n/pods/p/exec",
                "",
                "no get pods/exec n p",
            ),
            ("GET", "/apis/ray.io/v1", "", "other"),
            ("GET", "/readyz", "", "other"),
        ];
        for (method, path, query, expected) in rows {
            assert_eq!(described(method, path, query), expected, "{path}");
        }
    }
}
