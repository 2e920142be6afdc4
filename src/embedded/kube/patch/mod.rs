//! The formats of a PATCH and what each makes of an object.

mod json;
mod merge;
mod strategic;

use super::kinds::Kind;
use super::refusal::Refusal;
use serde_json::Value;

/// More operations than this are refused unread.
const OPERATIONS_MAX: usize = 10_000;

/// Which format a PATCH has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Format {
    /// Reads `Content-Type`.
    pub(super) fn of(content_type: &str, kind: &Kind) -> Result<Self, Refusal> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        match media_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" if !kind.is_custom() => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(Refusal::unsupported_patch(kind)),
        }
    }
}

/// Returns the object with the patch applied; not for server-side apply, which needs to know who owns what.
pub(super) fn apply(format: Format, object: &Value, patch: &[u8]) -> Result<Value, Refusal> {
    let unreadable =
        |error: serde_json::Error| Refusal::bad_request(format!("error decoding patch: {error}"));
    let patch: Value = serde_json::from_slice(patch).map_err(unreadable)?;
    match format {
        Format::Json => {
            let operations = patch.as_array().ok_or_else(|| {
                Refusal::bad_request("error decoding patch: a JSON Patch is a list of operations")
            })?;
            if operations.len() > OPERATIONS_MAX {
                return Err(Refusal::too_many_operations(operations.len()));
            }
            json::apply(object, operations).ok_or_else(Refusal::unspecific_invalid)
        }
        Format::Merge | Format::Apply | Format::Strategic if !patch.is_object() => Err(
            Refusal::bad_request("error decoding patch: a patch is an object"),
        ),
        Format::Strategic => Ok(strategic::apply(object, &patch)),
        Format::Merge | Format::Apply => Ok(merge::apply(object, &patch)),
    }
}

/// Reads YAML, of which JSON is a part.
pub(super) fn yaml(text: &[u8]) -> Result<Value, Refusal> {
    let unreadable =
        |problem: String| Refusal::bad_request(format!("error decoding YAML: {problem}"));
    let text = std::str::from_utf8(text).map_err(|error| unreadable(error.to_string()))?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| unreadable(error.to_string()));
    }
    serde_saphyr::from_str(text).map_err(|error| unreadable(error.to_string()))
}
