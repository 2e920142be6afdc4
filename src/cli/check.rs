//! `rayscaler check`: a config file, and what is understood of a RayCluster.

use std::io::Write;
use std::path::Path;

use thiserror::Error;

use super::arguments::{CheckArguments, config_path};
use super::{manifest, understood};
use crate::config::{self, Config, PolicyCatalog};

/// A config file that is not accepted.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Refused(String);

impl Refused {
    pub(super) const fn new(problem: String) -> Self {
        Self(problem)
    }
}

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
    let mut config = Config::default();
    if let Some(path) = path {
        config = load(&path, policies)?;
        writeln!(out, "{}: accepted", path.display())?;
    }
    if let Some(path) = &arguments.raycluster {
        for raycluster in manifest::ray_clusters(path)? {
            understood::print(&raycluster, &config, out)?;
        }
    }
    Ok(())
}

/// Returns the settings of a config file; all mistakes in one error.
pub(super) fn load(path: &Path, policies: &dyn PolicyCatalog) -> anyhow::Result<Config> {
    let text = manifest::read(path)?;
    config::parse(&text, policies).map_err(|errors| {
        let (count, lines) = (errors.len(), super::lines(&errors));
        let problem = format!("{}: {count} mistakes\n{lines}", path.display());
        Refused::new(problem.replace(": 1 mistakes\n", ": 1 mistake\n")).into()
    })
}
