//! Every check of the table has a case in which it speaks, and one in which it does not.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::finding::{Finding, Severity};
use super::subject::{Subject, Surroundings};
use super::table::{CHECKS, findings};
use super::versions::version;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    base: Value,
    role: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    code: String,
    path: String,
    speaks: Edit,
    silent: Edit,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Edit {
    set: BTreeMap<String, Value>,
    kuberay: Option<String>,
    #[serde(deserialize_with = "given")]
    role: Option<Value>,
    policies: Vec<Value>,
    inside: Option<String>,
}

/// Tells `role: null` from no such line.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

fn file() -> File {
    serde_saphyr::from_str(include_str!("../../../tests/data/checks.yaml")).unwrap()
}

/// Puts a value at a pointer, making the maps on the way.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for part in pointer.trim_start_matches('/').split('/') {
        let part = part.replace("~1", "/");
        place = match part.parse::<usize>() {
            Ok(index) if place.is_array() => &mut place[index],
            _ => &mut place[part.as_str()],
        };
    }
    *place = value;
}

impl Edit {
    /// Returns what is found of the base with this edit.
    fn findings(&self, file: &File) -> Vec<Finding> {
        let mut object = file.base.clone();
        let mut outside = json!({});
        for (pointer, value) in &self.set {
            let is_inner = ["/spec", "/metadata"]
                .iter()
                .any(|it| pointer.starts_with(it));
            let place = if is_inner { &mut object } else { &mut outside };
            set(place, pointer, value.clone());
        }
        let kind = match self.inside.as_deref() {
            None => ("RayCluster", "spec"),
            Some("RayService") => ("RayService", "spec.rayClusterConfig"),
            Some("RayJob") => ("RayJob", "spec.rayClusterSpec"),
            Some(other) => panic!("inside: {other}"),
        };
        if let Some(key) = kind.1.strip_prefix("spec.") {
            let inner = object["spec"].take();
            outside[key] = inner;
            object["kind"] = json!(kind.0);
            object["spec"] = outside;
        }
        let role = self.role.clone().unwrap_or_else(|| file.role.clone());
        let surroundings = Surroundings {
            kuberay: self.kuberay.as_deref().map(|text| version(text).unwrap()),
            roles: [role].into_iter().filter(|role| !role.is_null()).collect(),
            network_policies: self.policies.clone(),
        };
        findings(&Subject::of(&object, kind, surroundings).unwrap())
    }
}

fn codes(findings: &[Finding]) -> Vec<String> {
    let codes = findings.iter();
    codes.map(|it| format!("{} {}", it.code, it.path)).collect()
}

#[test]
fn nothing_is_said_of_a_good_raycluster() {
    let file = file();
    assert_eq!(
        codes(&Edit::default().findings(&file)),
        Vec::<String>::new()
    );
}

#[test]
fn each_check_speaks_and_is_silent() {
    let file = file();
    let mut wrong = Vec::new();
    for case in &file.cases {
        let expected = format!("{} {}", case.code, case.path);
        for (edit, speaks) in [(&case.speaks, true), (&case.silent, false)] {
            let found = codes(&edit.findings(&file));
            if found.contains(&expected) != speaks {
                wrong.push(format!("{expected}, {edit:?}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_and_the_cases_name_the_same_checks() {
    let file = file();
    let of_cases: BTreeSet<&str> = file.cases.iter().map(|case| case.code.as_str()).collect();
    let of_table: BTreeSet<&str> = CHECKS.iter().map(|check| check.code).collect();
    assert_eq!(of_cases, of_table);
    assert_eq!(of_table.len(), CHECKS.len(), "a code stands twice");
}

#[test]
fn a_finding_says_path_value_accepted_and_what_it_leads_to() {
    let file = file();
    for case in &file.cases {
        for finding in case.speaks.findings(&file) {
            let Finding {
                path, value, why, ..
            } = &finding;
            assert!(!path.is_empty() && !why.is_empty(), "{finding:?}");
            let is_told_in_words = why.contains(path.trim_start_matches("spec."));
            assert!(!value.is_empty() || is_told_in_words, "{finding:?}");
        }
    }
}

#[test]
fn errors_come_first() {
    let file = file();
    let edit = Edit {
        set: BTreeMap::from([
            ("/spec/autoscalerOptions/resources".to_owned(), Value::Null),
            ("/spec/workerGroupSpecs/0/minReplicas".to_owned(), json!(9)),
            ("/spec/suspend".to_owned(), json!(true)),
        ]),
        ..Edit::default()
    };
    let found = edit.findings(&file);
    let severities: Vec<Severity> = found.iter().map(|it| it.severity).collect();
    assert!(severities.is_sorted(), "{found:#?}");
    assert_eq!(severities.first(), Some(&Severity::Error));
    assert_eq!(severities.last(), Some(&Severity::Note));
}
