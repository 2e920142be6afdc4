//! Settings of policies: from a JSON value, with the key of every mistake.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Holds a span of time, written as people write it: `60s`, `5m`, `1h 30m`.
///
/// Units: milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(u64);

impl HumanDuration {
    /// Returns a span of `ms` milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Returns the span in milliseconds.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(Duration::from_millis(self.0)))
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = humantime::parse_duration(&text).map_err(|error| {
            D::Error::custom(format!("`{text}` is not a duration such as `60s`: {error}"))
        })?;
        Ok(Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "a duration such as 60s, 5m or 1h 30m",
        })
    }
}

/// Reads settings; absent ones (`null`) are the default.
///
/// # Errors
///
/// One line with all mistakes, each with its key.
pub fn parse<T: DeserializeOwned + Default>(settings: &Value) -> Result<T, String> {
    if settings.is_null() {
        return Ok(T::default());
    }
    let error = match serde_json::from_value(settings.clone()) {
        Ok(settings) => return Ok(settings),
        Err(error) => error.to_string(),
    };
    let Some(entries) = settings.as_object() else {
        return Err(format!("expected a mapping: {error}"));
    };
    // Every setting has a default, so each key can be tried alone: that finds them all, with their names.
    let problems: Vec<String> = entries
        .iter()
        .filter_map(|(key, value)| {
            let alone = Value::Object([(key.clone(), value.clone())].into_iter().collect());
            let error = serde_json::from_value::<T>(alone).err()?;
            Some(format!("{key}: {error}"))
        })
        .collect();
    Err(if problems.is_empty() {
        error
    } else {
        problems.join("; ")
    })
}

/// Returns settings as a value.
#[must_use]
pub fn value_of<T: Serialize + Default>() -> Value {
    serde_json::to_value(T::default()).unwrap_or_default()
}

/// Returns the JSON Schema of settings.
#[must_use]
pub fn schema_of<T: JsonSchema>() -> Schema {
    schemars::schema_for!(T)
}

#[cfg(test)]
mod tests {
    use super::{HumanDuration, parse};
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize, Default, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        after: Option<HumanDuration>,
        count: u32,
    }

    #[test]
    fn every_mistake_is_named_with_its_key() {
        let error = parse::<Sample>(&json!({"after": "soon", "count": -1, "cuont": 2}))
            .expect_err("three mistakes");
        for part in [
            "after: `soon` is not a duration",
            "count: invalid value",
            "cuont: unknown field",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(
            parse::<Sample>(&json!(3))
                .expect_err("a number")
                .contains("mapping")
        );
    }

    #[test]
    fn durations_are_written_as_people_write_them() {
        let sample: Sample = parse(&json!({"after": "1m 30s"})).expect("valid");
        assert_eq!(sample.after.map(HumanDuration::as_ms), Some(90_000));
        let text = serde_json::to_value(HumanDuration::from_ms(90_000)).expect("text");
        assert_eq!(text, json!("1m 30s"));
        assert_eq!(
            parse::<Sample>(&json!(null)).expect("default"),
            Sample::default()
        );
    }
}
