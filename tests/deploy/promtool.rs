//! Finds promtool, or builds it once and keeps it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::{project, support, text};

const PACKAGE: &str = "github.com/prometheus/prometheus/cmd/promtool";

/// Returns promtool: that of `RAYSCALER_TEST_PROMTOOL`, else one built from the Go module under
/// `tests/real/promtool`, which takes some minutes the first time.
///
/// One that happens to be installed is not taken: its version decides what a rule file may hold.
fn program() -> PathBuf {
    if let Some(given) = support::env("RAYSCALER_TEST_PROMTOOL") {
        return PathBuf::from(given);
    }
    let module = project("tests/real/promtool");
    let sums = text("tests/real/promtool/go.mod") + &text("tests/real/promtool/go.sum");
    // FNV-1a, since it has to be the same in every Rust version.
    let hash = sums.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let folder = project(&format!(".cache/real/promtool-{hash:016x}"));
    fs::create_dir_all(&folder).unwrap();
    // Tests of this run, and runs side by side, wait here for the one that builds.
    let lock = File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    let program = folder.join("promtool");
    if !program.exists() {
        let unfinished = folder.join(".promtool");
        // Without the clients of forty clouds, which rules do not need.
        let built = Command::new("go")
            .args([
                "build",
                "-trimpath",
                "-tags",
                "remove_all_sd",
                "-ldflags",
                "-s -w",
                "-o",
            ])
            .arg(&unfinished)
            .arg(PACKAGE)
            .current_dir(module)
            .env("CGO_ENABLED", "0")
            .output();
        let built = built.unwrap_or_else(|_| {
            panic!(
                "`go` was not found, and promtool has to be built from tests/real/promtool: install Go 1.26 or newer \
                 (https://go.dev/dl), or set RAYSCALER_TEST_PROMTOOL to a promtool of Prometheus 3"
            )
        });
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "cannot build promtool:\n{errors}");
        fs::rename(unfinished, &program).unwrap();
    }
    program
}

/// A folder with files for promtool.
pub(crate) struct Promtool {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Promtool {
    /// Returns an empty folder.
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            program: program(),
        }
    }

    /// Adds a file.
    pub(crate) fn file(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Runs promtool in the folder and returns what it printed; panics when it fails.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "promtool {arguments:?}:\n{printed}{errors}"
        );
        printed
    }

    /// Runs promtool in the folder.
    pub(crate) fn try_run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        let command = command.args(arguments).current_dir(self.folder.path());
        command.output().unwrap()
    }
}
