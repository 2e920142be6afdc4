//! The settings of policies, checked against what the policies say of them.
//!
//! # Why not by the policy alone
//!
//! A policy reads its settings with serde, which names types of Rust and stops at the first mistake of each
//! key. The schema of the same struct says path, line, value and what would be accepted, in the words of
//! the rest of the file. What no schema says, such as a sum that must not be exceeded, the policy says.

use serde_json::{Map, Value as Json};

use super::PolicyCatalog;
use super::check::check_part;
use super::document::{Node, Value, join};
use super::duration::{FORMAT, FORMAT_DURATION};
use super::error::{ConfigError, Place};
use super::limits::place;

/// The name under which schemas of policies have a duration.
const DURATION: &str = "Duration";

/// References are replaced down to here; a schema that contains itself accepts anything below.
const DEPTH_MAX: usize = 16;

/// Returns what is wrong with the settings of a policy.
pub(super) fn check(
    (policy, policies): (&str, &dyn PolicyCatalog),
    settings: Option<&Node>,
    (path, document): (&str, &Node),
) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let settings = settings.filter(|node| matches!(node.value, Value::Map(_)));
    let value = settings.and_then(|node| {
        // Without a schema every value is taken as it comes.
        let schema = policies.schema(policy).unwrap_or_default();
        check_part(node, &schema, path, &mut errors)
    });
    let settings = match value {
        Some(Json::Object(settings)) => settings,
        _ => Map::new(),
    };
    // What is wrong has been left out, so the policy sees what is wrong with the rest.
    if let Err(problem) = policies.check(policy, &settings) {
        errors.push(in_its_words(&problem, path, document));
    }
    errors
}

/// Returns a policy's own words as a mistake at the key that they begin with.
fn in_its_words(problem: &str, path: &str, document: &Node) -> ConfigError {
    let named = problem
        .split_once(": ")
        .filter(|(key, _)| !key.contains(char::is_whitespace));
    let Some((key, problem)) = named else {
        return ConfigError::new(&place(path, document), problem);
    };
    let path = join(path, key);
    let at: Place<'_> = place(&path, document);
    match problem.split_once("; accepted: ") {
        Some((problem, accepted)) => ConfigError::new(&at, problem).accepting(accepted),
        None => ConfigError::new(&at, problem),
    }
}

/// Returns a schema with its references replaced by what they refer to, and durations marked as such.
pub(super) fn written_out(schema: &Json) -> Json {
    written_out_below(schema, &schema["$defs"], 0)
}

fn written_out_below(schema: &Json, defs: &Json, depth: usize) -> Json {
    if depth > DEPTH_MAX {
        return Json::Object(Map::new());
    }
    let below = |schema: &Json| written_out_below(schema, defs, depth + 1);
    match schema {
        Json::Array(items) => Json::Array(items.iter().map(below).collect()),
        Json::Object(keywords) => {
            let mut all = Map::new();
            for (keyword, value) in keywords {
                match (keyword.as_str(), value.as_str()) {
                    ("$defs", _) => {}
                    ("$ref", Some(reference)) => all.extend(referred(reference, defs, &below)),
                    // Values, not schemas.
                    ("default" | "const" | "enum", _) => {
                        all.insert(keyword.clone(), value.clone());
                    }
                    _ => {
                        all.insert(keyword.clone(), below(value));
                    }
                }
            }
            Json::Object(all)
        }
        other => other.clone(),
    }
}

/// Returns the keywords of what a reference refers to.
fn referred(reference: &str, defs: &Json, below: &dyn Fn(&Json) -> Json) -> Map<String, Json> {
    let name = reference.strip_prefix("#/$defs/").unwrap_or_default();
    let Json::Object(mut keywords) = below(&defs[name]) else {
        return Map::new();
    };
    if name == DURATION {
        keywords.insert(FORMAT.to_owned(), Json::from(FORMAT_DURATION));
    }
    keywords
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde_json::{Map, Value, json};

    use super::written_out;
    use crate::config::{self, PolicyCatalog};

    /// Knows one policy, of a kind that this crate has not.
    struct Foreign(Option<Value>);

    impl PolicyCatalog for Foreign {
        fn names(&self) -> Vec<&str> {
            vec!["foreign"]
        }

        fn check(&self, _: &str, settings: &Map<String, Value>) -> Result<(), String> {
            match settings.get("sum") {
                Some(sum) => Err(format!("sum: {sum} is odd; accepted: an even number")),
                None => Ok(()),
            }
        }

        fn schema(&self, _: &str) -> Option<Value> {
            self.0.clone()
        }
    }

    fn problems(schema: Option<Value>, settings: &Value) -> Vec<String> {
        let text = format!(
            "apiVersion: rayscaler.io/v1alpha1\nkind: RayscalerConfig\npolicies:\n\
             - name: foreign\n  settings: {settings}\n"
        );
        match config::parse(&text, &Foreign(schema)) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_policy_says_what_its_schema_does_not() {
        let expected =
            ["line 5: policies[0].settings.sum: 3 is odd; accepted: an even number".to_owned()];
        assert_eq!(problems(None, &json!({"sum": 3})), expected);
        let schema = json!({"type": "object", "properties": {"sum": {"type": "integer"}}});
        assert_eq!(problems(Some(schema), &json!({"sum": 3})), expected);
        assert_eq!(problems(None, &json!({"any": [null, {"x": 1}]})), [""; 0]);
    }

    #[test]
    fn what_a_schema_leaves_open_is_left_to_the_policy() {
        let schema = json!({"type": "object", "properties": {
            "either": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
            "both": {"type": ["string", "integer"]},
            "all": {"allOf": [{"type": "string"}]},
        }});
        for settings in [
            json!({"either": 1}),
            json!({"either": "text"}),
            json!({"either": null}),
            json!({"both": 1}),
            json!({"all": "text"}),
            json!({"other": 1}),
        ] {
            assert_eq!(
                problems(Some(schema.clone()), &settings),
                [""; 0],
                "{settings}"
            );
        }
    }

    #[test]
    fn references_are_replaced_even_where_they_never_end() {
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema is used")]
        struct Settings {
            tree: Tree,
        }
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema is used")]
        struct Tree {
            after: crate::policy::HumanDuration,
            below: Vec<Tree>,
        }
        let schema = written_out(&schemars::schema_for!(Settings).to_value());
        assert!(!schema.to_string().contains("$ref"), "{schema}");
        let tree = &schema["properties"]["tree"];
        let deep = &tree["properties"]["below"]["items"]["properties"]["after"];
        assert_eq!(deep["x-format"], "humantime");
    }
}
