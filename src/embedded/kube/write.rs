//! Create, update and patch.

use super::State;
use super::apply;
use super::kinds::Kind;
use super::managed::{self, Manager};
use super::patch::{self, Format};
use super::refusal::{Cause, Refusal};
use super::request::{Query, Target};
use super::rules::{self, decode};
use super::shape::Shape;
use super::store::{Key, Object};
use crate::embedded::kube_time;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// The API server's limit for the name of a field manager.
const MANAGER_MAX: usize = 128;
/// A patch is tried again on what somebody else wrote meanwhile; here nobody can.
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
    pub(super) fn shown(&self, shape: &Shape) -> Value {
        match self {
            Self::Object(object) => shape.one(object),
            Self::Answer(answer) => answer.clone(),
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
        let mut object = decode(kind, body, options.is_strict)?;
        self.fit_namespace(target, &mut object)?;
        if object["metadata"]["resourceVersion"]
            .as_str()
            .is_some_and(|it| !it.is_empty())
        {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::internal(message));
        }
        let name = self.name_new(kind, &mut object)?;
        self.check_namespace_takes(target, &name)?;
        let (now, uid) = (kube_time((self.now)()), self.seeded.uid());
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(uid);
        metadata["creationTimestamp"] = json!(now);
        if let Value::Object(members) = metadata {
            for absent in [
                "resourceVersion",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "managedFields",
                "generation",
                "selfLink",
            ] {
                members.remove(absent);
            }
        }
        if kind.has_generation {
            metadata["generation"] = json!(1);
        }
        rules::prepare_create(kind, &mut object);
        refuse_if_any(kind, &name, &rules::validate(kind, &object, None))?;
        let key = Key::new(kind, target.namespace.as_deref(), &name);
        if self.store.get(&key).is_some() {
            return Err(Refusal::already_exists(kind, &name));
        }
        managed::after_write(kind, None, &mut object, (manager, (self.now)()));
        if options.is_dry_run {
            return Ok(Arc::new(object));
        }
        self.store.put(key, object)
    }

    /// Takes over the namespace of the request.
    fn fit_namespace(&self, target: &Target, object: &mut Value) -> Result<(), Refusal> {
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
        if !wanted.is_empty() {
            metadata["namespace"] = json!(wanted);
        }
        Ok(())
    }

    fn name_new(&mut self, kind: &Kind, object: &mut Value) -> Result<String, Refusal> {
        let metadata = &mut object["metadata"];
        let text = |value: &Value| {
            value
                .as_str()
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let name = match (text(&metadata["name"]), text(&metadata["generateName"])) {
            (Some(name), _) => name,
            (None, Some(prefix)) => self.seeded.name(&prefix),
            (None, None) => {
                let cause = Cause::required("metadata.name", "name or generateName is required");
                return Err(Refusal::invalid(kind, "", &[cause]));
            }
        };
        metadata["name"] = json!(name);
        Ok(name)
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
        self.fit_namespace(target, &mut new)?;
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        if name != target.name {
            return Err(Refusal::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            )));
        }
        let old = self.find(target)?;
        let has_version = new["metadata"]["resourceVersion"]
            .as_str()
            .is_some_and(|it| !it.is_empty());
        if !has_version && target.kind.is_custom() {
            let problem = "must be specified for an update";
            let cause = Cause::invalid("metadata.resourceVersion", &json!(0), problem);
            let mut refusal = Refusal::invalid(target.kind, &target.name, &[cause]);
            refusal.message = refusal
                .message
                .replace("Invalid value: 0:", "Invalid value: 0x0:");
            return Err(refusal);
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
        let patched = decode(target.kind, patched, options.is_strict)?;
        let name = &patched["metadata"]["name"];
        if *name != *target.name {
            return Err(Refusal::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                name.as_str().unwrap_or_default(),
                target.name
            )));
        }
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
            let mut refusal = Refusal::invalid(target.kind, "", &[cause]);
            refusal.message = refusal.message.replacen(
                &target.kind.qualified_kind(),
                "PatchOptions.meta.k8s.io",
                1,
            );
            return Err(refusal);
        }
        let config = patch::yaml(body)?;
        let mut manager = options.manager(target, true);
        let Some(old) = self.store.get(&target.key()).cloned() else {
            if !target.subresource.is_empty() {
                return Err(Refusal::not_found(target.kind, &target.name));
            }
            let mut config = config;
            config["metadata"]["name"] = json!(target.name);
            manager.applied = Some(managed::applied_fields(target.kind, &config));
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
        check_identity(target, old, &new)?;
        keep_what_the_server_owns(old, &mut new);
        rules::prepare_update(target, old, &mut new)?;
        refuse_if_any(kind, &target.name, &rules::validate(kind, &new, Some(old)))?;
        self.check_resize(target, old, &new)?;
        if kind.has_generation && is_spec_changed(old, &new) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            new["metadata"]["generation"] = json!(generation + 1);
        }
        managed::after_write(kind, Some(old), &mut new, (manager, (self.now)()));
        if managed::is_same(old, &new) {
            return Ok(Arc::clone(old));
        }
        if options.is_dry_run {
            return Ok(Arc::new(new));
        }
        let metadata = &new["metadata"];
        let has_finalizers = metadata["finalizers"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        let is_waiting = metadata["deletionGracePeriodSeconds"]
            .as_i64()
            .is_some_and(|secs| secs > 0);
        if !metadata["deletionTimestamp"].is_null()
            && !has_finalizers
            && !is_waiting
            && is_removable(kind, &new)
        {
            return Ok(self.store.remove(target.key(), new));
        }
        self.store.put(target.key(), new)
    }
}

/// A namespace has finalizers in its spec, too.
fn is_removable(kind: &Kind, object: &Value) -> bool {
    let finalizers = object["spec"]["finalizers"].as_array();
    !kind.is("Namespace") || finalizers.is_none_or(Vec::is_empty)
}

pub(super) fn refuse_if_any(kind: &Kind, name: &str, causes: &[Cause]) -> Result<(), Refusal> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(Refusal::invalid(kind, name, causes))
}

/// Refuses writes that mean another object or another version of it.
fn check_identity(target: &Target, old: &Value, new: &Value) -> Result<(), Refusal> {
    let (old, new) = (&old["metadata"], &new["metadata"]);
    let given = |name: &str| new[name].as_str().filter(|text| !text.is_empty());
    if let Some(uid) = given("uid")
        && old["uid"] != *uid
    {
        let old = old["uid"].as_str().unwrap_or_default();
        let problem =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old}");
        return Err(Refusal::conflict(target.kind, &target.name, &problem));
    }
    if let Some(version) = given("resourceVersion")
        && old["resourceVersion"] != *version
    {
        return Err(Refusal::modified(target.kind, &target.name));
    }
    Ok(())
}

fn keep_what_the_server_owns(old: &Value, new: &mut Value) {
    let kept = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "namespace",
    ];
    for name in kept {
        match old["metadata"].get(name) {
            Some(value) => new["metadata"][name] = value.clone(),
            None => {
                if let Some(metadata) = new["metadata"].as_object_mut() {
                    metadata.remove(name);
                }
            }
        }
    }
}

/// Everything but metadata and status counts.
fn is_spec_changed(old: &Value, new: &Value) -> bool {
    let spec = |object: &Value| {
        let mut spec = object.clone();
        if let Some(members) = spec.as_object_mut() {
            members.remove("metadata");
            members.remove("status");
        }
        spec
    };
    spec(old) != spec(new)
}
