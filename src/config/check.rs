//! A file's tree checked against the JSON Schema of [`Config`](super::Config), and settings of policies
//! against that of their policy.
//!
//! Knows exactly the schema keywords our structs produce; a test keeps it so.

use serde_json::{Map, Value as Json};

use super::document::{Entry, Node, Value, join};
use super::duration::{FORMAT, FORMAT_DURATION, HumanDuration};
use super::error::{ConfigError, Place};
use super::suggest::closest;

/// Returns the document as JSON, what is wrong left out and put into `errors`.
pub(super) fn check(document: &Node, schema: &Json, errors: &mut Vec<ConfigError>) -> Json {
    let mut walk = Walk {
        errors,
        null_is_unset: true,
    };
    let value = walk.value(document, schema, "");
    value.unwrap_or_else(|| Json::Object(Map::new()))
}

/// Returns a part of the document as JSON in the same way; nothing in place of a value is a value there.
pub(super) fn check_part(
    node: &Node,
    schema: &Json,
    path: &str,
    errors: &mut Vec<ConfigError>,
) -> Option<Json> {
    let mut walk = Walk {
        errors,
        null_is_unset: false,
    };
    walk.value(node, schema, path)
}

struct Walk<'a> {
    errors: &'a mut Vec<ConfigError>,
    /// Whether a key without a value is as good as no key.
    null_is_unset: bool,
}

impl Walk<'_> {
    /// Returns the value as JSON; `None` when it is unset or wrong.
    fn value(&mut self, node: &Node, schema: &Json, path: &str) -> Option<Json> {
        let may_be_null = may_be_null(schema);
        let schema = without_null(schema);
        let at = Place::at(path, node.line);
        if matches!(node.value, Value::Null) {
            if may_be_null && !self.null_is_unset {
                return Some(Json::Null);
            }
            if self.null_is_unset && (!path.is_empty() || !is_type(schema, "object")) {
                return None;
            }
        }
        if let Some(words) = words(schema) {
            return self.word(node, &words, &at);
        }
        match type_of(schema) {
            Some("object") => self.map(node, schema, &at),
            Some("array") => self.list(node, schema, &at),
            Some("string") => self.text(node, schema, &at),
            Some("boolean") => match node.value {
                Value::Bool(value) => Some(Json::Bool(value)),
                _ => self.wrong(node, &at, &accepted(schema)),
            },
            Some("integer" | "number") => self.number(node, schema, &at),
            _ => to_json(node),
        }
    }

    fn wrong(&mut self, node: &Node, at: &Place<'_>, accepted: &str) -> Option<Json> {
        let problem = format!("found {}", node.value.describe());
        self.errors
            .push(ConfigError::new(at, problem).accepting(accepted));
        None
    }

    fn word(&mut self, node: &Node, words: &[&str], at: &Place<'_>) -> Option<Json> {
        let Value::Text(text) = &node.value else {
            return self.wrong(node, at, &words.join(", "));
        };
        if words.contains(&text.as_str()) {
            return Some(Json::String(text.clone()));
        }
        let problem = format!("unknown value `{text}`{}", meant(text, words));
        self.errors
            .push(ConfigError::new(at, problem).accepting(words.join(", ")));
        None
    }

    fn map(&mut self, node: &Node, schema: &Json, at: &Place<'_>) -> Option<Json> {
        let (no_entries, no_properties) = (Vec::new(), Map::new());
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::Null if self.null_is_unset => &no_entries,
            _ => return self.wrong(node, at, &accepted(schema)),
        };
        let of_others = schema.get("additionalProperties");
        let is_closed = of_others == Some(&Json::Bool(false));
        let properties = match schema.get("properties").and_then(Json::as_object) {
            Some(properties) => properties,
            None if is_closed => &no_properties,
            None => {
                return match of_others {
                    Some(of) if of.is_object() => Some(self.entries(entries, of, at)),
                    _ => to_json(node),
                };
            }
        };
        let mut map = Map::new();
        for entry in entries {
            let path = join(at.path, &entry.key);
            let value = match properties.get(&entry.key) {
                Some(schema) => self.value(&entry.node, schema, &path),
                None if is_closed => self.unknown(entry, &path, properties),
                None => to_json(&entry.node),
            };
            map.extend(value.map(|value| (entry.key.clone(), value)));
        }
        let required = self.required(entries, schema, at);
        // The top of the file has defaults for its own keys, so the rest can still be checked.
        let is_whole = at.path.is_empty() || required.iter().all(|key| map.contains_key(*key));
        is_whole.then_some(Json::Object(map))
    }

    /// Returns a map whose keys are free and whose values are alike.
    fn entries(&mut self, entries: &[Entry], of: &Json, at: &Place<'_>) -> Json {
        let values = entries.iter().filter_map(|entry| {
            let path = join(at.path, &entry.key);
            Some((entry.key.clone(), self.value(&entry.node, of, &path)?))
        });
        Json::Object(values.collect())
    }

    fn unknown(
        &mut self,
        entry: &Entry,
        path: &str,
        properties: &Map<String, Json>,
    ) -> Option<Json> {
        let keys: Vec<&str> = properties.keys().map(String::as_str).collect();
        let accepted = match keys.as_slice() {
            [] => "no settings".to_owned(),
            keys => keys.join(", "),
        };
        let problem = format!("unknown key{}", meant(&entry.key, &keys));
        let at = Place::at(path, entry.line);
        self.errors
            .push(ConfigError::new(&at, problem).accepting(accepted));
        None
    }

    /// Names the keys that must be there and are not; returns all that must be.
    fn required<'s>(
        &mut self,
        entries: &[Entry],
        schema: &'s Json,
        at: &Place<'_>,
    ) -> Vec<&'s str> {
        let required = schema.get("required").and_then(Json::as_array);
        let required = required.into_iter().flatten().filter_map(Json::as_str);
        let required: Vec<&str> = required.collect();
        for key in &required {
            let entry = entries.iter().find(|entry| entry.key == *key);
            let is_given = |entry: &Entry| !self.null_is_unset || entry.node.value != Value::Null;
            if entry.is_some_and(is_given) {
                continue;
            }
            let path = join(at.path, key);
            let line = entry.map(|entry| entry.line);
            let line = line.or(at.line.filter(|_| !at.path.is_empty()));
            let of = schema.pointer(&format!("/properties/{key}"));
            let missing = ConfigError::new(&Place { path: &path, line }, "missing");
            self.errors
                .push(missing.accepting(of.map(accepted).unwrap_or_default()));
        }
        required
    }

    fn list(&mut self, node: &Node, schema: &Json, at: &Place<'_>) -> Option<Json> {
        let Value::List(items) = &node.value else {
            return self.wrong(node, at, &accepted(schema));
        };
        let of = schema.get("items").unwrap_or(&Json::Null);
        let items = items.iter().enumerate().filter_map(|(index, item)| {
            let path = format!("{}[{index}]", at.path);
            if item.value == Value::Null && self.null_is_unset {
                return self.wrong(item, &Place::at(&path, item.line), "an entry");
            }
            self.value(item, of, &path)
        });
        Some(Json::Array(items.collect()))
    }

    fn text(&mut self, node: &Node, schema: &Json, at: &Place<'_>) -> Option<Json> {
        let is_good = |text: &str| match schema.get(FORMAT).and_then(Json::as_str) {
            Some(FORMAT_DURATION) => is_duration_in_range(text, schema),
            Some("socket-address") => text.parse::<std::net::SocketAddr>().is_ok(),
            _ => true,
        };
        match &node.value {
            Value::Text(text) if is_good(text) => Some(Json::String(text.clone())),
            _ => self.wrong(node, at, &accepted(schema)),
        }
    }

    fn number(&mut self, node: &Node, schema: &Json, at: &Place<'_>) -> Option<Json> {
        let value = match node.value {
            Value::Integer(value) => Json::from(value),
            Value::Number(value) if !is_type(schema, "integer") => Json::from(value),
            _ => Json::Null,
        };
        let (min, max) = number_range(schema);
        let in_range = value.as_f64().is_some_and(|number| {
            min.as_ref()
                .and_then(Json::as_f64)
                .is_none_or(|min| number >= min)
                && max
                    .as_ref()
                    .and_then(Json::as_f64)
                    .is_none_or(|max| number <= max)
        });
        if in_range {
            return Some(value);
        }
        self.wrong(node, at, &accepted(schema))
    }
}

/// Returns in words what a schema accepts.
fn accepted(schema: &Json) -> String {
    let schema = without_null(schema);
    if let Some(words) = words(schema) {
        return words.join(", ");
    }
    match type_of(schema) {
        Some("object") => "a map of settings".to_owned(),
        Some("array") => "a list".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => in_words("a whole number", number_range(schema)),
        Some("number") => in_words("a number", number_range(schema)),
        Some("string") => match schema.get(FORMAT).and_then(Json::as_str) {
            Some(FORMAT_DURATION) => duration_range(schema),
            Some("socket-address") => "an address with a port, such as 127.0.0.1:44217".to_owned(),
            _ => "text".to_owned(),
        },
        _ => String::new(),
    }
}

/// Returns the least and the most that a number may be.
fn number_range(schema: &Json) -> (Option<Json>, Option<Json>) {
    let limit = |key| schema.get(key).filter(|limit| !limit.is_null()).cloned();
    let is_narrow = schema.get("format").is_some_and(|it| it == "uint32");
    let widest = is_narrow.then(|| Json::from(u32::MAX));
    (limit("minimum"), limit("maximum").or(widest))
}

fn in_words(what: &str, range: (Option<Json>, Option<Json>)) -> String {
    match range {
        (Some(min), Some(max)) => format!("{what} from {min} to {max}"),
        (Some(min), None) => format!("{what} from {min}"),
        (None, Some(max)) => format!("{what} up to {max}"),
        (None, None) => what.to_owned(),
    }
}

/// Returns the type of a schema, null apart; `None` where it has several.
fn type_of(schema: &Json) -> Option<&str> {
    match schema.get("type")? {
        Json::Array(of) => {
            let mut of = of
                .iter()
                .filter_map(Json::as_str)
                .filter(|of| *of != "null");
            of.next().filter(|_| of.next().is_none())
        }
        of => of.as_str(),
    }
}

fn is_type(schema: &Json, name: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(of)) => of == name,
        Some(Json::Array(of)) => of.iter().any(|of| of == name),
        _ => false,
    }
}

fn choices(schema: &Json) -> &[Json] {
    let choices = schema.get("anyOf").and_then(Json::as_array);
    choices.map_or(&[], Vec::as_slice)
}

fn may_be_null(schema: &Json) -> bool {
    is_type(schema, "null") || choices(schema).iter().any(|of| is_type(of, "null"))
}

/// Returns the schema of an optional value as if it were not optional.
fn without_null(schema: &Json) -> &Json {
    let mut values = choices(schema).iter().filter(|of| !is_type(of, "null"));
    match (values.next(), values.next()) {
        (Some(of), None) => of,
        // Of several choices none is the one that is meant.
        _ => schema,
    }
}

/// Returns the words of an enum.
fn words(schema: &Json) -> Option<Vec<&str>> {
    if let Some(word) = schema.get("const").and_then(Json::as_str) {
        return Some(vec![word]);
    }
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        return words.iter().map(Json::as_str).collect();
    }
    let variants = schema.get("oneOf")?.as_array()?;
    let words: Option<Vec<Vec<&str>>> = variants.iter().map(words).collect();
    Some(words?.concat())
}

fn meant(word: &str, accepted: &[&str]) -> String {
    closest(word, accepted).map_or_else(String::new, |word| format!(", did you mean `{word}`?"))
}

fn duration_limit(schema: &Json, key: &str) -> Option<HumanDuration> {
    HumanDuration::parse(schema.get(key)?.as_str()?)
}

fn is_duration_in_range(text: &str, schema: &Json) -> bool {
    HumanDuration::parse(text).is_some_and(|duration| {
        duration_limit(schema, "x-minimum").is_none_or(|min| duration >= min)
            && duration_limit(schema, "x-maximum").is_none_or(|max| duration <= max)
    })
}

fn duration_range(schema: &Json) -> String {
    let limit = |key| schema.get(key).and_then(Json::as_str);
    let range = match (limit("x-minimum"), limit("x-maximum")) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (None, Some(max)) => format!(" up to {max}"),
        (Some(min), None) => format!(" from {min}"),
        (None, None) => String::new(),
    };
    format!("a duration{range}, such as 100ms, 30s or 1m 30s")
}

/// Returns a tree as JSON; `None` for numbers JSON does not have.
fn to_json(node: &Node) -> Option<Json> {
    Some(match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Integer(value) => Json::from(*value),
        Value::Number(value) => Json::from(*value),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().filter_map(to_json).collect()),
        Value::Map(entries) => {
            let entries = entries.iter();
            let pairs = entries.filter_map(|e| Some((e.key.clone(), to_json(&e.node)?)));
            Json::Object(pairs.collect())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::Json;
    use crate::config::PolicyCatalog as _;
    use crate::policy::Registry;

    /// Calls `seen` with every keyword of a schema, not with the names of properties.
    fn keywords(schema: &Json, seen: &mut dyn FnMut(&str)) {
        let Some(map) = schema.as_object() else {
            return;
        };
        for (keyword, value) in map {
            seen(keyword);
            match keyword.as_str() {
                "properties" => {
                    for schema in value.as_object().unwrap().values() {
                        keywords(schema, seen);
                    }
                }
                "anyOf" | "oneOf" => {
                    for schema in value.as_array().unwrap() {
                        keywords(schema, seen);
                    }
                }
                "items" | "additionalProperties" => keywords(value, seen),
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_of_the_schema_is_checked_or_says_nothing() {
        let checked = [
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "anyOf",
            "oneOf",
            "const",
            "enum",
            "minimum",
            "maximum",
            "x-format",
            "x-minimum",
            "x-maximum",
            "format",
        ];
        let silent = ["$schema", "title", "description", "default"];
        let registry = Registry::default();
        let of_policies = registry.iter().map(|it| registry.schema(it.name).unwrap());
        for schema in of_policies.chain([crate::config::schema()]) {
            keywords(&schema, &mut |keyword| {
                let is_known = checked.contains(&keyword) || silent.contains(&keyword);
                assert!(is_known, "check.rs does not know `{keyword}`");
            });
        }
    }
}
