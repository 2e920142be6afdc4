//! What came of a scenario, beside what the stock autoscaler's loop would have made of it.

use std::io::{self, Write};

use super::demand::Asked;
use super::play::Played;
use super::timeline::seconds;
use crate::model::Timestamp;

/// Reads one number off what was played.
type Value = fn(&Played) -> String;

/// Writes the summary of a scenario, and of the stock loop where that was played too.
pub(super) fn write(ours: &Played, stock: Option<&Played>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    row(
        out,
        "time to capacity",
        "rayscaler",
        stock.map(|_| "stock loop"),
    )?;
    for (at, asked) in ours.asked.iter().enumerate() {
        if !asked.is_demand {
            continue;
        }
        let theirs = stock.and_then(|stock| Some((stock.asked.get(at)?, stock.ended_at)));
        let theirs = theirs.map(|(asked, ended_at)| waited(asked, ended_at));
        row(
            out,
            &asked.name,
            &waited(asked, ours.ended_at),
            theirs.as_deref(),
        )?;
    }
    writeln!(out)?;
    row(out, "cost", "rayscaler", stock.map(|_| "stock loop"))?;
    let rows: [(&str, Value); 7] = [
        ("node-seconds paid for", |played| {
            node_seconds(played.tally.paid())
        }),
        ("  with work", |played| node_seconds(played.tally.busy)),
        ("  idle", |played| node_seconds(played.tally.idle)),
        ("  starting", |played| node_seconds(played.tally.starting)),
        ("  leaving", |played| node_seconds(played.tally.leaving)),
        ("most nodes at one time", |played| {
            played.tally.peak.to_string()
        }),
        ("patches sent", |played| played.patches.to_string()),
    ];
    for (name, value) in rows {
        row(out, name, &value(ours), stock.map(value).as_deref())?;
    }
    if stock.is_some() {
        writeln!(
            out,
            "\nThe stock column is computed, not measured: the same scenario with the same simulated cluster, under a\n\
             model of the loop of Ray 2.60's autoscaler (every 5 s from the scenario's start, at most 10 launches at a time, an idle worker\n\
             drained in one turn and deleted in the next)."
        )?;
    }
    Ok(())
}

fn row(out: &mut dyn Write, name: &str, ours: &str, stock: Option<&str>) -> io::Result<()> {
    writeln!(
        out,
        "{name:<32} {ours:>12} {:>12}",
        stock.unwrap_or_default()
    )
}

fn waited(asked: &Asked, ended_at: Timestamp) -> String {
    match asked.placed_at {
        Some(_) => seconds(asked.waited_ms(ended_at)),
        None => "never".to_owned(),
    }
}

fn node_seconds(ms: u64) -> String {
    (ms / 1000).to_string()
}
