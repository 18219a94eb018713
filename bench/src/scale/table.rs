//! The scaling as plain text.

use std::fmt;

use super::words::{cost, maybe_seconds, percent, seconds, times};
use super::{LeftOut, QueryScaling, Scaling, Size};
use crate::record::line_up;

impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n", self.subject(), self.basis())?;
        line_up(f, &self.size_rows())?;
        writeln!(f, "\nseconds and efficiency, the least efficient first")?;
        line_up(f, &self.query_rows())?;
        let cpu = if self.tells_cpu() { "; CPU s: processor time that was measured" } else { "" };
        writeln!(f, "\ncore-seconds: seconds times cores{cpu}")?;
        line_up(f, &self.core_rows())?;
        self.endings(f)
    }
}

impl Scaling {
    fn endings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        if let Some(against) = &self.against {
            writeln!(f, "{}", self.verdict(against))?;
            against.guess().iter().try_for_each(|guess| writeln!(f, "{guess}"))?;
        }
        self.law().iter().try_for_each(|law| writeln!(f, "{law}"))?;
        let not_compared = self.against.iter().flat_map(|against| &against.left_out);
        for LeftOut { query, run, why } in self.left_out.iter().chain(not_compared) {
            writeln!(f, "left out: {query}, in {run}: {}", why.lines().next().unwrap_or_default())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }

    /// Whether a processor time was measured.
    pub(super) fn tells_cpu(&self) -> bool {
        self.queries.iter().flat_map(|query| &query.sizes).any(|numbers| numbers.cpu_seconds.is_some())
    }

    /// The sizes for which an efficiency says something, with their places.
    fn efficient(&self) -> impl Iterator<Item = (usize, &Size)> {
        self.sizes.iter().enumerate().skip(1).filter(|(_, size)| !size.oversubscribed)
    }

    fn size_rows(&self) -> Vec<Vec<String>> {
        let heads =
            ["executors", "cores", "total s", "geo mean s", "speed-up", "efficiency", "core-s", "CPU s", ""];
        let row = |size: &Size| {
            let numbers = &size.numbers;
            let mark = if size.oversubscribed { "oversubscribed" } else { "" };
            vec![
                size.executors.to_string(),
                size.cores.to_string(),
                seconds(numbers.seconds),
                maybe_seconds(size.geometric_mean_seconds),
                times(numbers.speed_up),
                percent(numbers.efficiency),
                seconds(numbers.core_seconds),
                maybe_seconds(numbers.cpu_seconds),
                mark.to_owned(),
            ]
        };
        headed(heads.map(str::to_owned).to_vec(), self.sizes.iter().map(row))
    }

    fn query_rows(&self) -> Vec<Vec<String>> {
        let mut heads = vec!["query".to_owned()];
        heads.extend(self.sizes.iter().map(|size| format!("s on {}", size.executors)));
        heads.extend(self.efficient().map(|(_, size)| format!("eff. on {}", size.executors)));
        if let Some(against) = &self.against {
            heads.extend([format!("{} s", against.engine), "COST".to_owned()]);
        }
        // The last column would be aligned to the left.
        heads.push(String::new());
        let row = |query: &QueryScaling| {
            let mut row = vec![query.name.clone()];
            row.extend(query.sizes.iter().map(|numbers| seconds(numbers.seconds)));
            row.extend(self.efficient().map(|(place, _)| percent(query.sizes[place].efficiency)));
            if self.against.is_some() {
                row.extend([maybe_seconds(query.seconds_to_beat), cost(query.cost)]);
            }
            row.push(String::new());
            row
        };
        headed(heads, self.queries.iter().map(row))
    }

    fn core_rows(&self) -> Vec<Vec<String>> {
        let cpu = self.tells_cpu();
        let mut heads = vec!["query".to_owned()];
        heads.extend(self.sizes.iter().map(|size| format!("core-s on {}", size.executors)));
        if cpu {
            heads.extend(self.sizes.iter().map(|size| format!("CPU s on {}", size.executors)));
        }
        heads.push(String::new());
        let row = |query: &QueryScaling| {
            let mut row = vec![query.name.clone()];
            row.extend(query.sizes.iter().map(|numbers| seconds(numbers.core_seconds)));
            if cpu {
                row.extend(query.sizes.iter().map(|numbers| maybe_seconds(numbers.cpu_seconds)));
            }
            row.push(String::new());
            row
        };
        headed(heads, self.queries.iter().map(row))
    }
}

fn headed(heads: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    std::iter::once(heads).chain(rows).collect()
}
