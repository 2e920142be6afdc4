//! The registry: holds every metric of the catalogue and writes the exposition.
//!
//! Only the events of this module tree touch it. It reads no clock: whoever asks for the exposition
//! says what time it is, so that ages keep growing while the loop stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::catalogue::{FROM_THE_START, MetricId, MetricInfo, MetricKind};
use crate::model::Timestamp;

/// The content type of [`Metrics::exposition`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Most label sets of one metric.
///
/// A thousand groups with a few codes fit; names that users choose (resources, groups) cannot fill
/// the memory of the process or of Prometheus.
pub const LABEL_SETS_MAX: usize = 5_000;

/// Longest label value; longer ones are cut.
const LABEL_LENGTH_MAX: usize = 128;

/// Says where a histogram's buckets end, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buckets {
    /// Phases of a pass: a decision takes 0.1 ms, a patch on a slow API server seconds.
    Pass,
    /// One call over the network.
    Call,
    /// From demand to capacity: 10 ms for a patch, minutes for a node that has to be bought first.
    Capacity,
    /// What the stock autoscaler uses for its passes.
    StockUpdate,
    /// What the stock autoscaler uses for its nodes.
    StockNode,
}

impl Buckets {
    const fn bounds(self) -> &'static [f64] {
        match self {
            Self::Pass => &[
                0.0001, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0,
            ],
            Self::Call => &[0.0005, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0],
            Self::Capacity => &[
                0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
                600.0, 1200.0, 3600.0,
            ],
            Self::StockUpdate => &[0.01, 0.1, 1.0, 10.0, 100.0, 1000.0],
            Self::StockNode => &[
                5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0,
                600.0, 720.0, 900.0, 1200.0, 1500.0, 1800.0,
            ],
        }
    }
}

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.bounds().iter().copied())
    }
}

type LabelSet = Vec<(&'static str, String)>;
type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

#[derive(Debug)]
enum Series {
    Counter(Family<LabelSet, Counter>),
    Gauge(Family<LabelSet, FloatGauge>),
    Histogram(Family<LabelSet, Histogram, Buckets>),
}

impl Series {
    fn touch(&self, labels: &LabelSet) {
        match self {
            Self::Counter(family) => drop(family.get_or_create(labels)),
            Self::Gauge(family) => drop(family.get_or_create(labels)),
            Self::Histogram(family) => drop(family.get_or_create(labels)),
        }
    }

    fn remove(&self, labels: &LabelSet) {
        match self {
            Self::Counter(family) => family.remove(labels),
            Self::Gauge(family) => family.remove(labels),
            Self::Histogram(family) => family.remove(labels),
        };
    }
}

#[derive(Debug, Default)]
struct Book {
    session: String,
    label_sets: BTreeMap<MetricId, BTreeSet<LabelSet>>,
    sources: BTreeMap<&'static str, Timestamp>,
    last_pass: Option<Timestamp>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    series: BTreeMap<MetricId, Series>,
    book: Mutex<Book>,
}

/// Holds every metric; clones share it.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Returns a registry with every metric of the catalogue.
    ///
    /// Metrics without labels, and counters whose label values are known, stand at 0 from the start:
    /// an absent counter and a counter at 0 look the same in a graph and different in an alert.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let series = MetricId::ALL
            .iter()
            .map(|id| (*id, register(&mut registry, id.info())))
            .collect();
        let inner = Inner {
            registry,
            series,
            book: Mutex::default(),
        };
        let metrics = Self {
            inner: Arc::new(inner),
        };
        metrics.create_unlabelled();
        for (id, values) in FROM_THE_START {
            for value in *values {
                metrics.add(*id, &[value], 0);
            }
        }
        metrics
    }

    /// Names the Ray session in the label `SessionName`; what the stock metrics said of another one goes.
    ///
    /// An empty name means that it is not known at the moment, which changes nothing.
    pub fn set_session(&self, session: &str) {
        {
            let mut book = self.book();
            if session.is_empty() || book.session == session {
                return;
            }
            session.clone_into(&mut book.session);
            for (id, series) in self.stock_series() {
                for labels in book.label_sets.remove(&id).unwrap_or_default() {
                    series.remove(&labels);
                }
            }
        }
        self.create_unlabelled();
    }

    /// Adds to a counter.
    pub(super) fn add(&self, id: MetricId, values: &[&str], count: u64) {
        if let Some(labels) = self.admit(id, values)
            && let Some(Series::Counter(family)) = self.inner.series.get(&id)
        {
            family.get_or_create(&labels).inc_by(count);
        }
    }

    /// Sets a gauge.
    pub(super) fn set(&self, id: MetricId, values: &[&str], value: f64) {
        if let Some(labels) = self.admit(id, values)
            && let Some(Series::Gauge(family)) = self.inner.series.get(&id)
        {
            family.get_or_create(&labels).set(value);
        }
    }

    /// Adds an observation to a histogram.
    pub(super) fn observe(&self, id: MetricId, values: &[&str], duration: Duration) {
        if let Some(labels) = self.admit(id, values)
            && let Some(Series::Histogram(family)) = self.inner.series.get(&id)
        {
            family
                .get_or_create(&labels)
                .observe(duration.as_secs_f64());
        }
    }

    /// Sets a gauge for these label sets and removes it for all others.
    ///
    /// Nothing is removed before the new values stand, so that a scrape in between sees no hole;
    /// unless old and new together are too many.
    pub(super) fn replace<const N: usize>(&self, id: MetricId, samples: &BTreeMap<[&str; N], f64>) {
        let keep: BTreeSet<LabelSet> = samples
            .keys()
            .map(|key| self.label_set(id.info(), key))
            .collect();
        let have = self.book().label_sets.get(&id).map_or(0, BTreeSet::len);
        if have + keep.len() > LABEL_SETS_MAX {
            self.retain(id, |labels| keep.contains(labels));
        }
        for (key, value) in samples {
            self.set(id, key, *value);
        }
        self.retain(id, |labels| keep.contains(labels));
    }

    /// Removes the samples of groups that are gone, histograms and counters included.
    pub(super) fn retain_groups(&self, is_known: impl Fn(&str) -> bool) {
        for id in MetricId::ALL
            .iter()
            .filter(|id| id.info().labels.contains(&"group"))
        {
            self.retain(*id, |labels| {
                labels
                    .iter()
                    .all(|(name, value)| *name != "group" || is_known(value))
            });
        }
    }

    /// Notes when a source was last known to be right; its age is worked out at each scrape.
    pub(crate) fn source_was_right(&self, source: &'static str, at: Timestamp) {
        self.book().sources.insert(source, at);
    }

    /// Has the age of a source count from `at` until it is known to be right for the first time.
    pub(crate) fn source_is_waited_for(&self, source: &'static str, at: Timestamp) {
        self.book().sources.entry(source).or_insert(at);
    }

    /// Notes that a pass ended.
    pub(super) fn pass_ended(&self, at: Timestamp) {
        self.book().last_pass = Some(at);
    }

    /// Returns the Prometheus text exposition as of `now`.
    #[must_use]
    pub fn exposition(&self, now: Timestamp) -> String {
        let (sources, last_pass) = {
            let book = self.book();
            (book.sources.clone(), book.last_pass)
        };
        let age = |at: Timestamp| Duration::from_millis(now.millis_since(at)).as_secs_f64();
        for (source, at) in sources {
            self.set(MetricId::SourceAge, &[source], age(at));
        }
        if let Some(at) = last_pass {
            self.set(MetricId::LastPassAge, &[], age(at));
        }
        let mut text = String::new();
        // Writing into a string cannot fail.
        prometheus_text::encode(&mut text, &self.inner.registry).unwrap_or_default();
        text
    }

    /// Returns the label set if the metric may have it; counts it as dropped otherwise.
    fn admit(&self, id: MetricId, values: &[&str]) -> Option<LabelSet> {
        let info = id.info();
        debug_assert_eq!(info.labels.len(), values.len(), "labels of {}", info.name);
        let labels = self.label_set(info, values);
        let is_admitted = {
            let mut book = self.book();
            let sets = book.label_sets.entry(id).or_default();
            if sets.len() < LABEL_SETS_MAX {
                sets.insert(labels.clone());
                true
            } else {
                sets.contains(&labels)
            }
        };
        if !is_admitted && id != MetricId::LabelSetsDropped {
            self.add(MetricId::LabelSetsDropped, &[info.name], 1);
        }
        is_admitted.then_some(labels)
    }

    fn label_set(&self, info: MetricInfo, values: &[&str]) -> LabelSet {
        let mut labels: LabelSet = info
            .labels
            .iter()
            .zip(values)
            .map(|(name, value)| (*name, shorten(value)))
            .collect();
        if info.is_stock() {
            labels.push(("SessionName", shorten(&self.book().session)));
        }
        labels
    }

    fn retain(&self, id: MetricId, is_kept: impl Fn(&LabelSet) -> bool) {
        let mut book = self.book();
        if let (Some(sets), Some(series)) =
            (book.label_sets.get_mut(&id), self.inner.series.get(&id))
        {
            sets.retain(|labels| {
                let keep = is_kept(labels);
                if !keep {
                    series.remove(labels);
                }
                keep
            });
        }
    }

    fn create_unlabelled(&self) {
        for (id, series) in &self.inner.series {
            if id.info().labels.is_empty()
                && let Some(labels) = self.admit(*id, &[])
            {
                series.touch(&labels);
            }
        }
    }

    fn stock_series(&self) -> impl Iterator<Item = (MetricId, &Series)> {
        self.inner
            .series
            .iter()
            .filter(|(id, _)| id.info().is_stock())
            .map(|(id, series)| (*id, series))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // The book is consistent after each statement, so a panic elsewhere does not spoil it.
        self.inner
            .book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn register(registry: &mut Registry, info: MetricInfo) -> Series {
    match info.kind {
        MetricKind::Counter => {
            let family = Family::<LabelSet, Counter>::default();
            // The encoder appends the suffix by itself.
            let name = info.name.trim_end_matches("_total");
            registry.register(name, info.meaning, family.clone());
            Series::Counter(family)
        }
        MetricKind::Gauge => {
            let family = Family::<LabelSet, FloatGauge>::default();
            registry.register(info.name, info.meaning, family.clone());
            Series::Gauge(family)
        }
        MetricKind::Histogram(buckets) => {
            let family = Family::<LabelSet, Histogram, Buckets>::new_with_constructor(buckets);
            registry.register(info.name, info.meaning, family.clone());
            Series::Histogram(family)
        }
    }
}

fn shorten(value: &str) -> String {
    let end = value
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= LABEL_LENGTH_MAX)
        .last()
        .unwrap_or(0);
    value[..end].to_owned()
}

/// Returns a count as a sample's value.
#[expect(clippy::cast_precision_loss, reason = "samples are doubles")]
pub(super) fn sample(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::{LABEL_SETS_MAX, Metrics};
    use crate::model::Timestamp;
    use crate::report::catalogue::MetricId;

    fn line(text: &str, start: &str) -> Option<String> {
        text.lines()
            .find(|line| line.starts_with(start))
            .map(str::to_owned)
    }

    #[test]
    fn counters_whose_first_event_has_to_be_seen_begin_with_0() {
        let text = Metrics::new().exposition(Timestamp::default());
        for start in [
            r#"rayscaler_config_reloads_total{result="ok"}"#,
            r#"rayscaler_config_reloads_total{result="refused"}"#,
            r#"rayscaler_invariant_violations_total{id="I1"}"#,
            r#"rayscaler_invariant_violations_total{id="I12"}"#,
        ] {
            assert_eq!(line(&text, start), Some(format!("{start} 0")));
        }
    }

    #[test]
    fn stale_label_sets_are_removed() {
        let metrics = Metrics::new();
        for name in ["a", "b"] {
            let one = BTreeMap::from([([name], 2.0)]);
            metrics.replace(MetricId::ReplicasDesired, &one);
        }
        let text = metrics.exposition(Timestamp::default());
        assert_eq!(line(&text, "rayscaler_replicas_desired{group=\"a\"}"), None);
        assert!(line(&text, "rayscaler_replicas_desired{group=\"b\"} 2").is_some());
    }

    #[test]
    fn a_metric_has_a_bounded_number_of_label_sets() {
        let metrics = Metrics::new();
        for at in 0..LABEL_SETS_MAX + 10 {
            metrics.add(MetricId::ReportErrors, &[&at.to_string()], 1);
        }
        let text = metrics.exposition(Timestamp::default());
        let count = text
            .lines()
            .filter(|line| line.starts_with("rayscaler_report_errors_total{"))
            .count();
        assert_eq!(count, LABEL_SETS_MAX);
        let dropped =
            "rayscaler_label_sets_dropped_total{metric=\"rayscaler_report_errors_total\"} 10";
        assert!(line(&text, dropped).is_some());
    }

    #[test]
    fn a_full_gauge_takes_wholly_new_label_sets() {
        let metrics = Metrics::new();
        for prefix in ["a", "b"] {
            let names: Vec<String> = (0..LABEL_SETS_MAX - 1)
                .map(|at| format!("{prefix}{at}"))
                .collect();
            let many = names.iter().map(|name| ([name.as_str()], 1.0)).collect();
            metrics.replace(MetricId::ReplicasDesired, &many);
        }
        let text = metrics.exposition(Timestamp::default());
        let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!(count("rayscaler_replicas_desired{group=\"a"), 0);
        assert_eq!(
            count("rayscaler_replicas_desired{group=\"b"),
            LABEL_SETS_MAX - 1
        );
    }

    #[test]
    fn another_session_starts_the_stock_metrics_anew() {
        let metrics = Metrics::new();
        metrics.set_session("s1");
        metrics.add(MetricId::StockStartedNodes, &[], 3);
        metrics.set_session("s2");
        let text = metrics.exposition(Timestamp::default());
        let start = "autoscaler_started_nodes_total{SessionName=";
        assert_eq!(line(&text, start), Some(format!("{start}\"s2\"}} 0")));
    }

    #[test]
    fn ages_grow_while_the_loop_stands_still() {
        let metrics = Metrics::new();
        let start = "rayscaler_source_age_seconds{source=\"gcs\"}";
        let age = |now| line(&metrics.exposition(Timestamp::from_ms(now)), start);
        metrics.source_is_waited_for("gcs", Timestamp::from_ms(1_000));
        assert_eq!(age(2_000), Some(format!("{start} 1.0")));
        assert_eq!(age(61_500), Some(format!("{start} 60.5")));
        metrics.source_was_right("gcs", Timestamp::from_ms(61_500));
        metrics.source_is_waited_for("gcs", Timestamp::from_ms(62_000));
        assert_eq!(age(63_000), Some(format!("{start} 1.5")));
    }

    #[test]
    fn label_values_are_cut_and_escaped() {
        let metrics = Metrics::new();
        metrics.add(MetricId::ConfigReloads, &["a\"b\n\\"], 1);
        metrics.add(MetricId::ConfigReloads, &[&"ä".repeat(500)], 1);
        metrics.observe(MetricId::PassDuration, &["act"], Duration::from_millis(5));
        let text = metrics.exposition(Timestamp::default());
        assert!(text.contains(r#"rayscaler_config_reloads_total{result="a\"b\n\\"} 1"#));
        assert!(text.contains(&format!("result=\"{}\"", "ä".repeat(64))));
        assert!(
            text.contains(r#"rayscaler_pass_duration_seconds_bucket{phase="act",le="0.01"} 1"#)
        );
    }
}
