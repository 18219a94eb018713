//! The right answers of TPC-H.

use std::fmt;

use super::{Answer, Expected, Mismatch, Rules, compare};

/// The scales of which there are right answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scale {
    /// 0.1
    Tenth,
    /// 1
    One,
}

impl Scale {
    /// As a number.
    #[must_use]
    pub fn factor(self) -> f64 {
        match self {
            Self::Tenth => 0.1,
            Self::One => 1.0,
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Tenth => "tpch_sf0.1",
            Self::One => "tpch_sf1",
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scale {}", self.factor())
    }
}

/// Holds the answer of a query, such as `q01`, against the right one.
///
/// # Errors
/// The first difference, with the query's name.
///
/// # Panics
/// When there is no such query.
pub fn check(scale: Scale, query: &str, answer: &Answer) -> Result<(), Mismatch> {
    let expected = Expected::of(scale.folder(), query).expect("each query has its right answer");
    compare(&expected, answer, &rules(query))
        .map_err(|mismatch| Mismatch(format!("{query} at {scale}: {mismatch}")))
}

/// The ORDER BY and LIMIT of each query, and which of its columns are averages or quotients.
fn rules(query: &str) -> Rules<'static> {
    let (order_by, limit, approximate): (&[&str], Option<usize>, &[&str]) = match query {
        "q01" => (&["l_returnflag", "l_linestatus"], None, &["avg_qty", "avg_price", "avg_disc"]),
        "q02" => (&["s_acctbal", "n_name", "s_name", "p_partkey"], Some(100), &[]),
        "q03" => (&["revenue", "o_orderdate"], Some(10), &[]),
        "q04" => (&["o_orderpriority"], None, &[]),
        "q05" => (&["revenue"], None, &[]),
        "q07" => (&["supp_nation", "cust_nation", "l_year"], None, &[]),
        "q08" => (&["o_year"], None, &["mkt_share"]),
        "q09" => (&["nation", "o_year"], None, &[]),
        "q10" => (&["revenue"], Some(20), &[]),
        "q11" => (&["value"], None, &[]),
        "q12" => (&["l_shipmode"], None, &[]),
        "q13" => (&["custdist", "c_count"], None, &[]),
        "q14" => (&[], None, &["promo_revenue"]),
        "q15" => (&["s_suppkey"], None, &[]),
        "q16" => (&["supplier_cnt", "p_brand", "p_type", "p_size"], None, &[]),
        "q17" => (&[], None, &["avg_yearly"]),
        "q18" => (&["o_totalprice", "o_orderdate"], Some(100), &[]),
        "q20" => (&["s_name"], None, &[]),
        "q21" => (&["numwait", "s_name"], Some(100), &[]),
        "q22" => (&["cntrycode"], None, &[]),
        _ => (&[], None, &[]),
    };
    Rules { order_by, limit, approximate }
}

#[cfg(test)]
mod tests {
    use firesteel_bench::queries::TPCH;

    use super::*;

    /// The columns that a query's last ORDER BY names, and its LIMIT, read from its text.
    fn from_text(sql: &str) -> (Vec<String>, Option<usize>) {
        let Some((_, tail)) = sql.trim().trim_end_matches(';').rsplit_once("ORDER BY") else {
            return (Vec::new(), None);
        };
        let (columns, limit) =
            tail.split_once("LIMIT").map_or((tail, None), |(a, b)| (a, b.trim().parse().ok()));
        let names = columns.split(',').filter_map(|column| column.split_whitespace().next());
        (names.map(str::to_owned).collect(), limit)
    }

    #[test]
    fn the_rules_are_those_of_the_queries_and_every_query_has_its_answers() {
        for query in TPCH {
            let rules = rules(query.name);
            assert_eq!(
                (from_text(query.sql)),
                (rules.order_by.iter().map(|s| (*s).to_owned()).collect(), rules.limit)
            );
            for scale in [Scale::Tenth, Scale::One] {
                let file = Expected::of(scale.folder(), query.name).unwrap();
                let text = Answer {
                    kinds: vec![super::super::Kind::Untyped; file.columns.len()],
                    rows: cells(&file),
                };
                check(scale, query.name, &text).unwrap();
            }
        }
    }

    fn cells(expected: &Expected) -> Vec<Vec<Option<String>>> {
        expected.rows.iter().map(|row| row.iter().cloned().map(Some).collect()).collect()
    }

    /// Every single-cell change of a right answer is noticed, at the ends and in the middle of the rows.
    #[test]
    fn a_wrong_cell_anywhere_is_noticed() {
        for query in TPCH {
            let file = Expected::of(Scale::Tenth.folder(), query.name).unwrap();
            let limit = rules(query.name).limit.is_some_and(|limit| limit == file.rows.len());
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
                    let answer =
                        Answer { kinds: vec![super::super::Kind::Untyped; file.columns.len()], rows };
                    assert!(
                        check(Scale::Tenth, query.name, &answer).is_err(),
                        "{} {row} {column}",
                        query.name
                    );
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
}
