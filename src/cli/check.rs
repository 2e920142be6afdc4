//! `rayscaler check`: a config file, and what is understood of a RayCluster.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use thiserror::Error;

use super::arguments::{CheckArguments, config_path};
use crate::config::{self, Config, PolicyCatalog};

/// A config file that is not accepted.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Refused(String);

/// Checks what it is given, and says so.
pub(super) fn run(
    arguments: &CheckArguments,
    policies: &dyn PolicyCatalog,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let flag = arguments.file.clone().or_else(|| arguments.config.clone());
    let path = config_path(flag, &super::variable);
    if path.is_none() && arguments.raycluster.is_none() {
        anyhow::bail!("nothing to check; name a config file, or a RayCluster with --raycluster");
    }
    if let Some(path) = path {
        load(&path, policies)?;
        writeln!(out, "{}: accepted", path.display())?;
    }
    if let Some(path) = &arguments.raycluster {
        let text = read(path)?;
        for line in understood(&text)? {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

/// Returns the settings of a config file; all mistakes in one error.
pub(super) fn load(path: &Path, policies: &dyn PolicyCatalog) -> anyhow::Result<Config> {
    let text = read(path)?;
    config::parse(&text, policies).map_err(|errors| {
        let (count, lines) = (errors.len(), super::lines(&errors));
        let problem = format!("{}: {count} mistakes\n{lines}", path.display());
        Refused(problem.replace(": 1 mistakes\n", ": 1 mistake\n")).into()
    })
}

pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Returns what is understood of each group, a line each.
fn understood(_raycluster: &str) -> anyhow::Result<Vec<String>> {
    anyhow::bail!("this build cannot read a RayCluster")
}
