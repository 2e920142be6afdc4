//! Create, update and patch.

use super::State;
use super::apply;
use super::decode::{decode, decode_patched};
use super::fields::applied_fields;
use super::kinds::Kind;
use super::managed::{self, Applied, Manager};
use super::members::{fill, list, set};
use super::patch::{self, Format};
use super::refusal::{Cause, Refusal};
use super::request::{Query, Target};
use super::rules;
use super::shape::Shape;
use super::store::{Key, Object, Stored};
use crate::embedded::kube_time;
use crate::model::Timestamp;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// The API server's limit for the name of a field manager.
const MANAGER_MAX: usize = 128;
/// Stands for a writer that does not say who it is.
const MANAGER_UNKNOWN: &str = "unknown";

/// How something is to be written.
#[derive(Debug, Clone)]
pub(super) struct WriteOptions {
    manager: String,
    /// Somebody gave the manager's name; server-side apply needs that.
    names_manager: bool,
    pub(super) is_dry_run: bool,
    is_forced: bool,
    /// Unknown fields are an error.
    pub(super) is_strict: bool,
}

impl WriteOptions {
    pub(super) fn new(query: &Query, user_agent: &str) -> Self {
        let given = query.get("fieldManager").filter(|name| !name.is_empty());
        let agent = user_agent.split('/').next().filter(|name| !name.is_empty());
        let manager = given.or(agent).unwrap_or(MANAGER_UNKNOWN);
        Self {
            manager: manager.chars().take(MANAGER_MAX).collect(),
            names_manager: given.is_some(),
            is_dry_run: query.get("dryRun") == Some("All"),
            is_forced: query.is_true("force"),
            is_strict: query.get("fieldValidation") == Some("Strict"),
        }
    }

    fn manager(&self, target: &Target, is_apply: bool) -> Manager {
        Manager {
            name: self.manager.clone(),
            is_apply,
            subresource: target.subresource.clone(),
            applied: None,
        }
    }
}

/// What a POST answers.
pub(super) enum Created {
    /// The object.
    Object(Object),
    /// Something that is not stored.
    Answer(Value),
}

impl Created {
    /// Returns the answer as JSON.
    pub(super) fn shown(&self, shape: &Shape) -> String {
        match self {
            Self::Object(object) => shape.text(object),
            Self::Answer(answer) => answer.to_string(),
        }
    }
}

impl State {
    /// Carries out a POST.
    pub(super) fn create(
        &mut self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Created, Refusal> {
        match target.subresource.as_str() {
            "" if target.name.is_empty() => {
                let manager = options.manager(target, false);
                let object = self.create_object(target, body, (&manager, options))?;
                Ok(Created::Object(object))
            }
            "token" => {
                let target = target.object();
                self.issue_token(&target, body).map(Created::Answer)
            }
            "binding" => self.bind(target, &body).map(Created::Answer),
            "eviction" => self.evict(target, &body).map(Created::Answer),
            _ => Err(Refusal::method_not_allowed()),
        }
    }

    fn create_object(
        &mut self,
        target: &Target,
        body: Value,
        (manager, options): (&Manager, &WriteOptions),
    ) -> Result<Object, Refusal> {
        let kind = target.kind;
        let now = (self.now)();
        let mut object = decode(kind, body, options.is_strict)?;
        fit_namespace(target, &mut object)?;
        let version = &object["metadata"]["resourceVersion"];
        if version.as_str().is_some_and(|version| !version.is_empty()) {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::without_reason(message));
        }
        let name = self.name_new(&mut object);
        self.check_namespace_takes(target, &name)?;
        let uid = self.seeded.uid();
        make_new(kind, &mut object, (uid, now));
        rules::label_namespace(kind, &mut object);
        rules::default(kind, &mut object);
        managed::after_write(kind, None, &mut object, (manager, now));
        rules::prepare_create(kind, &mut object, now);
        refuse_if_any(kind, &name, &rules::validate((kind, ""), &object, None))?;
        let key = Key::new(kind, target.namespace.as_deref(), &name);
        if self.store.get(&key).is_some() {
            return Err(Refusal::already_exists(kind, &name));
        }
        self.count_in_quotas(kind, &object, options.is_dry_run)?;
        if options.is_dry_run {
            return Ok(Stored::new(object));
        }
        let made = self.store.put(key.clone(), object)?;
        self.note_made(&key, &made);
        Ok(made)
    }

    /// Makes up a name where only its beginning is given; an object without either is refused later.
    fn name_new(&mut self, object: &mut Value) -> String {
        let metadata = &mut object["metadata"];
        let text = |name: &str| metadata[name].as_str().filter(|text| !text.is_empty());
        let name = match (text("name"), text("generateName")) {
            (Some(name), _) => name.to_owned(),
            (None, Some(prefix)) => self.seeded.name(prefix),
            (None, None) => {
                set(metadata, "name", None);
                return String::new();
            }
        };
        metadata["name"] = json!(name);
        name
    }

    /// Nothing is made in a namespace that is not there or is going.
    fn check_namespace_takes(&self, target: &Target, name: &str) -> Result<(), Refusal> {
        let Some(namespace) = &target.namespace else {
            return Ok(());
        };
        let namespaces = super::kinds::namespace_kind();
        let Some(found) = self.store.get(&Key::new(namespaces, None, namespace)) else {
            return Err(Refusal::not_found(namespaces, namespace));
        };
        if found["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let problem = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let cause = json!({
            "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        });
        let mut refusal = Refusal::forbidden(target.kind, name, &problem);
        if let Some(details) = &mut refusal.details {
            details["causes"] = json!([cause]);
        }
        Err(refusal)
    }

    /// Carries out a PUT.
    pub(super) fn update(
        &mut self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Object, Refusal> {
        let mut new = decode(target.kind, body, options.is_strict)?;
        fit_namespace(target, &mut new)?;
        check_name(target, &new)?;
        let old = self.find(target)?;
        let metadata = &new["metadata"];
        let given = |name: &str| metadata[name].as_str().filter(|text| !text.is_empty());
        if given("resourceVersion").is_none() && target.kind.is_custom() {
            return Err(Refusal::no_version(target.kind, &target.name));
        }
        if let Some(uid) = given("uid")
            && old["metadata"]["uid"] != *uid
        {
            let found = old["metadata"]["uid"].as_str().unwrap_or_default();
            let problem = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
            );
            return Err(Refusal::conflict(target.kind, &target.name, &problem));
        }
        let manager = options.manager(target, false);
        self.replace(target, (&old, new), (&manager, options))
    }

    /// Carries out a PATCH.
    pub(super) fn patch(
        &mut self,
        target: &Target,
        (content_type, body): (&str, &[u8]),
        options: &WriteOptions,
    ) -> Result<(StatusCode, Object), Refusal> {
        let format = Format::of(content_type, target.kind)?;
        if format == Format::Apply {
            return self.server_side_apply(target, body, options);
        }
        let old = self.find(target)?;
        let patched = patch::apply(format, &old, body)?;
        let mut patched = decode_patched(target.kind, patched, options.is_strict)?;
        fit_namespace(target, &mut patched)?;
        check_name(target, &patched)?;
        let manager = options.manager(target, false);
        let patched = self.replace(target, (&old, patched), (&manager, options))?;
        Ok((StatusCode::OK, patched))
    }

    /// Carries out a server-side apply, which creates what is not there.
    fn server_side_apply(
        &mut self,
        target: &Target,
        body: &[u8],
        options: &WriteOptions,
    ) -> Result<(StatusCode, Object), Refusal> {
        if !options.names_manager {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(Refusal::invalid_options("PatchOptions", cause));
        }
        let config = patch::yaml(body)?;
        if config["kind"] != target.kind.kind || config["apiVersion"] != target.kind.api_version() {
            let text = |name: &str| config[name].as_str().unwrap_or_default();
            let found = format!("{}, Kind={}", text("apiVersion"), text("kind"));
            return Err(Refusal::bad_request(format!(
                "invalid object type: {found}"
            )));
        }
        let mut manager = options.manager(target, true);
        let Some(old) = self.store.get(&target.key()).cloned() else {
            if !target.subresource.is_empty() {
                return Err(Refusal::not_found(target.kind, &target.name));
            }
            let mut config = config;
            config["metadata"]["name"] = json!(target.name);
            manager.applied = Some(Applied {
                fields: applied_fields(target.kind, &config),
                ..Applied::default()
            });
            let created = self.create_object(target, config, (&manager, options))?;
            return Ok((StatusCode::CREATED, created));
        };
        let (applied, fields) =
            apply::apply(target.kind, &old, (&config, &manager), options.is_forced)?;
        manager.applied = Some(fields);
        let applied = decode(target.kind, applied, options.is_strict)?;
        let applied = self.replace(target, (&old, applied), (&manager, options))?;
        Ok((StatusCode::OK, applied))
    }

    /// Puts `new` in the place of `old`, as far as the subresource reaches.
    pub(super) fn replace(
        &mut self,
        target: &Target,
        (old, new): (&Object, Value),
        (manager, options): (&Manager, &WriteOptions),
    ) -> Result<Object, Refusal> {
        let kind = target.kind;
        let mut new = new;
        let version = &new["metadata"]["resourceVersion"];
        if version.as_str().is_some_and(|version| {
            !version.is_empty() && old["metadata"]["resourceVersion"] != *version
        }) {
            return Err(Refusal::modified(kind, &target.name));
        }
        keep_what_the_server_owns(old, &mut new);
        rules::prepare_update(target, old, &mut new);
        let causes = rules::validate((kind, &target.subresource), &new, Some(old));
        refuse_if_any(kind, &target.name, &causes)?;
        self.check_resize(target, old, &new)?;
        if kind.has_generation && is_spec_changed(old, &new) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            new["metadata"]["generation"] = json!(generation + 1);
        }
        managed::after_write(kind, Some(old), &mut new, (manager, (self.now)()));
        if ***old == new {
            return Ok(Arc::clone(old));
        }
        if options.is_dry_run {
            return Ok(Stored::new(new));
        }
        if is_let_go(kind, &new) {
            return Ok(self.store.remove(target.key(), new));
        }
        self.store.put(target.key(), new)
    }
}

/// Returns true when nothing keeps an object any more that is being deleted.
fn is_let_go(kind: &Kind, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let grace_secs = metadata["deletionGracePeriodSeconds"].as_i64();
    // A namespace has finalizers in its spec, too.
    let has_content = kind.is("Namespace") && !list(&object["spec"], "finalizers").is_empty();
    !metadata["deletionTimestamp"].is_null()
        && list(metadata, "finalizers").is_empty()
        && grace_secs.unwrap_or(0) == 0
        && !has_content
}

pub(super) fn refuse_if_any(kind: &Kind, name: &str, causes: &[Cause]) -> Result<(), Refusal> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(Refusal::invalid(kind, name, causes))
}

/// Takes over the namespace of the request.
fn fit_namespace(target: &Target, object: &mut Value) -> Result<(), Refusal> {
    let metadata = &mut object["metadata"];
    let own = metadata["namespace"].as_str().unwrap_or_default();
    let wanted = target.namespace.as_deref().unwrap_or_default();
    if target.kind.is_namespaced && wanted.is_empty() {
        return Err(Refusal::method_not_allowed());
    }
    if !own.is_empty() && own != wanted {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let wanted = target.namespace.as_ref().map(|namespace| json!(namespace));
    set(metadata, "namespace", wanted);
    Ok(())
}

fn check_name(target: &Target, object: &Value) -> Result<(), Refusal> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if name == target.name {
        return Ok(());
    }
    Err(Refusal::bad_request(format!(
        "the name of the object ({name}) does not match the name on the URL ({})",
        target.name
    )))
}

/// Writes what makes an object a new one.
fn make_new(kind: &Kind, object: &mut Value, (uid, now): (String, Timestamp)) {
    const OF_THE_OLD: [&str; 6] = [
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "generation",
        "selfLink",
    ];
    let metadata = &mut object["metadata"];
    for name in OF_THE_OLD {
        set(metadata, name, None);
    }
    metadata["uid"] = json!(uid);
    metadata["creationTimestamp"] = json!(kube_time(now));
    if kind.has_generation {
        metadata["generation"] = json!(1);
    }
}

/// A uid is compared, not kept: whoever names another one means another object.
fn keep_what_the_server_owns(old: &Value, new: &mut Value) {
    const KEPT: [&str; 5] = [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ];
    let (old, new) = (&old["metadata"], &mut new["metadata"]);
    for name in KEPT {
        set(new, name, old.get(name).cloned());
    }
    fill(new, "uid", old["uid"].clone());
}

/// Everything but metadata and status counts.
fn is_spec_changed(old: &Value, new: &Value) -> bool {
    !spec_of(old).eq(spec_of(new))
}

fn spec_of(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let members = object.as_object().into_iter().flatten();
    members.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
}
