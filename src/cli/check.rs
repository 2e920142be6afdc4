//! `rayscaler check`: a config file, and what will hurt of a RayCluster.

#[cfg(test)]
mod cases;
mod command;
mod finding;
mod keys;
mod profile;
mod scaling;
mod shapes;
mod start;
pub(super) mod subject;
mod surroundings;
mod table;
mod variables;
pub(super) mod versions;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde_json::{Value, json};
use thiserror::Error;

use super::arguments::{CheckArguments, config_path};
use super::paint::Paint;
use super::progress::Progress;
use super::{manifest, understood};
use crate::config::{self, Config, PolicyCatalog};
use finding::{Finding, Severity};
use subject::{Subject, Surroundings};

/// A config file that is not accepted.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Refused(String);

impl Refused {
    pub(super) const fn new(problem: String) -> Self {
        Self(problem)
    }
}

/// Checks what it is given, and says so; returns whether anything in it is an error.
pub(super) fn run(
    arguments: &CheckArguments,
    policies: &dyn PolicyCatalog,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let flag = arguments.file.clone().or_else(|| arguments.config.clone());
    let path = config_path(flag, &super::variable);
    if path.is_none() && arguments.raycluster.is_none() {
        anyhow::bail!("nothing to check; name a config file, or a RayCluster with --raycluster");
    }
    let config = match &path {
        Some(path) => load(path, policies)?,
        None => Config::default(),
    };
    let subjects = match &arguments.raycluster {
        Some(path) => read(path, arguments)?,
        None => Vec::new(),
    };
    let checked: Vec<(Subject, Vec<Finding>)> = subjects
        .into_iter()
        .map(|subject| {
            let findings = table::findings(&subject);
            (subject, findings)
        })
        .collect();
    if arguments.json {
        let json = json(path.as_deref(), &profile::findings(&config), &checked);
        writeln!(out, "{json:#}")?;
    } else {
        print(path.as_deref(), &config, &checked, out)?;
    }
    let mut all = checked.iter().flat_map(|(_, findings)| findings);
    Ok(all.any(|finding| finding.severity == Severity::Error))
}

fn read(path: &Path, arguments: &CheckArguments) -> anyhow::Result<Vec<Subject>> {
    let _shown = Progress::of(&format!("reading {}", path.display()));
    let roles = match &arguments.role {
        Some(path) => manifest::roles(path)?,
        None => Vec::new(),
    };
    let surroundings = Surroundings {
        kuberay: arguments.kuberay_version,
        roles,
        network_policies: Vec::new(),
    };
    Subject::read(path, &surroundings)
}

fn print(
    config_path: Option<&Path>,
    config: &Config,
    checked: &[(Subject, Vec<Finding>)],
    out: &mut dyn Write,
) -> io::Result<()> {
    let paint = Paint::of(io::stdout().is_terminal(), &super::variable);
    if let Some(path) = config_path {
        writeln!(out, "{}: accepted", path.display())?;
        for finding in profile::findings(config) {
            out.write_all(finding.text(paint).as_bytes())?;
        }
    }
    for (subject, findings) in checked {
        understood::print(subject, config, out)?;
        for finding in findings {
            out.write_all(finding.text(paint).as_bytes())?;
        }
        writeln!(
            out,
            "{} `{}`: {}",
            subject.kind,
            subject.name,
            counts(findings)
        )?;
    }
    Ok(())
}

/// Returns how much was found, in words.
fn counts(findings: &[Finding]) -> String {
    let count = |severity: Severity, one: &str| {
        let count = findings.iter().filter(|it| it.severity == severity).count();
        match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {one}s"),
        }
    };
    let parts = [
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
        count(Severity::Note, "note"),
    ];
    parts.join(", ")
}

fn json(
    config_path: Option<&Path>,
    of_config: &[Finding],
    checked: &[(Subject, Vec<Finding>)],
) -> Value {
    let subjects = checked.iter().map(|(subject, findings)| {
        json!({"kind": subject.kind, "name": subject.name, "findings": findings})
    });
    json!({
        "config": config_path.map(|path| path.display().to_string()),
        "config_findings": of_config,
        "checked": subjects.collect::<Vec<_>>(),
    })
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
