//! Scraping as Prometheus does: over plain HTTP, and with its rules for the text.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What an endpoint answers: its status, content type and body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub body: String,
}

pub fn get(address: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/plain\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head ends with an empty line");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
    Answer { status, kind: kind.to_owned(), body: body.to_owned() }
}

/// The labels of a sample, by name.
pub type Labels = BTreeMap<String, String>;

/// What was exported.
#[derive(Debug, Default)]
pub struct Exported {
    /// The type of each metric.
    pub types: BTreeMap<String, String>,
    pub samples: BTreeMap<(String, Labels), f64>,
}

impl Exported {
    /// Scrapes an endpoint.
    pub fn scrape(address: &str) -> Self {
        let answer = get(address, "/metrics");
        assert_eq!((answer.status, answer.kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
        Self::parse(&answer.body).unwrap_or_else(|fault| panic!("{fault}\n{}", answer.body))
    }

    /// The sum of the values of a metric whose labels have all of these.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let is_meant =
            |of: &Labels| labels.iter().all(|(label, value)| of.get(*label).is_some_and(|is| is == value));
        let meant: Vec<_> =
            self.samples.iter().filter(|((of, labels), _)| of == name && is_meant(labels)).collect();
        assert!(!meant.is_empty(), "there is no {name} {labels:?}");
        meant.into_iter().map(|(_, value)| value).sum()
    }

    /// Reads the text, strictly: what Prometheus would take silently is a fault too.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut exported = Self::default();
        let (mut family, mut helped) = (String::new(), String::new());
        if !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                helped = help.split_once(' ').ok_or(format!("no help: {line}"))?.0.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').ok_or(format!("no type: {line}"))?;
                if name != helped || exported.types.insert(name.to_owned(), kind.to_owned()).is_some() {
                    return Err(format!("twice, or without help: {line}"));
                }
                family = name.to_owned();
            } else {
                let (name, labels, value) = sample(line).ok_or(format!("it is no sample: {line}"))?;
                exported.check(&family, &name, value)?;
                if exported.samples.insert((name, labels), value).is_some() {
                    return Err(format!("twice: {line}"));
                }
            }
        }
        exported.check_histograms()?;
        Ok(exported)
    }

    fn check(&self, family: &str, name: &str, value: f64) -> Result<(), String> {
        let kind = self.types.get(family).ok_or(format!("no type: {name}"))?;
        let ends: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        if !ends.iter().any(|end| name == format!("{family}{end}")) {
            return Err(format!("{name} is among the samples of {family}"));
        }
        if kind != "gauge" && value < 0.0 {
            return Err(format!("{name} is {value}"));
        }
        Ok(())
    }

    fn check_histograms(&self) -> Result<(), String> {
        for (family, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let name = format!("{family}_bucket");
            let mut buckets: Vec<_> = self
                .samples
                .iter()
                .filter(|((of, _), _)| *of == name)
                .map(|((_, labels), value)| (number(&labels["le"]).unwrap(), *value))
                .collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let last = buckets.last().ok_or(format!("{family} has no buckets"))?;
            let count = self.sum(&format!("{family}_count"), &[]);
            if !buckets.is_sorted_by_key(|bucket| bucket.1) || *last != (f64::INFINITY, count) {
                return Err(format!("the buckets of {family} make no sense: {buckets:?}"));
            }
        }
        Ok(())
    }

    /// The names of all metrics.
    pub fn names(&self) -> BTreeSet<&str> {
        self.types.keys().map(String::as_str).collect()
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        _ if text.chars().all(|c| c.is_ascii_digit() || "+-.e".contains(c)) => text.parse().ok(),
        _ => None,
    }
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `name{label="value",..} number`
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let at = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(at);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"")?;
            let (value, after) = quoted(value)?;
            if !is_name(label) || labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    is_name(name).then_some((name.to_owned(), labels, number(rest.strip_prefix(' ')?)?))
}

/// What is before the closing quotation mark, with its escapes undone, and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

#[test]
fn texts_that_prometheus_would_not_take_are_faults() {
    let head = "# HELP a_total A.\n# TYPE a_total counter\n";
    let good = Exported::parse(&format!("{head}a_total{{b=\"c\\\\d\\\"e\\nf\",g=\"\"}} 1.5e3\n")).unwrap();
    assert_eq!(good.sum("a_total", &[("b", "c\\d\"e\nf")]), 1500.0);
    let lines = [
        "a_total",
        "a_total x",
        "a_total{b=\"} 1",
        "a_total{b=c} 1",
        "a_total{b=\"\\x\"} 1",
        "b 1",
        "a_total -1",
        "a_total NaN",
        "a_total 1\na_total 2",
        "1a 1",
        "a_total{b=\"c\" 1",
    ];
    for line in lines {
        assert!(Exported::parse(&format!("{head}{line}\n")).is_err(), "{line}");
    }
    assert!(Exported::parse("a_total 1\n").is_err(), "it has no type");
    assert!(Exported::parse(&format!("{head}a_total 1")).is_err(), "the last line does not end");
    let histogram = |buckets: &str| {
        Exported::parse(&format!("# HELP h H.\n# TYPE h histogram\n{buckets}h_sum 1\nh_count 2\n"))
    };
    assert!(histogram("h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n").is_ok());
    assert!(histogram("h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\n").is_err());
    assert!(histogram("h_bucket{le=\"1\"} 1\n").is_err());
}
