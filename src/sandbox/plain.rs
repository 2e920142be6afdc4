//! A scenario as lines, for everything that is no terminal.

use std::io::{self, Write};
use std::ops::ControlFlow;

use super::pace::{HOLD_MAX, Pace};
use super::play::{Frame, Screen};
use super::timeline::{Line, seconds};
use crate::model::Timestamp;

/// Prints each line when it happens.
pub(super) struct Plain<W> {
    out: W,
    pace: Pace,
    printed: usize,
}

impl<W: Write> Plain<W> {
    /// Returns a screen that has printed nothing.
    pub(super) fn new(out: W, pace: Pace) -> Self {
        Self {
            out,
            pace,
            printed: 0,
        }
    }

    /// Says something before the scenario begins.
    pub(super) fn say(&mut self, lines: &[String]) -> io::Result<()> {
        for line in lines {
            writeln!(self.out, "{line}")?;
        }
        self.out.flush()
    }

    fn print(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let lines = frame.timeline.lines();
        for Line { at, kind, text } in lines.get(self.printed..).unwrap_or_default() {
            let at = seconds(at.millis_since(frame.began_at));
            writeln!(self.out, "{at:>8}  {:<8} {text}", kind.word())?;
        }
        self.printed = lines.len();
        self.out.flush()
    }
}

impl<W: Write> Screen for Plain<W> {
    fn show(&mut self, frame: &Frame<'_>) -> ControlFlow<()> {
        // A reader that is gone, such as `head`, has had enough.
        if self.print(frame).is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn hold(&mut self, now: Timestamp) -> ControlFlow<(), bool> {
        let ahead = self.pace.ahead(now);
        std::thread::sleep(ahead.min(HOLD_MAX));
        ControlFlow::Continue(ahead > HOLD_MAX)
    }
}
