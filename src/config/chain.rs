//! From the settings to the engine.

use serde_json::Value;

use super::Config;
use crate::engine::{BuildError, ChainEntry, Engine, EngineSettings};
use crate::policy::{HumanDuration, Registry};

/// Builds the engine that a config asks for.
///
/// # Errors
///
/// Every entry of the chain that cannot be built.
pub fn engine(config: &Config, registry: &Registry) -> Result<Engine, Vec<BuildError>> {
    let chain = match &config.policies {
        None => ChainEntry::defaults(),
        Some(choices) => choices
            .iter()
            .map(|choice| ChainEntry {
                name: choice.name.clone(),
                settings: Value::Object(choice.settings.clone()),
            })
            .collect(),
    };
    let stale_after = HumanDuration::from_ms(config.scaling.stale_after.as_ms());
    Ok(
        Engine::new(&chain, registry)?.with_settings(EngineSettings {
            stale_after,
            ..EngineSettings::default()
        }),
    )
}
