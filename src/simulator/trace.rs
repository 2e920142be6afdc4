//! What happened, line by line, and a number that stands for all lines.

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::model::Timestamp;

/// Takes in lines; keeps them only where somebody wants them, as days of them are long.
#[derive(Debug)]
pub(super) struct Trace {
    clock: Clock,
    began_at: Timestamp,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    kept: Option<Vec<u8>>,
    digest: u64,
}

impl Trace {
    /// Returns a trace that begins now.
    pub(super) fn new(clock: &Clock, keeps: bool) -> Self {
        let state = State {
            kept: keeps.then(Vec::new),
            digest: 0xcbf2_9ce4_8422_2325,
        };
        Self {
            clock: clock.clone(),
            began_at: clock.now(),
            state: Mutex::new(state),
        }
    }

    /// Adds a line.
    pub(super) fn say(&self, text: &str) {
        let line = self.fold(text);
        let mut state = self.state();
        if let Some(kept) = &mut state.kept {
            // Writing to memory does not fail.
            kept.write_all(line.as_bytes()).unwrap_or_default();
        }
    }

    /// Adds to the number what happens too often for a line; returns the line.
    pub(super) fn fold(&self, text: &str) -> String {
        let ms = self.clock.now().millis_since(self.began_at);
        let line = format!("{:>10}.{:03} {text}\n", ms / 1000, ms % 1000);
        let mut state = self.state();
        let digest = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        state.digest = line.bytes().fold(state.digest, digest);
        line
    }

    /// Returns a number that differs where the lines do.
    pub(super) fn digest(&self) -> u64 {
        self.state().digest
    }

    /// Returns the lines, where they were kept.
    pub(super) fn take(&self) -> Vec<u8> {
        self.state().kept.take().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
