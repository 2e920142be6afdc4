//! `rayscaler simulate`: which seeds, for how long, and what may go wrong.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::check;
use crate::config::Config;
use crate::policy::Registry;
use crate::simulator::{self, Only, SimulateOptions};

const EXAMPLES: &str = "\
Examples:
  rayscaler simulate --seeds 100                      a hundred seeds, a few minutes of trouble each
  rayscaler simulate --seeds 20 --hours 8h            twenty working days
  rayscaler simulate --only api-409,edit              conflicts and edits, nothing else
  rayscaler simulate --soak 1000 --hours 24h          a day of a large cluster: memory and log
  rayscaler simulate --seed 7 --trace trace.txt       one seed again, line by line

Exit codes: 0 all was well, 1 a seed failed (it is printed with the command that plays it again), or memory or the
log of a soak grew.";

/// Options of `simulate`.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = EXAMPLES)]
pub struct SimulateArguments {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// How long each run lasts at least, in virtual time: `10m`, `24h`; a bare number is hours
    #[arg(long, value_name = "H", default_value = "5m", value_parser = hours)]
    pub hours: u64,
    /// What may go wrong: beginnings of kinds, with commas between; `none` for nothing
    #[arg(long, value_name = "KINDS", value_parser = only)]
    pub only: Option<String>,
    /// Play a busy cluster of up to so many nodes instead, and judge memory and log hour by hour
    #[arg(long, value_name = "NODES", conflicts_with = "only")]
    pub soak: Option<u32>,
    /// A config file for the sidecar
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write what happened there, of the last seed
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Write the sidecar's log there, of the last seed
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
}

/// Simulates; returns whether all was well.
pub(super) fn run(
    arguments: &SimulateArguments,
    registry: &Registry,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let config = match &arguments.config {
        Some(path) => check::load(path, registry)?,
        None => Config::default(),
    };
    let chosen = arguments.only.as_deref().map(str::parse::<Only>);
    let options = SimulateOptions {
        seed: arguments.seed,
        seeds: arguments.seeds,
        ms: arguments.hours,
        only: chosen
            .transpose()
            .map_err(anyhow::Error::msg)?
            .unwrap_or_default(),
        only_text: arguments.only.clone(),
        config,
        trace: arguments.trace.clone(),
        log: arguments.log.clone(),
    };
    match arguments.soak {
        Some(nodes) => Ok(simulator::soak(&options, nodes, out)?),
        None => Ok(simulator::simulate(&options, out)?),
    }
}

fn only(text: &str) -> Result<String, String> {
    text.parse::<Only>().map(|_| text.to_owned())
}

/// Reads a duration; returns milliseconds.
fn hours(text: &str) -> Result<u64, String> {
    let text = match text.parse::<u64>() {
        Ok(_) => format!("{text}h"),
        Err(_) => text.to_owned(),
    };
    let accepted = "accepted: hours, or a duration such as 10m or 24h".to_owned();
    let duration = humantime::parse_duration(&text).ok();
    let ms = duration.and_then(|duration| u64::try_from(duration.as_millis()).ok());
    ms.ok_or(accepted)
}

#[cfg(test)]
mod tests {
    use super::{hours, only};

    #[test]
    fn a_bare_number_is_hours() {
        assert_eq!(hours("2"), Ok(7_200_000));
        assert_eq!(hours("90s"), Ok(90_000));
        assert!(hours("soon").is_err());
        assert!(only("api-409").is_ok());
        assert!(only("nonsense").is_err());
    }
}
