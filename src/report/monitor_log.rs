//! `monitor.log` in Ray's log folder, where people and the dashboard look for the autoscaler's log.
//!
//! The folder belongs to the head's session and may be missing, read-only, or another one after the
//! head started anew. Writing never fails and never stops the work: what cannot be written is on
//! stdout all the same.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use super::rotating_file::{RotatingFile, Rotation};
use crate::model::Timestamp;

/// What Ray's drivers look for in `monitor.log` where the cluster runs the first autoscaler's protocol.
const EVENT_SUMMARY: &str = ":event_summary:";

/// Returns the folder of the logs below the head's temporary folder.
#[must_use]
pub fn log_dir(temp_dir: &Path) -> PathBuf {
    temp_dir.join("session_latest").join("logs")
}

/// Returns a line in the form of Ray's own: `time<TAB>LEVEL file:line -- message`.
#[must_use]
pub fn format_line(at: Timestamp, level: &str, place: &str, message: &str) -> String {
    let since = Duration::from_millis(at.as_ms().unsigned_abs());
    let time = humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string();
    // Python's `asctime`: `2026-11-25 02:30:00,123`.
    let time = time
        .trim_end_matches('Z')
        .replace('T', " ")
        .replace('.', ",");
    format!("{time}\t{level} {place} -- {message}\n")
}

#[derive(Debug)]
struct Inner {
    file: RotatingFile,
    error: Option<String>,
}

/// Writes `monitor.log`; clones share the file.
#[derive(Debug, Clone)]
pub struct MonitorLog {
    inner: Arc<Mutex<Inner>>,
}

impl MonitorLog {
    /// Returns a writer into the folder.
    #[must_use]
    pub fn new(log_dir: &Path, rotation: Rotation) -> Self {
        let file = RotatingFile::new(log_dir.join("monitor.log"), rotation);
        let inner = Inner { file, error: None };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Follows the folder to another session; to be called every few seconds.
    ///
    /// Returns why nothing was written since the last call, if so.
    pub fn recheck(&self) -> Option<String> {
        self.with(|inner| {
            inner.file.reopen_if_moved();
            inner.error.take()
        })
    }

    /// Writes a message that drivers print, where they read `monitor.log`.
    pub fn write_event_summary(&self, at: Timestamp, message: &str) {
        for line in message.lines() {
            let text = format!("{EVENT_SUMMARY}{line}");
            self.append(format_line(at, "INFO", "rayscaler:1", &text).as_bytes());
        }
    }

    fn append(&self, bytes: &[u8]) {
        self.with(|inner| {
            if let Err(error) = inner.file.write_all(bytes) {
                inner.error = Some(error.to_string());
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for MonitorLog {
    /// Writes what can be written; never an error, which the subscriber would print once per line.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{MonitorLog, format_line};
    use crate::model::Timestamp;
    use crate::report::rotating_file::Rotation;

    #[test]
    fn lines_have_the_form_of_rays() {
        let at = Timestamp::from_ms(1_795_573_800_123);
        let line = format_line(at, "INFO", "events.rs:7", "hello");
        assert_eq!(line, "2026-11-25 02:30:00,123\tINFO events.rs:7 -- hello\n");
    }

    #[test]
    fn a_missing_folder_costs_nothing_and_is_found_later() {
        let root = tempfile::tempdir().unwrap();
        let logs = root.path().join("session_latest/logs");
        let mut log = MonitorLog::new(&logs, Rotation::default());
        log.write_all(b"lost\n").unwrap();
        assert!(log.recheck().is_some());
        std::fs::create_dir_all(&logs).unwrap();
        log.write_all(b"kept\n").unwrap();
        log.write_event_summary(
            Timestamp::from_ms(0),
            "Adding 1 node(s) of type a.\nResized.",
        );
        assert_eq!(log.recheck(), None);
        let text = std::fs::read_to_string(logs.join("monitor.log")).unwrap();
        assert!(text.starts_with("kept\n"));
        assert_eq!(text.matches(" -- :event_summary:").count(), 2);
    }
}
