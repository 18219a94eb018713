use std::io::Write;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};

use super::*;

/// Answers `select` with two rows and refuses everything else.
struct Canned;

impl Engine for Canned {
    async fn sql(&mut self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), UserError> {
        if !sql.starts_with("select") {
            return Err(UserError::new("no such statement").hint("select"));
        }
        let columns: [(&str, ArrayRef); 3] = [
            ("i", Arc::new(Int64Array::from(vec![Some(1), None]))),
            ("r", Arc::new(Float64Array::from(vec![0.1 + 0.2, -0.0]))),
            ("t", Arc::new(StringArray::from(vec!["a b", ""]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("the columns are as long");
        Ok((batch.schema(), vec![batch]))
    }
}

fn run(text: &str) -> anyhow::Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    let mut future = pin!(run_file(file.path(), || async { Ok(Canned) }));
    // Nothing in it ever waits.
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits for something"),
    }
}

const RIGHT: &str = "query IRT\nselect\n----\n1 0.3 a b\nNULL 0 (empty)\n";

#[test]
fn a_right_answer_passes_and_an_error_that_is_asked_for_too() {
    run(RIGHT).unwrap();
    run("statement error no such statement.*hint: select\ndrop table t\n").unwrap();
}

#[test]
fn wrong_answers_types_and_errors_are_caught() {
    for wrong in [
        RIGHT.replace("0.3", "0.31"),
        RIGHT.replace("NULL 0 (empty)\n", ""),
        RIGHT.replace("NULL", "0"),
        RIGHT.replace("IRT", "IIT"),
        RIGHT.replace("IRT", "IR"),
        "statement error\nselect\n".to_owned(),
        "statement error no such table\ndrop table t\n".to_owned(),
        "statement ok\ndrop table t\n".to_owned(),
    ] {
        assert!(run(&wrong).is_err(), "{wrong}");
    }
}
