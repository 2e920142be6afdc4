//! A file that is renamed when it is full, as Python's `RotatingFileHandler` does it: Ray's own logs
//! beside it are rotated that way, and its log monitor follows the renames.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Says when a file is full and how many full ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// `RAY_ROTATION_MAX_BYTES`; 0 never rotates.
    pub bytes_max: u64,
    /// `RAY_ROTATION_BACKUP_COUNT`.
    pub backup_count: u32,
}

impl Default for Rotation {
    /// Returns Ray's own values.
    fn default() -> Self {
        Self {
            bytes_max: 512 * 1024 * 1024,
            backup_count: 5,
        }
    }
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    inode: (u64, u64),
}

/// Appends to a file, and makes the folder of it.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    rotation: Rotation,
    open: Option<Open>,
}

impl RotatingFile {
    /// Returns a writer; the file is opened when there is something to write.
    pub(super) const fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self {
            path,
            rotation,
            open: None,
        }
    }

    /// Lets go of the file if its path leads to another one, or none, by now.
    pub(super) fn reopen_if_moved(&mut self) {
        let there = fs::metadata(&self.path).ok().map(|it| (it.dev(), it.ino()));
        if self
            .open
            .as_ref()
            .is_some_and(|open| Some(open.inode) != there)
        {
            self.open = None;
        }
    }

    fn open(&mut self) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => open(&self.path)?,
        };
        Ok(self.open.insert(open))
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        for at in (1..self.rotation.backup_count).rev() {
            rename_if_there(&numbered(&self.path, at), &numbered(&self.path, at + 1))?;
        }
        if self.rotation.backup_count > 0 {
            rename_if_there(&self.path, &numbered(&self.path, 1))
        } else {
            fs::remove_file(&self.path)
        }
    }
}

impl Write for RotatingFile {
    /// Writes all of `bytes` into one file: a line is never cut in two.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let max = self.rotation.bytes_max;
        let open = self.open()?;
        if max > 0 && open.bytes > 0 && open.bytes.saturating_add(length) > max {
            self.rotate()?;
        }
        let open = self.open()?;
        let written = open.file.write_all(bytes);
        if written.is_err() {
            self.open = None;
        } else {
            open.bytes = open.bytes.saturating_add(length);
        }
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Open> {
    // Only the last folder is ours to make: a session's folder that is not there yet is the head's.
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        fs::create_dir(folder)?;
    }
    // To open a pipe is to wait for whoever reads it, and nobody may.
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe"));
    }
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let metadata = file.metadata()?;
    Ok(Open {
        file,
        bytes: metadata.len(),
        inode: (metadata.dev(), metadata.ino()),
    })
}

fn numbered(path: &Path, at: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{at}"));
    PathBuf::from(name)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{RotatingFile, Rotation};

    #[test]
    fn a_full_file_is_renamed_and_the_oldest_goes() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("monitor.log");
        let rotation = Rotation {
            bytes_max: 10,
            backup_count: 2,
        };
        let mut file = RotatingFile::new(path.clone(), rotation);
        for at in 0..5 {
            file.write_all(format!("line {at}\n").as_bytes()).unwrap();
        }
        let read = |suffix: &str| std::fs::read_to_string(format!("{}{suffix}", path.display()));
        assert_eq!(read("").unwrap(), "line 4\n");
        assert_eq!(read(".1").unwrap(), "line 3\n");
        assert_eq!(read(".2").unwrap(), "line 2\n");
        assert!(read(".3").is_err());
    }

    #[test]
    fn nobody_waits_for_the_reader_of_a_pipe() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("monitor.log");
        let mut made = std::process::Command::new("mkfifo");
        assert!(made.arg(&path).status().unwrap().success());
        let rotation = Rotation {
            bytes_max: 8,
            backup_count: 1,
        };
        let mut file = RotatingFile::new(path.clone(), rotation);
        assert!(file.write_all(b"new\n").is_err());
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
    }

    #[test]
    fn a_file_is_continued_and_never_cut() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("monitor.log");
        std::fs::write(&path, "old\n").unwrap();
        let rotation = Rotation {
            bytes_max: 8,
            backup_count: 1,
        };
        let mut file = RotatingFile::new(path.clone(), rotation);
        file.write_all(b"new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old\nnew\n");
        file.write_all(b"longer than all that is allowed\n")
            .unwrap();
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .starts_with("longer")
        );
    }
}
