//! The README's tables are those of the program, and its links and YAML are right.
//!
//! After a change of settings, policies, variables or metrics, `RAYSCALER_UPDATE_README=1` has the
//! first test write the tables anew.

use std::fmt::Write as _;
use std::fs;

use rayscaler::config::{self, Effect, STOCK_VARIABLES};
use rayscaler::policy::{Registry, policies};
use rayscaler::report::catalogue;
use serde_json::Value;

use crate::manifests::{api, try_create, try_templates};
use crate::{deployed_as, documents, project, support, text};

/// Returns what stands between the two marks of a generated part.
fn marks(name: &str) -> (String, String) {
    (
        format!("<!-- {name}: written by a test -->\n"),
        format!("<!-- end of {name} -->"),
    )
}

/// Returns the README with a part written anew.
fn with_part(readme: &str, name: &str, part: &str) -> String {
    let (begin, end) = marks(name);
    let (before, rest) = readme
        .split_once(&begin)
        .unwrap_or_else(|| panic!("README.md has no mark {begin}"));
    let (_, after) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("README.md has no mark {end}"));
    format!("{before}{begin}{part}{end}{after}")
}

#[test]
fn the_tables_are_those_of_the_program() {
    let readme = text("README.md");
    let parts = [
        ("settings", settings()),
        ("policies", policy_table()),
        ("variables", variables()),
        ("weak points", weak_points()),
        ("metrics", metrics("rayscaler_")),
        ("stock metrics", metrics("autoscaler_")),
    ];
    let written = parts.iter().fold(readme.clone(), |readme, (name, part)| {
        with_part(&readme, name, part)
    });
    if support::env("RAYSCALER_UPDATE_README").is_some() {
        fs::write(project("README.md"), &written).unwrap();
    } else if let Some((old, new)) = readme
        .lines()
        .zip(written.lines())
        .find(|(old, new)| old != new)
    {
        panic!(
            "README.md says\n  {old}\nand not\n  {new}\nrun this test once with RAYSCALER_UPDATE_README=1"
        );
    } else {
        assert_eq!(
            readme, written,
            "run this test once with RAYSCALER_UPDATE_README=1"
        );
    }
}

/// Returns a text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

fn weak_points() -> String {
    let mut table =
        "| | what KubeRay makes hard | detected by | shown as | done about it |\n|---|---|---|---|---|\n"
            .to_owned();
    for point in rayscaler::engine::WEAK_POINTS {
        let cells = [
            point.id,
            point.what,
            point.detected_by,
            point.shown_as,
            point.done,
        ];
        let cells = cells.map(cell);
        table.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    table
}

fn settings() -> String {
    let mut table = "| key | default | accepted | meaning |\n|---|---|---|---|\n".to_owned();
    add_settings(&config::schema(), "", &mut table);
    table
}

fn add_settings(schema: &Value, path: &str, table: &mut String) {
    for (key, of) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        if of["properties"].is_object() {
            add_settings(of, &path, table);
            continue;
        }
        let default = match &of["default"] {
            Value::Null => "unset".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let meaning = cell(of["description"].as_str().unwrap());
        writeln!(
            table,
            "| `{path}` | {default} | {} | {meaning} |",
            accepted(of)
        )
        .unwrap();
    }
}

/// Returns what a setting takes, in words.
fn accepted(of: &Value) -> String {
    let choices = of["oneOf"]
        .as_array()
        .or_else(|| of["anyOf"][0]["oneOf"].as_array());
    if let Some(choices) = choices {
        let words: Vec<String> = choices
            .iter()
            .map(|it| format!("`{}`", it["const"].as_str().unwrap()))
            .collect();
        return words.join(", ");
    }
    let bound = |json: &str, own: &str| {
        let own = of[own].as_str().map(str::to_owned);
        own.or_else(|| of[json].is_number().then(|| of[json].to_string()))
    };
    let bounds = match (bound("minimum", "x-minimum"), bound("maximum", "x-maximum")) {
        (Some(min), Some(max)) => format!(", {min} to {max}"),
        (Some(min), None) => format!(", from {min}"),
        (None, Some(max)) => format!(", up to {max}"),
        (None, None) => String::new(),
    };
    let kind = match (of["x-format"].as_str(), json_kind(of)) {
        (Some("humantime"), _) => "duration",
        (Some("socket-address"), _) => "address and port",
        (_, "boolean") => "`true`, `false`",
        (_, "integer") => "whole number",
        (_, "number") => "number",
        (_, "array") if of["items"]["oneOf"].is_array() => {
            return format!("list of {}", accepted(&of["items"]));
        }
        (_, "array") => "list, see [policies](#policies)",
        _ => "text",
    };
    format!("{kind}{bounds}")
}

/// Returns the JSON type of a setting, that of its value where it may be unset.
fn json_kind(of: &Value) -> &str {
    let kinds = of["type"].as_array().and_then(|kinds| kinds.first());
    kinds.unwrap_or(&of["type"]).as_str().unwrap_or_default()
}

fn policy_table() -> String {
    let mut table = "| policy | what it does | settings and defaults |\n|---|---|---|\n".to_owned();
    for entry in policies() {
        let defaults = (entry.default_settings)();
        let settings = match defaults.as_object() {
            Some(settings) if !settings.is_empty() => format!("`{defaults}`"),
            _ => String::new(),
        };
        writeln!(
            table,
            "| `{}` | {} | {} |",
            entry.name,
            cell(entry.summary),
            cell(&settings)
        )
        .unwrap();
    }
    table
}

fn variables() -> String {
    let mut table = "| variable | what it does here |\n|---|---|\n".to_owned();
    for variable in STOCK_VARIABLES {
        let effect = match variable.effect {
            Effect::Setting { key, .. } => format!("sets `{key}`"),
            Effect::Connection => "honoured, at every new connection".to_owned(),
            Effect::None(why) => cell(why),
        };
        writeln!(table, "| `{}` | {effect} |", variable.name).unwrap();
    }
    table
}

fn metrics(prefix: &str) -> String {
    let mut table = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for info in catalogue()
        .iter()
        .filter(|info| info.name.starts_with(prefix))
    {
        let labels: Vec<String> = info
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let (labels, kind) = (labels.join(", "), info.kind.as_str());
        writeln!(
            table,
            "| `{}` | {kind} | {labels} | {} |",
            info.name,
            cell(info.meaning)
        )
        .unwrap();
    }
    table
}

/// Returns the README's blocks of code in a language.
pub(crate) fn blocks(language: &str) -> Vec<String> {
    let readme = text("README.md");
    let opened = format!("```{language}\n");
    let rests = readme.split(&opened).skip(1);
    rests
        .map(|rest| rest.split_once("```").unwrap().0.to_owned())
        .collect()
}

#[tokio::test]
async fn the_yaml_of_the_readme_is_accepted_as_it_is() {
    let api = api().await;
    let (client, namespace) = (api.admin_client().await, api.new_namespace().await);
    let blocks = blocks("yaml");
    assert!(blocks.len() >= 4, "{}", blocks.len());
    for document in blocks.iter().flat_map(|block| documents(block)) {
        let object = match document["kind"].as_str() {
            Some("RayscalerConfig") => {
                let config = config::parse(&document.to_string(), &Registry::default());
                assert!(config.is_ok(), "{config:?}");
                continue;
            }
            Some(_) => document,
            // A part of a RayCluster.
            None => merged(&deployed_as("raycluster.yaml"), &document),
        };
        let tried = try_create(&client, &namespace, &object).await;
        assert_eq!(tried, Ok(()), "{object}");
        if object["kind"] == "RayCluster" {
            assert_eq!(try_templates(&client, &namespace, &object).await, Ok(()));
        }
        for (name, held) in object["data"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|_| object["kind"] == "ConfigMap")
        {
            let config = config::parse(held.as_str().unwrap(), &Registry::default());
            assert!(config.is_ok(), "{name}: {config:?}");
        }
    }
}

/// Returns an object with a part laid over it; lists are replaced.
fn merged(base: &Value, part: &Value) -> Value {
    let (Some(old), Some(new)) = (base.as_object(), part.as_object()) else {
        return part.clone();
    };
    let mut both = old.clone();
    for (key, value) in new {
        let under = old.get(key).unwrap_or(&Value::Null);
        both.insert(key.clone(), merged(under, value));
    }
    Value::Object(both)
}

#[test]
fn links_lead_somewhere_and_every_file_of_deploy_is_told_of() {
    let readme = text("README.md");
    let headings: Vec<String> = readme
        .lines()
        .filter(|line| line.starts_with("##"))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|line| {
            line.chars()
                .filter(|c| c.is_alphanumeric() || " -".contains(*c))
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect();
    for target in readme
        .split("](")
        .skip(1)
        .map(|rest| rest.split_once(')').unwrap().0)
    {
        match target.strip_prefix('#') {
            Some(heading) => assert!(
                headings.iter().any(|it| it == heading),
                "no heading for #{heading}"
            ),
            None => assert!(project(target).exists(), "{target}"),
        }
    }
    for entry in fs::read_dir(project("deploy")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            readme.contains(&format!("deploy/{name}")),
            "README.md does not tell of deploy/{name}"
        );
    }
}
