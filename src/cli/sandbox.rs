//! `rayscaler sandbox`: what is played, and how it is shown.

use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::check;
use crate::config::{Admin, Config, METRICS_PORT};
use crate::policy::Registry;
use crate::sandbox::scenario::{BUILT_IN, Scenario};
use crate::sandbox::{self, RayInstallation, SandboxError, SandboxOptions, Speed};

const EXAMPLES: &str = "\
Examples:
  rayscaler sandbox                             a minute of a busy cluster
  rayscaler sandbox --speed 5 --plain           the same in lines, in 15 seconds
  rayscaler sandbox --print-scenario > my.yaml  a scenario to change
  rayscaler sandbox --scenario my.yaml
  rayscaler sandbox --kube                      and watch with kubectl";

/// Options of `sandbox`.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = EXAMPLES)]
pub struct SandboxArguments {
    /// What is played, in place of the built-in scenario
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Print the built-in scenario, with comments, and play nothing
    #[arg(long)]
    pub print_scenario: bool,
    /// How many seconds of the scenario pass in a second
    #[arg(long, value_name = "FACTOR", default_value = "1")]
    pub speed: Speed,
    /// Print lines in place of the view; the rule where the output is no terminal
    #[arg(long)]
    pub plain: bool,
    /// A config file for the sidecar
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write the sidecar's log there
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Serve the embedded Kubernetes API, and show the kubectl command that looks at it
    #[arg(long)]
    pub kube: bool,
    /// Start a real Ray head, with real raylets as workers, and show its address: run your own script on it
    #[arg(long, conflicts_with = "speed")]
    pub ray: bool,
    /// The folder that has `ray`, in place of the one in PATH
    #[arg(long, value_name = "FOLDER", requires = "ray")]
    pub ray_bin: Option<PathBuf>,
    /// Do not play the stock autoscaler's loop afterwards
    #[arg(long)]
    pub no_comparison: bool,
}

/// Plays a scenario.
pub(super) fn run(
    arguments: &SandboxArguments,
    registry: &Registry,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if arguments.print_scenario {
        return Ok(out.write_all(BUILT_IN.as_bytes())?);
    }
    let config = match &arguments.config {
        Some(path) => check::load(path, registry)?,
        None => Config {
            admin: Admin {
                // For `rayscaler status` on this machine, and nobody else.
                bind: (Ipv4Addr::LOCALHOST, METRICS_PORT).into(),
                ..Admin::default()
            },
            ..Config::default()
        },
    };
    let options = SandboxOptions {
        scenario: scenario(arguments)?,
        config,
        speed: arguments.speed,
        is_plain: arguments.plain || !io::stdout().is_terminal(),
        log: arguments.log.clone(),
        serves_admin: true,
        serves_kube: arguments.kube,
        compares: !arguments.no_comparison,
        ray: arguments.ray.then(|| installation(arguments)).transpose()?,
    };
    sandbox::run(options, out)?;
    Ok(())
}

/// Returns where Ray is: where the flag says, else where a shell would find it.
fn installation(arguments: &SandboxArguments) -> anyhow::Result<RayInstallation> {
    let search_path = super::variable("PATH").unwrap_or_default();
    let has_ray = |folder: &PathBuf| folder.join("ray").is_file();
    let named = arguments.ray_bin.clone();
    let programs = match named {
        Some(folder) if !has_ray(&folder) => {
            anyhow::bail!("--ray-bin: there is no `ray` in `{}`", folder.display())
        }
        Some(folder) => folder,
        None => std::env::split_paths(&search_path).find(has_ray).context(
            "there is no `ray` in PATH: `pip install ray`, or name its folder with --ray-bin",
        )?,
    };
    let programs = programs
        .canonicalize()
        .with_context(|| format!("cannot use `{}`", programs.display()))?;
    Ok(RayInstallation {
        programs,
        search_path,
    })
}

/// Returns whether an error is a mistake in a file of the user's.
pub(super) fn is_refused(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<SandboxError>(),
        Some(SandboxError::Scenario { .. })
    )
}

fn scenario(arguments: &SandboxArguments) -> anyhow::Result<Scenario> {
    let (path, text) = match &arguments.scenario {
        Some(path) => {
            let shown = path.display().to_string();
            let text = fs::read_to_string(path);
            (
                shown.clone(),
                text.with_context(|| format!("cannot read `{shown}`"))?,
            )
        }
        None => ("built-in".to_owned(), BUILT_IN.to_owned()),
    };
    Ok(Scenario::parse(&text).map_err(|errors| SandboxError::Scenario { path, errors })?)
}
