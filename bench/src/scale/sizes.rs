//! The sizes of a cluster that are measured.

use firesteel_base::UserError;

use crate::record::{Ground, RunRecord, counted, require_ground};

/// The most executors that a cluster on one machine may have.
pub const EXECUTORS_MAX: u32 = 256;

/// The sizes that `text` chooses: numbers of executors with commas between them, such as `1,2,4`, in that order.
///
/// # Errors
/// When one is no number from 1 to [`EXECUTORS_MAX`], or there twice.
pub fn chosen_sizes(text: &str) -> Result<Vec<u32>, UserError> {
    let mut sizes = Vec::new();
    for part in text.split(',').map(str::trim) {
        let size = part.parse::<u32>().ok().filter(|size| (1..=EXECUTORS_MAX).contains(size));
        let Some(size) = size else {
            return Err(UserError::new(format!("'{part}' is no number of executors"))
                .detail(format!("of the list '{text}'"))
                .hint(format!(
                    "give numbers from 1 to {EXECUTORS_MAX} with commas between them, such as 1,2,4"
                )));
        };
        if sizes.contains(&size) {
            return Err(UserError::new(format!("the list of executors '{text}' has {size} twice"))
                .hint("give each number once"));
        }
        sizes.push(size);
    }
    Ok(sizes)
}

/// A run on a cluster of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The executors of the cluster.
    pub executors: u32,
    /// What was measured.
    pub record: RunRecord,
}

/// A size and its record, as the arithmetic wants them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a> {
    pub executors: u32,
    /// Core threads of all executors.
    pub cores: u32,
    /// Whether these are more than the machine has cores.
    pub oversubscribed: bool,
    pub record: &'a RunRecord,
}

impl Column<'_> {
    /// How its run is called.
    pub fn name(&self) -> String {
        format!("the run on {}", counted(self.executors as usize, "executor"))
    }
}

/// The sizes from the smallest on, once they are known to differ in their executors alone.
pub(super) fn columns(measured: &[Measured], machine_cores: u32) -> Result<Vec<Column<'_>>, UserError> {
    let mut columns: Vec<Column<'_>> = measured
        .iter()
        .map(|Measured { executors, record }| Column {
            executors: *executors,
            cores: record.cores,
            oversubscribed: record.cores > machine_cores,
            record,
        })
        .collect();
    columns.sort_by_key(|column| column.executors);
    let Some(first) = columns.first() else {
        return Err(UserError::new("there is no run to tell the scaling of").hint("measure a size or more"));
    };
    for pair in columns.windows(2) {
        if pair[0].executors == pair[1].executors {
            let size = counted(pair[0].executors as usize, "executor");
            return Err(UserError::new(format!("there are two runs on {size}")));
        }
        let [one, other] = [pair[0], pair[1]];
        require_ground(Ground::of(&one.name(), one.record), Ground::of(&other.name(), other.record))?;
    }
    let uneven = |column: &&Column<'_>| {
        u64::from(column.cores) * u64::from(first.executors)
            != u64::from(first.cores) * u64::from(column.executors)
    };
    if first.executors == 0 || first.cores == 0 {
        return Err(UserError::new("a run on no executors has no scaling"));
    }
    match columns.iter().find(uneven) {
        None => Ok(columns),
        Some(column) => Err(UserError::new("the executors of the runs do not have equally many cores")
            .detail(format!(
                "{} executors with {} cores together, and {} with {}",
                first.executors, first.cores, column.executors, column.cores
            ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_commas_between_them() {
        assert_eq!(chosen_sizes("1").unwrap(), [1]);
        assert_eq!(chosen_sizes("4, 1,256").unwrap(), [4, 1, 256]);
        for bad in ["", "0", "1,,2", "1,0", "257", "-1", "1.5", "two", "1-4", "99999999999"] {
            let fault = chosen_sizes(bad).unwrap_err();
            assert!(
                fault.message.ends_with("is no number of executors") && fault.hint.is_some(),
                "{bad}: {fault}"
            );
        }
        assert_eq!(chosen_sizes("1,2,1").unwrap_err().message, "the list of executors '1,2,1' has 1 twice");
    }
}
