//! Deletion: at once, after a grace period, or when the last finalizer is gone.

use super::State;
use super::kinds::Kind;
use super::read::ListOptions;
use super::refusal::Refusal;
use super::request::{Query, Target};
use super::shape::Shape;
use super::store::Object;
use crate::embedded::kube_time;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// What a DELETE answers.
pub(super) enum Deleted {
    /// The object as it was, or as it waits.
    Object(Object),
    /// It is gone; that is all there is to say.
    Gone(Value),
}

impl Deleted {
    pub(super) const fn status(&self) -> StatusCode {
        StatusCode::OK
    }

    pub(super) fn shown(&self, shape: &Shape) -> Value {
        match self {
            Self::Object(object) => shape.one(object),
            Self::Gone(status) => status.clone(),
        }
    }
}

/// How something is to be deleted.
struct DeleteOptions {
    grace_secs: Option<i64>,
    uid: Option<String>,
    version: Option<String>,
    /// The finalizer that keeps the object until its dependents are gone or let go.
    finalizer: Option<&'static str>,
    is_dry_run: bool,
}

impl DeleteOptions {
    /// The body goes before the query.
    fn new(body: &Value, query: &Query) -> Self {
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
    ) -> Result<Value, Refusal> {
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

    pub(super) fn evict(&mut self, target: &Target, body: &Value) -> Result<Value, Refusal> {
        let options = DeleteOptions::new(&body["deleteOptions"], &Query::default());
        self.delete_object(&target.object(), &options)?;
        Ok(
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
        )
    }

    fn delete_object(
        &mut self,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Deleted, Refusal> {
        let old = self.find(target)?;
        check_preconditions(target, &old, options)?;
        let mut new = (*old).clone();
        if let Some(finalizer) = options.finalizer {
            add_finalizer(&mut new, finalizer);
        }
        let grace_secs = grace_of(target.kind, &old, options.grace_secs);
        let has_finalizers = new["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        let has_content = target.kind.is("Namespace") && new["spec"]["finalizers"][0].is_string();
        if grace_secs == 0 && !has_finalizers && !has_content {
            return Ok(self.remove(target, &old, options));
        }
        if !is_sooner(&old, grace_secs) {
            return Ok(Deleted::Object(old));
        }
        let at = (self.now)().plus_ms(u64::try_from(grace_secs).unwrap_or(0) * 1000);
        let metadata = &mut new["metadata"];
        let is_first = metadata["deletionTimestamp"].is_null();
        metadata["deletionTimestamp"] = json!(kube_time(at));
        metadata["deletionGracePeriodSeconds"] = json!(grace_secs);
        if let (true, Some(generation)) = (is_first, metadata["generation"].as_i64()) {
            metadata["generation"] = json!(generation + 1);
        }
        if target.kind.is("Namespace") {
            new["status"]["phase"] = json!("Terminating");
            if let Some(metadata) = new["metadata"].as_object_mut() {
                metadata.remove("deletionGracePeriodSeconds");
            }
        }
        if options.is_dry_run {
            return Ok(Deleted::Object(Arc::new(new)));
        }
        self.store.put(target.key(), new).map(Deleted::Object)
    }

    fn remove(&mut self, target: &Target, old: &Object, options: &DeleteOptions) -> Deleted {
        let mut last = (**old).clone();
        if target.kind.is("Pod") {
            last["metadata"]["deletionTimestamp"] = json!(kube_time((self.now)()));
            last["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        }
        let last = if options.is_dry_run {
            Arc::new(last)
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
        ("UID", "uid", &options.uid),
        ("ResourceVersion", "resourceVersion", &options.version),
    ];
    for (word, member, wanted) in rows {
        let found = old["metadata"][member].as_str().unwrap_or_default();
        if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
            let problem = format!(
                "Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {found}"
            );
            return Err(Refusal::conflict(target.kind, &target.name, &problem));
        }
    }
    Ok(())
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let finalizers = &mut object["metadata"]["finalizers"];
    if finalizers.is_null() {
        *finalizers = json!([]);
    }
    if let Some(all) = finalizers.as_array_mut()
        && !all.iter().any(|one| one == finalizer)
    {
        all.push(json!(finalizer));
    }
}

/// Only pods have time to end, and only those that a kubelet runs.
fn grace_of(kind: &Kind, object: &Value, asked: Option<i64>) -> i64 {
    if !kind.is("Pod") {
        return 0;
    }
    let is_over = matches!(
        object["status"]["phase"].as_str(),
        Some("Failed" | "Succeeded")
    );
    if object["spec"]["nodeName"]
        .as_str()
        .is_none_or(str::is_empty)
        || is_over
    {
        return 0;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64();
    // A negative one means one second, as for the API server.
    match asked.or(own).unwrap_or(30) {
        negative @ ..0 => negative.signum().abs(),
        secs => secs,
    }
}

/// A deletion under way can be shortened, not put off.
fn is_sooner(old: &Value, grace_secs: i64) -> bool {
    let metadata = &old["metadata"];
    match metadata["deletionGracePeriodSeconds"].as_i64() {
        Some(before) => grace_secs < before,
        None => metadata["deletionTimestamp"].is_null(),
    }
}
