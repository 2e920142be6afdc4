//! The parent's log line, written from a buffer on the stack.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use super::LineForm;
use super::process::{self, Ended};

/// Holds the end of a child.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) ended: Ended,
    pub(super) restarts: u64,
    pub(super) delay_ms: u64,
}

/// Writes the line to standard output.
pub(super) fn write(event: &Event, form: LineForm) {
    let mut line = Buffer::<512>::new();
    // A line that does not fit is cut; the longest is under 300 bytes.
    if format(event, form, process::wall_ms(), &mut line).is_ok() {
        process::write_out(line.as_bytes());
    }
}

fn format(event: &Event, form: LineForm, now_ms: u64, to: &mut dyn fmt::Write) -> fmt::Result {
    const MESSAGE: &str = "child ended, starting it again";
    const TARGET: &str = "rayscaler::supervisor";
    let now = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(now_ms));
    let Event {
        ended,
        restarts,
        delay_ms,
    } = event;
    let (cause, (what, number)) = (ended.cause().as_str(), ended.detail());
    match form {
        LineForm::Text => writeln!(
            to,
            "{now}  WARN {TARGET}: {MESSAGE} cause={cause} {what}={number} restarts={restarts} delay_ms={delay_ms}"
        ),
        LineForm::Json => writeln!(
            to,
            "{{\"timestamp\":\"{now}\",\"level\":\"WARN\",\"message\":\"{MESSAGE}\",\
             \"cause\":\"{cause}\",\"{what}\":{number},\"restarts\":{restarts},\
             \"delay_ms\":{delay_ms},\"target\":\"{TARGET}\"}}"
        ),
    }
}

/// Holds text of at most `N` bytes without allocating.
pub(super) struct Buffer<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Buffer<N> {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(super) const fn clear(&mut self) {
        self.length = 0;
    }
}

impl<const N: usize> fmt::Write for Buffer<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length.saturating_add(text.len());
        let room = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn line(form: LineForm) -> String {
        let event = Event {
            ended: Ended::Signalled(9),
            restarts: 3,
            delay_ms: 400,
        };
        let mut line = Buffer::<512>::new();
        format(&event, form, 1_700_000_000_123, &mut line).unwrap();
        String::from_utf8(line.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn the_line_names_cause_count_and_delay() {
        assert_eq!(
            line(LineForm::Text),
            "2023-11-14T22:13:20.123Z  WARN rayscaler::supervisor: child ended, starting it again \
             cause=kill signal=9 restarts=3 delay_ms=400\n"
        );
        let json: serde_json::Value = serde_json::from_str(&line(LineForm::Json)).unwrap();
        assert_eq!(json["cause"], "kill");
        assert_eq!(json["signal"], 9);
        assert_eq!(json["timestamp"], "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn a_buffer_takes_what_fits_and_refuses_the_rest() {
        let mut buffer = Buffer::<4>::new();
        assert!(buffer.write_str("abcd").is_ok());
        assert!(buffer.write_str("e").is_err());
        assert_eq!(buffer.as_bytes(), b"abcd");
    }
}
