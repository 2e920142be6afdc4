//! Our own options, and what they come to together with the environment.

mod live;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::argv::{Invocation, UsageError};
use super::check::versions::version;
use super::shell::Lookup;
use crate::config::{Environment, LogFormat, LogLevel, METRICS_PORT, Overrides};
use crate::runtime::supervisor::Lineage;
use crate::runtime::{RunOptions, Variables};

pub use live::{ExplainArguments, StatusArguments, Target};

/// What `rayscaler version` prints.
pub(super) const VERSION_TEXT: &str = concat!(
    "rayscaler ",
    env!("CARGO_PKG_VERSION"),
    "\nserves Ray 2.47 to 2.60 on KubeRay 1.1 to 1.7\n"
);

const EXIT_CODES: &str = "\
Exit codes:
  0   done; `run`: stopped by SIGTERM
  1   failed; `status`, `explain`, `health`: no answer
  2   the config file is not accepted; `check`: what was checked has an error
  64  the command line is not accepted

Colours are for terminals only, and not where NO_COLOR is set.

Also started as `ray kuberay-autoscaler …`, as `bash -c -- 'ray kuberay-autoscaler …'`, and with that
whole line as its only argument.";

/// An autoscaler for Ray clusters on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "rayscaler", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Says what to do.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Scale a cluster, until SIGTERM
    Run(RunArguments),
    /// Show what a running rayscaler sees, does and waits for
    Status(StatusArguments),
    /// Explain why something is not launched, or not removed
    Explain(ExplainArguments),
    /// Check a config file, and what will hurt of a RayCluster
    Check(CheckArguments),
    /// Decide once, from files, and show decision and reasons
    Decide(DecideArguments),
    /// List the policies in the order in which they are applied
    Policies(PoliciesArguments),
    /// Print the JSON Schema of the config file
    Schema,
    /// Print the version
    Version,
    /// Print completions for a shell
    Completions(CompletionsArguments),
    /// Ask a running rayscaler for its health: exit code 0 when it is well
    Health(HealthArguments),
    /// Watch it scale, without Kubernetes or Ray
    #[cfg(feature = "sandbox")]
    Sandbox(super::sandbox::SandboxArguments),
    /// Put it through seeded trouble under virtual time, and check everything it does
    #[cfg(feature = "sandbox")]
    Simulate(super::simulate::SimulateArguments),
}

/// Options of `run`.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct RunArguments {
    /// Name of the RayCluster [env: RAY_CLUSTER_NAME]
    #[arg(long, value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// Namespace of the RayCluster [env: RAY_CLUSTER_NAMESPACE]
    #[arg(long, value_name = "NAMESPACE")]
    pub cluster_namespace: Option<String>,
    /// The GCS [default: 127.0.0.1 with the port of the RayCluster's rayStartParams]
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub gcs_address: Option<String>,
    /// The config file [env: RAYSCALER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Decide and report, but write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Reach the API server as this file says, instead of as a pod
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Least important lines that are logged [env: RAY_LOGGER_LEVEL]
    #[arg(long, value_name = "LEVEL", value_parser = log_level)]
    pub log_level: Option<LogLevel>,
    /// Form of a log line
    #[arg(long, value_name = "FORM", value_enum)]
    pub log_format: Option<Form>,
    /// Run without the parent that starts it again
    #[arg(long)]
    pub no_supervise: bool,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

const CHECK_HELP: &str = "\
Examples:
  rayscaler check rayscaler.yaml
  rayscaler check --raycluster raycluster.yaml --kuberay-version 1.6
  kubectl get raycluster my-cluster -o yaml | rayscaler check --raycluster -
  kubectl get raycluster --all-namespaces -o yaml | rayscaler check --raycluster -
  helm template . | rayscaler check --raycluster - --role role.yaml --json

A file may hold several objects. RayClusters, and those inside of RayServices and RayJobs, are
checked; Roles and NetworkPolicies beside them are taken into account.

Each finding has a stable code in brackets, the path, the value and what would be accepted.

Exit codes: 0 no errors (warnings and notes alone), 1 a file cannot be read, 2 errors, or a config
file that is not accepted, 64 the command line is not accepted.";

/// Options of `check`.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = CHECK_HELP)]
pub struct CheckArguments {
    /// The config file [env: RAYSCALER_CONFIG]
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// The config file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A RayCluster, RayService or RayJob, as YAML or JSON; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub raycluster: Option<PathBuf>,
    /// The Role or ClusterRole that the sidecar will have, as YAML or JSON
    #[arg(long, value_name = "FILE", requires = "raycluster")]
    pub role: Option<PathBuf>,
    /// Version of the KubeRay operator, such as 1.6
    #[arg(long, value_name = "VERSION", requires = "raycluster", value_parser = kuberay_version)]
    pub kuberay_version: Option<(u64, u64)>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const DECIDE_HELP: &str = "\
Example:
  kubectl get raycluster my-cluster -o yaml > raycluster.yaml
  kubectl get pods -l ray.io/cluster=my-cluster -o yaml > pods.yaml
  kubectl exec POD -- python -c 'import sys; from ray._raylet import GcsClient as Gcs; \
sys.stdout.buffer.write(Gcs(address=\"127.0.0.1:6379\").get_cluster_resource_state())' > reply.bin
  rayscaler decide --gcs-reply reply.bin --raycluster raycluster.yaml --pods pods.yaml

POD is the head pod; Ray's own client asks the GCS there, whose port may be another one.

Exit codes: 0 decided, 1 a file cannot be read, 2 the config file is not accepted, 64 the command
line is not accepted.";

/// Options of `decide`.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = DECIDE_HELP)]
pub struct DecideArguments {
    /// A captured reply to GetClusterResourceState, binary or base64
    #[arg(long, value_name = "FILE")]
    pub gcs_reply: PathBuf,
    /// The RayCluster, as YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub raycluster: PathBuf,
    /// Its pods, as a list in YAML or JSON (`kubectl get pods -o yaml`)
    #[arg(long, value_name = "FILE")]
    pub pods: PathBuf,
    /// The config file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The moment of the decision, as 2026-11-25T10:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub at: Option<std::time::SystemTime>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `policies`.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct PoliciesArguments {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const COMPLETIONS_HELP: &str = "\
Examples:
  source <(rayscaler completions bash)
  rayscaler completions zsh > ~/.zfunc/_rayscaler
  rayscaler completions fish > ~/.config/fish/completions/rayscaler.fish";

/// Options of `completions`.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = COMPLETIONS_HELP)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

const HEALTH_HELP: &str = "\
Example, as an exec probe:
  command: [rayscaler, health]

Exit codes: 0 well, 1 not well or no answer, 64 the command line is not accepted.";

/// Options of `health`.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = HEALTH_HELP)]
pub struct HealthArguments {
    // A doc comment here would be the help of the sub-command.
    #[command(flatten)]
    pub target: Target,
    /// What to ask
    #[arg(long, value_name = "PATH", default_value = "/readyz")]
    pub path: String,
}

fn host_and_port(text: &str) -> Result<String, String> {
    if crate::config::is_host_and_port(text) {
        Ok(text.to_owned())
    } else {
        Err("accepted: a host with a port, such as 127.0.0.1:6379".to_owned())
    }
}

fn kuberay_version(text: &str) -> Result<(u64, u64), String> {
    version(text).ok_or_else(|| "accepted: a version such as 1.6 or v1.7.0".to_owned())
}

fn log_level(text: &str) -> Result<LogLevel, String> {
    let accepted = || "accepted: error, warn, info, debug or trace".to_owned();
    LogLevel::from_name(text).ok_or_else(accepted)
}

fn moment(text: &str) -> Result<std::time::SystemTime, String> {
    humantime::parse_rfc3339_weak(text).map_err(|error| error.to_string())
}

/// Holds what a command line came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Something to do.
    Command(Command),
    /// Help or version, to print.
    Text(String),
}

/// Returns what our own arguments mean.
///
/// # Errors
///
/// What is not accepted and what would be.
pub fn parse(invocation: &Invocation) -> Result<Parsed, UsageError> {
    match try_parse(invocation) {
        Ok(command) => Ok(Parsed::Command(command)),
        Err(error) if !error.use_stderr() => Ok(Parsed::Text(error.to_string())),
        Err(error) => Err(UsageError(error.to_string())),
    }
}

/// Returns the command in our own arguments.
///
/// Errors: what is not accepted, and texts that were asked for, by their parts.
pub(super) fn try_parse(invocation: &Invocation) -> Result<Command, clap::Error> {
    let words = std::iter::once("rayscaler").chain(invocation.arguments.iter().map(String::as_str));
    Cli::try_parse_from(words).map(|cli| cli.command)
}

/// Returns what `run` is started with: flags first, then the environment.
///
/// # Errors
///
/// A name that neither says.
pub fn run_options(arguments: RunArguments, lookup: Lookup<'_>) -> Result<RunOptions, UsageError> {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let required = |flag: Option<String>, option: &str, name: &str| {
        let problem = || UsageError(format!("{option} is missing, and {name} is not set"));
        flag.or_else(|| set(name)).ok_or_else(problem)
    };
    let environment = Environment::read(lookup);
    let flags = Overrides {
        gcs_address: arguments.gcs_address,
        dry_run: arguments.dry_run.then_some(true),
        log_level: arguments.log_level,
        log_format: arguments.log_format.map(|form| match form {
            Form::Text => LogFormat::Text,
            Form::Json => LogFormat::Json,
        }),
        ..Overrides::default()
    };
    let name = required(arguments.cluster_name, "--cluster-name", "RAY_CLUSTER_NAME")?;
    let namespace = required(
        arguments.cluster_namespace,
        "--cluster-namespace",
        "RAY_CLUSTER_NAMESPACE",
    )?;
    Ok(RunOptions {
        cluster_name: name,
        cluster_namespace: namespace,
        config_path: config_path(arguments.config, lookup),
        overrides: flags.over(environment.overrides),
        kubeconfig: arguments.kubeconfig,
        variables: Variables::read(lookup),
        notices: environment.notices,
        remarks: Vec::new(),
        lineage: Lineage::default(),
    })
}

/// Returns where rayscaler listens in this pod, as far as the environment tells.
pub(super) fn admin_address(lookup: Lookup<'_>) -> SocketAddr {
    let port = Environment::read(lookup).overrides.metrics_port;
    SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(METRICS_PORT)))
}

/// Returns the config file: the flag's, else that of `RAYSCALER_CONFIG`.
pub(super) fn config_path(flag: Option<PathBuf>, lookup: Lookup<'_>) -> Option<PathBuf> {
    let variable = || lookup("RAYSCALER_CONFIG").filter(|path| !path.is_empty());
    flag.or_else(|| variable().map(PathBuf::from))
}

/// Prints completions.
pub(super) fn completions(arguments: &CompletionsArguments, out: &mut dyn Write) {
    let mut command = Cli::command();
    clap_complete::generate(arguments.shell, &mut command, "rayscaler", &mut &mut *out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "RAY_CLUSTER_NAME" => "from-environment",
            "RAY_LOGGER_LEVEL" => "error",
            "RAYSCALER_CONFIG" => "/etc/rayscaler.yaml",
            "AUTOSCALER_MAX_CONCURRENT_LAUNCHES" => "10",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn run(words: &[&str]) -> Result<RunOptions, UsageError> {
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(words.iter().map(|word| (*word).to_owned()));
        let notices = Vec::new();
        let invocation = Invocation { arguments, notices };
        match parse(&invocation)? {
            Parsed::Command(Command::Run(arguments)) => run_options(arguments, &lookup),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn clap_accepts_its_own_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn completions_know_every_command_and_option() {
        let arguments = CompletionsArguments { shell: Shell::Bash };
        let mut out = Vec::new();
        completions(&arguments, &mut out);
        let script = String::from_utf8(out).unwrap();
        for command in Cli::command().get_subcommands() {
            assert!(
                script.contains(command.get_name()),
                "{}",
                command.get_name()
            );
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(script.contains(&format!("--{option}")), "{option}");
            }
        }
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let options = run(&["--cluster-name=flag", "--cluster-namespace", "n"]).unwrap();
        assert_eq!(options.cluster_name, "flag");
        assert_eq!(options.overrides.log_level, Some(LogLevel::Error));
        assert_eq!(options.overrides.dry_run, None);
        assert_eq!(options.config_path, Some("/etc/rayscaler.yaml".into()));
        assert_eq!(options.notices.len(), 1);
        let options = run(&[
            "--cluster-namespace=n",
            "--log-level",
            "WARNING",
            "--dry-run",
        ]);
        let options = options.unwrap();
        assert_eq!(options.cluster_name, "from-environment");
        assert_eq!(options.overrides.log_level, Some(LogLevel::Warn));
        assert_eq!(options.overrides.dry_run, Some(true));
    }

    #[test]
    fn health_asks_where_the_environment_puts_the_port() {
        let address = |flag: Option<&str>, port: Option<&str>| {
            let mut arguments = vec!["health".to_owned()];
            arguments.extend(flag.map(|flag| format!("--address={flag}")));
            let notices = Vec::new();
            let asked = match parse(&Invocation { arguments, notices }) {
                Ok(Parsed::Command(Command::Health(asked))) => asked,
                other => panic!("{other:?}"),
            };
            asked.target.base(&|_| port.map(str::to_owned))
        };
        for (flag, port, expected) in [
            (None, None, "http://127.0.0.1:44217"),
            (None, Some("4000"), "http://127.0.0.1:4000"),
            (Some("10.0.0.1:1"), Some("4000"), "http://10.0.0.1:1"),
            (Some("[::1]:44217"), None, "http://[::1]:44217"),
            (Some("localhost:44217"), None, "http://localhost:44217"),
            (
                Some("http://localhost:44217/"),
                None,
                "http://localhost:44217",
            ),
        ] {
            assert_eq!(address(flag, port), expected);
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (words, problem) in [
            (
                &[][..],
                "--cluster-namespace is missing, and RAY_CLUSTER_NAMESPACE is not set",
            ),
            (&["--gcs-address", "here"], "a host with a port"),
            (
                &["--log-level", "loud"],
                "error, warn, info, debug or trace",
            ),
            (&["--cluster-nam", "x"], "--cluster-name"),
            (&["more"], "unexpected argument 'more'"),
        ] {
            let error = run(words).unwrap_err().0;
            assert!(error.contains(problem), "{words:?}: {error}");
        }
    }
}
