//! What was measured, in words and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::Case;
use crate::story::millis;

/// A query that nothing befell.
#[derive(Debug, Clone)]
pub struct Undisturbed {
    /// Its name.
    pub query: String,
    /// Its median time.
    pub time: Duration,
}

/// A query that was hit.
#[derive(Debug, Clone)]
pub struct Measured {
    /// By what.
    pub case: Case,
    /// Its name.
    pub query: String,
    /// Its time when nothing befalls it.
    pub undisturbed: Duration,
    /// When it was hit.
    pub at: Duration,
    /// From the hit until a log told of it.
    pub noticed: Option<Duration>,
    /// From the hit until a log told that something was done about it.
    pub acted: Option<Duration>,
    /// How long it took.
    pub took: Duration,
    /// Whether its answer is that of the undisturbed run.
    pub is_right: bool,
    /// Why it has none.
    pub error: Option<String>,
}

/// Times with blocks and journal kept, and without.
#[derive(Debug, Clone, Default)]
pub struct Overhead {
    /// Query, with, without.
    pub queries: Vec<(String, Duration, Duration)>,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// Queries that nothing befell.
    pub undisturbed: Vec<Undisturbed>,
    /// Queries that were hit.
    pub measured: Vec<Measured>,
    /// What keeping costs.
    pub overhead: Option<Overhead>,
}

fn seconds(span: Duration) -> String {
    format!("{:.2} s", span.as_secs_f64())
}

fn or_dash(span: Option<Duration>) -> String {
    span.map_or_else(|| "-".to_owned(), seconds)
}

impl fmt::Display for Undisturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<17} {:<5} {:>9}", "undisturbed", self.query, seconds(self.time))
    }
}

impl Measured {
    /// How much longer it took than undisturbed.
    #[must_use]
    pub fn more(&self) -> f64 {
        self.took.as_secs_f64() - self.undisturbed.as_secs_f64()
    }

    fn verdict(&self) -> &str {
        match &self.error {
            Some(error) => error,
            None if self.took <= self.at => "it had ended before it was hit",
            None if self.is_right => "right",
            None => "WRONG",
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<17} {:<5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>+8.2} s  {}",
            self.case.to_string(),
            self.query,
            seconds(self.undisturbed),
            seconds(self.at),
            or_dash(self.noticed),
            or_dash(self.acted),
            seconds(self.took),
            self.more(),
            self.verdict()
        )
    }
}

/// The heads of the columns of what was measured.
pub const HEAD: &str =
    "fault             query undisturb.    hit at   noticed  acted on    answer       more  answer is";

impl Overhead {
    /// The latest, in words.
    #[must_use]
    pub fn last(&self) -> String {
        let Some((query, with, without)) = self.queries.last() else { return String::new() };
        format!("{query:<5} keeps all {}, nothing {}", seconds(*with), seconds(*without))
    }

    /// By what part all queries together take longer when all is kept.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let sum = |of: fn(&(String, Duration, Duration)) -> Duration| {
            self.queries.iter().map(of).sum::<Duration>().as_secs_f64()
        };
        sum(|all| all.1) / sum(|all| all.2) - 1.0
    }
}

impl Results {
    /// Whether every query that was hit has the right answer.
    #[must_use]
    pub fn all_right(&self) -> bool {
        self.measured.iter().all(|measured| measured.is_right)
    }

    /// For each fault: the sums over all queries, and what may be lost where one of `executors` is.
    #[must_use]
    pub fn sums(&self, executors: u32) -> Vec<String> {
        let mut by_case: BTreeMap<Case, Vec<&Measured>> = BTreeMap::new();
        for measured in &self.measured {
            by_case.entry(measured.case).or_default().push(measured);
        }
        let line = |(case, all): (&Case, &Vec<&Measured>)| {
            let sum = |of: fn(&Measured) -> Duration| all.iter().map(|one| of(one)).sum::<Duration>();
            let lost = sum(|one| one.at) / executors.max(1);
            format!(
                "{case}: {} undisturbed, {} when hit, {:+.2} s; the work of one executor until then: {}; \
                 {} of {} within that and 2 s",
                seconds(sum(|one| one.undisturbed)),
                seconds(sum(|one| one.took)),
                all.iter().map(|one| one.more()).sum::<f64>(),
                seconds(lost),
                all.iter()
                    .filter(|one| one.more() <= one.at.as_secs_f64() / f64::from(executors.max(1)) + 2.0)
                    .count(),
                all.len()
            )
        };
        by_case.iter().map(line).collect()
    }

    /// All of it as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let measured = self.measured.iter().map(|one| {
            json!({
                "fault": one.case.to_string(),
                "query": one.query,
                "undisturbed_ms": millis(one.undisturbed),
                "hit_at_ms": millis(one.at),
                "noticed_ms": one.noticed.map(millis),
                "acted_ms": one.acted.map(millis),
                "took_ms": millis(one.took),
                "right": one.is_right,
                "error": one.error,
            })
        });
        let overhead = self.overhead.as_ref().map(|overhead| {
            let queries = overhead.queries.iter().map(|(query, with, without)| {
                json!({"query": query, "keeping_ms": millis(*with), "nothing_ms": millis(*without)})
            });
            json!({"queries": queries.collect::<Vec<_>>(), "ratio": overhead.ratio()})
        });
        json!({"measured": measured.collect::<Vec<_>>(), "overhead": overhead})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(took: u64, is_right: bool) -> Measured {
        let at = Duration::from_secs(2);
        Measured {
            case: Case::ExecutorKilled,
            query: "q09".to_owned(),
            undisturbed: 2 * at,
            at,
            noticed: Some(Duration::from_millis(12)),
            acted: None,
            took: Duration::from_secs(took),
            is_right,
            error: None,
        }
    }

    #[test]
    fn what_is_more_than_the_lost_work_and_two_seconds_is_told() {
        let results = Results { measured: vec![measured(6, true), measured(9, true)], ..Results::default() };
        let sums = results.sums(2);
        assert!(sums[0].contains("8.00 s undisturbed, 15.00 s when hit, +7.00 s"), "{sums:?}");
        assert!(sums[0].ends_with("1 of 2 within that and 2 s"), "{sums:?}");
        assert!(results.all_right());
    }

    #[test]
    fn a_wrong_answer_and_a_late_hit_are_told() {
        assert!(measured(6, false).to_string().ends_with("WRONG"));
        assert!(measured(1, true).to_string().ends_with("it had ended before it was hit"));
        assert!(!Results { measured: vec![measured(6, false)], ..Results::default() }.all_right());
    }

    #[test]
    fn the_overhead_is_that_of_all_queries_together() {
        let of = |name: &str, with, without| {
            (name.to_owned(), Duration::from_secs(with), Duration::from_secs(without))
        };
        let overhead = Overhead { queries: vec![of("q01", 10, 10), of("q02", 11, 10)] };
        assert!((overhead.ratio() - 0.05).abs() < 1e-9);
    }
}
