//! Starts programs so that they and all their children end with the test, however it ends.
//!
//! Ray's processes outlive the command that started them, change their titles (and with them what `/proc` shows of their
//! environment) and start children of their own. A child is found by its process group, by a variable that only our
//! processes have, or by its parent. What a killed test leaves behind is ended by a guard that outlives it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Holds the owner in every process that a test starts: `<test>` and, after a dot, a number.
const MARKER: &str = "RAYSCALER_TEST_PROCESS";

/// Waits for the owner to end, then ends every group in which a process carries the owner's marker.
const GUARD: &str = r#"
while kill -0 "$1" 2>/dev/null; do sleep 1; done
for file in /proc/[0-9]*/environ; do
  if tr '\0' '\n' <"$file" 2>/dev/null | grep -q "^RAYSCALER_TEST_PROCESS=$2[.]"; then
    read -r line <"${file%environ}stat" && set -- "$1" "$2" ${line##*) } && kill -s KILL -- "-$5"
  fi
done 2>/dev/null
"#;

/// Holds a program and what it started; ends all of them when dropped.
#[derive(Debug)]
pub struct ProcessTree {
    child: Child,
    marker: String,
}

impl ProcessTree {
    /// Starts `command` in a process group of its own.
    pub fn spawn(command: &mut Command) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let marker = format!("{}.{number}", owner());
        command
            .env(MARKER, &marker)
            .process_group(0)
            .stdin(Stdio::null());
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, marker }
    }

    /// Returns the id of the program itself.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns how the program itself ended, `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// Returns the ids of all processes, with the words they were started with.
    pub fn members(&self) -> Vec<(u32, String)> {
        let all = processes();
        let marker = format!("{MARKER}={}", self.marker);
        let mut found: BTreeSet<u32> = BTreeSet::new();
        for process in &all {
            if process.group == self.id() || process.has_variable(&marker) {
                found.insert(process.id);
            }
        }
        while let Some(child) = all
            .iter()
            .find(|one| found.contains(&one.parent) && !found.contains(&one.id))
        {
            found.insert(child.id);
        }
        found.into_iter().map(|id| (id, command_line(id))).collect()
    }

    /// Ends all processes at once, as a lost machine would.
    pub fn kill(&mut self) {
        loop {
            let members = self.members();
            if members.is_empty() {
                break;
            }
            kill(members.iter().map(|(id, _)| *id));
            std::thread::sleep(Duration::from_millis(20));
        }
        // Already ended: only takes its entry out of the process table.
        let _status = self.child.wait();
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends SIGKILL.
pub fn kill(ids: impl IntoIterator<Item = u32>) {
    signal("KILL", ids);
}

/// Sends a signal, named as `kill` names it; who has ended meanwhile is left out.
pub fn signal(name: &str, ids: impl IntoIterator<Item = u32>) {
    for id in ids {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            r#"kill "-$1" "$2" 2>/dev/null"#,
            "sh",
            name,
            &id.to_string(),
        ]);
        command.status().expect("sh");
    }
}

struct Process {
    id: u32,
    parent: u32,
    group: u32,
}

impl Process {
    fn has_variable(&self, variable: &str) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", self.id)).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == variable.as_bytes())
    }
}

/// Returns the processes that have not ended.
fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("Linux");
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: u32| {
        let (state, numbers) = stat(&id.to_string())?;
        (state != "Z" && state != "X").then_some(Process {
            id,
            parent: *numbers.first()?,
            group: *numbers.get(1)?,
        })
    })
    .collect()
}

/// Returns the state of a process and the numbers after it: parent, group and so on.
fn stat(process: &str) -> Option<(String, Vec<u32>)> {
    let line = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let mut words = line[line.rfind(')')? + 1..].split_whitespace();
    let state = words.next()?.to_owned();
    Some((state, words.map(|word| word.parse().unwrap_or(0)).collect()))
}

fn command_line(id: u32) -> String {
    let bytes = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Returns a name for this test process that no other has, and starts its guard.
#[expect(clippy::zombie_processes, reason = "the guard outlives us")]
fn owner() -> &'static str {
    static OWNER: OnceLock<String> = OnceLock::new();
    OWNER.get_or_init(|| {
        let id = std::process::id();
        // When it started, in ticks: ids are used again. The 22nd word of the line, the 19th after the state.
        let (_, numbers) = stat("self").expect("Linux");
        let name = format!("{id}-{}", numbers[18]);
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "sh", &id.to_string(), &name]);
        guard
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        guard.process_group(0).spawn().expect("sh");
        name
    })
}
