//! The files in `config/`, and what a file with mistakes is told.
#![expect(clippy::unwrap_used, reason = "test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rayscaler::config::{self, Config, PolicyCatalog};
use rayscaler::engine::{Engine, EngineSettings};
use rayscaler::policy::{Registry, policies};
use serde_json::{Map, Value, json};

/// Knows one policy, with one setting.
struct OnePolicy;

impl PolicyCatalog for OnePolicy {
    fn names(&self) -> Vec<&str> {
        vec!["cooldown"]
    }

    fn check(&self, _: &str, settings: &Map<String, Value>) -> Result<(), String> {
        match settings.keys().find(|key| *key != "after") {
            Some(key) => Err(format!("unknown setting `{key}`")),
            None => Ok(()),
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn default_text() -> String {
    fs::read_to_string(folder().join("default.yaml")).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    let errors = config::parse(text, &OnePolicy).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

const HEAD: &str = "apiVersion: rayscaler.io/v1alpha1\nkind: RayscalerConfig\n";

#[test]
fn the_default_file_says_the_built_in_defaults() {
    assert_eq!(
        config::parse(&default_text(), &OnePolicy).unwrap(),
        Config::default()
    );
    let stale_after = EngineSettings::default().stale_after.as_ms();
    assert_eq!(Config::default().scaling.stale_after.as_ms(), stale_after);
}

#[test]
fn the_default_file_names_every_key() {
    fn leaves(schema: &Value, name: &str, into: &mut BTreeSet<String>) {
        match schema.get("properties").and_then(Value::as_object) {
            Some(properties) => {
                for (key, schema) in properties {
                    leaves(schema, key, into);
                }
            }
            None => {
                into.insert(name.to_owned());
            }
        }
    }
    let mut keys = BTreeSet::new();
    leaves(&config::schema(), "", &mut keys);
    assert!(keys.len() > 25, "{keys:?}");
    let text = default_text();
    for key in keys {
        let is_named = text.lines().any(|line| {
            let line = line.trim_start();
            line.strip_prefix('#')
                .unwrap_or(line)
                .starts_with(&format!("{key}:"))
        });
        assert!(is_named, "config/default.yaml does not name {key}");
    }
}

#[test]
fn the_settings_the_default_file_leaves_unset_can_be_set_by_removing_the_mark() {
    let config = config::parse(&uncommented(), &Registry::default()).unwrap();
    assert_eq!(config.ray.gcs_address.as_deref(), Some("127.0.0.1:6379"));
    assert_eq!(config.scaling.idle_timeout.unwrap().as_ms(), 60_000);
    assert!(config.scaling.upscaling_mode.is_some());
    assert!(config.policies.is_some());
}

/// Returns the default file with what it leaves unset.
fn uncommented() -> String {
    let text = default_text();
    let lines = text.lines().map(|line| {
        let indent = line.len() - line.trim_start().len();
        match line.trim_start().strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{}{rest}", &line[..indent]),
            _ => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_chain_in_the_default_file_is_the_built_in_one_with_every_setting() {
    let registry = Registry::default();
    let mut config = config::parse(&uncommented(), &registry).unwrap();
    let chain = config.policies.clone().unwrap();
    let shown: Vec<(String, Value)> = chain
        .into_iter()
        .map(|policy| (policy.name, Value::Object(policy.settings)))
        .collect();
    let built_in: Vec<(String, Value)> = policies()
        .map(|policy| (policy.name.to_owned(), (policy.default_settings)()))
        .collect();
    assert_eq!(shown, built_in);
    config.scaling = Config::default().scaling;
    let engine = config::engine(&config, &registry).unwrap();
    assert!(engine.chain().eq(Engine::default().chain()));
    let of_nothing = config::engine(&Config::default(), &registry).unwrap();
    assert_eq!(format!("{engine:?}"), format!("{of_nothing:?}"));
}

/// Returns the examples by the names of their files.
fn examples() -> BTreeMap<String, Config> {
    let entries = fs::read_dir(folder().join("examples")).unwrap();
    let examples = entries.map(|entry| {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let config = config::parse(&text, &Registry::default());
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, config.unwrap())
    });
    examples.collect()
}

#[test]
fn every_example_is_accepted_and_differs_from_the_defaults() {
    let examples = examples();
    for (name, config) in &examples {
        assert_ne!(*config, Config::default(), "{name}");
    }
    assert!(examples.len() >= 3);
}

#[test]
fn what_the_examples_listen_on_is_scraped_and_let_through() {
    let deployed = |name: &str| -> Value {
        let path = folder().join("../deploy").join(name);
        serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let policy = deployed("networkpolicy.yaml");
    let open = policy["spec"]["ingress"][0]["ports"].as_array().unwrap();
    for (name, config) in examples() {
        let bind = config.admin.bind;
        // Prometheus asks the address of the pod; podmonitor.yaml has no other way in.
        assert!(!bind.ip().is_loopback(), "{name}: {bind}");
        let is_open = open.iter().any(|it| it["port"] == bind.port());
        assert!(is_open, "{name}: networkpolicy.yaml shuts {bind} off");
    }
}

#[test]
fn the_locked_down_example_answers_no_questions_and_changes_nothing() {
    let admin = &examples()["locked-down.yaml"].admin;
    assert_eq!(admin.questions, []);
    assert!(!admin.log_level_change);
}

#[test]
fn a_file_with_only_its_head_is_the_defaults() {
    assert_eq!(config::parse(HEAD, &OnePolicy).unwrap(), Config::default());
    let empty_section = format!("{HEAD}poll:\nray:\n  gcsAddress:\n");
    assert_eq!(
        config::parse(&empty_section, &OnePolicy).unwrap(),
        Config::default()
    );
}

#[test]
fn a_written_config_reads_back_as_it_was() {
    let text = serde_json::to_string(&Config::default()).unwrap();
    assert_eq!(config::parse(&text, &OnePolicy).unwrap(), Config::default());
}

#[test]
fn every_kind_of_mistake_is_named_at_once_with_its_line() {
    let text = "\
apiVersion: rayscaler.io/v1
poll:
  gcs:
    intervalmin: 1s
    intervalMax: 5
    budgetPercent: 0
  raylets:
    enabled: yes
    deadline: soon
    deadline: 1s
ray:
  gcsAddress: localhost
scaling:
  idleTimeout: 5
  upscalingMode: fast
kubernetes: fast
report:
  monitorLog:
    bytesMax: 1.5
    backups: -1
admin:
  bind: 44217
  questions: [decision, secrets, ]
log:
  level: loud
  colour: red
policies:
  - name: cooldwn
  - settings: {}
  - name: cooldown
    settings: {befor: 1s}
  - name: cooldown
  - 7
  - name: 8
";
    let expected = [
        "line 1: apiVersion: unknown value `rayscaler.io/v1`, did you mean `rayscaler.io/v1alpha1`?; accepted: rayscaler.io/v1alpha1",
        "line 4: poll.gcs.intervalmin: unknown key, did you mean `intervalMin`?; accepted: budgetPercent, intervalMax, intervalMin",
        "line 5: poll.gcs.intervalMax: found the number 5; accepted: a duration from 10ms to 10m, such as 100ms, 30s or 1m 30s",
        "line 6: poll.gcs.budgetPercent: found the number 0; accepted: a number from 0.01 to 100",
        "line 8: poll.raylets.enabled: found `yes`; accepted: true or false",
        "line 9: poll.raylets.deadline: found `soon`; accepted: a duration from 10ms to 10s, such as 100ms, 30s or 1m 30s",
        "line 10: poll.raylets.deadline: given twice, first in line 9",
        "line 12: ray.gcsAddress: found `localhost`; accepted: a host with a port, such as 127.0.0.1:6379",
        "line 14: scaling.idleTimeout: found the number 5; accepted: a duration up to 365days, such as 100ms, 30s or 1m 30s",
        "line 15: scaling.upscalingMode: unknown value `fast`; accepted: Default, Aggressive, Conservative",
        "line 16: kubernetes: found `fast`; accepted: a map of settings",
        "line 19: report.monitorLog.bytesMax: found the number 1.5; accepted: a whole number from 65536",
        "line 20: report.monitorLog.backups: found the number -1; accepted: a whole number from 0 to 1000",
        "line 22: admin.bind: found the number 44217; accepted: an address with a port, such as 127.0.0.1:44217",
        "line 23: admin.questions[1]: unknown value `secrets`; accepted: decision, history, config",
        "line 25: log.level: unknown value `loud`; accepted: error, warn, info, debug, trace",
        "line 26: log.colour: unknown key; accepted: format, level",
        "line 28: policies[0].name: unknown policy `cooldwn`, did you mean `cooldown`?; accepted: cooldown",
        "line 29: policies[1].name: missing; accepted: text",
        "line 31: policies[2].settings: unknown setting `befor`",
        "line 32: policies[3].name: policy `cooldown` is already in the chain",
        "line 33: policies[4]: found the number 7; accepted: a map of settings",
        "line 34: policies[5].name: found the number 8; accepted: text",
        "kind: missing; accepted: RayscalerConfig",
    ];
    assert_eq!(problems(text), expected);
}

/// Returns settings of this schema in which one value after the other is `wrong`.
fn settings_with(wrong: &Value, schema: &Value, defs: &Value) -> Vec<Value> {
    let reference = schema["$ref"].as_str().and_then(|it| it.rsplit('/').next());
    let schema = reference.map_or(schema, |name| &defs[name]);
    let below = |schema: &Value| {
        let deeper = settings_with(wrong, schema, defs);
        deeper.into_iter().chain([wrong.clone()])
    };
    let mut all = Vec::new();
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        all.extend(below(schema).map(|value| json!({key: value})));
    }
    let free = &schema["additionalProperties"];
    if free.is_object() {
        all.extend(below(free).map(|value| json!({"k": value})));
    }
    if schema["items"].is_object() {
        all.extend(below(&schema["items"]).map(|value| json!([value])));
    }
    for schema in schema["anyOf"].as_array().into_iter().flatten() {
        all.extend(settings_with(wrong, schema, defs));
    }
    all
}

#[test]
fn settings_of_policies_are_refused_in_the_words_of_the_file() {
    let of_serde = ["invalid ", "expected", "unknown field", "unknown variant"];
    let wrong = json!(["so-so", "", -1, 1.5, 99_999_999_999_u64, true, null, [7], {"x": 1}]);
    let registry = Registry::default();
    let (mut refused, mut taken) = (0, 0);
    for policy in policies() {
        let schema = (policy.schema)().to_value();
        for wrong in wrong.as_array().unwrap() {
            for settings in settings_with(wrong, &schema, &schema["$defs"]) {
                let chain = json!([{"name": policy.name, "settings": settings}]);
                match config::parse(&format!("{HEAD}policies: {chain}\n"), &registry) {
                    Ok(config) => {
                        assert!(config::engine(&config, &registry).is_ok(), "{chain}");
                        taken += 1;
                    }
                    Err(errors) => {
                        for error in errors {
                            let shown = error.to_string();
                            let problem = format!("{chain}: {shown}");
                            assert!(
                                shown.starts_with("line 3: policies[0].settings"),
                                "{problem}"
                            );
                            assert!(!of_serde.iter().any(|it| shown.contains(it)), "{problem}");
                        }
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 200 && taken > 20, "{refused} {taken}");
}

#[test]
fn every_mistake_in_the_settings_of_policies_is_named_with_its_line() {
    let text = format!(
        "{HEAD}\
policies:
  - name: recycle
    settings:
      attempts: three
      pause: 60
      puase_max: 1h
      crash_after:
  - name: maximum
    settings:
      nodes_max: -1
      resources_max: {{GPU: many, CPU: -4}}
  - name: rate_up
    settings:
      each:
        select: most
        policies:
          - {{type: nodes, value: 10}}
          - {{type: pods, value: 1.5, period: 1m}}
  - name: minimum
    settings: {{at: 1}}
  - name: stabilization
    settings: {{down: 2h}}
  - name: runaway
    settings: {{turns: 5000000000}}
"
    );
    let expected = [
        "line 6: policies[0].settings.attempts: found `three`; accepted: a whole number from 0 to 4294967295",
        "line 7: policies[0].settings.pause: found the number 60; accepted: a duration, such as 100ms, 30s or 1m 30s",
        "line 8: policies[0].settings.puase_max: unknown key, did you mean `pause_max`?; accepted: attempts, crash_after, image_after, pause, pause_max, refused_after, unregistered_after, unschedulable_after",
        "line 9: policies[0].settings.crash_after: found nothing; accepted: a duration, such as 100ms, 30s or 1m 30s",
        "line 12: policies[1].settings.nodes_max: found the number -1; accepted: a whole number from 0",
        "line 13: policies[1].settings.resources_max.GPU: found `many`; accepted: a number",
        "line 13: policies[1].settings.resources_max.CPU: -4 is not an amount of 0 or more",
        "line 17: policies[2].settings.each.select: unknown value `most`; accepted: max, min, disabled",
        "line 19: policies[2].settings.each.policies[0].period: missing; accepted: a duration, such as 100ms, 30s or 1m 30s",
        "line 20: policies[2].settings.each.policies[1].type: unknown value `pods`, did you mean `nodes`?; accepted: nodes, percent",
        "line 20: policies[2].settings.each.policies[1].value: found the number 1.5; accepted: a whole number from 0 to 4294967295",
        "line 22: policies[3].settings.at: unknown key; accepted: no settings",
        "line 24: policies[4].settings.down: 7200000 ms; accepted: up to 1h",
        "line 26: policies[5].settings.turns: found the number 5000000000; accepted: a whole number from 0 to 4294967295",
    ];
    let errors = config::parse(&text, &Registry::default()).unwrap_err();
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(shown, expected);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let text = format!("{HEAD}poll: {{gcs: {{intervalMin: 10s, intervalMax: 1s}}}}\n");
    assert_eq!(
        problems(&text),
        [
            "line 3: poll.gcs.intervalMin: 10s is longer than intervalMax, 1s; accepted: at most intervalMax"
        ]
    );
}

#[test]
fn text_that_is_no_config_is_refused() {
    for text in [
        "",
        "[]",
        "just words",
        "- a\n- b",
        "\u{feff}",
        "{",
        "a: b: c",
        "\0",
    ] {
        assert!(config::parse(text, &OnePolicy).is_err(), "{text:?}");
    }
    assert!(config::parse(&"{a: ".repeat(100_000), &OnePolicy).is_err());
}

#[test]
fn the_schema_describes_every_setting() {
    fn walk(schema: &Value, path: &str) {
        for (key, of) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            assert!(of.get("description").is_some(), "{path} has no description");
            walk(of, &path);
        }
    }
    let schema = config::schema();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(
        schema["required"],
        serde_json::json!(["apiVersion", "kind"])
    );
    walk(&schema, "");
}

proptest::proptest! {
    /// Pieces of the default file and of YAML's own signs, in any order: an answer and no panic, and
    /// what is accepted once is accepted again.
    #[test]
    fn any_text_gets_an_answer(
        picks in proptest::collection::vec((0_usize..80, 0_usize..12), 0..40),
    ) {
        let text = default_text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("# ")).collect();
        let signs = ["", "", "", "", " ", "- ", "{", "]", "\"", "&a ", "*a", "9999999999999999999"];
        let mixed: Vec<String> = picks
            .iter()
            .map(|(line, sign)| format!("{}{}", lines[line % lines.len()], signs[*sign]))
            .collect();
        for text in [mixed.join("\n"), format!("{HEAD}{}", mixed.join("\n"))] {
            if let Ok(config) = config::parse(&text, &OnePolicy) {
                let written = serde_json::to_string(&config).unwrap();
                proptest::prop_assert_eq!(config::parse(&written, &OnePolicy).unwrap(), config);
            }
        }
    }
}
