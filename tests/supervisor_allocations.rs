//! The parent allocates nothing once it runs: every allocation of this program is counted.
//!
//! Has its own `main`, as the parent must be the only thread and nothing else may allocate.
#![expect(unsafe_code, reason = "a counting allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayscaler::runtime::supervisor::{ChildCommand, LineForm, supervise};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the same promises to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the same promises to us.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the same promises to us.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Ends in a different way each time it is started, and stops the parent at the fifth.
///
/// The parent's process id and the number of earlier ends come in the variable it is given.
const CHILD: &str = "
    set -- $RAYSCALER_SUPERVISED
    parent=$1; shift 2
    ends=0; for count in \"$@\"; do ends=$((ends + count)); done
    case $ends in
        0) exit 1 ;;
        1) kill -ABRT $$ ;;
        2) kill -SEGV $$ ;;
        3) kill -KILL $$ ;;
        *) kill -TERM $parent; exec sleep 60 ;;
    esac
";

fn main() -> ExitCode {
    let arguments = ["sh", "-c", CHILD].map(OsString::from);
    let child = ChildCommand::new("/bin/sh".into(), arguments, std::env::vars_os());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let code = supervise(child, LineForm::Json);
    let during = ALLOCATIONS.load(Ordering::Relaxed) - before;
    // The count itself is alive: it has seen the command above being made.
    let is_ok = code == 0 && during == 0 && before > 0;
    let verdict = if is_ok { "ok" } else { "FAILED" };
    let line = format!(
        "test the_parent_allocates_nothing_once_it_runs ... {verdict} (exit code {code}, \
         {before} allocations before, {during} during four restarts)"
    );
    drop(writeln!(std::io::stdout(), "{line}"));
    ExitCode::from(u8::from(!is_ok))
}
