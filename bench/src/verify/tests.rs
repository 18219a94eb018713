use super::*;
use crate::Benchmark;
use crate::queries::TPCH;

fn by_k() -> Rules {
    Rules { order_by: vec!["k".to_owned()], limit: None }
}

fn judge(expected: &str, answer: &str, rules: &Rules) -> Result<(), Mismatch> {
    compare(&Expected::from_csv(expected).unwrap(), &Answer::from_csv(answer).unwrap(), rules)
}

#[test]
fn rows_in_another_order_are_wrong_only_where_an_order_was_asked_for() {
    let (right, turned) = ("k,v\n1,a\n2,b\n", "k,v\n2,b\n1,a\n");
    let said = judge(right, turned, &by_k()).unwrap_err().to_string();
    assert_eq!(said, "row 1, k, by which rows are ordered: 2 instead of 1");
    assert_eq!(judge(right, turned, &Rules::default()), Ok(()));
}

#[test]
fn rows_that_tie_come_in_any_order_but_are_the_same_rows() {
    let right = "k,v\n1,a\n1,b\n1,b\n2,c\n";
    assert_eq!(judge(right, "k,v\n1,b\n1,a\n1,b\n2,c\n", &by_k()), Ok(()));
    let said = judge(right, "k,v\n1,b\n1,a\n1,a\n2,c\n", &by_k()).unwrap_err().to_string();
    assert!(said.starts_with("row 3 is not in the answer: [\"1\", \"b\"]"), "{said}");
}

#[test]
fn where_a_limit_cuts_a_tie_either_row_is_right() {
    let limited = Rules { limit: Some(3), ..by_k() };
    let right = "k,v\n1,a\n2,b\n2,c\n";
    assert_eq!(judge(right, "k,v\n1,a\n2,c\n2,x\n", &limited), Ok(()));
    assert!(judge(right, "k,v\n1,x\n2,b\n2,c\n", &limited).is_err(), "not of the last tie");
    assert!(judge(right, "k,v\n1,a\n2,b\n3,c\n", &limited).is_err(), "an ordered column");
    let not_reached = Rules { limit: Some(4), ..by_k() };
    assert!(judge(right, "k,v\n1,a\n2,c\n2,x\n", &not_reached).is_err(), "the limit cut nothing");
}

#[test]
fn missing_and_surplus_rows_and_columns_are_told() {
    let right = "k,v\n1,a\n";
    for (answer, says) in
        [("k,v\n", "0 rows, not 1"), ("k,v\n1,a\n1,a\n", "2 rows, not 1"), ("k\n1\n", "1 columns, not 2")]
    {
        assert_eq!(judge(right, answer, &by_k()).unwrap_err().to_string(), says);
    }
}

#[test]
fn batches_are_judged_by_their_types() {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Float64Array, RecordBatch, StringArray};

    let answer = |sum: ArrayRef| {
        let batch = RecordBatch::try_from_iter([
            ("day", Arc::new(Date32Array::from(vec![Some(9000), None])) as ArrayRef),
            ("mode", Arc::new(StringArray::from(vec!["AIR", "MAIL "])) as ArrayRef),
            ("sum", sum),
        ]);
        Answer::from_batches(&[batch.unwrap()]).unwrap()
    };
    let decimals = |last| Decimal128Array::from(vec![750, last]).with_precision_and_scale(15, 2).unwrap();
    let right = Expected::from_csv("day,mode,sum\n1994-08-23,AIR,7.50\n,MAIL,0.01\n").unwrap();
    assert_eq!(compare(&right, &answer(Arc::new(decimals(1))), &Rules::default()), Ok(()));
    assert!(compare(&right, &answer(Arc::new(decimals(2))), &Rules::default()).is_err());
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![7.5, 0.010_000_000_000_1]));
    assert_eq!(compare(&right, &answer(floats), &Rules::default()), Ok(()));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![7.5, 0.010_000_1]));
    assert!(compare(&right, &answer(floats), &Rules::default()).is_err());
}

fn cells(expected: &Expected) -> Vec<Vec<Option<String>>> {
    expected.rows.iter().map(|row| row.iter().cloned().map(Some).collect()).collect()
}

/// A right answer is right, and every single-cell change of it is noticed, at the ends and in the middle of its rows.
#[test]
fn a_wrong_cell_anywhere_is_noticed() {
    for query in &TPCH {
        let file = Expected::stored(Benchmark::Tpch, 0.1, query.name).unwrap();
        let rules = Rules::of(query.sql);
        let kinds = vec![Kind::Untyped; file.columns.len()];
        let right = Answer { kinds: kinds.clone(), rows: cells(&file) };
        assert_eq!(compare(&file, &right, &rules), Ok(()), "{}", query.name);
        let limit = rules.limit.is_some_and(|limit| limit == file.rows.len());
        let last = file.rows.len() - 1;
        for row in [0, last / 2, last] {
            // What a cut tie keeps is free.
            if limit && row == last {
                continue;
            }
            for column in 0..file.columns.len() {
                let mut rows = cells(&file);
                let cell = rows[row][column].as_mut().unwrap();
                *cell = wrong(cell);
                let answer = Answer { kinds: kinds.clone(), rows };
                assert!(compare(&file, &answer, &rules).is_err(), "{} {row} {column}", query.name);
            }
        }
    }
}

fn wrong(cell: &str) -> String {
    match cell.parse::<f64>() {
        Ok(number) => format!("{:.4}", number + 1.0),
        Err(_) => format!("x{cell}"),
    }
}
