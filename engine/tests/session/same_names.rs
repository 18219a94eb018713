//! Tables that name a column alike, joined: a filter must reach the column that it is about.

use crate::lab::Lab;

async fn tables(lab: &Lab) {
    lab.rows("create table a as values (1, 10), (2, 20), (3, null), (4, 40), (5, 50)").await;
    lab.rows("create view l as select column1 as id, column2 as k from a where column1 < 4").await;
    lab.rows("create view r as select column1 as id, column2 as k from a where column1 > 1").await;
    lab.rows("create table orders as select column1 as id, column2 as amount from (values (1, 300), (2, 100), (3, 200))")
        .await;
    lab.rows("create table payments as select column1 as id, column2 as amount from (values (1, 10), (2, 30), (3, 20))")
        .await;
    lab.rows("create table customers as select column1 as id from (values (1), (2), (3))").await;
}

/// Each query with its rows, columns apart by a blank.
const QUERIES: &[(&str, &[&str])] = &[
    (
        "select r.id, r.k from l right join r on l.k = r.k where l.id is null and r.k is not null order by r.id limit 8",
        &["4 40", "5 50"],
    ),
    ("select r.id from l right join r on l.k = r.k where l.id is null order by r.id", &["3", "4", "5"]),
    ("select l.id from l left join r on l.k = r.k where r.id is null order by l.id", &["1", "3"]),
    (
        "select o.amount, p.amount from orders o join payments p on o.id = p.id join customers c on p.id = c.id \
         order by p.amount limit 1",
        &["300 10"],
    ),
    (
        "select s.id, j.oid, j.pid, tag from customers s join \
         (select o.id as oid, p.id as pid, o.id, p.id as id2, o.amount || '!' as tag \
          from orders o join payments p on o.id + 1 = p.id) j on s.id = j.id2 order by tag",
        &["3 2 3 100!", "2 1 2 300!"],
    ),
    (
        "select a1.id, b1.id from (select o.id, p.id as other from orders o, payments p where o.id = p.id + 1) a1 \
         join (select id + 1 as id from customers) b1 on a1.other = b1.id order by a1.id",
        &["3 2"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn filters_reach_the_column_they_are_about() {
    for lab in Lab::both() {
        tables(&lab).await;
        for (query, expected) in QUERIES {
            let table = lab.rows(query).await;
            let lines = table.lines().skip(3).filter(|line| line.starts_with('|'));
            let words = lines.map(|line| line.replace('|', " "));
            let rows: Vec<String> =
                words.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            assert_eq!(rows, *expected, "{query}\n{table}");
        }
    }
}

/// A filter that names no column twice still reaches the scan.
#[tokio::test(flavor = "multi_thread")]
async fn other_filters_reach_the_scan() {
    let lab = Lab::local();
    tables(&lab).await;
    lab.rows("copy (select * from orders) to '$dir/o.parquet'").await;
    lab.rows("copy (select * from payments) to '$dir/p.parquet'").await;
    lab.rows("create external table o stored as parquet location '$dir/o.parquet'").await;
    lab.rows("create external table p stored as parquet location '$dir/p.parquet'").await;
    let plan = lab.rows("explain select o.amount from o join p on o.id = p.id where p.amount > 15").await;
    assert!(plan.contains("predicate=amount@1 > 15"), "{plan}");
}
