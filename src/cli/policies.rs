//! `rayscaler policies`: the chain, a line each.

use std::io::Write;

use serde_json::{Value, json};

use super::arguments::PoliciesArguments;
use crate::policy::{PolicyEntry, policies};

/// Prints the policies in the order of the default chain.
pub(super) fn run(arguments: &PoliciesArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    if arguments.json {
        let lines = policies().map(|policy| {
            json!({
                "name": policy.name,
                "stage": stage(policy),
                "summary": policy.summary,
                "settings": (policy.default_settings)(),
                "schema": (policy.schema)(),
            })
        });
        writeln!(out, "{:#}", Value::Array(lines.collect()))?;
        return Ok(());
    }
    let width = policies().map(|policy| policy.name.len()).max();
    let width = width.unwrap_or(0);
    for policy in policies() {
        let PolicyEntry { name, summary, .. } = policy;
        writeln!(out, "{:<8} {name:<width$}  {summary}", stage(policy))?;
    }
    Ok(())
}

/// Returns the stage's name as the rest of the program writes it.
fn stage(policy: &PolicyEntry) -> String {
    match serde_json::to_value(policy.stage) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}
