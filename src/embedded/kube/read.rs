//! Get, list and the start of a watch.

use super::State;
use super::kinds::Kind;
use super::refusal::{Cause, Refusal};
use super::request::{Query, Target};
use super::selector::Selector;
use super::shape::Shape;
use super::store::{Key, Object};
use super::watch::Subject;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a list or watch may ask for.
#[derive(Debug, Clone)]
pub(super) struct ListOptions {
    pub(super) selector: Selector,
    /// Bookmarks are wanted.
    pub(super) allows_bookmarks: bool,
    /// When the server is to end a watch.
    pub(super) timeout: Option<Duration>,
    version: Version,
    is_exact: bool,
    sends_initial: Option<bool>,
    limit: usize,
    from: Option<Page>,
}

/// The version that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Latest,
    Any,
    At(u64),
}

/// Where the next page of a list starts: after this object, as of this version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Page {
    version: u64,
    namespace: String,
    name: String,
}

impl Page {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        Some(Self {
            version: parts.next()?.parse().ok()?,
            namespace: parts.next()?.to_owned(),
            name: parts.next()?.to_owned(),
        })
    }

    fn to_text(&self) -> String {
        format!("{}/{}/{}", self.version, self.namespace, self.name)
    }
}

fn version(text: &str) -> Result<Version, Refusal> {
    match text {
        "" => Ok(Version::Latest),
        "0" => Ok(Version::Any),
        text => text.parse().map(Version::At).map_err(|_| {
            Refusal::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: \
                 parsing {text:?}: invalid syntax"
            ))
        }),
    }
}

impl ListOptions {
    pub(super) fn parse(kind: &Kind, query: &Query, is_watch: bool) -> Result<Self, Refusal> {
        let (labels, fields) = (query.get("labelSelector"), query.get("fieldSelector"));
        let selector = Selector::parse(kind, labels.unwrap_or(""), fields.unwrap_or(""))?;
        let limit = query.number("limit")?.unwrap_or(0);
        let timeout = query.number("timeoutSeconds")?.map(Duration::from_secs);
        let version = version(query.get("resourceVersion").unwrap_or(""))?;
        let matching = query
            .get("resourceVersionMatch")
            .filter(|text| !text.is_empty());
        let sends_initial = query.get("sendInitialEvents").map(|text| text == "true");
        let page = query.get("continue").filter(|text| !text.is_empty());
        let from = match page.map(Page::parse) {
            Some(None) => {
                return Err(Refusal::bad_request(
                    "invalid continue token: continue key is not valid",
                ));
            }
            Some(page) => page,
            None => None,
        };
        let is_numbered = matches!(version, Version::At(_));
        if from.is_some() && is_numbered {
            let problem = "specifying resource version is not allowed when using continue";
            return Err(Refusal::bad_request(problem));
        }
        check_matching((matching, version), (is_watch, sends_initial))?;
        Ok(Self {
            selector,
            allows_bookmarks: query.is_true("allowWatchBookmarks"),
            timeout,
            is_exact: matching == Some("Exact") || (matching.is_none() && limit > 0 && is_numbered),
            version,
            sends_initial,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            from,
        })
    }
}

fn check_matching(
    (matching, version): (Option<&str>, Version),
    (is_watch, sends_initial): (bool, Option<bool>),
) -> Result<(), Refusal> {
    let refuse = |cause| Err(Refusal::invalid_options("ListOptions", cause));
    let field = "resourceVersionMatch";
    if is_watch {
        return match (sends_initial, matching) {
            (Some(_), Some("NotOlderThan")) | (None, None) => Ok(()),
            (Some(_), _) => refuse(Cause::forbidden(
                field,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            (None, Some(_)) => refuse(Cause::forbidden(
                field,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
        };
    }
    match (matching, version) {
        (Some(_), Version::Latest) => refuse(Cause::forbidden(
            field,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        )),
        (Some("Exact"), Version::Any) => refuse(Cause::forbidden(
            field,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        )),
        (None | Some("Exact" | "NotOlderThan"), _) => Ok(()),
        (Some(other), _) => refuse(Cause::unsupported(
            field,
            &json!(other),
            &["\"Exact\"".into(), "\"NotOlderThan\"".into(), "\"\"".into()],
        )),
    }
}

impl State {
    /// Returns one object.
    pub(super) fn get(&self, target: &Target, query: &Query) -> Result<Object, Refusal> {
        if let Version::At(asked) = version(query.get("resourceVersion").unwrap_or(""))? {
            self.check_not_ahead(asked)?;
        }
        self.find(target)
    }

    /// Returns the object that a request names.
    pub(super) fn find(&self, target: &Target) -> Result<Object, Refusal> {
        let found = self.store.get(&target.key());
        found
            .cloned()
            .ok_or_else(|| Refusal::not_found(target.kind, &target.name))
    }

    fn check_not_ahead(&self, asked: u64) -> Result<(), Refusal> {
        let current = self.store.version();
        if asked > current {
            return Err(Refusal::too_large_version(asked, current));
        }
        Ok(())
    }

    /// Returns a list, or a page of it.
    pub(super) fn list(
        &self,
        target: &Target,
        options: &ListOptions,
        shape: &Shape,
    ) -> Result<String, Refusal> {
        let scope = target.scope();
        let asked = match (&options.from, options.version) {
            (Some(page), _) => Some(page.version),
            (None, Version::At(asked)) => {
                self.check_not_ahead(asked)?;
                options.is_exact.then_some(asked)
            }
            (None, _) => None,
        };
        let (version, objects) = match asked {
            Some(asked) => {
                let listed = self.store.list_at(&scope, asked);
                (asked, listed.map_err(|_| expired(options))?)
            }
            None => {
                let now = self.store.list(&scope);
                let cloned = now.map(|(key, object)| (key.clone(), object.clone()));
                (self.store.version(), cloned.collect())
            }
        };
        Ok(page_of(objects, version, (options, shape)))
    }

    /// Returns from where a watch goes on and what it shows first.
    pub(super) fn start_watch(&self, subject: &Subject) -> (u64, Vec<String>) {
        let current = self.store.version();
        let options = &subject.options;
        let is_initial = match (options.sends_initial, options.version) {
            (Some(sends), _) => sends,
            (None, Version::Latest | Version::Any) => true,
            (None, Version::At(_)) => false,
        };
        let from = match options.version {
            Version::At(asked) if !is_initial => asked,
            _ => current,
        };
        let mut first = Vec::new();
        if is_initial {
            let listed = self.store.list(&subject.scope);
            let admitted = listed.filter(|(_, object)| options.selector.admits(object));
            first.extend(admitted.map(|(_, object)| subject.shown("ADDED", object)));
        }
        if options.sends_initial == Some(true) && options.allows_bookmarks {
            let end = json!({"k8s.io/initial-events-end": "true"});
            first.push(subject.bookmark(current, end));
        }
        (from, first)
    }
}

fn expired(options: &ListOptions) -> Refusal {
    if options.from.is_some() {
        return Refusal::continue_expired();
    }
    let mut refusal = Refusal::continue_expired();
    "The resourceVersion for the provided list is too old.".clone_into(&mut refusal.message);
    refusal
}

/// Cuts a page out of a list.
fn page_of(
    objects: BTreeMap<Key, Object>,
    version: u64,
    (options, shape): (&ListOptions, &Shape),
) -> String {
    let is_later = |key: &Key| {
        options
            .from
            .as_ref()
            .is_none_or(|page| (&key.namespace, &key.name) > (&page.namespace, &page.name))
    };
    let mut admitted: Vec<(Key, Object)> = objects
        .into_iter()
        .filter(|(key, object)| is_later(key) && options.selector.admits(object))
        .collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if options.limit > 0 && admitted.len() > options.limit {
        let remaining = admitted.len() - options.limit;
        admitted.truncate(options.limit);
        let last = admitted.last().map(|(key, _)| Page {
            version,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        });
        metadata["continue"] = json!(last.map(|page| page.to_text()));
        if options.selector.is_empty() {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    let objects: Vec<Object> = admitted.into_iter().map(|(_, object)| object).collect();
    shape.list(&objects, metadata)
}
