//! What a chain of policies in the config file undoes of the profile that is chosen above it.
//!
//! A given chain takes the place of the profile's own, settings included: whoever restates `packing` as
//! `rayscaler policies` shows it has the profile `best` without its packer.

use serde_json::Value;

use super::finding::{Finding, Severity};
use crate::config::Config;

/// Returns the settings that make the profile and are not among the given ones.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let Some(given) = &config.policies else {
        return Vec::new();
    };
    let profile = serde_json::to_value(config.scaling.profile).unwrap_or_default();
    let profile = profile.as_str().unwrap_or_default();
    let mut findings = Vec::new();
    for entry in config.scaling.profile.chain() {
        let own = given.iter().position(|choice| choice.name == entry.name);
        let wanted = entry.settings.as_object();
        for (key, wanted) in wanted.into_iter().flatten() {
            let has = own.and_then(|at| given[at].settings.get(key));
            if has == Some(wanted) {
                continue;
            }
            findings.push(Finding {
                code: "profile_undone".to_owned(),
                severity: Severity::Warning,
                path: match own {
                    Some(at) => format!("policies[{at}].settings.{key} of `{}`", entry.name),
                    None => format!("policies: settings.{key} of `{}`", entry.name),
                },
                value: has.map_or_else(|| "not given".to_owned(), Value::to_string),
                accepted: format!("{wanted}, as in the profile `{profile}`"),
                why: "a list of policies takes the place of the profile's own, and its settings do not carry over"
                    .to_owned(),
            });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::findings;
    use crate::config::Config;
    use crate::engine::Profile;

    fn paths(profile: Profile, policies: &serde_json::Value) -> Vec<String> {
        let mut config = Config::default();
        config.scaling.profile = profile;
        config.policies = serde_json::from_value(policies.clone()).unwrap();
        findings(&config).into_iter().map(|it| it.path).collect()
    }

    #[test]
    fn a_given_chain_does_not_switch_off_the_profile_in_silence() {
        let restated = json!([
            {"name": "packing", "settings": {"scoring": "ray"}},
            {"name": "gangs", "settings": {"spread": true}},
        ]);
        let undone = [
            "policies[0].settings.scoring of `packing`",
            "policies[1].settings.fallbacks of `gangs`",
        ];
        assert_eq!(paths(Profile::Best, &restated), undone);
        assert_eq!(paths(Profile::Best, &json!([])).len(), 3);
        let kept = json!([
            {"name": "gangs", "settings": {"spread": true, "fallbacks": true, "pause": "1m"}},
            {"name": "packing", "settings": {"scoring": "price", "unit_prices": {"CPU": 2}}},
        ]);
        let none: [&str; 0] = [];
        assert_eq!(paths(Profile::Best, &kept), none);
        assert_eq!(paths(Profile::Best, &json!(null)), none);
        assert_eq!(paths(Profile::Default, &restated), none);
    }
}
