//! What the API server answers when it does not do what was asked: a `Status` object with a reason.

use super::kinds::{Kind, with_group};
use http::StatusCode;
use serde_json::{Value, json};

/// The patch formats, as the API server lists them.
const CUSTOM_PATCHES: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
const PATCHES: &str = "application/json-patch+json, application/merge-patch+json, \
     application/strategic-merge-patch+json, application/apply-patch+yaml";

/// An answer other than success.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) details: Option<Value>,
}

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    /// The machine's word, such as `FieldValueInvalid`.
    pub(super) reason: &'static str,
    /// What is wrong, without the field.
    pub(super) message: String,
    /// The path of the field.
    pub(super) field: String,
}

impl Cause {
    pub(super) fn required(field: &str, hint: &str) -> Self {
        let hint = if hint.is_empty() {
            String::new()
        } else {
            format!(": {hint}")
        };
        Self::new("FieldValueRequired", field, format!("Required value{hint}"))
    }

    /// The value is shown as JSON.
    pub(super) fn invalid(field: &str, value: &Value, problem: &str) -> Self {
        Self::new(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {value}: {problem}"),
        )
    }

    pub(super) fn too_long(field: &str, bytes_max: impl std::fmt::Display) -> Self {
        let message = format!("Too long: may not be more than {bytes_max} bytes");
        Self::new("FieldValueTooLong", field, message)
    }

    pub(super) fn unsupported(field: &str, value: &Value, supported: &[String]) -> Self {
        let supported = supported.join(", ");
        Self::new(
            "FieldValueNotSupported",
            field,
            format!("Unsupported value: {value}: supported values: {supported}"),
        )
    }

    pub(super) fn forbidden(field: &str, problem: &str) -> Self {
        Self::new(
            "FieldValueForbidden",
            field,
            format!("Forbidden: {problem}"),
        )
    }

    fn to_value(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }

    pub(super) fn new(reason: &'static str, field: &str, message: String) -> Self {
        Self {
            reason,
            message,
            field: field.to_owned(),
        }
    }
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
            details: None,
        }
    }

    /// Adds which object it is about.
    fn about(self, kind: &Kind, name: &str) -> Self {
        self.with_details(about(kind.group, kind.plural, name))
    }

    pub(super) fn with_details(self, details: Value) -> Self {
        let details = Some(details);
        Self { details, ..self }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.qualified());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    /// The path names no resource.
    pub(super) fn no_such_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).with_details(json!({}))
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
            .with_details(json!({}))
    }

    pub(super) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.qualified());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    pub(super) fn conflict(kind: &Kind, name: &str, problem: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {problem}",
            kind.qualified()
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    /// A conflict about a subresource.
    pub(super) fn conflict_on(resource: &str, name: &str, problem: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {problem}");
        Self::new(StatusCode::CONFLICT, "Conflict", message).with_details(about("", resource, name))
    }

    /// A precondition of a deletion, which is told by the kind.
    pub(super) fn precondition(kind: &Kind, name: &str, problem: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {problem}",
            kind.qualified_kind()
        );
        let details = about(kind.group, kind.kind, name);
        Self::new(StatusCode::CONFLICT, "Conflict", message).with_details(details)
    }

    /// A write with an old resourceVersion.
    pub(super) fn modified(kind: &Kind, name: &str) -> Self {
        let problem = "the object has been modified; \
                       please apply your changes to the latest version and try again";
        Self::conflict(kind, name, problem)
    }

    /// Fields that others manage.
    pub(super) fn apply_conflict(message: String, causes: Vec<Value>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message).with_details(json!({"causes": causes}))
    }

    pub(super) fn forbidden(kind: &Kind, name: &str, problem: &str) -> Self {
        Self::forbidden_on((kind.group, kind.plural), name, problem)
    }

    /// Does the same for a resource that may not be served.
    pub(super) fn forbidden_on((group, plural): (&str, &str), name: &str, problem: &str) -> Self {
        let name_shown = if name.is_empty() {
            String::new()
        } else {
            format!(" {name:?}")
        };
        let qualified = with_group(plural, group);
        let message = format!("{qualified}{name_shown} is forbidden: {problem}");
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
            .with_details(about(group, plural, name))
    }

    /// A path that is no resource, to somebody without the right to it.
    pub(super) fn forbidden_path(message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).with_details(json!({}))
    }

    pub(super) fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        let details = about(kind.group, kind.kind, name);
        Self::invalid_as(&kind.qualified_kind(), (name, details), causes)
    }

    /// The options of a request are wrong; `kind` is theirs.
    pub(super) fn invalid_options(kind: &str, cause: Cause) -> Self {
        let details = about("meta.k8s.io", kind, "");
        Self::invalid_as(&format!("{kind}.meta.k8s.io"), ("", details), &[cause])
    }

    /// A write that replaces has to name the version it replaces.
    pub(super) fn no_version(kind: &Kind, name: &str) -> Self {
        let problem = "must be specified for an update";
        let cause = Cause::invalid("metadata.resourceVersion", &json!(0), problem);
        let details = about(kind.group, kind.plural, name);
        Self::invalid_as(&kind.qualified(), (name, details), &[cause])
    }

    /// A patch makes no object of the kind.
    pub(super) fn invalid_patch(causes: &[Cause]) -> Self {
        Self::invalid_as("", ("", json!({})), causes)
    }

    fn invalid_as(kind: &str, (name, details): (&str, Value), causes: &[Cause]) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for cause in causes {
            let text = format!("{}: {}", cause.field, cause.message);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let problem = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{kind} {name:?} is invalid: {problem}");
        let mut details = details;
        details["causes"] = causes.iter().map(Cause::to_value).collect();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).with_details(details)
    }

    /// A patch that cannot be applied: the API server does not say why.
    pub(super) fn unspecific_invalid() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).with_details(json!({}))
    }

    pub(super) fn too_many_operations(count: usize) -> Self {
        let message = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got {count}"
        );
        let reason = "RequestEntityTooLarge";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, reason, message)
    }

    pub(super) fn body_too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        let reason = "RequestEntityTooLarge";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, reason, message)
    }

    /// What etcd says of an object beyond its limit; the API server passes it on.
    pub(super) fn object_too_large() -> Self {
        Self::without_reason("etcdserver: request is too large")
    }

    /// Errors that the API server has no word for.
    pub(super) fn without_reason(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    }

    pub(super) fn unsupported_patch(kind: &Kind) -> Self {
        let accepted = if kind.is_custom() {
            CUSTOM_PATCHES
        } else {
            PATCHES
        };
        Self::unsupported_media_type(accepted)
    }

    pub(super) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        let reason = "UnsupportedMediaType";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason, message)
    }

    pub(super) fn not_acceptable() -> Self {
        let message = "406: Not Acceptable\n\nAvailable representations: application/json";
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message).with_details(json!({}))
    }

    /// The version that a watch or list starts from is no longer known.
    pub(super) fn expired(asked: u64, oldest: u64) -> Self {
        let message = format!("too old resource version: {asked} ({oldest})");
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// The version of a list's next page is no longer known.
    pub(super) fn continue_expired() -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. \
             You can start a new list without the continue parameter.";
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// The version that was asked for lies ahead.
    pub(super) fn too_large_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let cause =
            json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
            .with_details(json!({"causes": [cause], "retryAfterSeconds": 1}))
    }

    /// Returns the `Status` object.
    pub(super) fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.status.as_u16(),
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

/// Returns the details that name an object; an empty name is left out.
fn about(group: &str, kind: &str, name: &str) -> Value {
    let mut details = json!({"kind": kind});
    if !name.is_empty() {
        details["name"] = json!(name);
    }
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    details
}
