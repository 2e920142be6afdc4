//! Quotas: how many pods a namespace may have.
//!
//! As in the API server alone, nobody counts down: `status.used` grows with each pod and is whoever's who
//! writes the status. Of what a quota can limit only the number of pods is looked at.

use super::State;
use super::kinds::Kind;
use super::refusal::Refusal;
use super::store::{Key, Scope};
use serde_json::{Value, json};

impl State {
    /// Counts a new pod in the quotas of its namespace.
    ///
    /// Errors: one of them is used up.
    pub(super) fn count_in_quotas(
        &mut self,
        kind: &Kind,
        object: &Value,
        is_dry_run: bool,
    ) -> Result<(), Refusal> {
        let metadata = &object["metadata"];
        let Some(namespace) = metadata["namespace"].as_str().filter(|_| kind.is("Pod")) else {
            return Ok(());
        };
        let scope = Scope {
            plural: "resourcequotas",
            namespace: Some(namespace.to_owned()),
        };
        let mut counted: Vec<(Key, Value)> = Vec::new();
        for (key, quota) in self.store.list(&scope) {
            let amount = |of: &str| {
                let text = quota["status"][of]["pods"].as_str()?;
                text.parse::<u64>().ok()
            };
            let Some(limit) = amount("hard") else {
                continue;
            };
            let used = amount("used").unwrap_or(0);
            if used >= limit {
                let problem = format!(
                    "exceeded quota: {}, requested: pods=1, used: pods={used}, limited: pods={limit}",
                    key.name
                );
                let name = metadata["name"].as_str().unwrap_or_default();
                return Err(Refusal::forbidden(kind, name, &problem));
            }
            let mut quota = (***quota).clone();
            quota["status"]["used"]["pods"] = json!((used + 1).to_string());
            counted.push((key.clone(), quota));
        }
        if !is_dry_run {
            for (key, quota) in counted {
                self.store.put(key, quota)?;
            }
        }
        Ok(())
    }
}
