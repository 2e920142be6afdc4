//! Which groups and resources there are, which version, and that all is well.

use super::kinds::{KINDS, Kind};
use super::openapi;
use serde_json::{Value, json};

/// What the version endpoint says; the rules here were compared with this one.
const VERSION: (&str, &str, &str) = ("1", "37", "v1.37.2");

/// The media type of plain answers.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// Clients go by it when they ask for all groups at once.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Returns what a path that is no resource answers, if anything: its media type and its text.
pub(super) fn answer(path: &str, accept: &str) -> Option<(&'static str, String)> {
    let path = path.trim_end_matches('/');
    let wants_all = accept.contains("v=v2;as=APIGroupDiscoveryList");
    let json = match path {
        "/readyz" | "/livez" | "/healthz" => return Some((TEXT, "ok".to_owned())),
        "/version" => version(),
        "/api" if wants_all => return Some((AGGREGATED, aggregated(&[""]).to_string())),
        "/apis" if wants_all => return Some((AGGREGATED, aggregated(&groups()).to_string())),
        "/api" => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        "/apis" => json!({
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": groups().into_iter().map(group).collect::<Vec<_>>(),
        }),
        "/api/v1" => resources(""),
        _ => match path.strip_prefix("/openapi/v3") {
            Some(document) => openapi::answer(document)?,
            None => of_named_group(path)?,
        },
    };
    Some((JSON, json.to_string()))
}

fn of_named_group(path: &str) -> Option<Value> {
    let mut parts = path.strip_prefix("/apis/")?.split('/');
    let name = parts.next()?;
    let known = groups().into_iter().find(|known| *known == name)?;
    match (parts.next(), parts.next()) {
        (None, _) => {
            let mut group = group(known);
            group["kind"] = json!("APIGroup");
            group["apiVersion"] = json!("v1");
            Some(group)
        }
        (Some("v1"), None) => Some(resources(known)),
        _ => None,
    }
}

fn version() -> Value {
    let (major, minor, version) = VERSION;
    json!({
        "major": major, "minor": minor, "gitVersion": version,
        "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "", "platform": "embedded",
    })
}

/// Returns the named groups, in the order of the table; the reviews' one comes last.
fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = Vec::new();
    for kind in KINDS.iter().filter(|kind| !kind.group.is_empty()) {
        if !groups.contains(&kind.group) {
            groups.push(kind.group);
        }
    }
    groups.push("authorization.k8s.io");
    groups
}

fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn of_group(group: &str) -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(move |kind| kind.group == group)
}

fn verbs() -> Value {
    json!([
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch"
    ])
}

/// The kind that a subresource answers with, and its verbs.
fn subresource(kind: &Kind, name: &str) -> (Value, Value) {
    let response = |group: &str, kind: &str| json!({"group": group, "version": "v1", "kind": kind});
    match name {
        "binding" => (response("", "Binding"), json!(["create"])),
        "eviction" => (response("policy", "Eviction"), json!(["create"])),
        "token" => (
            response("authentication.k8s.io", "TokenRequest"),
            json!(["create"]),
        ),
        "finalize" => (response("", kind.kind), json!(["update"])),
        _ => (
            response(kind.group, kind.kind),
            json!(["get", "patch", "update"]),
        ),
    }
}

fn resources(group: &str) -> Value {
    let mut resources = Vec::new();
    for kind in of_group(group) {
        resources.push(json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.is_namespaced,
            "kind": kind.kind, "verbs": verbs(), "shortNames": kind.short_names,
        }));
        for name in kind.subresources {
            let (response, verbs) = subresource(kind, name);
            resources.push(json!({
                "name": format!("{}/{name}", kind.plural), "singularName": "",
                "namespaced": kind.is_namespaced, "kind": response["kind"], "verbs": verbs,
                "group": response["group"], "version": response["version"],
            }));
        }
    }
    if group == "authorization.k8s.io" {
        resources.extend(reviews().map(|(plural, kind)| {
            json!({
                "name": plural, "singularName": plural.trim_end_matches('s'), "namespaced": false,
                "kind": kind, "verbs": ["create"],
            })
        }));
    }
    let version = if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources})
}

fn reviews() -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    ]
    .into_iter()
}

/// Returns the form of discovery that needs one request for all groups.
fn aggregated(groups: &[&str]) -> Value {
    let resource = |kind: &'static Kind| {
        let subresources = kind.subresources.iter().map(|name| {
            let (response, verbs) = subresource(kind, name);
            json!({"subresource": name, "responseKind": response, "verbs": verbs})
        });
        json!({
            "resource": kind.plural, "singularResource": kind.singular,
            "scope": if kind.is_namespaced { "Namespaced" } else { "Cluster" },
            "responseKind": {"group": kind.group, "version": "v1", "kind": kind.kind},
            "shortNames": kind.short_names, "verbs": verbs(),
            "subresources": subresources.collect::<Vec<_>>(),
        })
    };
    let review = |(plural, kind): (&str, &str)| {
        json!({
            "resource": plural, "singularResource": plural.trim_end_matches('s'), "scope": "Cluster",
            "responseKind": {"group": "authorization.k8s.io", "version": "v1", "kind": kind},
            "verbs": ["create"],
        })
    };
    let items = groups.iter().map(|group| {
        let mut all: Vec<Value> = of_group(group).map(resource).collect();
        if *group == "authorization.k8s.io" {
            all.extend(reviews().map(review));
        }
        let version = json!({"version": "v1", "resources": all, "freshness": "Current"});
        json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": [version]})
    });
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": items.collect::<Vec<_>>(),
    })
}
