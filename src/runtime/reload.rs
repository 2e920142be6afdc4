//! Reads the config file again when its content has changed.
//!
//! # Why
//!
//! A ConfigMap mount changes by swapping the symlink `..data`, which tells an inotify watch on the
//! file nothing. A look at the file costs two system calls, so the caller looks every second or so;
//! time comes from the caller. What decides is the content: a swap to the same text is no change.
//! (2026-11-25)

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::{self, Config, ConfigError, PolicyCatalog};

/// A ConfigMap holds at most 1 MiB.
const BYTES_MAX: u64 = 1024 * 1024;

/// Says why a config file is not used.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// It cannot be read.
    #[error("cannot read config file `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is read and not accepted.
    #[error("config file `{}` is not accepted: {}", path.display(), join(errors))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Every mistake in it.
        errors: Vec<ConfigError>,
    },
}

impl ReloadError {
    /// Returns a fixed word, for labels.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::Invalid { .. } => "invalid",
        }
    }
}

fn join(errors: &[ConfigError]) -> String {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("; ")
}

/// Says what a look at the file found.
#[derive(Debug)]
pub enum ReloadOutcome {
    /// Nothing new since the last look.
    Unchanged,
    /// New settings.
    Changed(Box<Config>),
    /// A file that is not used; the last good settings stay. Reported once per content.
    Refused(ReloadError),
}

/// Watches one file.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    /// What the file looked like when it was last read; `None` when it could not be.
    seen: Option<Look>,
    text: Option<String>,
    /// The settings in force, to tell a changed comment from a changed setting.
    current: Config,
    has_failed_to_read: bool,
    is_refused: bool,
}

/// Tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Look {
    fn at(path: &Path) -> io::Result<Self> {
        // Follows symlinks, so a swap of `..data` is another inode.
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl Reloader {
    /// Returns a watcher and the settings in the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is not accepted: at the start there is no last good one.
    pub fn open(
        path: PathBuf,
        policies: &dyn PolicyCatalog,
    ) -> Result<(Self, Config), ReloadError> {
        let seen = Look::at(&path).ok();
        let text = read(&path)?;
        let config = parse(&path, &text, policies)?;
        let reloader = Self {
            path,
            seen,
            text: Some(text),
            current: config.clone(),
            has_failed_to_read: false,
            is_refused: false,
        };
        Ok((reloader, config))
    }

    /// Returns the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether what the file says is what is in force.
    #[must_use]
    pub const fn is_in_force(&self) -> bool {
        !self.is_refused && !self.has_failed_to_read
    }

    /// Looks at the file.
    pub fn poll(&mut self, policies: &dyn PolicyCatalog) -> ReloadOutcome {
        let look = Look::at(&self.path).ok();
        if look.is_some() && look == self.seen {
            return ReloadOutcome::Unchanged;
        }
        let text = match read(&self.path) {
            Ok(text) => text,
            Err(error) => return self.failed(error),
        };
        self.seen = look;
        self.has_failed_to_read = false;
        if self.text.as_ref() == Some(&text) {
            return ReloadOutcome::Unchanged;
        }
        let parsed = parse(&self.path, &text, policies);
        self.text = Some(text);
        self.is_refused = parsed.is_err();
        match parsed {
            Ok(config) if config == self.current => ReloadOutcome::Unchanged,
            Ok(config) => {
                self.current = config.clone();
                ReloadOutcome::Changed(Box::new(config))
            }
            Err(error) => ReloadOutcome::Refused(error),
        }
    }

    /// Reports a file that cannot be read, once until it can be again.
    fn failed(&mut self, error: ReloadError) -> ReloadOutcome {
        self.seen = None;
        if std::mem::replace(&mut self.has_failed_to_read, true) {
            ReloadOutcome::Unchanged
        } else {
            ReloadOutcome::Refused(error)
        }
    }
}

fn read(path: &Path) -> Result<String, ReloadError> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| {
        file.take(BYTES_MAX + 1).read_to_string(&mut text)?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > BYTES_MAX {
            return Err(io::Error::other("more than 1 MiB"));
        }
        Ok(())
    });
    let path = path.to_owned();
    read.map_err(|source| ReloadError::Unreadable { path, source })?;
    Ok(text)
}

fn parse(path: &Path, text: &str, policies: &dyn PolicyCatalog) -> Result<Config, ReloadError> {
    let path = path.to_owned();
    config::parse(text, policies).map_err(|errors| ReloadError::Invalid { path, errors })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::{Map, Value};

    use super::*;
    use crate::config::LogLevel;

    struct NoPolicies;

    impl PolicyCatalog for NoPolicies {
        fn names(&self) -> Vec<&str> {
            Vec::new()
        }

        fn check(&self, _: &str, _: &Map<String, Value>) -> Result<(), String> {
            Ok(())
        }
    }

    fn text(level: &str) -> String {
        format!(
            "apiVersion: rayscaler.io/v1alpha1\nkind: RayscalerConfig\nlog: {{level: {level}}}\n"
        )
    }

    fn level_after(reloader: &mut Reloader) -> Option<LogLevel> {
        match reloader.poll(&NoPolicies) {
            ReloadOutcome::Changed(config) => Some(config.log.level),
            ReloadOutcome::Unchanged => None,
            ReloadOutcome::Refused(error) => panic!("{error}"),
        }
    }

    fn refusal(reloader: &mut Reloader) -> String {
        match reloader.poll(&NoPolicies) {
            ReloadOutcome::Refused(error) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_changed_file_is_read_and_an_unchanged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, text("info")).unwrap();
        let (mut reloader, config) = Reloader::open(path.clone(), &NoPolicies).unwrap();
        assert_eq!(config.log.level, LogLevel::Info);
        assert_eq!(level_after(&mut reloader), None);
        fs::write(&path, text("debug")).unwrap();
        assert_eq!(level_after(&mut reloader), Some(LogLevel::Debug));
        assert_eq!(level_after(&mut reloader), None);
        fs::write(&path, format!("{}# a comment\n", text("debug"))).unwrap();
        assert_eq!(level_after(&mut reloader), None);
    }

    /// Does what the kubelet does with a ConfigMap volume.
    fn publish(folder: &Path, version: &str, content: &str) {
        let version = folder.join(version);
        fs::create_dir(&version).unwrap();
        fs::write(version.join("config.yaml"), content).unwrap();
        symlink(&version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    }

    #[test]
    fn the_symlink_swap_of_a_configmap_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        publish(folder.path(), "..1", &text("info"));
        let path = folder.path().join("config.yaml");
        symlink("..data/config.yaml", &path).unwrap();
        let (mut reloader, _) = Reloader::open(path, &NoPolicies).unwrap();
        publish(folder.path(), "..2", &text("warn"));
        fs::remove_dir_all(folder.path().join("..1")).unwrap();
        assert_eq!(level_after(&mut reloader), Some(LogLevel::Warn));
        publish(folder.path(), "..3", &text("warn"));
        assert_eq!(level_after(&mut reloader), None);
    }

    #[test]
    fn a_bad_file_is_told_once_and_the_last_good_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, text("info")).unwrap();
        let (mut reloader, _) = Reloader::open(path.clone(), &NoPolicies).unwrap();
        fs::write(&path, text("loud")).unwrap();
        let told = refusal(&mut reloader);
        assert!(
            told.contains("line 3: log.level: unknown value `loud`"),
            "{told}"
        );
        assert_eq!(level_after(&mut reloader), None);
        assert!(!reloader.is_in_force());
        // Back to the good one: the settings in force have not changed.
        fs::write(&path, text("info")).unwrap();
        assert_eq!(level_after(&mut reloader), None);
        assert!(reloader.is_in_force());
        fs::write(&path, text("error")).unwrap();
        assert_eq!(level_after(&mut reloader), Some(LogLevel::Error));
    }

    #[test]
    fn a_file_that_is_gone_is_told_once_and_read_when_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, text("info")).unwrap();
        let (mut reloader, _) = Reloader::open(path.clone(), &NoPolicies).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(refusal(&mut reloader).contains("cannot read config file"));
        assert_eq!(level_after(&mut reloader), None);
        assert!(!reloader.is_in_force());
        fs::write(&path, text("trace")).unwrap();
        assert_eq!(level_after(&mut reloader), Some(LogLevel::Trace));
    }

    #[test]
    fn what_is_not_a_text_file_of_a_sane_size_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        for content in [vec![b'#'; 2 * 1024 * 1024], vec![0xff, 0xfe]] {
            fs::write(&path, content).unwrap();
            let error = Reloader::open(path.clone(), &NoPolicies).unwrap_err();
            assert_eq!(error.kind(), "unreadable");
        }
        let folder = Reloader::open(folder.path().to_owned(), &NoPolicies).unwrap_err();
        assert_eq!(folder.kind(), "unreadable");
    }
}
