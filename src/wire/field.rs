//! Reads a JSON value field by field, and says exactly where it went wrong.
//!
//! # Why
//!
//! serde's derive stops at the first bad field of the whole object and does not say which group it
//! was in. One group that cannot be understood must not stop the others, and whoever wrote it
//! wants the path, the value, and what would be accepted.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

/// Longest value shown in an error, in characters: enough to recognise it in a manifest.
const SHOWN_CHARS_MAX: usize = 80;

/// Names a field that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path} is {value}; accepted: {accepted}")]
pub struct FieldError {
    /// Where it stands: `spec.workerGroupSpecs[2].replicas`.
    pub path: String,
    /// What stands there, shortened; `absent` when nothing does.
    pub value: String,
    /// What would be accepted.
    pub accepted: &'static str,
}

/// Holds one value and its path.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    value: &'a Value,
    path: String,
}

/// Carries what was read, or the field that could not be.
pub(crate) type Read<T> = Result<T, FieldError>;

impl<'a> Field<'a> {
    /// Returns the outermost value; `path` is empty for a whole object.
    pub(crate) fn root(value: &'a Value, path: &str) -> Self {
        Self {
            value,
            path: path.to_owned(),
        }
    }

    /// Returns the JSON itself.
    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// Returns the member `key`; `None` when it is absent or null.
    pub(crate) fn member(&self, key: &str) -> Read<Option<Self>> {
        let members = self
            .value
            .as_object()
            .ok_or_else(|| self.error("an object"))?;
        Ok(members
            .get(key)
            .filter(|value| !value.is_null())
            .map(|value| Self {
                value,
                path: join(&self.path, key),
            }))
    }

    /// Returns the member `key` as `read` understands it; `None` when it is absent or null.
    pub(crate) fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Self) -> Read<T>,
    ) -> Read<Option<T>> {
        self.member(key)?.as_ref().map(read).transpose()
    }

    /// Returns the member `key` as `read` understands it; an absent one is an error.
    pub(crate) fn required<T>(&self, key: &str, read: impl FnOnce(&Self) -> Read<T>) -> Read<T> {
        self.optional(key, read)?.ok_or_else(|| FieldError {
            path: join(&self.path, key),
            value: "absent".to_owned(),
            accepted: "a value",
        })
    }

    /// Returns the member `key` as `read` understands it; the default when it is absent or null.
    pub(crate) fn or_default<T: Default>(
        &self,
        key: &str,
        read: impl FnOnce(&Self) -> Read<T>,
    ) -> Read<T> {
        Ok(self.optional(key, read)?.unwrap_or_default())
    }

    /// Returns the elements of a list.
    pub(crate) fn elements(&self) -> Read<Vec<Self>> {
        let elements = self.value.as_array().ok_or_else(|| self.error("a list"))?;
        let at = |(index, value)| Self {
            value,
            path: format!("{}[{index}]", self.path),
        };
        Ok(elements.iter().enumerate().map(at).collect())
    }

    /// Returns every element of a list as `read` understands it.
    pub(crate) fn list<T>(&self, read: impl Fn(&Self) -> Read<T>) -> Read<Vec<T>> {
        self.elements()?.iter().map(read).collect()
    }

    /// Returns a text.
    pub(crate) fn text(&self) -> Read<String> {
        let text = self.value.as_str().ok_or_else(|| self.error("a text"))?;
        Ok(text.to_owned())
    }

    /// Returns a text; a number or a flag is taken as it is written.
    pub(crate) fn scalar(&self) -> Read<String> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(self.value.to_string()),
            _ => Err(self.error("a text or a number")),
        }
    }

    /// Returns a whole number; a text that holds one and a float without fraction will do.
    pub(crate) fn whole(&self) -> Read<i64> {
        let from_float = |value: f64| {
            // The text of a whole float is its exact value, and parsing refuses what is too large.
            (value.fract() == 0.0)
                .then(|| format!("{value:.0}").parse().ok())
                .flatten()
        };
        let number = match self.value {
            Value::Number(number) => number
                .as_i64()
                .or_else(|| number.as_f64().and_then(from_float)),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.error("a whole number"))
    }

    /// Returns a flag; the texts `true` and `false` will do.
    pub(crate) fn flag(&self) -> Read<bool> {
        match self.value {
            Value::Bool(flag) => Ok(*flag),
            Value::String(text) if text == "true" => Ok(true),
            Value::String(text) if text == "false" => Ok(false),
            _ => Err(self.error("true or false")),
        }
    }

    /// Returns a map of texts; members that are null are left out.
    pub(crate) fn scalars(&self) -> Read<BTreeMap<String, String>> {
        let members = self
            .value
            .as_object()
            .ok_or_else(|| self.error("an object"))?;
        let mut map = BTreeMap::new();
        for key in members.keys() {
            if let Some(text) = self.optional(key, Self::scalar)? {
                map.insert(key.clone(), text);
            }
        }
        Ok(map)
    }

    /// Returns the error that this value is not what is `accepted`.
    pub(crate) fn error(&self, accepted: &'static str) -> FieldError {
        let mut value = self.value.to_string();
        if let Some((end, _)) = value.char_indices().nth(SHOWN_CHARS_MAX) {
            value.truncate(end);
            value.push('…');
        }
        FieldError {
            path: if self.path.is_empty() {
                "the object".to_owned()
            } else {
                self.path.clone()
            },
            value,
            accepted,
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Field;

    fn whole(value: &Value) -> Option<i64> {
        Field::root(value, "x").whole().ok()
    }

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        let cases = [
            (json!(3), Some(3)),
            (json!(-3), Some(-3)),
            (json!("3"), Some(3)),
            (json!(3.0), Some(3)),
            (json!(3.5), None),
            (json!(1e300), None),
            (json!(u64::MAX), None),
            (json!("three"), None),
            (json!(true), None),
            (json!([3]), None),
        ];
        for (value, expected) in cases {
            assert_eq!(whole(&value), expected, "{value}");
        }
    }

    #[test]
    fn an_error_names_path_value_and_what_is_accepted() {
        let object = json!({"a": [{"b": "x".repeat(500)}]});
        let root = Field::root(&object, "");
        let b = root.member("a").unwrap().unwrap().elements().unwrap()[0]
            .required("b", Field::whole)
            .unwrap_err();
        assert_eq!(b.path, "a[0].b");
        assert!(b.value.chars().count() == 81 && b.to_string().contains("a whole number"));
        assert_eq!(
            root.required("c", Field::text).unwrap_err().to_string(),
            "c is absent; accepted: a value"
        );
        assert_eq!(
            Field::root(&json!(7), "")
                .member("a")
                .unwrap_err()
                .to_string(),
            "the object is 7; accepted: an object"
        );
    }
}
