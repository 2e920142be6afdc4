//! `events/event_AUTOSCALER.log`: what Ray's log monitor carries to the drivers of a cluster.
//!
//! One JSON object a line, in the form of Ray's `Event` message.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::driver_text::DriverMessage;
use super::rotating_file::{RotatingFile, Rotation};
use crate::model::Timestamp;

/// Says who writes events.
#[derive(Debug, Clone)]
pub struct EventSource {
    /// The host's name.
    pub hostname: String,
    /// Our process.
    pub pid: u32,
}

/// Makes event ids from a seed, so that two runs of one test write the same file.
///
/// SplitMix64: ids have to differ, not to be secret.
#[derive(Debug)]
pub struct EventIds {
    state: u64,
}

impl EventIds {
    /// Returns a source of ids.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns 36 hexadecimal digits.
    pub fn next_id(&mut self) -> String {
        let digits = [self.next(), self.next(), self.next()].map(|part| format!("{part:016x}"));
        digits.concat().chars().take(36).collect()
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Returns one line, with its end.
#[must_use]
pub fn line(source: &EventSource, id: &str, message: &DriverMessage, at: Timestamp) -> String {
    let event = json!({
        "event_id": id,
        "source_type": "AUTOSCALER",
        "source_hostname": source.hostname,
        "source_pid": source.pid,
        "severity": message.severity.as_str(),
        "label": "",
        "message": message.text,
        // A 64-bit number, which protobuf's JSON writes as text.
        "timestamp": at.as_secs().to_string(),
        "custom_fields": {},
    });
    format!("{event}\n")
}

/// Writes the file.
#[derive(Debug)]
pub struct EventLog {
    source: EventSource,
    ids: EventIds,
    file: RotatingFile,
}

impl EventLog {
    /// Returns a writer below Ray's log folder; the file is opened when there is something to write.
    #[must_use]
    pub fn new(log_dir: &Path, source: EventSource, ids: EventIds) -> Self {
        Self {
            source,
            ids,
            file: RotatingFile::new(path_in(log_dir), Rotation::default()),
        }
    }

    /// Appends messages.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the next call tries again.
    pub fn append(&mut self, messages: &[DriverMessage], at: Timestamp) -> io::Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        // The head may have started anew since: then the path leads to another session's folder.
        self.file.reopen_if_moved();
        let mut text = String::new();
        for message in messages {
            text.push_str(&line(&self.source, &self.ids.next_id(), message, at));
        }
        self.file.write_all(text.as_bytes())
    }
}

fn path_in(log_dir: &Path) -> PathBuf {
    log_dir.join("events").join("event_AUTOSCALER.log")
}

#[cfg(test)]
mod tests {
    use super::{EventIds, EventLog, EventSource};
    use crate::model::Timestamp;
    use crate::report::driver_text::{DriverMessage, Severity};

    fn source() -> EventSource {
        EventSource {
            hostname: "head".to_owned(),
            pid: 7,
        }
    }

    fn message(text: &str) -> DriverMessage {
        DriverMessage {
            severity: Severity::Info,
            text: text.to_owned(),
        }
    }

    #[test]
    fn ids_are_36_hex_digits_and_differ() {
        let mut ids = EventIds::new(1);
        let (a, b) = (ids.next_id(), ids.next_id());
        assert_ne!(a, b);
        assert!(a.len() == 36 && a.chars().all(|c| c.is_ascii_hexdigit()));
        assert_eq!(EventIds::new(1).next_id(), a);
    }

    #[test]
    fn lines_hold_the_fields_of_an_event() {
        let line = super::line(
            &source(),
            "id",
            &message("Adding\n2"),
            Timestamp::from_ms(1_999),
        );
        assert!(line.ends_with('\n') && line.trim_end().lines().count() == 1);
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["timestamp"], "1");
        assert_eq!(event["message"], "Adding\n2");
        assert_eq!(event["source_pid"], 7);
    }

    #[test]
    fn a_new_session_gets_a_file_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let latest = root.path().join("session_latest");
        let read = |session: &str| {
            let path = root
                .path()
                .join(session)
                .join("events/event_AUTOSCALER.log");
            std::fs::read_to_string(path).unwrap()
        };
        std::fs::create_dir(root.path().join("s1")).unwrap();
        std::fs::create_dir(root.path().join("s2")).unwrap();
        std::os::unix::fs::symlink("s1", &latest).unwrap();
        let mut log = EventLog::new(&latest, source(), EventIds::new(1));
        log.append(&[message("one")], Timestamp::default()).unwrap();
        std::fs::remove_file(&latest).unwrap();
        std::os::unix::fs::symlink("s2", &latest).unwrap();
        log.append(&[message("two"), message("three")], Timestamp::default())
            .unwrap();
        assert!(read("s1").contains("one") && !read("s1").contains("two"));
        assert_eq!(read("s2").lines().count(), 2);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_no_end() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut log = EventLog::new(&file, source(), EventIds::new(1));
        assert!(log.append(&[message("one")], Timestamp::default()).is_err());
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        log.append(&[message("two")], Timestamp::default()).unwrap();
    }
}
