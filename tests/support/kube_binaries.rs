//! Finds etcd, kube-apiserver and kubectl, or builds them once and keeps them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the built programs say they are.
const VERSION: &str = "v1.37.2";

/// Returns the folder that holds `etcd` and `kube-apiserver`.
///
/// `RAYSCALER_TEST_KUBE_BIN` names one that is there already; else the Go module under `tests/real/k8s`
/// is built into the workspace's `.cache`, which takes some minutes the first time.
pub fn folder_with(programs: &[&str]) -> PathBuf {
    if let Some(given) = super::env("RAYSCALER_TEST_KUBE_BIN") {
        let given = PathBuf::from(given);
        for program in programs {
            let file = given.join(program);
            assert!(
                file.exists(),
                "RAYSCALER_TEST_KUBE_BIN has no `{}`",
                file.display()
            );
        }
        return given;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"));
    let module = workspace.join("tests/real/k8s");
    let folder = workspace.join(format!(".cache/real/k8s-{:016x}", hash(&module)));
    fs::create_dir_all(&folder).unwrap();
    // Test binaries of one run, and runs side by side, wait here for the one that builds.
    let lock = File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    for program in programs {
        if !folder.join(program).exists() {
            build(&module, program, &folder);
        }
    }
    folder
}

fn build(module: &Path, program: &str, folder: &Path) {
    let version = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {version}.gitVersion={VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor=37"
    );
    let unfinished = folder.join(format!(".{program}"));
    let output = Command::new("go")
        .args(["build", "-trimpath", "-ldflags", &flags, "-o"])
        .arg(&unfinished)
        .arg(format!("./{program}"))
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .output();
    let Ok(output) = output else {
        panic!(
            "`go` was not found, and `{program}` has to be built from tests/real/k8s: install Go 1.26 or \
             newer (https://go.dev/dl), or set RAYSCALER_TEST_KUBE_BIN to a folder with {program} {VERSION}"
        );
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cannot build `{program}`:\n{errors}"
    );
    fs::rename(unfinished, folder.join(program)).unwrap();
}

/// Hashes what the programs are made of: FNV-1a, since it has to be the same in every Rust version.
fn hash(module: &Path) -> u64 {
    let files = [
        "go.mod",
        "go.sum",
        "etcd/main.go",
        "kube-apiserver/main.go",
        "kubectl/main.go",
    ];
    let bytes = files
        .iter()
        .flat_map(|file| fs::read(module.join(file)).unwrap());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
