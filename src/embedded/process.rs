//! Programs that are ended with everything they started themselves.
//!
//! Every program runs in a session of its own under a small shell. The shell ends the session when its
//! standard input closes, which the kernel does for us even when this process is killed; so nothing
//! is left behind by a panic, an abort or an impatient user.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Arguments: the log file, a folder to remove at the end (or nothing), the program with its arguments.
///
/// The session is found in /proc and not by process group, since Ray puts its processes into groups. A process whose
/// first thread has ended is gone only when it has no others: they hold its ports.
const SHELL: &str = r#"
log=$1; remove=$2; shift 2
{ sh -c 'echo "pid $$"; log=$1; shift; exec "$@" >>"$log" 2>&1' sh "$log" "$@" </dev/null; echo "exit $?"; } &
while read -r signal target; do kill -s "$signal" "$target" 2>/dev/null; done
for try in 1 2 3 4 5 6 7 8 9 10; do
    left=
    for stat in /proc/[0-9]*/stat; do
        { read -r line <"$stat"; } 2>/dev/null || continue
        set -- ${line##*) }
        [ "$4" = $$ ] && [ "${line%% *}" != $$ ] || continue
        [ "$1" = Z ] && [ "${18}" -le 1 ] && continue
        left="$left ${line%% *}"
    done
    [ -z "$left" ] && break
    kill -s KILL $left 2>/dev/null
    sleep 0.05
done
[ -z "$remove" ] || rm -rf "$remove" || { sleep 0.5; rm -rf "$remove"; }
exit 0
"#;

/// Holds what is to be started.
#[derive(Debug, Clone)]
pub struct Program {
    /// Path or name of the program.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment on top of the test's own; `None` takes a variable away.
    pub env: Vec<(String, Option<String>)>,
    /// File that its output is appended to.
    pub log: PathBuf,
    /// Folder that is removed after its end.
    pub remove: Option<PathBuf>,
}

impl Program {
    /// Returns a program without arguments.
    pub fn new(path: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            log: log.into(),
            remove: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds one environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Removes a folder after the end.
    #[must_use]
    pub fn removing(mut self, folder: &Path) -> Self {
        self.remove = Some(folder.to_owned());
        self
    }

    /// Starts the program in a session of its own.
    ///
    /// # Errors
    ///
    /// `setsid` (util-linux) or `sh` cannot be started.
    pub fn spawn(&self) -> io::Result<Running> {
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", SHELL, "sh"]).arg(&self.log);
        command.arg(self.remove.as_deref().unwrap_or(Path::new("")));
        command.arg(&self.path).args(&self.args);
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn()?;
        let output = shell.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut lines = BufReader::new(output).lines();
        let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        let pid = first.strip_prefix("pid ").and_then(|pid| pid.parse().ok());
        let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
        let (sender, exited) = watch::channel(None);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(code) = line.strip_prefix("exit ") {
                    sender.send_replace(code.parse().ok());
                }
            }
        });
        let input = Mutex::new(shell.stdin.take());
        Ok(Running {
            shell,
            input,
            pid,
            exited,
            log: self.log.clone(),
        })
    }
}

/// A program that runs, or has ended while others of its session may still run.
#[derive(Debug)]
pub struct Running {
    shell: Child,
    input: Mutex<Option<ChildStdin>>,
    pid: u32,
    exited: watch::Receiver<Option<i32>>,
    log: PathBuf,
}

impl Running {
    /// Returns the process id of the program.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the exit code once the program has ended; 128 and the signal's number when killed.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        *self.exited.borrow()
    }

    /// Returns what tells the exit code, once there is one.
    #[must_use]
    pub fn exited(&self) -> watch::Receiver<Option<i32>> {
        self.exited.clone()
    }

    /// Sends a signal, such as `TERM`, to the program alone.
    ///
    /// # Errors
    ///
    /// The shell around the program has ended.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let input = input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(input, "{name} {}", self.pid)
    }

    /// Waits for the program's end and returns its exit code, `None` after `deadline`.
    pub async fn wait(&self, deadline: Duration) -> Option<i32> {
        let mut exited = self.exited.clone();
        let ended = tokio::time::timeout(deadline, exited.wait_for(Option::is_some)).await;
        ended.ok()?.ok().and_then(|code| *code)
    }

    /// Ends the whole session at once and waits for that.
    pub fn end(&mut self) {
        let input = self
            .input
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(input);
        // Fails only where somebody else has waited for it.
        drop(self.shell.wait());
    }

    /// Returns the last lines of the log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let start = lines.len().saturating_sub(30);
        lines.get(start..).unwrap_or_default().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use super::Program;
    use crate::embedded::ports::free_port;

    /// Listens, and ends its first thread while another one lives.
    const HEADLESS: &str = "
import ctypes, socket, sys, threading, time
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
threading.Thread(target=lambda: time.sleep(60)).start()
ctypes.CDLL(None).pthread_exit(None)
";

    #[test]
    fn whoever_has_lost_its_first_thread_is_ended_with_the_ports_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let program = Program::new("python3", folder.path().join("log"));
        let program = program.arg("-c").arg(HEADLESS).arg(port.to_string());
        let mut running = program.spawn().unwrap();
        let stat = format!("/proc/{}/stat", running.pid());
        let is_headless = || std::fs::read_to_string(&stat).is_ok_and(|it| it.contains(") Z "));
        let mut tries = 0;
        while !is_headless() && tries < 600 {
            tries += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(is_headless(), "{}", running.log_tail());
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        assert!(bind().is_err(), "nobody listens: {}", running.log_tail());
        running.end();
        bind().unwrap();
    }
}
