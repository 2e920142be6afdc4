//! The dashboard: each query is one that Prometheus takes, about metrics and labels that there are.

use std::collections::{BTreeMap, BTreeSet};

use rayscaler::report::catalogue;
use serde_json::{Value, json};

use crate::promtool::Promtool;
use crate::text;

/// Labels that Prometheus and `podmonitor.yaml` add to every metric.
const OF_TARGET: [&str; 6] = [
    "namespace",
    "pod",
    "container",
    "job",
    "ray_io_cluster",
    "le",
];

/// What PromQL itself calls something.
const OF_PROMQL: [&str; 14] = [
    "by",
    "sum",
    "max",
    "rate",
    "increase",
    "histogram_quantile",
    "or",
    "and",
    "unless",
    "label_values",
    "min",
    "count",
    "on",
    "max_over_time",
];

/// Knows what may be asked for.
pub(crate) struct Queries {
    metrics: BTreeMap<String, BTreeSet<&'static str>>,
}

impl Queries {
    /// Returns what the catalogue and Prometheus have.
    pub(crate) fn new() -> Self {
        let mut metrics = BTreeMap::from([("up".to_owned(), BTreeSet::new())]);
        for info in catalogue() {
            let labels: BTreeSet<&str> = info.labels.iter().copied().collect();
            if info.kind.as_str() == "histogram" {
                for ending in ["_bucket", "_sum", "_count"] {
                    metrics.insert(format!("{}{ending}", info.name), labels.clone());
                }
            } else {
                metrics.insert(info.name.to_owned(), labels);
            }
        }
        Self { metrics }
    }

    /// Returns every word of a query that is neither a metric, nor one of its labels, nor PromQL.
    ///
    /// Texts in quotes, numbers and durations are no words.
    pub(crate) fn problems(&self, query: &str) -> Vec<String> {
        let words = words(query);
        let asked: Vec<&BTreeSet<&str>> = words
            .iter()
            .filter_map(|word| self.metrics.get(word))
            .collect();
        let is_label = |word: &str| {
            OF_TARGET.contains(&word) || asked.iter().any(|labels| labels.contains(word))
        };
        let is_known = |word: &&String| {
            self.metrics.contains_key(word.as_str())
                || is_label(word)
                || OF_PROMQL.contains(&word.as_str())
        };
        let mut problems: Vec<String> = words
            .iter()
            .filter(|word| !is_known(word))
            .cloned()
            .collect();
        if asked.is_empty() {
            problems.push("no metric".to_owned());
        }
        problems
    }
}

/// Returns the names in a query.
fn words(query: &str) -> Vec<String> {
    let mut found = Vec::new();
    // Every second part was in quotes, every second part of what is left in brackets.
    for code in query.split('"').step_by(2) {
        for code in code.split(['[', ']']).step_by(2) {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            let words = code
                .split(|c| !is_part(c))
                .filter(|word| word.starts_with(|c: char| !c.is_ascii_digit()));
            found.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
        }
    }
    found
}

/// Returns the labels that a template shows and no metric has.
pub(crate) fn label_problems(template: &str) -> Vec<String> {
    let catalogue = catalogue();
    let known: BTreeSet<&str> = catalogue
        .iter()
        .flat_map(|info| info.labels)
        .copied()
        .chain(OF_TARGET)
        .collect();
    let shown = template.split("$labels.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    });
    shown
        .filter(|label| !known.contains(label))
        .map(str::to_owned)
        .collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&text("deploy/dashboard.json")).unwrap()
}

/// Returns the queries of all panels, with what Grafana replaces replaced.
fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let queries = targets.map(|target| {
        let query = target["expr"].as_str().unwrap();
        query
            .replace("$__rate_interval", "5m")
            .replace("$__range", "3h")
    });
    queries.collect()
}

#[test]
fn every_query_names_a_metric_and_labels_that_there_are() {
    let known = Queries::new();
    let queries = queries();
    assert!(queries.len() > 30, "{}", queries.len());
    for query in queries {
        assert_eq!(known.problems(&query), [""; 0], "{query}");
    }
    for variable in dashboard()["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            let query = variable["definition"].as_str().unwrap();
            assert_eq!(known.problems(query), [""; 0], "{query}");
        }
    }
}

#[test]
fn prometheus_takes_every_query() {
    let rules: Vec<Value> = (0..)
        .zip(queries())
        .map(|(number, query)| json!({"record": format!("query_{number}"), "expr": query}))
        .collect();
    let count = rules.len();
    let promtool = Promtool::new();
    let file = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    promtool.file("dashboard.yaml", &file.to_string());
    let checked = promtool.run(&["check", "rules", "dashboard.yaml"]);
    assert!(
        checked.contains(&format!("{count} rules found")),
        "{checked}"
    );
}

#[test]
fn panels_have_numbers_and_places_of_their_own() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels
        .iter()
        .map(|panel| panel["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            let cell = (place("x") + x, place("y") + y);
            assert!(
                cell.0 < 24 && taken.insert(cell),
                "{} overlaps",
                panel["title"]
            );
        }
    }
}

#[test]
fn what_is_not_there_is_found() {
    let known = Queries::new();
    for (query, problem) in [
        ("sum(rayscaler_nodes_total)", "rayscaler_nodes_total"),
        ("sum by (grup) (rayscaler_nodes)", "grup"),
        ("rayscaler_nodes{state=\"x\"}", "state"),
        (
            "rate(rayscaler_pass_duration_seconds[5m])",
            "rayscaler_pass_duration_seconds",
        ),
        ("1 + 1", "no metric"),
    ] {
        assert!(
            known.problems(query).contains(&problem.to_owned()),
            "{query}"
        );
    }
    assert_eq!(
        label_problems("{{ $labels.group }} {{ $labels.grup }}"),
        ["grup"]
    );
}
