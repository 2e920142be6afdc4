//! The command line: one function for each sub-command, and the choice between parent and child.
//!
//! `rayscaler run` first becomes the small parent of `runtime::supervisor`; only its child comes as
//! far as clap and tokio.

mod age;
mod arguments;
pub mod argv;
mod ask;
mod check;
mod codes;
mod columns;
mod decide;
mod decision_text;
mod explain;
mod health;
mod manifest;
mod node_text;
mod paint;
mod policies;
mod progress;
#[cfg(feature = "sandbox")]
mod sandbox;
mod shell;
#[cfg(feature = "sandbox")]
mod simulate;
mod status;
mod status_text;
mod understood;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::config::{self, ConfigError};
use crate::policy::Registry;
use crate::runtime;
use crate::runtime::supervisor::{self, ChildCommand, EXIT_USAGE, LineForm, Lineage};

pub use decide::Captured;

pub use arguments::{
    Command, ExplainArguments, Parsed, RunArguments, StatusArguments, Target, parse, run_options,
};

/// Exit code for a config file that is not accepted, and for a RayCluster with errors.
const EXIT_CONFIG: u8 = 2;

/// Runs the program and returns its exit code.
#[must_use]
pub fn start() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let words: Vec<String> = argv
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let invocation = match argv::interpret(&words, &variable) {
        Ok(invocation) => invocation,
        Err(error) => return refuse(&error.to_string()),
    };
    let mut lineage = Lineage::default();
    if invocation.is_supervised_run() {
        match variable(Lineage::VARIABLE).and_then(|text| Lineage::parse(&text)) {
            None => return ExitCode::from(supervise(argv, &words)),
            Some((parent, _)) if !supervisor::adopt(parent) => return ExitCode::FAILURE,
            Some((_, passed_on)) => lineage = passed_on,
        }
        limit_memory();
    }
    match arguments::parse(&invocation) {
        Ok(Parsed::Command(command)) => report(execute(command, invocation.notices, lineage)),
        Ok(Parsed::Text(text)) => report(print(&text).context("cannot write")),
        Err(error) => refuse(&error.0),
    }
}

/// Becomes the parent; what it needs is collected first, as it allocates nothing later.
fn supervise(argv: Vec<OsString>, words: &[String]) -> u8 {
    let form = if argv::log_format(words) == Some("json") {
        LineForm::Json
    } else {
        LineForm::Text
    };
    // The file this program was started from may be replaced meanwhile; this name stays.
    let program = OsString::from("/proc/self/exe");
    let child = ChildCommand::new(program, argv, environment());
    supervisor::supervise(child, form)
}

fn execute(command: Command, remarks: Vec<String>, lineage: Lineage) -> anyhow::Result<ExitCode> {
    // What the config may name; the engine is built from it too.
    let registry = Registry::default();
    let mut out = io::stdout().lock();
    match command {
        Command::Run(arguments) => {
            drop(out);
            let mut options = match run_options(arguments, &variable) {
                Ok(options) => options,
                Err(error) => return Ok(refuse(&error.0)),
            };
            (options.remarks, options.lineage) = (remarks, lineage);
            runtime::run(&options, &registry)?;
        }
        Command::Status(arguments) => {
            drop(out);
            status::run(&arguments)?;
        }
        Command::Explain(arguments) => {
            drop(out);
            explain::run(&arguments, &registry)?;
        }
        Command::Check(arguments) => {
            if check::run(&arguments, &registry, &mut out)? {
                return Ok(ExitCode::from(EXIT_CONFIG));
            }
        }
        Command::Decide(arguments) => decide::run(&arguments, &registry, &mut out)?,
        Command::Policies(arguments) => policies::run(&arguments, &mut out)?,
        Command::Schema => writeln!(out, "{:#}", config::schema())?,
        Command::Version => out.write_all(arguments::VERSION_TEXT.as_bytes())?,
        Command::Completions(arguments) => arguments::completions(&arguments, &mut out),
        Command::Health(arguments) => {
            drop(out);
            health::run(&arguments)?;
        }
        #[cfg(feature = "sandbox")]
        Command::Sandbox(arguments) => sandbox::run(&arguments, &registry, &mut out)?,
        #[cfg(feature = "sandbox")]
        Command::Simulate(arguments) => {
            if !simulate::run(&arguments, &registry, &mut out)? {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says why it failed and returns the exit code that goes with it.
fn report(result: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    let is_config = error.downcast_ref::<check::Refused>().is_some();
    #[cfg(feature = "sandbox")]
    let is_config = is_config || sandbox::is_refused(&error);
    say(&format!("{error:#}"));
    if is_config {
        ExitCode::from(EXIT_CONFIG)
    } else {
        ExitCode::FAILURE
    }
}

fn print(text: &str) -> io::Result<ExitCode> {
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn refuse(problem: &str) -> ExitCode {
    say(problem);
    ExitCode::from(EXIT_USAGE)
}

fn say(text: &str) {
    // Without standard error there is nobody left to tell.
    writeln!(io::stderr().lock(), "rayscaler: {}", text.trim_end()).unwrap_or_default();
}

/// Returns mistakes as one text, a line each.
fn lines(errors: &[ConfigError]) -> String {
    let lines: Vec<String> = errors.iter().map(|error| format!("  {error}")).collect();
    lines.join("\n")
}

/// Stays below the container's limit, so that running out of memory ends the child alone.
fn limit_memory() {
    let cgroup = std::fs::read_to_string(supervisor::memory::CGROUP_FILE).unwrap_or_default();
    if let Some(limit) = supervisor::memory::child_limit(&cgroup)
        && !supervisor::limit_memory(limit)
    {
        say("cannot bound the memory of this process");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is read here and handed on"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the whole environment, which the parent hands to its child.
fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}
