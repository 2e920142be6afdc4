//! Finds or makes the Python environment with one version of Ray.
#![allow(
    clippy::disallowed_methods,
    reason = "where the environments are is said by variables"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names a version of Ray that tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RayVersion {
    /// 2.60.0.
    Newest,
    /// 2.47.1, the oldest we serve.
    Oldest,
}

impl RayVersion {
    /// Returns the number.
    pub const fn number(self) -> &'static str {
        match self {
            Self::Newest => "2.60.0",
            Self::Oldest => "2.47.1",
        }
    }

    /// Returns the folder of the programs, `ray` and `python`; installs them at first use.
    ///
    /// An environment that is there already can be named, `RAYSCALER_TEST_RAY_2_60_0=/path`. Others are made in
    /// `RAYSCALER_TEST_CACHE`, by default `.cache/real` of the project.
    pub fn programs(self) -> PathBuf {
        let variable = format!("RAYSCALER_TEST_RAY_{}", self.number().replace('.', "_"));
        let environment = match std::env::var_os(variable) {
            Some(path) => PathBuf::from(path),
            None => self.install(),
        };
        let programs = environment.join("bin");
        assert!(
            programs.join("ray").exists(),
            "no Ray in {}",
            environment.display()
        );
        programs
    }

    fn install(self) -> PathBuf {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let cache = std::env::var_os("RAYSCALER_TEST_CACHE")
            .map_or_else(|| project.join(".cache/real"), PathBuf::from);
        fs::create_dir_all(&cache).expect("cache folder");
        let environment = cache.join(format!("ray-{}", self.number()));
        let requirements =
            project.join(format!("tests/real/ray/requirements-{}.txt", self.number()));
        let lock =
            File::create(cache.join(format!("ray-{}.lock", self.number()))).expect("lock file");
        // Tests that run side by side wait for the first of them.
        lock.lock().expect("lock");
        // Copied last: an environment that was not finished has none.
        let installed = environment.join("requirements.txt");
        let wanted = fs::read(&requirements).expect("requirements");
        if fs::read(&installed).ok().as_ref() != Some(&wanted) {
            if environment.exists() {
                fs::remove_dir_all(&environment).expect("old environment");
            }
            run(Command::new("python3")
                .args(["-m", "venv"])
                .arg(&environment));
            let quiet = ["install", "--quiet", "--disable-pip-version-check", "-r"];
            run(Command::new(environment.join("bin/pip"))
                .args(quiet)
                .arg(&requirements));
            fs::write(&installed, wanted).expect("requirements");
        }
        environment
    }
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
}
