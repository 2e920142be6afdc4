//! Decides cases in the format of Ray's scheduler, to be compared with Ray's own decisions.
//!
//! `cargo run --release --example parity -- CASES_DIR OUT_DIR` reads `NAME.in.json` and `NAME.pb` of
//! every case and writes `NAME.out.json`; `TIMES.tsv` has the milliseconds of each decision. The
//! engine is the sidecar's, with the profile `ray`.

#![expect(clippy::unwrap_used, reason = "program of developers")]

mod case;
mod decide;
mod outcome;
mod world;

use std::io::Write;
use std::path::Path;

fn main() {
    let mut told = std::io::stdout();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [cases, out] = words.as_slice() else {
        writeln!(told, "usage: parity CASES_DIR OUT_DIR").unwrap();
        std::process::exit(64);
    };
    let count = decide::decide_all(Path::new(cases), Path::new(out));
    writeln!(told, "{count} cases decided").unwrap();
}
