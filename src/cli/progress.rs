//! Says on a terminal what is going on, once it has taken a second.
//!
//! A thread of its own, so that it works beside calculations as well as beside the network.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often the line is written; the first time after this long.
const STEP: Duration = Duration::from_secs(1);

/// Shows a line on standard error until it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins to wait; where standard error is no terminal nothing is ever shown.
    pub(super) fn of(what: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self { running: None };
        }
        let (done, is_done) = mpsc::channel::<()>();
        let what = what.to_owned();
        let line = move || {
            let mut seconds = 0_u64;
            while is_done.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
                seconds += 1;
                tell(&format!("\r{what} ({seconds} s)\x1b[K"));
            }
            if seconds > 0 {
                tell("\r\x1b[K");
            }
        };
        Self {
            running: Some((done, thread::spawn(line))),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.running.take() {
            drop(done);
            // It has nothing to say that is worth an error.
            thread.join().unwrap_or_default();
        }
    }
}

fn tell(text: &str) {
    let mut out = io::stderr().lock();
    // Without standard error there is nobody to tell.
    out.write_all(text.as_bytes()).unwrap_or_default();
    out.flush().unwrap_or_default();
}
