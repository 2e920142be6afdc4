//! Where the sidecar's log goes: counted, and kept in a file where one is named.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Counts bytes, and writes them to a file or nowhere.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    bytes: Arc<AtomicU64>,
    file: Option<Arc<Mutex<File>>>,
}

impl Sink {
    /// Returns a sink into the file at `path`, which is made anew, or into nothing.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(File::create).transpose()?;
        Ok(Self {
            bytes: Arc::default(),
            file: file.map(|file| Arc::new(Mutex::new(file))),
        })
    }

    /// Returns how many bytes have come.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let count = u64::try_from(line.len()).unwrap_or(0);
        self.bytes.fetch_add(count, Ordering::Relaxed);
        match &self.file {
            Some(file) => file
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write(line),
            None => Ok(line.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
