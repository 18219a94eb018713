//! The values of metrics at one moment, and their text.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use crate::histogram::{Counted, Histogram};
use crate::table::{Kind, Metric};

/// What a page's text is.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The values of metrics at one moment.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    metric: &'static Metric,
    series: Vec<Series>,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    value: Value,
}

type Labels = Vec<(&'static str, String)>;

const NO_EXAMPLE: Option<&Exemplar<Labels, f64>> = None;

/// A value of a metric.
#[derive(Debug)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Any other.
    Real(f64),
    /// What a histogram holds.
    Times(Counted),
}

impl Page {
    /// Puts a value of a gauge or counter that has no labels.
    pub fn put(&mut self, metric: &'static Metric, value: impl Number) {
        self.put_with(metric, [], value);
    }

    /// Puts the value for these labels, in the order of the table.
    ///
    /// # Panics
    /// When they are not as many as the table says.
    pub fn put_with<const N: usize>(
        &mut self,
        metric: &'static Metric,
        labels: [&str; N],
        value: impl Number,
    ) {
        debug_assert!(metric.kind != Kind::Histogram, "{}: a histogram is put as one", metric.name);
        self.add(metric, &labels, value.number());
    }

    /// Puts a value for each of the words that a label may be.
    pub fn put_each<const N: usize>(&mut self, metric: &'static Metric, values: [(&str, impl Number); N]) {
        for (word, value) in values {
            self.put_with(metric, [word], value);
        }
    }

    /// Puts what a histogram without labels holds.
    pub fn put_times(&mut self, metric: &'static Metric, times: &Histogram) {
        debug_assert!(metric.kind == Kind::Histogram, "{}: it is none", metric.name);
        self.add(metric, &[], Value::Times(times.counted()));
    }

    fn add(&mut self, metric: &'static Metric, labels: &[&str], value: Value) {
        assert_eq!(
            labels.len(),
            metric.labels.len(),
            "{}: it has the labels {:?}",
            metric.name,
            metric.labels
        );
        let labels = metric.labels.iter().copied().zip(labels.iter().map(|&word| word.to_owned())).collect();
        let series = Series { labels, value };
        match self.families.iter_mut().find(|family| std::ptr::eq(family.metric, metric)) {
            Some(family) => family.series.push(series),
            None => self.families.push(Family { metric, series: vec![series] }),
        }
    }

    /// The page as Prometheus reads it (text format 0.0.4).
    #[must_use]
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("a string takes all that is written to it");
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        self.families.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

impl Family {
    fn encode(&self, encoder: &mut DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Metric { name, kind, help, .. } = self.metric;
        // The encoder writes the ending of counters itself.
        let (name, kind) = match kind {
            Kind::Gauge => (*name, MetricType::Gauge),
            Kind::Counter => (name.strip_suffix("_total").unwrap_or(name), MetricType::Counter),
            Kind::Histogram => (*name, MetricType::Histogram),
        };
        let mut encoder = encoder.encode_descriptor(name, help, None, kind)?;
        for series in &self.series {
            let encoder = encoder.encode_family(&series.labels)?;
            series.value.encode(self.metric.kind, encoder)?;
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, kind: Kind, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        match self {
            Self::Whole(number) if kind == Kind::Counter => encoder.encode_counter(number, NO_EXAMPLE),
            Self::Real(number) if kind == Kind::Counter => encoder.encode_counter(number, NO_EXAMPLE),
            Self::Whole(number) => encoder.encode_gauge(number),
            Self::Real(number) => encoder.encode_gauge(number),
            Self::Times(Counted { sum, count, buckets }) => encoder.encode_histogram(
                *sum,
                *count,
                buckets,
                None::<&HashMap<usize, Exemplar<Labels, f64>>>,
            ),
        }
    }
}

/// What a value may be given as.
pub trait Number {
    /// As it is told: whole numbers are told without a fraction.
    fn number(self) -> Value;
}

macro_rules! numbers {
    ($($type:ty: $value:ident => $told:expr;)*) => {$(
        impl Number for $type {
            fn number(self) -> Value {
                let $value = self;
                $told
            }
        }
    )*};
}

numbers! {
    f64: value => Value::Real(value);
    Duration: value => Value::Real(value.as_secs_f64());
    u32: value => Value::Whole(u64::from(value));
    u64: value => Value::Whole(value);
    usize: value => Value::Whole(value as u64);
    bool: value => Value::Whole(u64::from(value));
    &AtomicU64: value => Value::Whole(value.load(Ordering::Relaxed));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Role;

    static NODES: Metric = Metric {
        name: "t_nodes",
        kind: Kind::Gauge,
        role: Role::Manager,
        labels: &["state"],
        help: "Nodes.",
    };
    static LOST: Metric =
        Metric { name: "t_lost_total", kind: Kind::Counter, role: Role::Manager, labels: &[], help: "Lost." };
    static TIMES: Metric =
        Metric { name: "t_seconds", kind: Kind::Histogram, role: Role::Manager, labels: &[], help: "Times." };

    #[test]
    fn a_page_reads_as_prometheus_wants_it() {
        let mut page = Page::default();
        page.put_with(&NODES, ["a\"b\\c\nd"], 2_u64);
        page.put(&LOST, 7_u64);
        page.put_with(&NODES, ["up"], 0.5);
        let times = Histogram::default();
        times.observe(Duration::from_millis(2));
        page.put_times(&TIMES, &times);
        let text = page.text();
        let expected = "# HELP t_nodes Nodes.\n# TYPE t_nodes gauge\nt_nodes{state=\"a\\\"b\\\\c\\nd\"} 2\nt_nodes{state=\"up\"} 0.5\n\
                        # HELP t_lost_total Lost.\n# TYPE t_lost_total counter\nt_lost_total 7\n\
                        # HELP t_seconds Times.\n# TYPE t_seconds histogram\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.contains("t_seconds_bucket{le=\"0.001\"} 0\nt_seconds_bucket{le=\"0.0025\"} 1\n"),
            "{text}"
        );
        assert!(
            text.ends_with("t_seconds_bucket{le=\"+Inf\"} 1\nt_seconds_sum 0.002\nt_seconds_count 1\n"),
            "{text}"
        );
    }

    #[test]
    #[should_panic(expected = "it has the labels [\"state\"]")]
    fn a_value_has_the_labels_of_the_table() {
        Page::default().put(&NODES, 1_u64);
    }
}
