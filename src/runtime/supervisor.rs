//! The parent process: it starts the child again, whatever ended it.
//!
//! # Why
//!
//! KubeRay sets `restartPolicy: Never` on the head pod, so a container that ends stays ended, and a
//! head pod with an ended container is not ready. A task inside the process cannot guard against
//! abort, SIGSEGV or the OOM killer; another process can. It does as little as possible: it holds no
//! thread and no runtime, and once it runs it allocates nothing, so it cannot fail where its child
//! did. It ends on SIGTERM, on SIGINT, and when the child says that the command line is wrong:
//! starting again cannot change that. (2026-11-25)

mod line;
mod lineage;
pub mod memory;
mod process;

pub use lineage::{Cause, Lineage};
pub use process::{ChildCommand, adopt, give_back_memory, heap_in_use, limit_memory};

use line::Event;
use process::{Ended, Pid, Wake};

use super::backoff::Backoff;

/// Exit code for a command line that is not accepted.
pub const EXIT_USAGE: u8 = 64;

/// Exit code after SIGINT, as shells have it.
const EXIT_INTERRUPTED: u8 = 130;

/// Fast enough that a single crash is not noticed, slow enough that a crash at every start costs
/// nothing.
const RESTART: Backoff = Backoff {
    first_ms: 100,
    max_ms: 10_000,
};

/// A child that lived this long was healthy: its end counts as the first failure.
const HEALTHY_AFTER_MS: u64 = 60_000;

/// How long the child has to stop; the kubelet grants 30 s before it kills everything.
const STOP_WITHIN_MS: u64 = 2_000;

/// Form of the parent's log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineForm {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Keeps a child running until a signal says stop, and returns the exit code.
///
/// Must be called on the only thread of the process.
pub fn supervise(mut command: ChildCommand, form: LineForm) -> u8 {
    process::block_signals();
    let mut lineage = Lineage::default();
    let mut failures = 0_u32;
    loop {
        let started = process::monotonic_ms();
        let ended = match command.start(&lineage) {
            Ok(child) => match watch(child) {
                Watched::Ended(ended) => ended,
                Watched::Stopped(code) => return stop(child, code),
            },
            Err(errno) => Ended::NotStarted(errno),
        };
        if ended == Ended::Exited(i32::from(EXIT_USAGE)) {
            return EXIT_USAGE;
        }
        if process::monotonic_ms().saturating_sub(started) >= HEALTHY_AFTER_MS {
            failures = 0;
        }
        failures = failures.saturating_add(1);
        let delay_ms = RESTART.delay_ms(failures);
        lineage.count(ended.cause());
        let event = Event {
            ended,
            restarts: lineage.total(),
            delay_ms,
        };
        line::write(&event, form);
        if let Some(code) = pause(delay_ms) {
            return code;
        }
    }
}

enum Watched {
    Ended(Ended),
    /// A signal asks to stop; the exit code that goes with it.
    Stopped(u8),
}

/// Waits until the child has ended or a signal asks to stop.
fn watch(child: Pid) -> Watched {
    loop {
        if let Some(ended) = process::reap(child) {
            return Watched::Ended(ended);
        }
        if let Some(code) = exit_code(process::wait(None)) {
            return Watched::Stopped(code);
        }
    }
}

const fn exit_code(wake: Wake) -> Option<u8> {
    match wake {
        Wake::Terminate => Some(0),
        Wake::Interrupt => Some(EXIT_INTERRUPTED),
        Wake::Child | Wake::Timeout => None,
    }
}

/// Waits; returns the exit code when a signal asks to stop meanwhile.
fn pause(delay_ms: u64) -> Option<u8> {
    let until = process::monotonic_ms().saturating_add(delay_ms);
    loop {
        let left = until.saturating_sub(process::monotonic_ms());
        if left == 0 {
            return None;
        }
        let wake = process::wait(Some(left));
        // Children of the child that outlived it: as process 1 we are their parent now.
        process::reap_others();
        if let Some(code) = exit_code(wake) {
            return Some(code);
        }
    }
}

/// Asks the child to stop, insists after a while, and returns the exit code.
fn stop(child: Pid, code: u8) -> u8 {
    process::terminate(child);
    let until = process::monotonic_ms().saturating_add(STOP_WITHIN_MS);
    loop {
        if process::reap(child).is_some() {
            return code;
        }
        let left = until.saturating_sub(process::monotonic_ms());
        if left == 0 {
            process::kill(child);
            return code;
        }
        process::wait(Some(left));
    }
}
