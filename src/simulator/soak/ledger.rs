//! What was measured hour by hour, and what is to be said of it.

use crate::embedded::kube::Held;

/// So much more memory after each hour than after the last one is a leak: six megabytes a day, and more than the
/// allocator's own ups and downs over a dozen hours. Units: bytes.
const SLOPE_MAX: i128 = 256 * 1024;

/// The same for what of the heap is in use, which has no such ups and downs. Units: bytes.
const HEAP_SLOPE_MAX: i128 = 64 * 1024;

/// What may be logged in an hour in which nothing happens. Units: bytes.
const QUIET_LOG_MAX: u64 = 100_000;

/// Hours in which everything becomes as large as it gets; they say nothing of a slope.
pub(super) const FIRST_HOURS: u64 = 2;

const HOUR_MS: u64 = 3_600_000;

/// What an hour is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum HourKind {
    /// Work comes and goes.
    #[default]
    Busy,
    /// The cluster fills up.
    Filling,
    /// All nodes work, and nothing happens.
    Full,
    /// The cluster empties.
    Emptying,
    /// There is no node, and nothing happens.
    Empty,
}

impl HourKind {
    /// Returns what this hour of so many is for: the last quarter is quiet, where there is room for it.
    pub(super) const fn of(hour: u64, hours: u64) -> Self {
        let quarter = hours / 4;
        let quiet = if hours < 8 {
            0
        } else if quarter < 4 {
            4
        } else {
            quarter
        };
        let Some(at) = hour.checked_sub(hours - quiet) else {
            return Self::Busy;
        };
        let full = quiet / 2;
        match at {
            0 => Self::Filling,
            at if at < full => Self::Full,
            at if at == full => Self::Emptying,
            _ => Self::Empty,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Filling => "filling",
            Self::Full => "full",
            Self::Emptying => "emptying",
            Self::Empty => "empty",
        }
    }
}

/// Holds what an hour came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    pub(super) kind: HourKind,
    pub(super) nodes_peak: usize,
    /// The memory of the process at the end of the hour, without what the allocator keeps for later.
    pub(super) resident_kib: u64,
    /// The most that it ever was.
    pub(super) resident_peak_kib: u64,
    /// What of the heap is in use at the end of the hour, without the API server's past; `None` where nobody tells.
    pub(super) heap_kib: Option<u64>,
    pub(super) log_bytes: u64,
    /// Patches of the RayCluster.
    pub(super) writes: u64,
    pub(super) faults: u64,
    /// What the engine remembers, as JSON. Units: bytes.
    pub(super) remembered: usize,
    /// Lines of the metrics.
    pub(super) series: usize,
    /// What the API server holds, and how many nodes the GCS knows, dead ones too.
    pub(super) stand_ins: (Held, usize),
}

impl Sample {
    /// Returns the line of an hour.
    pub(super) fn line(&self, hour: u64) -> String {
        let (api, records) = self.stand_ins;
        format!(
            "{hour:>4}  {:<8}  {:>5}  {:>9}  {:>9}  {:>8}  {:>9}  {:>7}  {:>6}  {:>10}  {:>6}  {:>8}  {:>8}  {:>8}",
            self.kind.name(),
            self.nodes_peak,
            self.resident_kib,
            self.resident_peak_kib,
            self.heap_kib.unwrap_or(0),
            self.log_bytes,
            self.writes,
            self.faults,
            self.remembered,
            self.series,
            api.objects,
            api.bytes / 1024,
            records,
        )
    }
}

/// Says what came of all hours.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What was found.
    pub(super) told: Vec<String>,
    /// What of it must not be.
    pub(super) wrong: Vec<String>,
}

impl Verdict {
    fn say(&mut self, text: String, is_wrong: bool) {
        if is_wrong {
            self.wrong.push(text.clone());
        }
        self.told.push(text);
    }
}

/// Holds all hours.
#[derive(Debug)]
pub(super) struct Ledger {
    hour_ms: u64,
    samples: Vec<Sample>,
}

impl Ledger {
    /// Returns one without hours; each will be so long.
    pub(super) const fn new(hour_ms: u64) -> Self {
        let samples = Vec::new();
        Self { hour_ms, samples }
    }

    /// Returns what stands above the hours.
    pub(super) fn head() -> String {
        format!(
            "{:>4}  {:<8}  {:>5}  {:>9}  {:>9}  {:>8}  {:>9}  {:>7}  {:>6}  {:>10}  {:>6}  {:>8}  {:>8}  {:>8}",
            "hour",
            "kind",
            "nodes",
            "RSS KiB",
            "most KiB",
            "heap KiB",
            "log bytes",
            "patches",
            "faults",
            "remembered",
            "series",
            "objects",
            "API KiB",
            "GCS nodes",
        )
    }

    pub(super) fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Returns what there is to say, and what is wrong.
    pub(super) fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let busy: Vec<&Sample> = self.of(HourKind::Busy).collect();
        let first = usize::try_from(FIRST_HOURS).unwrap_or(0);
        let later = busy.get(first..).unwrap_or_default();
        // Pages are spread over by and by: of twenty nodes five times as much in the first six of eighteen hours as in
        // the twelve after them. What grows for good grows in the later half, too.
        let half = busy.get(first.max(busy.len() / 2)..).unwrap_or_default();
        let resident = |sample: &Sample| Some(sample.resident_kib);
        self.judge_memory(("memory", SLOPE_MAX), half, resident, &mut verdict);
        if later.iter().any(|sample| sample.heap_kib.is_some()) {
            let heap = |sample: &Sample| sample.heap_kib;
            self.judge_memory(("heap in use", HEAP_SLOPE_MAX), later, heap, &mut verdict);
        }
        self.judge_quiet(HourKind::Full, &mut verdict);
        self.judge_quiet(HourKind::Empty, &mut verdict);
        judge_tables(later, &mut verdict);
        let totals = format!(
            "{} patches, {} faults, {} bytes of log",
            self.sum(|sample| sample.writes),
            self.sum(|sample| sample.faults),
            self.sum(|sample| sample.log_bytes),
        );
        verdict.say(totals, false);
        verdict
    }

    fn judge_memory(
        &self,
        (what, slope_max): (&str, i128),
        later: &[&Sample],
        kib: impl Fn(&Sample) -> Option<u64>,
        verdict: &mut Verdict,
    ) {
        let memory = later.iter().filter_map(|sample| kib(sample));
        let memory: Vec<i128> = memory.map(|kib| i128::from(kib) * 1024).collect();
        let Some(slope) = slope(&memory) else {
            let text = format!("too few busy hours to tell whether {what} grows");
            return verdict.say(text, true);
        };
        let text = format!(
            "{what} after busy hours: slope {} KiB an hour of {} minutes, over the last {} hours (limit {})",
            slope / 1024,
            self.hour_ms / 60_000,
            memory.len(),
            slope_max / 1024,
        );
        verdict.say(text, slope > slope_max);
    }

    fn judge_quiet(&self, kind: HourKind, verdict: &mut Verdict) {
        let Some(log) = self.of(kind).map(|sample| sample.log_bytes).max() else {
            return;
        };
        let log_max = QUIET_LOG_MAX * self.hour_ms / HOUR_MS;
        let writes: u64 = self.of(kind).map(|sample| sample.writes).sum();
        let text = format!(
            "{} and quiet: {log} bytes of log in the worst of {} hours (limit {log_max}), {writes} patches",
            kind.name(),
            self.of(kind).count(),
        );
        verdict.say(text, log > log_max || writes > 0);
    }

    fn of(&self, kind: HourKind) -> impl Iterator<Item = &Sample> {
        let samples = self.samples.iter();
        samples.filter(move |sample| sample.kind == kind)
    }

    fn sum(&self, of: impl Fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(of).sum()
    }
}

fn judge_tables(later: &[&Sample], verdict: &mut Verdict) {
    let [first, .., last] = later else {
        return;
    };
    let tables = [
        (
            "bytes that the engine remembers",
            first.remembered,
            last.remembered,
        ),
        ("series of metrics", first.series, last.series),
    ];
    for (what, from, to) in tables {
        let text = format!("{what}: {from} after the first of these hours, {to} after the last");
        // What came up once stays in the metrics; twice as much is no longer that.
        verdict.say(text, to > from.saturating_mul(2));
    }
}

/// Returns by how much values grow from one to the next, by least squares; `None` for fewer than three.
fn slope(values: &[i128]) -> Option<i128> {
    let count = i128::try_from(values.len())
        .ok()
        .filter(|count| *count >= 3)?;
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) = (0, 0, 0, 0);
    for (x, y) in (0..).zip(values) {
        x_sum += x;
        y_sum += y;
        xy_sum += x * y;
        xx_sum += x * x;
    }
    Some((count * xy_sum - x_sum * y_sum) / (count * xx_sum - x_sum * x_sum))
}

#[cfg(test)]
mod tests {
    use super::{HourKind, Ledger, Sample, slope};

    const HOUR_MS: u64 = 3_600_000;

    fn ledger(
        (resident_kib, heap_kib): (impl Fn(u64) -> u64, impl Fn(u64) -> Option<u64>),
        quiet_log_bytes: u64,
    ) -> Ledger {
        let mut ledger = Ledger::new(HOUR_MS);
        for hour in 0..24 {
            let kind = HourKind::of(hour, 24);
            ledger.add(Sample {
                kind,
                resident_kib: resident_kib(hour),
                heap_kib: heap_kib(hour),
                log_bytes: match kind {
                    HourKind::Full | HourKind::Empty => quiet_log_bytes,
                    _ => 10_000_000,
                },
                remembered: 100,
                series: 100,
                ..Sample::default()
            });
        }
        ledger
    }

    #[test]
    fn a_slope_is_that_of_the_line_with_the_least_squares() {
        assert_eq!(slope(&[5, 5]), None);
        assert_eq!(slope(&[5, 5, 5]), Some(0));
        assert_eq!(slope(&[100, 300, 200, 400]), Some(80));
        assert_eq!(slope(&[30, 20, 10]), Some(-10));
    }

    #[test]
    fn a_day_ends_with_quiet_hours_of_a_full_and_of_an_empty_cluster() {
        let names: Vec<&str> = (16..24).map(|hour| HourKind::of(hour, 24).name()).collect();
        let quiet = ["filling", "full", "full", "emptying", "empty", "empty"];
        assert_eq!(names[..2], ["busy", "busy"]);
        assert_eq!(names[2..], quiet);
        assert_eq!(HourKind::of(0, 1), HourKind::Busy);
        assert_eq!(HourKind::of(11, 12), HourKind::Empty);
    }

    #[test]
    fn memory_that_goes_up_and_down_is_well_and_what_grows_hour_by_hour_is_wrong() {
        let wrong = |kib: &dyn Fn(u64) -> u64| ledger((kib, |_| Some(9)), 0).verdict().wrong;
        assert!(wrong(&|hour| 300_000 + hour % 3 * 1_000).is_empty());
        assert!(wrong(&|hour| if hour < 2 { 1 } else { 300_000 }).is_empty());
        let grows = wrong(&|hour| 300_000 + hour * 300);
        assert!(
            grows.iter().any(|line| line.contains("300 KiB")),
            "{grows:?}"
        );
    }

    #[test]
    fn less_growth_is_wrong_of_what_is_in_use() {
        let wrong = |kib: &dyn Fn(u64) -> Option<u64>| ledger((|_| 9, kib), 0).verdict().wrong;
        assert!(wrong(&|_| None).is_empty(), "nobody tells");
        assert!(wrong(&|hour| Some(9_000 + hour * 64)).is_empty());
        let grows = wrong(&|hour| Some(9_000 + hour * 65));
        assert_eq!(grows.len(), 1, "{grows:?}");
        assert!(grows[0].contains("heap in use"), "{grows:?}");
    }

    #[test]
    fn a_quiet_hour_that_is_not_quiet_is_wrong() {
        let wrong = |bytes| ledger((|_| 1_000, |_| Some(9)), bytes).verdict().wrong;
        assert!(wrong(100_000).is_empty());
        assert_eq!(wrong(100_001).len(), 2);
    }
}
