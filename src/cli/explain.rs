//! `rayscaler explain`: why something is not launched, or not removed, group by group.
//!
//! The answer is made from the last pass, not from a log: the facts, what the engine remembered and
//! the settings in force are asked for, and the same engine decides over again.

pub(super) mod demand;
mod launch;
mod launch_text;
mod node;
mod unschedulable;
mod verdict;

use std::io::{self, IsTerminal, Write};

use anyhow::Context as _;
use serde_json::Value;

use super::arguments::ExplainArguments;
use super::ask::{AskError, Asker};
use super::check::Refused;
use super::paint::Paint;
use super::progress::Progress;
use crate::admin::LastPass;
use crate::config::{self, Config};
use crate::engine::Engine;
use crate::model::{LabelSelector, ResourceDemand, ResourceRequest};
use crate::policy::Registry;

/// Asks, explains and prints.
pub(super) fn run(arguments: &ExplainArguments, registry: &Registry) -> anyhow::Result<()> {
    let asker = Asker::new(&arguments.target.base(&super::variable))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let pass: LastPass = runtime.block_on(asker.get("/v1/pass", "decision"))?;
    let paint = Paint::of(io::stdout().is_terminal(), &super::variable);
    let text = if let Some(pod) = &arguments.pod {
        let answer = node::explain(&pass, pod)?;
        shown(&answer, arguments.json, || node::text(&answer, paint))?
    } else {
        let config = runtime.block_on(settings(&asker, registry))?;
        let asked = asked(arguments);
        let answer = {
            let _shown = Progress::of("deciding with and without the demand");
            launch::explain(&pass, &engine(&config, registry)?, &asked)
        };
        shown(&answer, arguments.json, || {
            launch_text::text(&answer, paint)
        })?
    };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

fn shown<T: serde::Serialize>(
    answer: &T,
    is_json: bool,
    text: impl FnOnce() -> String,
) -> anyhow::Result<String> {
    if is_json {
        return Ok(serde_json::to_string_pretty(answer)? + "\n");
    }
    Ok(text())
}

/// Returns the demand of the command line.
fn asked(arguments: &ExplainArguments) -> ResourceDemand {
    let mut constraints = arguments.label.clone();
    constraints.sort();
    let selector = LabelSelector { constraints };
    // Ray sends one selector without conditions for tasks that have none; ours must equal theirs.
    let selectors = vec![selector];
    let resources = arguments.demand.clone().unwrap_or_default();
    let request = ResourceRequest {
        selectors,
        ..ResourceRequest::of(resources)
    };
    let count = arguments.count;
    ResourceDemand { request, count }
}

/// Returns the settings in force; the defaults, and says so, where they are not told.
async fn settings(asker: &Asker, registry: &Registry) -> anyhow::Result<Config> {
    let value: Value = match asker.get("/v1/config", "config").await {
        Ok(value) => value,
        Err(AskError::NotAnswered { .. }) => {
            super::say("the settings in force are not told; deciding with the defaults");
            return Ok(Config::default());
        }
        Err(error) => return Err(error.into()),
    };
    config::parse(&value.to_string(), registry).map_err(|errors| {
        let lines = super::lines(&errors);
        anyhow::anyhow!(
            "the settings in force are not accepted here; is it of another version?\n{lines}"
        )
    })
}

fn engine(config: &Config, registry: &Registry) -> anyhow::Result<Engine> {
    config::engine(config, registry)
        .map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Refused::new(lines.join("\n"))
        })
        .context("the policies in force cannot be built here")
}
