//! The list of policies by name.

use schemars::Schema;
use serde_json::Value;

use super::{
    Policy, Stage, blast_radius, constraint, demand, fair_share, gangs, gpu_sparing,
    group_availability, group_priority, growth_slices, idle, maximum, minimum, ordered, packing,
    pending_idle, rate_down, rate_up, recycle, runaway, running_first, stabilization, stopped,
    upscaling_mode,
};

/// Describes a policy: everything but what it does.
#[derive(Debug, Clone, Copy)]
pub struct PolicyEntry {
    /// Its name in the configuration and in reasons.
    pub name: &'static str,
    /// When it runs.
    pub stage: Stage,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Builds it from its settings; the error names the key.
    pub build: fn(&Value) -> Result<Box<dyn Policy>, String>,
    /// Returns its settings when nothing is configured.
    pub default_settings: fn() -> Value,
    /// Returns the schema of its settings.
    pub schema: fn() -> Schema,
}

/// All policies of this crate, in the order of the default chain.
static BUILT_IN: &[PolicyEntry] = &[
    group_priority::ENTRY,
    group_availability::ENTRY,
    packing::ENTRY,
    gpu_sparing::ENTRY,
    running_first::ENTRY,
    ordered::ENTRY,
    stopped::ENTRY,
    recycle::ENTRY,
    minimum::ENTRY,
    maximum::ENTRY,
    rate_up::ENTRY,
    runaway::ENTRY,
    constraint::ENTRY,
    gangs::ENTRY,
    fair_share::ENTRY,
    demand::ENTRY,
    upscaling_mode::ENTRY,
    growth_slices::ENTRY,
    pending_idle::ENTRY,
    idle::ENTRY,
    stabilization::ENTRY,
    rate_down::ENTRY,
    blast_radius::ENTRY,
];

/// Returns the policies of this crate, in the order of the default chain.
pub fn policies() -> impl Iterator<Item = &'static PolicyEntry> {
    BUILT_IN.iter()
}

/// Holds the policies that a chain may name.
#[derive(Debug, Clone)]
pub struct Registry {
    entries: Vec<PolicyEntry>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            entries: BUILT_IN.to_vec(),
        }
    }
}

impl Registry {
    /// Adds a policy, or replaces the one of its name.
    #[must_use]
    pub fn register(mut self, entry: PolicyEntry) -> Self {
        self.entries.retain(|other| other.name != entry.name);
        self.entries.push(entry);
        self
    }

    /// Returns the policy of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&PolicyEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = &PolicyEntry> {
        self.entries.iter()
    }
}
