//! Results: whoever reads one to its end has the right rows, each once.

use std::collections::BTreeMap;
use std::rc::Rc;

use firesteel_driver::machine::Outcome;

use crate::channel::Proc;
use crate::world::driver::QueryPlan;

#[derive(Debug)]
struct Reading {
    expected: Rc<Vec<u64>>,
    rows: Vec<u64>,
}

/// Results that are read.
#[derive(Debug, Default)]
pub struct Results(BTreeMap<(Proc, u64), Reading>);

impl Results {
    /// A query begins.
    pub fn begin(&mut self, driver: Proc, number: u64, plan: &QueryPlan) {
        let expected = Rc::clone(&plan.expected);
        self.0.insert((driver, number), Reading { expected, rows: Vec::new() });
    }

    /// Rows were handed out.
    pub fn hand_out(&mut self, driver: Proc, number: u64, rows: &[u64]) {
        if let Some(reading) = self.0.get_mut(&(driver, number)) {
            reading.rows.extend(rows);
        }
    }

    /// The reader has come to the end.
    pub fn all_read(&mut self, driver: Proc, number: u64) -> Result<(), String> {
        let Some(reading) = self.0.get_mut(&(driver, number)) else { return Ok(()) };
        reading.rows.sort_unstable();
        let (expected, rows) = (&reading.expected, &reading.rows);
        if **expected == *rows {
            return Ok(());
        }
        let missing = count_missing(expected, rows);
        let surplus = count_missing(rows, expected);
        Err(format!(
            "the result of q{number} is wrong: of {} rows {missing} are missing, and {surplus} are too many",
            expected.len()
        ))
    }

    /// The query has ended, and is said to have given so many rows.
    pub fn end(&mut self, driver: Proc, number: u64, outcome: &Outcome, rows: u64) -> Result<(), String> {
        let Some(reading) = self.0.remove(&(driver, number)) else { return Ok(()) };
        let expected = reading.expected.len() as u64;
        match outcome {
            Outcome::Succeeded if rows != expected => {
                Err(format!("q{number} is said to have given {rows} rows, and has {expected}"))
            }
            Outcome::Succeeded | Outcome::Failed(_) | Outcome::Cancelled(_) => Ok(()),
        }
    }

    /// The driver is gone. How many queries went with it.
    pub fn abandon(&mut self, driver: Proc) -> u64 {
        let before = self.0.len();
        self.0.retain(|(of, _), _| *of != driver);
        (before - self.0.len()) as u64
    }
}

/// How many of `these` are not in `those`.
fn count_missing(these: &[u64], those: &[u64]) -> usize {
    let mut left: BTreeMap<u64, usize> = BTreeMap::new();
    those.iter().for_each(|row| *left.entry(*row).or_default() += 1);
    let mut missing = 0;
    for row in these {
        match left.get_mut(row) {
            Some(count) if *count > 0 => *count -= 1,
            _ => missing += 1,
        }
    }
    missing
}
