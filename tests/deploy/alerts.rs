//! The alert rules: Prometheus' own tool takes them, each fires in a test of its own, and each asks for what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rayscaler::model::Timestamp;
use rayscaler::report::Metrics;
use serde_json::Value;

use crate::dashboard::{Queries, label_problems};
use crate::promtool::Promtool;
use crate::{deployed_as, documents, project, text};

/// Returns the rules as a rule file of Prometheus.
fn rule_file() -> Value {
    deployed_as("alerts.yaml")["spec"].clone()
}

fn rules() -> Vec<Value> {
    let groups = rule_file()["groups"].as_array().unwrap().clone();
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

fn promtool() -> Promtool {
    let promtool = Promtool::new();
    promtool.file("alerts.yaml", &rule_file().to_string());
    promtool.file("alerts_test.yaml", &text("tests/deploy/alerts_test.yaml"));
    promtool
}

#[test]
fn prometheus_takes_the_rules_and_they_fire_when_they_should() {
    let promtool = promtool();
    let checked = promtool.run(&[
        "check",
        "rules",
        "--lint=all",
        "--lint-fatal",
        "alerts.yaml",
    ]);
    assert!(
        checked.contains(&format!("{} rules found", rules().len())),
        "{checked}"
    );
    let tested = promtool.run(&["test", "rules", "alerts_test.yaml"]);
    assert!(tested.contains("SUCCESS"), "{tested}");
}

#[test]
fn a_rule_that_does_not_fire_fails_its_test() {
    let promtool = promtool();
    let rules = rule_file().to_string();
    let broken = rules.replace(
        "rayscaler_last_pass_age_seconds > 60",
        "rayscaler_last_pass_age_seconds > 6000",
    );
    assert_ne!(broken, rules);
    promtool.file("alerts.yaml", &broken);
    let output = promtool.try_run(&["test", "rules", "alerts_test.yaml"]);
    assert!(!output.status.success());
}

#[test]
fn every_alert_is_tested_and_can_be_understood() {
    let tests = documents(&text("tests/deploy/alerts_test.yaml")).remove(0);
    let groups = tests["tests"].as_array().unwrap().iter();
    let cases = groups.flat_map(|group| group["alert_rule_test"].as_array().unwrap());
    let fires = cases.filter(|case| {
        case["exp_alerts"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
    });
    let fired: BTreeSet<&str> = fires
        .map(|case| case["alertname"].as_str().unwrap())
        .collect();
    let rules = rules();
    let alerts: BTreeSet<&str> = rules
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap())
        .collect();
    assert_eq!(fired, alerts);
    for rule in &rules {
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{rule}"
        );
        for annotation in ["summary", "description"] {
            let words = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert!(words.len() > 20, "{rule}");
        }
    }
}

#[test]
fn every_rule_asks_for_metrics_and_labels_that_there_are() {
    let queries = Queries::new();
    for rule in rules() {
        let query = rule["expr"].as_str().unwrap();
        assert_eq!(queries.problems(query), [""; 0], "{query}");
        for words in rule["annotations"].as_object().unwrap().values() {
            let problems = label_problems(words.as_str().unwrap());
            assert_eq!(problems, [""; 0], "{words}");
        }
    }
}

/// Returns the words that a query asks for in labels that hold stable words.
fn stable_words(query: &str) -> Vec<&str> {
    let labels = ["code", "mode", "phase", "result"];
    let parts: Vec<&str> = query.split('"').collect();
    let asked = parts.chunks_exact(2).filter(|pair| {
        let name = pair[0].trim_end_matches(['=', '~', '!']);
        labels.iter().any(|label| name.ends_with(label))
    });
    asked.flat_map(|pair| pair[1].split('|')).collect()
}

#[test]
fn every_stable_word_that_is_asked_for_is_told_by_the_program() {
    fn add(folder: &Path, told: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, told);
            } else if path.extension().is_some_and(|it| it == "rs") {
                told.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut told = String::new();
    add(&project("src"), &mut told);
    let mut count = 0;
    for rule in rules() {
        let query = rule["expr"].as_str().unwrap();
        for word in stable_words(query) {
            assert!(told.contains(&format!("\"{word}\"")), "{word}: {query}");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn what_an_alert_on_one_event_counts_is_there_before_it() {
    let fresh = Metrics::new().exposition(Timestamp::default());
    let rules = rules();
    let counted: Vec<(&str, &str)> = rules
        .iter()
        .filter_map(|rule| {
            let query = rule["expr"].as_str().unwrap().strip_suffix("[15m]) > 0")?;
            let series = query.strip_prefix("increase(").unwrap();
            Some(series.split_once('{').unwrap_or((series, "")))
        })
        .collect();
    assert_eq!(counted.len(), 2, "{counted:?}");
    for (name, labels) in counted {
        let start = format!("{name}{{{labels}");
        let mut lines = fresh.lines().filter(|line| line.starts_with(&start));
        assert!(lines.any(|line| line.ends_with("} 0")), "{start}");
    }
}
