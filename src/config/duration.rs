//! Durations as people write them: `100ms`, `5s`, `1m 30s`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The keyword by which the schema marks a duration; JSON Schema's own format `duration` is ISO 8601.
pub(super) const FORMAT: &str = "x-format";

/// The value of [`FORMAT`] for a duration.
pub(super) const FORMAT_DURATION: &str = "humantime";

/// Holds a duration of the config file.
///
/// Units: whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(u64);

impl HumanDuration {
    /// Returns a duration of that many milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Returns a duration of that many seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Returns the milliseconds.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// Returns the same for timers.
    #[must_use]
    pub const fn as_std(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Returns the duration a text means, parts under a millisecond cut off.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let duration = humantime::parse_duration(text).ok()?;
        u64::try_from(duration.as_millis()).ok().map(Self)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.as_std()).fmt(f)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a duration"))
    }
}

impl JsonSchema for HumanDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-format": "humantime" })
    }
}

#[cfg(test)]
mod tests {
    use super::HumanDuration;

    #[test]
    fn durations_are_read_and_shown_as_people_write_them() {
        for (text, ms) in [
            ("100ms", 100),
            ("5s", 5_000),
            ("1m 30s", 90_000),
            ("2h", 7_200_000),
            ("0s", 0),
        ] {
            let duration = HumanDuration::parse(text).unwrap();
            assert_eq!(duration.as_ms(), ms);
            assert_eq!(duration.to_string(), text);
        }
        for text in ["5", "", "-1s", "soon", "99999999999999y"] {
            assert_eq!(HumanDuration::parse(text), None, "{text}");
        }
    }
}
