//! Deletion: at once, after a grace period, or when the last finalizer is gone.

use super::State;
use super::kinds::Kind;
use super::members::{fill, list, set};
use super::read::ListOptions;
use super::refusal::Refusal;
use super::request::{Query, Target};
use super::shape::Shape;
use super::store::{Object, Stored};
use crate::embedded::kube_time;
use crate::model::Timestamp;
use k8s_openapi::jiff;
use serde_json::{Value, json};

/// What a DELETE answers.
pub(super) enum Deleted {
    /// The object as it was, or as it waits.
    Object(Object),
    /// It is gone; that is all there is to say.
    Gone(Value),
}

impl Deleted {
    /// Returns the answer as JSON.
    pub(super) fn shown(&self, shape: &Shape) -> String {
        match self {
            Self::Object(object) => shape.text(object),
            Self::Gone(status) => status.to_string(),
        }
    }
}

/// How something is to be deleted.
pub(super) struct DeleteOptions {
    grace_secs: Option<i64>,
    uid: Option<String>,
    version: Option<String>,
    /// The finalizer that keeps the object until its dependents are gone or let go.
    finalizer: Option<&'static str>,
    is_dry_run: bool,
}

impl DeleteOptions {
    /// The body goes before the query.
    pub(super) fn new(body: &Value, query: &Query) -> Self {
        let of_query = |name: &str| query.get(name).map(str::to_owned);
        let text = |name: &str| {
            body[name]
                .as_str()
                .map(str::to_owned)
                .or_else(|| of_query(name))
        };
        let grace_secs = body["gracePeriodSeconds"].as_i64();
        let precondition = |name: &str| body["preconditions"][name].as_str().map(str::to_owned);
        Self {
            grace_secs: grace_secs.or_else(|| of_query("gracePeriodSeconds")?.parse().ok()),
            uid: precondition("uid"),
            version: precondition("resourceVersion"),
            finalizer: match text("propagationPolicy").as_deref() {
                Some("Foreground") => Some("foregroundDeletion"),
                Some("Orphan") => Some("orphan"),
                _ => None,
            },
            is_dry_run: body["dryRun"][0] == "All" || query.get("dryRun") == Some("All"),
        }
    }
}

impl State {
    /// Carries out a DELETE.
    pub(super) fn delete(
        &mut self,
        target: &Target,
        body: Value,
        query: &Query,
    ) -> Result<Deleted, Refusal> {
        if !target.subresource.is_empty() {
            return Err(Refusal::method_not_allowed());
        }
        self.delete_object(target, &DeleteOptions::new(&body, query))
    }

    /// Deletes every object of a collection that the selector admits, and lists them.
    pub(super) fn delete_collection(
        &mut self,
        target: &Target,
        options: &ListOptions,
        (body, query): (Value, &Query),
        shape: &Shape,
    ) -> Result<String, Refusal> {
        let scope = target.scope();
        let listed = self.store.list(&scope);
        let admitted = listed.filter(|(_, object)| options.selector.admits(object));
        let objects: Vec<(Target, Object)> = admitted
            .map(|(key, object)| {
                let namespace = (!key.namespace.is_empty()).then(|| key.namespace.clone());
                let name = key.name.clone();
                let target = Target {
                    namespace,
                    name,
                    ..target.clone()
                };
                (target, object.clone())
            })
            .collect();
        let version = self.store.version();
        let delete = DeleteOptions::new(&body, query);
        for (target, _) in &objects {
            self.delete_object(target, &delete)?;
        }
        let objects: Vec<Object> = objects.into_iter().map(|(_, object)| object).collect();
        Ok(shape.list(&objects, json!({"resourceVersion": version.to_string()})))
    }

    pub(super) fn delete_object(
        &mut self,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Deleted, Refusal> {
        let old = self.find(target)?;
        check_preconditions(target, &old, options)?;
        let mut new = (**old).clone();
        if let Some(finalizer) = options.finalizer {
            add_finalizer(&mut new, finalizer);
        }
        let has_finalizers = !list(&new["metadata"], "finalizers").is_empty();
        let has_content =
            target.kind.is("Namespace") && !list(&new["spec"], "finalizers").is_empty();
        let Some(grace_secs) = grace_of(target.kind, &old, options.grace_secs) else {
            // It is going already and nobody asks for more haste.
            return Ok(Deleted::Object(old));
        };
        if grace_secs == 0 && !has_finalizers && !has_content {
            return Ok(self.remove(target, &old, options));
        }
        self.mark(target, &mut new, grace_secs);
        if **old == new {
            return Ok(Deleted::Object(old));
        }
        if options.is_dry_run {
            return Ok(Deleted::Object(Stored::new(new)));
        }
        self.store.put(target.key(), new).map(Deleted::Object)
    }

    /// Writes into an object when it is to go.
    fn mark(&self, target: &Target, object: &mut Value, grace_secs: i64) {
        let now = (self.now)();
        let metadata = &mut object["metadata"];
        let before_secs = metadata["deletionGracePeriodSeconds"].as_i64();
        let asked_at = match (time_of(&metadata["deletionTimestamp"]), before_secs) {
            (Some(at), Some(secs)) => at.minus_ms(ms_of(secs)),
            _ => now,
        };
        if metadata["deletionTimestamp"].is_null() {
            bump_generation(metadata);
        }
        metadata["deletionTimestamp"] = json!(kube_time(asked_at.plus_ms(ms_of(grace_secs))));
        metadata["deletionGracePeriodSeconds"] = json!(grace_secs);
        if target.kind.is("Namespace") {
            set(metadata, "deletionGracePeriodSeconds", None);
            object["status"]["phase"] = json!("Terminating");
        }
    }

    fn remove(&mut self, target: &Target, old: &Object, options: &DeleteOptions) -> Deleted {
        let mut last = (***old).clone();
        if target.kind.is("Pod") {
            self.mark(target, &mut last, 0);
        }
        let last = if options.is_dry_run {
            Stored::new(last)
        } else {
            self.store.remove(target.key(), last)
        };
        if answers_with_object(target.kind) {
            return Deleted::Object(last);
        }
        let mut details =
            json!({"name": target.name, "kind": target.kind.plural, "uid": old["metadata"]["uid"]});
        if !target.kind.group.is_empty() {
            details["group"] = json!(target.kind.group);
        }
        Deleted::Gone(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        }))
    }
}

/// Some kinds answer with the object even when it is gone.
fn answers_with_object(kind: &Kind) -> bool {
    let kinds = ["Pod", "Service", "ServiceAccount", "PersistentVolumeClaim"];
    kinds.iter().any(|name| kind.is(name))
}

fn check_preconditions(
    target: &Target,
    old: &Value,
    options: &DeleteOptions,
) -> Result<(), Refusal> {
    let rows = [
        ("UID", "uid", "deleted and then recreated", &options.uid),
        (
            "ResourceVersion",
            "resourceVersion",
            "modified",
            &options.version,
        ),
    ];
    for (word, member, fate, wanted) in rows {
        let found = old["metadata"][member].as_str().unwrap_or_default();
        if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
            let problem = format!(
                "the {word} in the precondition ({wanted}) does not match the {word} in record ({found}). \
                 The object might have been {fate}"
            );
            return Err(Refusal::precondition(target.kind, &target.name, &problem));
        }
    }
    Ok(())
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let metadata = &mut object["metadata"];
    fill(metadata, "finalizers", json!([]));
    if let Some(all) = metadata["finalizers"].as_array_mut()
        && !all.iter().any(|one| one == finalizer)
    {
        all.push(json!(finalizer));
    }
}

fn bump_generation(metadata: &mut Value) {
    if let Some(generation) = metadata["generation"].as_i64() {
        metadata["generation"] = json!(generation + 1);
    }
}

fn ms_of(secs: i64) -> u64 {
    u64::try_from(secs).unwrap_or(0).saturating_mul(1000)
}

fn time_of(text: &Value) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.as_str()?.parse().ok()?;
    Some(Timestamp::from_ms(at.as_millisecond()))
}

/// Returns the seconds until an object may go; none when it is going already and keeps its time.
///
/// Only pods have time to end, and only those that a kubelet runs.
fn grace_of(kind: &Kind, object: &Value, asked: Option<i64>) -> Option<i64> {
    let metadata = &object["metadata"];
    let before = metadata["deletionGracePeriodSeconds"].as_i64();
    let asked = asked.map(|secs| secs.max(0));
    if !metadata["deletionTimestamp"].is_null() {
        return asked.filter(|secs| before.is_none_or(|before| *secs < before));
    }
    let phase = object["status"]["phase"].as_str();
    let is_bound = object["spec"]["nodeName"]
        .as_str()
        .is_some_and(|node| !node.is_empty());
    if !kind.is("Pod") || !is_bound || matches!(phase, Some("Failed" | "Succeeded")) {
        return Some(0);
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64();
    asked.or(own).or(Some(30))
}
