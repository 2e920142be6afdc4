//! The parent process, with real children that end in every way.
//!
//! Has its own `main`: `supervise` must run on the only thread of a process, so this program starts
//! itself in that role (and as children that panic or take all memory), which the usual test runner
//! with its threads cannot.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test")]

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rayscaler::runtime::supervisor::{ChildCommand, LineForm, limit_memory, supervise};

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "the_work_goes_on_after_abort_segfault_and_kill",
        killed_children_are_replaced,
    ),
    ("sigterm_ends_parent_and_child_with_0", sigterm_ends_both),
    ("sigint_ends_with_130_and_sighup_not_at_all", other_signals),
    ("a_child_never_outlives_its_parent", child_dies_with_parent),
    (
        "a_child_that_does_not_stop_is_killed_after_5_s",
        stuck_child_is_killed,
    ),
    (
        "a_panic_is_counted_and_the_delay_doubles",
        panics_are_counted,
    ),
    (
        "a_child_without_memory_left_aborts_alone",
        memory_limits_end_the_child,
    ),
    ("orphans_are_reaped_as_process_1_must", orphans_are_reaped),
    (
        "a_child_that_cannot_be_started_is_tried_again",
        missing_program_is_tried_again,
    ),
    (
        "an_oom_kill_by_a_cgroup_ends_the_child_alone",
        cgroup_kills_the_child,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        ["role:supervise", child @ ..] => ExitCode::from(run_supervisor(child, LineForm::Text)),
        ["role:supervise-json", child @ ..] => {
            ExitCode::from(run_supervisor(child, LineForm::Json))
        }
        ["role:panic"] => panic!("a child panics"),
        ["role:hog"] => take_all_memory(),
        ["role:bounded-hog"] => {
            assert!(limit_memory(64 * 1024 * 1024));
            take_all_memory()
        }
        _ => run_scenarios(&words),
    }
}

fn run_scenarios(words: &[&str]) -> ExitCode {
    let filter = words.iter().find(|word| !word.starts_with('-'));
    let mut failed = 0;
    for (name, scenario) in SCENARIOS {
        if filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        let is_ok = catch_unwind(scenario).is_ok();
        failed += i32::from(!is_ok);
        say(&format!(
            "test {name} ... {}",
            if is_ok { "ok" } else { "FAILED" }
        ));
    }
    ExitCode::from(u8::from(failed > 0))
}

fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

fn run_supervisor(child: &[&str], form: LineForm) -> u8 {
    let program = OsString::from(child[0]);
    let arguments = child.iter().map(OsString::from);
    supervise(
        ChildCommand::new(program, arguments, std::env::vars_os()),
        form,
    )
}

fn take_all_memory() -> ExitCode {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(vec![1; 1024 * 1024]);
        // Far beyond every bound these tests set: a bound that does not hold ends here.
        if held.len() > 4096 {
            return ExitCode::from(77);
        }
    }
}

// ---- what the scenarios are made of

fn own_program() -> String {
    std::env::current_exe()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// Runs a parent and collects its lines.
struct Parent {
    process: Child,
    lines: Receiver<String>,
}

/// Waiting longer than this for something that takes milliseconds is a failure.
const DEADLINE: Duration = Duration::from_secs(20);

impl Parent {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(process.stdout.take().unwrap());
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { process, lines }
    }

    /// Starts the real program.
    fn rayscaler() -> Self {
        let program = env!("CARGO_BIN_EXE_rayscaler");
        let run = ["run", "--cluster-name=c", "--cluster-namespace=n"];
        Self::start(program, &run)
    }

    /// Starts this program as the parent of a command.
    fn of(child: &[&str]) -> Self {
        Self::start(&own_program(), &[&["role:supervise"], child].concat())
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for a line with all these parts.
    fn wait_for(&self, parts: &[&str]) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("no line with {parts:?}"));
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        signal(name, self.pid());
    }

    fn wait(mut self) -> ExitStatus {
        until("the parent has ended", || self.process.try_wait().unwrap())
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // Its child goes with it.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn signal(name: &str, pid: u32) {
    assert!(try_signal(name, pid), "cannot send SIG{name} to {pid}");
}

/// Returns whether there was a process to send it to.
fn try_signal(name: &str, pid: u32) -> bool {
    let line = format!("kill -{name} {pid} 2>&-");
    let status = Command::new("sh").args(["-c", &line]).status();
    status.unwrap().success()
}

fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let pause = Duration::from_millis(10);
    for _ in 0..(DEADLINE.as_millis() / pause.as_millis()) {
        if let Some(value) = condition() {
            return value;
        }
        thread::sleep(pause);
    }
    panic!("waited in vain: {what}")
}

/// Returns state and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = text.rsplit_once(") ")?.1.split(' ');
    let state = words.next()?.chars().next()?;
    Some((state, words.next()?.parse().ok()?))
}

/// Returns the children of a process with their states.
fn children(parent: u32) -> Vec<(u32, char)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_parent = pids.filter_map(|pid| match stat(pid)? {
        (state, of) if of == parent => Some((pid, state)),
        _ => None,
    });
    of_parent.collect()
}

fn only_child(parent: u32) -> u32 {
    until("there is a child", || match children(parent).as_slice() {
        [(pid, state)] if *state != 'Z' => Some(*pid),
        _ => None,
    })
}

// ---- scenarios

fn killed_children_are_replaced() {
    let parent = Parent::rayscaler();
    parent.wait_for(&["starting", "restarts=0"]);
    let ends = [
        ("ABRT", "abort"),
        ("SEGV", "fault"),
        ("KILL", "kill"),
        ("USR1", "signal"),
    ];
    for (count, (name, cause)) in (1..).zip(ends) {
        let child = only_child(parent.pid());
        signal(name, child);
        // Rust's own handler, there for stack overflows, takes the first SIGSEGV that is no fault of
        // the program and puts the default back; so it is sent until it works.
        until("the child has ended", || {
            let is_alive = stat(child).is_some_and(|(state, _)| state != 'Z');
            (!is_alive || !try_signal(name, child)).then_some(())
        });
        parent.wait_for(&[
            "child ended",
            &format!("cause={cause}"),
            &format!("restarts={count}"),
        ]);
        let last = format!("last_ended_by=\"{cause}\"");
        parent.wait_for(&["starting", &format!("restarts={count}"), &last]);
    }
}

fn sigterm_ends_both() {
    let parent = Parent::rayscaler();
    parent.wait_for(&["starting"]);
    let child = only_child(parent.pid());
    parent.signal("TERM");
    parent.wait_for(&["stopping", "SIGTERM"]);
    assert_eq!(parent.wait().code(), Some(0));
    assert_eq!(stat(child), None);

    // During the delay before a restart too.
    let parent = Parent::of(&["/bin/false"]);
    parent.wait_for(&["delay_ms=1600"]);
    parent.signal("TERM");
    assert_eq!(parent.wait().code(), Some(0));
}

fn other_signals() {
    let parent = Parent::rayscaler();
    parent.wait_for(&["starting"]);
    for name in ["HUP", "USR1", "USR2", "QUIT", "PIPE", "ALRM"] {
        parent.signal(name);
    }
    signal("KILL", only_child(parent.pid()));
    parent.wait_for(&["cause=kill"]);
    parent.wait_for(&["starting", "restarts=1"]);
    parent.signal("INT");
    assert_eq!(parent.wait().code(), Some(130));
}

fn child_dies_with_parent() {
    let parent = Parent::rayscaler();
    parent.wait_for(&["starting"]);
    let child = only_child(parent.pid());
    parent.signal("KILL");
    assert_eq!(parent.wait().code(), None);
    until("the child has ended", || match stat(child) {
        None | Some(('Z', _)) => Some(()),
        Some(_) => None,
    });
}

fn stuck_child_is_killed() {
    let script = "trap '' TERM; echo ready; while :; do sleep 60 & wait; done";
    let parent = Parent::of(&["/bin/sh", "-c", script]);
    parent.wait_for(&["ready"]);
    let child = only_child(parent.pid());
    let helpers = children(child);
    parent.signal("TERM");
    assert_eq!(parent.wait().code(), Some(0));
    assert_eq!(stat(child), None);
    for (pid, _) in helpers {
        signal("KILL", pid);
    }
}

fn panics_are_counted() {
    let program = own_program();
    let parent = Parent::of(&[&program, "role:panic"]);
    for (restarts, delay) in [(1, 100), (2, 200), (3, 400), (4, 800)] {
        let (restarts, delay) = (format!("restarts={restarts}"), format!("delay_ms={delay}"));
        parent.wait_for(&["cause=panic code=101", &restarts, &delay]);
    }
    let arguments = ["role:supervise-json", &program, "role:panic"];
    let line = Parent::start(&program, &arguments).wait_for(&["child ended"]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["cause"], "panic");
    assert_eq!(line["level"], "WARN");
}

fn memory_limits_end_the_child() {
    let program = own_program();
    let parent = Parent::of(&[&program, "role:bounded-hog"]);
    parent.wait_for(&["cause=abort", "restarts=2"]);

    // The whole process tree under a limit: the child reaches it, the parent is not hurt.
    let script = "ulimit -v 300000; exec \"$0\" role:supervise \"$0\" role:hog";
    let parent = Parent::start("/bin/sh", &["-c", script, &program]);
    parent.wait_for(&["cause=abort", "restarts=2"]);
}

fn orphans_are_reaped() {
    // The inner shell ends at once and leaves its background job to whoever takes orphans.
    let script = "sh -c 'sleep 0.05 & echo $!'; exec sleep 1000";
    let program = own_program();
    // `unshare` makes the parent process 1 of its own process namespace, where a user may.
    let unshare = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    let probe = Command::new("unshare").args(unshare).arg("true").output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        say("left out: orphans as process 1: `unshare --user --pid` is not permitted here");
        return;
    }
    let child = [&program, "role:supervise", "/bin/sh", "-c", script];
    let outer = Parent::start("unshare", &[&unshare[..], &child[..]].concat());
    outer.wait_for(&[""]);
    let parent = only_child(outer.pid());
    let ours = only_child(parent);
    until("the orphan is gone", || {
        (children(parent) == [(ours, 'S')]).then_some(())
    });
    signal("KILL", parent);
}

fn missing_program_is_tried_again() {
    let parent = Parent::of(&["/nowhere/rayscaler"]);
    parent.wait_for(&["cause=start errno=2", "restarts=2"]);
}

/// A cgroup of this test, removed with it.
struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one with 64 MiB, under either version; `None` where that is not permitted.
    fn new() -> Option<Self> {
        let name = format!("rayscaler-test-{}", std::process::id());
        for (root, limit) in [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ] {
            let folder = PathBuf::from(root).join(&name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let cgroup = Self(folder);
            if fs::write(cgroup.0.join(limit), "67108864").is_ok() {
                drop(fs::write(cgroup.0.join("memory.swap.max"), "0"));
                return Some(cgroup);
            }
        }
        None
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        until("the cgroup is empty", || fs::remove_dir(&self.0).ok());
    }
}

fn cgroup_kills_the_child() {
    let Some(cgroup) = Cgroup::new() else {
        say("left out: OOM kill by a cgroup: no cgroup can be made here");
        return;
    };
    let script = "echo $$ > \"$1/cgroup.procs\" && exec \"$0\" role:supervise \"$0\" role:hog";
    let folder = cgroup.0.to_str().unwrap();
    let parent = Parent::start("/bin/sh", &["-c", script, &own_program(), folder]);
    parent.wait_for(&["cause=kill signal=9", "restarts=2"]);
}
