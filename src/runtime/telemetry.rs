//! Where log lines go: standard output, and `monitor.log` once its folder is known.
//!
//! Level and form change while running. Levels are set per module by prefix and not by regular
//! expression, which would cost a megabyte of the binary for nothing anybody asked for.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Compact, Format, FormatEvent, FormatFields, Json, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;

use crate::clock::Clock;
use crate::config::{Log, LogFormat, LogLevel};
use crate::model::Timestamp;

/// Changes what is logged while the process runs.
#[derive(Clone)]
pub struct Telemetry {
    level: reload::Handle<Targets, Registry>,
    is_json: Arc<AtomicBool>,
    second: SecondWriter,
}

/// Takes the lines that go to `monitor.log`; one call of `write` is one line.
pub type LineWriter = Box<dyn Write + Send>;

impl Telemetry {
    /// Returns the subscriber and what changes it. `out` makes standard output.
    #[must_use]
    pub fn new<W>(log: Log, clock: Clock, out: W, is_terminal: bool) -> (impl Subscriber, Self)
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let (level, handle) = reload::Layer::new(levels(log.level));
        let is_json = Arc::new(AtomicBool::new(log.format == LogFormat::Json));
        let second = SecondWriter::default();
        let lines = Lines::new(clock.clone(), is_terminal, Arc::clone(&is_json));
        let first_layer = tracing_subscriber::fmt::layer()
            .with_ansi(is_terminal)
            .event_format(lines)
            .with_writer(out);
        let second_layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(StockLine(clock))
            .with_writer(second.clone());
        // One by one: joined to one layer they are asked about every event of every library anew.
        let subscriber = tracing_subscriber::registry()
            .with(level)
            .with(first_layer)
            .with(second_layer);
        let telemetry = Self {
            level: handle,
            is_json,
            second,
        };
        (subscriber, telemetry)
    }

    /// Logs to standard output from now on.
    ///
    /// # Errors
    ///
    /// The process logs already.
    pub fn start(
        log: Log,
        clock: Clock,
    ) -> Result<Self, tracing::subscriber::SetGlobalDefaultError> {
        let is_terminal = io::IsTerminal::is_terminal(&io::stdout());
        let (subscriber, telemetry) = Self::new(log, clock, io::stdout, is_terminal);
        tracing::subscriber::set_global_default(subscriber)?;
        Ok(telemetry)
    }

    /// Sets level and form.
    pub fn set(&self, log: Log) {
        self.set_level(log.level);
        let is_json = log.format == LogFormat::Json;
        self.is_json.store(is_json, Ordering::Relaxed);
    }

    /// Sets the level.
    pub fn set_level(&self, level: LogLevel) {
        // Fails only when the subscriber is gone, and then nothing is logged anyway.
        self.level.reload(levels(level)).unwrap_or_default();
    }

    /// Sends every line to a second writer too, in the form of Ray's `monitor.log`.
    pub fn attach(&self, writer: LineWriter) {
        self.second.replace(Some(writer));
    }

    /// Ends the second writer and returns it.
    #[must_use]
    pub fn detach(&self) -> Option<LineWriter> {
        self.second.replace(None)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

/// Returns an error with everything that caused it, as one text for the field `error`.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Returns the levels: ours as asked, that of libraries two steps quieter.
fn levels(level: LogLevel) -> Targets {
    let (ours, libraries) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::ERROR),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    Targets::new()
        .with_default(libraries)
        .with_target("rayscaler", ours)
}

/// Shows the clock's time, which is virtual in tests.
struct ClockTime(Clock);

fn since_1970(at: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(at.as_ms()).unwrap_or(0))
}

impl FormatTime for ClockTime {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        let now = UNIX_EPOCH + since_1970(self.0.now());
        write!(to, "{}", humantime::format_rfc3339_millis(now))
    }
}

/// Writes lines as text or JSON, whichever is set.
struct Lines {
    text: Format<Compact, ClockTime>,
    json: Format<Json, ClockTime>,
    is_json: Arc<AtomicBool>,
}

impl Lines {
    fn new(clock: Clock, is_terminal: bool, is_json: Arc<AtomicBool>) -> Self {
        let format = tracing_subscriber::fmt::format();
        let text = format
            .clone()
            .compact()
            .with_ansi(is_terminal)
            .with_timer(ClockTime(clock.clone()));
        let json = format
            .json()
            .flatten_event(true)
            .with_timer(ClockTime(clock));
        Self {
            text,
            json,
            is_json,
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.is_json.load(Ordering::Relaxed) {
            self.json.format_event(context, to, event)
        } else {
            self.text.format_event(context, to, event)
        }
    }
}

/// Writes lines as Ray's own `monitor.log` has them: time, tab, level, place, message.
struct StockLine(Clock);

impl<S, N> FormatEvent<S, N> for StockLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = since_1970(self.0.now());
        // `2026-11-25T10:00:00.123Z` as Python writes it: `2026-11-25 10:00:00,123`.
        let text = humantime::format_rfc3339_millis(UNIX_EPOCH + now).to_string();
        let text = text
            .trim_end_matches('Z')
            .replace('T', " ")
            .replace('.', ",");
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            _ => "DEBUG",
        };
        let file = metadata.file().and_then(|file| file.rsplit('/').next());
        let (file, line) = (file.unwrap_or("rayscaler"), metadata.line().unwrap_or(0));
        write!(to, "{text}\t{level} {file}:{line} -- ")?;
        context.field_format().format_fields(to.by_ref(), event)?;
        writeln!(to)
    }
}

/// Holds the second writer, shared between the subscriber and its handle.
#[derive(Clone, Default)]
struct SecondWriter(Arc<Mutex<Option<LineWriter>>>);

impl SecondWriter {
    fn replace(&self, writer: Option<LineWriter>) -> Option<LineWriter> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *held, writer)
    }
}

impl Write for &SecondWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = held.as_mut() {
            // A full disk must not end the log on standard output, so its errors end here; the
            // writer counts them itself.
            writer.write_all(line).unwrap_or_default();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for SecondWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info, warn};

    use super::*;

    /// Collects lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn started() -> (tracing::subscriber::DefaultGuard, Telemetry, Lines) {
        let out = Lines::default();
        let writer = out.clone();
        let clock = Clock::starting_at(Timestamp::from_ms(1_700_000_000_123));
        let log = Log::default();
        let (subscriber, telemetry) = Telemetry::new(log, clock, move || writer.clone(), false);
        let guard = tracing::subscriber::set_default(subscriber);
        (guard, telemetry, out)
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_text_or_json_and_the_form_changes_while_running() {
        let (_guard, telemetry, out) = started();
        info!(group = "small", from = 1, to = 3, "scale decision");
        assert_eq!(
            out.take(),
            "2023-11-14T22:13:20.123Z  INFO rayscaler::runtime::telemetry::tests: scale decision \
             group=\"small\" from=1 to=3\n"
        );
        telemetry.set(Log {
            format: LogFormat::Json,
            ..Log::default()
        });
        info!(group = "small", from = 1, "scale decision");
        let line: serde_json::Value = serde_json::from_str(&out.take()).unwrap();
        assert_eq!(line["message"], "scale decision");
        assert_eq!(line["from"], 1);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["timestamp"], "2023-11-14T22:13:20.123Z");
    }

    #[tokio::test(start_paused = true)]
    async fn the_level_changes_while_running_and_libraries_stay_quieter() {
        let (_guard, telemetry, out) = started();
        debug!("hidden");
        info!(target: "hyper", "hidden");
        warn!(target: "hyper", "seen");
        assert!(out.take().ends_with("WARN hyper: seen\n"));
        telemetry.set_level(LogLevel::Debug);
        debug!("seen");
        assert!(out.take().contains("DEBUG"));
        telemetry.set_level(LogLevel::Error);
        warn!("hidden");
        assert_eq!(out.take(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_will_read_is_known_beforehand() {
        let clock = Clock::starting_at(Timestamp::from_ms(0));
        let (subscriber, _telemetry) = Telemetry::new(Log::default(), clock, io::sink, false);
        // Without this, each of the many traces of the HTTP/2 library is asked about every time.
        assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::INFO));
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_writer_gets_the_same_lines_as_ray_writes_them() {
        let (_guard, telemetry, out) = started();
        info!("before");
        let monitor_log = Lines::default();
        telemetry.attach(Box::new(monitor_log.clone()));
        warn!(group = "small", "launch failed");
        let line = monitor_log.take();
        let (start, message) = line.split_once(" -- ").unwrap();
        assert!(
            start.starts_with("2023-11-14 22:13:20,123\tWARNING telemetry.rs:"),
            "{start}"
        );
        assert_eq!(message, "launch failed group=\"small\"\n");
        assert!(telemetry.detach().is_some());
        info!("after");
        assert_eq!(monitor_log.take(), "");
        assert_eq!(out.take().lines().count(), 3);
    }
}
