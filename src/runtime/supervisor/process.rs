//! The system calls of the parent, and what the allocator tells of the heap. All unsafe code of the crate is here.
//!
//! `std::process::Command` allocates at every start and cannot set the signal mask; `posix_spawn`
//! takes what was prepared once. The clocks are read here and not in `runtime::clock`, which belongs
//! to the child and its runtime; nothing the parent does is ever simulated.
#![expect(
    unsafe_code,
    reason = "posix_spawn, signals and waitpid have no safe form that allocates nothing"
)]

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::ptr;
use std::time::Duration;

use libc::{c_char, c_int, pid_t, sigset_t};

use super::line::Buffer;
use super::lineage::{Cause, Lineage};

/// Names a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pid(pid_t);

/// Says how a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Exited(i32),
    Signalled(i32),
    /// It could not be started; the error number.
    NotStarted(i32),
}

/// Exit code of a Rust program whose main thread panicked.
const EXIT_PANIC: i32 = 101;

impl Ended {
    pub(super) const fn cause(self) -> Cause {
        match self {
            Self::Exited(EXIT_PANIC) => Cause::Panic,
            Self::Exited(_) => Cause::Exit,
            Self::NotStarted(_) => Cause::Start,
            Self::Signalled(libc::SIGABRT) => Cause::Abort,
            Self::Signalled(libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE) => {
                Cause::Fault
            }
            Self::Signalled(libc::SIGKILL) => Cause::Kill,
            Self::Signalled(_) => Cause::Signal,
        }
    }

    /// Returns the number that says more, with its name.
    pub(super) const fn detail(self) -> (&'static str, i32) {
        match self {
            Self::Exited(code) => ("code", code),
            Self::Signalled(signal) => ("signal", signal),
            Self::NotStarted(errno) => ("errno", errno),
        }
    }
}

/// Says why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    Child,
    Terminate,
    Interrupt,
    Timeout,
}

/// Holds what is started, in the form `posix_spawn` takes.
pub struct ChildCommand {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Ends with a null pointer; filled anew from the vectors above at every start.
    pointers: Vec<*mut c_char>,
    lineage: Box<Buffer<LINEAGE_BYTES>>,
}

/// Seven counts of at most 20 digits, a process id, a word and the variable's name.
const LINEAGE_BYTES: usize = 256;

impl ChildCommand {
    /// Returns a command; words that contain a zero byte are left out, as no process can have them.
    #[must_use]
    pub fn new(
        program: OsString,
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let text = |text: OsString| CString::new(text.into_vec()).ok();
        let environment = environment.into_iter();
        let environment: Vec<CString> = environment
            .filter(|(name, _)| name != Lineage::VARIABLE)
            .filter_map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                text(name)
            })
            .collect();
        let arguments: Vec<CString> = arguments.into_iter().filter_map(text).collect();
        // Both lists, their two ends and the lineage.
        let room = arguments.len() + environment.len() + 3;
        Self {
            program: text(program).unwrap_or_default(),
            arguments,
            environment,
            pointers: Vec::with_capacity(room),
            lineage: Box::new(Buffer::new()),
        }
    }

    /// Starts the child with all signals as they are by default.
    ///
    /// Errors: the error number.
    pub(super) fn start(&mut self, lineage: &Lineage) -> Result<Pid, i32> {
        let environment_at = self.fill(lineage);
        let mut child: pid_t = 0;
        // SAFETY: the attributes are initialised before use and destroyed after; program, arguments
        // and environment are strings that end in zero and live as long as `self`; `pointers` holds
        // both lists, each with a null pointer at its end, and `environment_at` lies inside.
        let error = unsafe {
            let mut attributes: libc::posix_spawnattr_t = std::mem::zeroed();
            let error = libc::posix_spawnattr_init(&raw mut attributes);
            if error != 0 {
                return Err(error);
            }
            let (mut none, mut all): (sigset_t, sigset_t) =
                (std::mem::zeroed(), std::mem::zeroed());
            libc::sigemptyset(&raw mut none);
            libc::sigfillset(&raw mut all);
            libc::posix_spawnattr_setsigmask(&raw mut attributes, &raw const none);
            libc::posix_spawnattr_setsigdefault(&raw mut attributes, &raw const all);
            let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
            let flags = i16::try_from(flags).unwrap_or(0);
            libc::posix_spawnattr_setflags(&raw mut attributes, flags);
            let error = libc::posix_spawn(
                &raw mut child,
                self.program.as_ptr(),
                ptr::null(),
                &raw const attributes,
                self.pointers.as_ptr(),
                self.pointers.as_ptr().add(environment_at),
            );
            libc::posix_spawnattr_destroy(&raw mut attributes);
            error
        };
        if error == 0 {
            Ok(Pid(child))
        } else {
            Err(error)
        }
    }

    /// Fills `pointers` and returns where the environment begins.
    fn fill(&mut self, lineage: &Lineage) -> usize {
        use std::fmt::Write as _;
        self.lineage.clear();
        let parent = std::process::id();
        let written = write!(self.lineage, "{}=", Lineage::VARIABLE)
            .and_then(|()| lineage.write(parent, &mut *self.lineage))
            .and_then(|()| self.lineage.write_str("\0"));
        self.pointers.clear();
        let arguments = self.arguments.iter();
        self.pointers
            .extend(arguments.map(|text| text.as_ptr().cast_mut()));
        self.pointers.push(ptr::null_mut());
        let environment_at = self.pointers.len();
        let environment = self.environment.iter();
        self.pointers
            .extend(environment.map(|text| text.as_ptr().cast_mut()));
        if written.is_ok() {
            let lineage = self.lineage.as_bytes().as_ptr();
            self.pointers.push(lineage.cast_mut().cast());
        }
        self.pointers.push(ptr::null_mut());
        environment_at
    }
}

/// Keeps all signals for [`wait`]: none ends the parent, whatever its process id.
pub(super) fn block_signals() {
    // SAFETY: the set is filled before it is read.
    unsafe {
        let mut all: sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
    }
}

/// Waits for a child to end, for a signal to stop, or for the time to pass.
pub(super) fn wait(timeout_ms: Option<u64>) -> Wake {
    let timeout = timeout_ms.map(|ms| {
        let duration = Duration::from_millis(ms);
        let mut timeout = libc::timespec {
            tv_sec: libc::time_t::MAX,
            tv_nsec: 0,
        };
        if let Ok(seconds) = duration.as_secs().try_into() {
            timeout.tv_sec = seconds;
            timeout.tv_nsec = duration.subsec_nanos().into();
        }
        timeout
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the set is initialised before use; `timeout` is null or points to a value that lives
    // until the end of this function; no information about the signal is asked for.
    let signal = unsafe {
        let mut set: sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(&raw mut set, signal);
        }
        if timeout.is_null() {
            libc::sigwaitinfo(&raw const set, ptr::null_mut())
        } else {
            libc::sigtimedwait(&raw const set, ptr::null_mut(), timeout)
        }
    };
    match signal {
        libc::SIGTERM => Wake::Terminate,
        libc::SIGINT => Wake::Interrupt,
        libc::SIGCHLD => Wake::Child,
        // The time has passed, or a stop and continue interrupted the wait: callers look again.
        _ => Wake::Timeout,
    }
}

/// Returns how the child ended if it has; takes every other ended process on the way.
pub(super) fn reap(child: Pid) -> Option<Ended> {
    loop {
        match reap_one()? {
            (pid, ended) if pid == child => return Some(ended),
            _ => {}
        }
    }
}

/// Takes every ended process.
pub(super) fn reap_others() {
    while reap_one().is_some() {}
}

fn reap_one() -> Option<(Pid, Ended)> {
    let mut status: c_int = 0;
    // SAFETY: `status` is valid for writing.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| {
        let ended = if libc::WIFSIGNALED(status) {
            Ended::Signalled(libc::WTERMSIG(status))
        } else {
            Ended::Exited(libc::WEXITSTATUS(status))
        };
        (Pid(pid), ended)
    })
}

/// Asks the child to stop.
pub(super) fn terminate(child: Pid) {
    send(child, libc::SIGTERM);
}

/// Ends the child at once and takes it.
pub(super) fn kill(child: Pid) {
    send(child, libc::SIGKILL);
    let mut status: c_int = 0;
    // SAFETY: `status` is valid for writing.
    unsafe { libc::waitpid(child.0, &raw mut status, 0) };
}

fn send(child: Pid, signal: c_int) {
    // SAFETY: no memory is involved; the child has not been taken yet, so the id is still its own.
    unsafe { libc::kill(child.0, signal) };
}

/// Writes a line to standard output if it takes it now; a signal to stop is not kept waiting for it.
pub(super) fn write_out(bytes: &[u8]) {
    let mut out = libc::pollfd {
        fd: libc::STDOUT_FILENO,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: there is one `pollfd`; pointer and length are those of one slice. A pipe that is ready
    // has room for a whole line, which is far shorter than PIPE_BUF.
    unsafe {
        if libc::poll(&raw mut out, 1, 0) == 1 {
            libc::write(out.fd, bytes.as_ptr().cast(), bytes.len());
        }
    }
}

/// Ties this process to the parent that started it: it ends when the parent does.
///
/// Returns false when the parent is gone already.
#[must_use]
pub fn adopt(parent: u32) -> bool {
    // SAFETY: no memory is involved.
    let actual = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::getppid()
    };
    u32::try_from(actual) == Ok(parent)
}

/// Bounds the memory this process may allocate; returns whether the bound holds.
///
/// The kubelet lets the kernel kill all processes of a container that is out of memory
/// (`memory.oom.group`), the parent too. A bound a little below makes the child abort before that.
#[must_use]
pub fn limit_memory(bytes: u64) -> bool {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for reading and writing.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_DATA, &raw mut limit) != 0 {
            return false;
        }
        limit.rlim_cur = limit.rlim_max.min(bytes);
        libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) == 0
    }
}

/// Returns how much of the heap is in use; `None` where the allocator does not tell.
///
/// Unlike resident memory it leaves out what the allocator keeps for later. Units: bytes.
#[must_use]
pub fn heap_in_use() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: takes nothing, and returns numbers by value.
        let info = unsafe { libc::mallinfo2() };
        u64::try_from(info.uordblks.saturating_add(info.hblkhd)).ok()
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

/// Gives back what the allocator keeps for later, where it can: resident memory then says what is held.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: takes a number alone; what is in use stays where it is.
        unsafe { libc::malloc_trim(0) };
    }
}

/// Returns milliseconds that never go back.
pub(super) fn monotonic_ms() -> u64 {
    clock_ms(libc::CLOCK_MONOTONIC)
}

/// Returns milliseconds since 1970.
pub(super) fn wall_ms() -> u64 {
    clock_ms(libc::CLOCK_REALTIME)
}

fn clock_ms(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for writing.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000)
}
