//! `rayscaler policies`: the chain, a line each.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::arguments::PoliciesArguments;
use crate::config::PolicyCatalog;

/// Holds what is shown of one policy.
#[derive(Debug)]
pub(super) struct PolicyLine {
    pub(super) name: &'static str,
    pub(super) stage: &'static str,
    pub(super) summary: &'static str,
}

/// Returns the policies of this build, in their order.
fn known() -> Vec<PolicyLine> {
    Vec::new()
}

/// Returns what the config may name.
pub(super) fn catalog() -> impl PolicyCatalog {
    BuiltIn
}

struct BuiltIn;

impl PolicyCatalog for BuiltIn {
    fn names(&self) -> Vec<&str> {
        known().iter().map(|policy| policy.name).collect()
    }

    fn check(&self, _name: &str, _settings: &Map<String, Value>) -> Result<(), String> {
        Ok(())
    }
}

/// Prints the policies.
pub(super) fn run(arguments: &PoliciesArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    print(&known(), arguments.json, out)
}

fn print(policies: &[PolicyLine], is_json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if is_json {
        let lines = policies.iter().map(
            |policy| json!({"name": policy.name, "stage": policy.stage, "summary": policy.summary}),
        );
        writeln!(out, "{:#}", Value::Array(lines.collect()))?;
        return Ok(());
    }
    let width = policies.iter().map(|policy| policy.name.len()).max();
    let width = width.unwrap_or(0);
    for PolicyLine {
        name,
        stage,
        summary,
    } in policies
    {
        writeln!(out, "{stage:<8} {name:<width$}  {summary}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PolicyLine, print};

    const POLICIES: [PolicyLine; 2] = [
        PolicyLine {
            name: "demand",
            stage: "propose",
            summary: "grow groups for pending requests",
        },
        PolicyLine {
            name: "cap",
            stage: "guard",
            summary: "never more than this",
        },
    ];

    #[test]
    fn each_policy_is_a_line() {
        let mut text = Vec::new();
        print(&POLICIES, false, &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "propose  demand  grow groups for pending requests\n\
             guard    cap     never more than this\n"
        );
        let mut json = Vec::new();
        print(&POLICIES, true, &mut json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json[1]["stage"], "guard");
    }
}
