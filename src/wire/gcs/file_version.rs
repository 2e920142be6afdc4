//! Tells whether a file was replaced, without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Identifies what a path holds.
///
/// Why the inode: a mounted Secret is replaced by turning a link to another folder, and two versions written in one
/// second can agree in time and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileVersion {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl FileVersion {
    /// Returns what `path` leads to now, `None` when there is no such file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: found.ino(),
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}
