//! Sorts whose last merge is divided into ranges of keys: the rows are those of one merge, in the same order.

use std::sync::atomic::Ordering;

use crate::lab::Lab;

/// Rows with columns of many types: `n` is unique, `scattered` is too and in no order, the others are not.
const ROWS: &str = "select value as n, \
    (value * 7919 + 13) % 100003 as scattered, \
    case when value % 10 = 0 then value % 97 else 5 end as mostly_same, \
    case when value % 7 = 0 then null else value * 31 % 1009 end as holes, \
    cast(value * 7919 % 100003 as decimal(18, 3)) as amount, \
    case when value % 5 = 0 then null else 'word ' || cast(value * 31 % 503 as varchar) end as word, \
    'a prefix that all have ' || repeat('-', 300) || cast(value % 101 as varchar) as long, \
    cast(value * 37 % 1013 - 500 as double) / 7 as real, \
    value % 3 = 0 as flag, \
    cast(cast(value * 17 % 3001 as int) as date) as day";

const COLUMNS: [&str; 9] =
    ["scattered", "mostly_same", "holes", "amount", "word", "long", "real", "flag", "day"];

/// So many rows, in the lanes that the hash of `by` puts them in.
fn rows(count: usize, by: &str) -> String {
    let scattered = format!("select value * 7919 % 100003 as value from generate_series(1, {count})");
    format!("{ROWS} from (select value from ({scattered}) distribute by {by})")
}

async fn divide(lab: &Lab, on: bool) {
    lab.rows(&format!("set firesteel.range_sorts = '{on}'")).await;
    lab.rows("set firesteel.range_sorts_above = '0B'").await;
}

async fn is_divided(lab: &Lab, sql: &str) -> bool {
    lab.rows(&format!("explain {sql}")).await.contains("by=range(")
}

/// The answers of one merge and of several.
async fn both_ways(lab: &Lab, sql: &str) -> [Vec<String>; 2] {
    let mut answers = [Vec::new(), Vec::new()];
    for (answer, on) in answers.iter_mut().zip([false, true]) {
        divide(lab, on).await;
        assert_eq!(is_divided(lab, sql).await, on, "{sql}");
        *answer = lab.rows(sql).await.lines().map(str::to_owned).collect();
    }
    answers
}

/// Asserts that the rows, told by what they are sorted by, come in the same order, and that they are the same rows.
async fn check(lab: &Lab, rows: &str, order: &[String]) {
    let (by, columns) = (order.join(", "), order.iter().map(|key| key.split(' ').next().unwrap()));
    let keys = columns.collect::<Vec<_>>().join(", ");
    let [one, ranges] = both_ways(lab, &format!("select {keys} from ({rows}) order by {by}")).await;
    assert!(one == ranges, "order by {by}");
    let [mut one, mut ranges] =
        both_ways(lab, &format!("select {keys}, n as row from ({rows}) order by {by}")).await;
    one.sort();
    ranges.sort();
    assert!(one == ranges, "rows by {by}");
}

/// Numbers by chance.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    fn order(&mut self) -> Vec<String> {
        let mut columns = COLUMNS.to_vec();
        let keys = (0..1 + self.below(3)).map(|_| {
            let column = columns.swap_remove(self.below(columns.len()));
            let direction = ["", " asc", " desc"][self.below(3)];
            let nulls = ["", " nulls first", " nulls last"][self.below(3)];
            format!("{column}{direction}{nulls}")
        });
        keys.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_of_any_columns() {
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    for (executors, cores, cases) in [(2, 1, 10), (2, 3, 14)] {
        let lab = Lab::cluster(executors, cores);
        for _ in 0..cases {
            let count = [1, 300, 5000][dice.below(3)];
            check(&lab, &rows(count, "value"), &dice.order()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_column_alone() {
    let lab = Lab::cluster(2, 2);
    for column in COLUMNS {
        for direction in ["asc nulls first", "desc nulls last"] {
            let order = [format!("{column} {direction}")];
            check(&lab, &rows(3000, "value"), &order).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_without_rows() {
    let lab = Lab::cluster(2, 2);
    for by in ["1", "value % 2", "value % 3"] {
        for condition in ["value % 5 <> 1", "value = 7919", "value * 2 = 1"] {
            let some = format!("{} where {condition}", rows(4000, by));
            check(&lab, &some, &["scattered desc".to_owned()]).await;
        }
    }
}

/// A table whose every row has the same key has one range; nothing is lost and nothing comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn one_key_for_all_rows() {
    let lab = Lab::cluster(2, 2);
    let one = format!("select n, n / 100000 as same from ({})", rows(9000, "value"));
    check(&lab, &one, &["same".to_owned()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_keys_row_by_row_through_what_stands_above() {
    let lab = Lab::cluster(2, 2);
    let rows = rows(4000, "value");
    for sql in [
        format!("select * from ({rows}) order by scattered"),
        format!("select * from ({rows}) order by holes desc, n desc"),
        format!("select n + 1 as m, word from ({rows}) order by amount desc, n"),
        format!("select day, n from ({rows}) order by -n, word"),
        format!("select sum(n) as s, mostly_same from ({rows}) group by mostly_same order by s, mostly_same"),
    ] {
        let [one, ranges] = both_ways(&lab, &sql).await;
        assert!(one == ranges, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_made_twice_is_the_same() {
    let lab = Lab::cluster(2, 2);
    lab.runner.lose_first_results.store(true, Ordering::SeqCst);
    check(&lab, &rows(4000, "value"), &["word".to_owned(), "n".to_owned()]).await;
}

/// Of blocks of several frames, a range is read from the frame on in which it begins, to the one in which it ends.
#[tokio::test(flavor = "multi_thread")]
async fn frames_outside_of_a_range_are_not_read() {
    let lab = Lab::cluster(2, 2);
    let wide = format!("select scattered as k, repeat('x', 1500) as v from ({})", rows(24_000, "value"));
    let sql = format!("select k, v from ({wide}) order by k");
    let mut read = Vec::new();
    for on in [false, true] {
        divide(&lab, on).await;
        assert_eq!(is_divided(&lab, &sql).await, on);
        let before = lab.runner.fetcher.counters().local_bytes();
        let batches = lab.batches(&sql).await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 24_000);
        read.push(lab.runner.fetcher.counters().local_bytes() - before);
    }
    // The result is read as well: twice the rows is all of them once. Reading all of them four times would make it 2.5 times.
    assert!(read[1] < read[0] * 3 / 2, "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_merged_by_one_task_still() {
    let cluster = Lab::cluster(2, 2);
    let small = Lab::cluster(1, 1);
    let rows = rows(1000, "value");
    let sorted = format!("select n, word from ({rows}) order by scattered");
    assert!(is_divided(&cluster, &sorted).await);
    assert!(!is_divided(&small, &sorted).await);
    assert!(!is_divided(&Lab::local(), &sorted).await);
    for sql in [
        format!("{sorted} limit 10"),
        format!("select row_number() over (order by scattered) as place from ({rows})"),
        format!("select [n] as list from ({rows}) order by list"),
        format!("copy ({sorted}) to '$dir/sorted.csv'"),
    ] {
        assert!(!is_divided(&cluster, &sql).await, "{sql}");
    }
}

/// Below the size from which it pays, the first partition has all rows, and no samples are read.
#[tokio::test(flavor = "multi_thread")]
async fn little_is_not_divided() {
    let lab = Lab::cluster(2, 2);
    let sql = format!("select scattered from ({}) order by scattered", rows(2000, "value"));
    let mut read = Vec::new();
    for above in ["1MiB", "0B"] {
        lab.rows(&format!("set firesteel.range_sorts_above = '{above}'")).await;
        let before = lab.runner.fetcher.counters().frames();
        assert_eq!(
            lab.batches(&sql).await.unwrap().iter().map(|batch| batch.num_rows()).sum::<usize>(),
            2000
        );
        read.push(lab.runner.fetcher.counters().frames() - before);
    }
    // Rows before they are sorted, four lanes of them after, and one result; then each of two tasks reads four samples, each of four
    // partitions four lanes, and there are four results.
    assert_eq!(read, [4 + 4 + 1, 4 + 2 * 4 + 4 * 4 + 4]);
}
