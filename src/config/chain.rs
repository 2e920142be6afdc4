//! From settings to the engine: the chain of policies, and what the section `scaling` adds to it.
//!
//! # Why here
//!
//! The engine knows nothing of a config file, and policies know nothing of each other. What one
//! setting means to several of them is said in this file and nowhere else.

use serde_json::{Map, Value};

use super::{Config, PolicyCatalog, Scaling, settings};
use crate::engine::{BuildError, ChainEntry, Engine, EngineSettings};
use crate::model::{ClusterSnapshot, Resizing};
use crate::policy::{self, Registry};

/// The policy that `scaling.conserveGpuNodes: false` switches off, and its key for that.
const SPARING: (&str, &str) = ("gpu_sparing", "resources");

/// Returns the engine that these settings ask for.
///
/// # Errors
///
/// Every entry of the chain that cannot be built. A config read with the same registry has none.
pub fn engine(config: &Config, registry: &Registry) -> Result<Engine, Vec<BuildError>> {
    let settings = EngineSettings {
        stale_after: policy::HumanDuration::from_ms(config.scaling.stale_after.as_ms()),
        tell_departures: config.ray.tell_lost_nodes,
        frozen_after: policy::HumanDuration::from_ms(config.scaling.frozen_after.as_ms()),
        recover_within: policy::HumanDuration::from_ms(config.scaling.recover_within.as_ms()),
        ..EngineSettings::default()
    };
    let engine = Engine::new(&chain(config), registry)?.with_settings(settings);
    Ok(engine.with_profile(config.scaling.profile))
}

/// Returns the chain that these settings ask for, in the order of the file.
#[must_use]
pub fn chain(config: &Config) -> Vec<ChainEntry> {
    let mut chain = match &config.policies {
        None => config.scaling.profile.chain(),
        Some(choices) => choices
            .iter()
            .map(|choice| ChainEntry {
                name: choice.name.clone(),
                settings: Value::Object(choice.settings.clone()),
            })
            .collect(),
    };
    let (name, key) = SPARING;
    let sparing = chain.iter_mut().filter(|entry| entry.name == name);
    for entry in sparing.filter(|_| !config.scaling.conserve_gpu_nodes) {
        let mut settings = match entry.settings.take() {
            Value::Object(settings) => settings,
            _ => Map::new(),
        };
        settings.insert(key.to_owned(), Value::Array(Vec::new()));
        entry.settings = Value::Object(settings);
    }
    chain
}

impl Scaling {
    /// Writes into a snapshot what this file says instead of the RayCluster.
    ///
    /// A worker group's own `idleTimeoutSeconds` stays and wins over both.
    pub fn apply_to(&self, snapshot: &mut ClusterSnapshot) {
        if let Some(timeout) = self.idle_timeout {
            snapshot.idle_timeout_ms = Some(timeout.as_ms());
        }
        snapshot.upscaling_mode = self.upscaling_mode(snapshot.upscaling_mode);
        if self.paused && snapshot.paused.is_none() {
            snapshot.paused = Some("scaling.paused of the config file".to_owned());
        }
        if !self.resize_pods {
            snapshot.resizing = Resizing::default();
        }
    }
}

impl PolicyCatalog for Registry {
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        names
    }

    fn check(&self, name: &str, settings: &Map<String, Value>) -> Result<(), String> {
        let entry = self.get(name).ok_or("unknown policy")?;
        (entry.build)(&Value::Object(settings.clone())).map(drop)
    }

    fn schema(&self, name: &str) -> Option<Value> {
        let entry = self.get(name)?;
        Some(settings::written_out(&(entry.schema)().to_value()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{chain, engine};
    use crate::config::{self, Config, HumanDuration, PolicyChoice, UpscalingMode};
    use crate::engine::{Engine, Profile};
    use crate::model::{self, ClusterSnapshot};
    use crate::policy::Registry;

    fn choice(name: &str, settings: serde_json::Value) -> PolicyChoice {
        serde_json::from_value(json!({"name": name, "settings": settings})).unwrap()
    }

    fn built(config: &Config) -> String {
        format!("{:?}", engine(config, &Registry::default()).unwrap())
    }

    #[test]
    fn without_a_file_the_engine_is_the_built_in_one() {
        assert_eq!(
            built(&Config::default()),
            format!("{:?}", Engine::default())
        );
    }

    #[test]
    fn age_and_chain_come_from_the_file() {
        let mut config = Config::default();
        config.scaling.stale_after = HumanDuration::from_ms(77_000);
        config.policies = Some(vec![
            choice("idle", json!({"timeout": "5m"})),
            choice("demand", json!({})),
        ]);
        let text = built(&config);
        assert!(text.contains("stale_after: HumanDuration(77000)"), "{text}");
        assert!(text.contains(r#"chain: ["demand", "idle"]"#), "{text}");
        config.policies = Some(vec![choice("idle", json!({"timeout": 5}))]);
        let errors = engine(&config, &Registry::default()).unwrap_err();
        assert!(
            errors[0]
                .to_string()
                .starts_with("policies[0] `idle`: settings.timeout: ")
        );
    }

    #[test]
    fn the_profile_chooses_the_chain_and_the_corrections() {
        let mut config = Config::default();
        config.scaling.profile = Profile::Ray;
        let text = built(&config);
        assert!(
            !text.contains("running_first") && text.contains("settle: false"),
            "{text}"
        );
        config.scaling.profile = Profile::Best;
        let chain = chain(&config);
        let packing = chain.iter().find(|entry| entry.name == "packing").unwrap();
        assert_eq!(packing.settings, json!({"scoring": "price"}));
    }

    #[test]
    fn gpu_nodes_are_not_spared_when_the_file_says_so() {
        let sparing = |config: &Config| {
            let chain = chain(config);
            let entry = chain.into_iter().find(|entry| entry.name == "gpu_sparing");
            entry.unwrap().settings
        };
        let mut config = Config::default();
        assert_eq!(sparing(&config), json!(null));
        config.scaling.conserve_gpu_nodes = false;
        assert_eq!(sparing(&config), json!({"resources": []}));
        built(&config);
        config.policies = Some(vec![choice("gpu_sparing", json!({"resources": ["TPU"]}))]);
        assert_eq!(sparing(&config), json!({"resources": []}));
        config.scaling.conserve_gpu_nodes = true;
        assert_eq!(sparing(&config), json!({"resources": ["TPU"]}));
    }

    #[test]
    fn the_file_wins_over_the_raycluster_where_it_says_something() {
        let of_raycluster = ClusterSnapshot {
            idle_timeout_ms: Some(5),
            upscaling_mode: model::UpscalingMode::Conservative,
            paused: Some("by hand".to_owned()),
            ..ClusterSnapshot::default()
        };
        let mut scaling = Config::default().scaling;
        let mut snapshot = of_raycluster.clone();
        scaling.apply_to(&mut snapshot);
        assert_eq!(snapshot, of_raycluster);
        scaling.idle_timeout = Some(HumanDuration::from_ms(7));
        scaling.upscaling_mode = Some(UpscalingMode::Aggressive);
        scaling.paused = true;
        scaling.apply_to(&mut snapshot);
        assert_eq!(snapshot.idle_timeout_ms, Some(7));
        assert_eq!(snapshot.upscaling_mode, model::UpscalingMode::Unlimited);
        assert_eq!(snapshot.paused.as_deref(), Some("by hand"));
        let mut snapshot = ClusterSnapshot::default();
        scaling.apply_to(&mut snapshot);
        assert!(snapshot.paused.unwrap().contains("scaling.paused"));
    }

    #[test]
    fn settings_of_policies_are_checked_where_they_stand() {
        let text = "apiVersion: rayscaler.io/v1alpha1\nkind: RayscalerConfig\npolicies:\n\
            - name: idle\n  settings: {timeout: soon, tiemout: 1s}\n- name: demnad\n";
        let errors = config::parse(text, &Registry::default()).unwrap_err();
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 3, "{text:#?}");
        for (text, start) in text.iter().zip([
            "line 5: policies[0].settings.timeout: found `soon`; accepted: a duration",
            "line 5: policies[0].settings.tiemout: unknown key, did you mean `timeout`?",
            "line 6: policies[1].name: unknown policy `demnad`, did you mean `demand`?",
        ]) {
            assert!(text.starts_with(start), "{text}");
        }
    }
}
