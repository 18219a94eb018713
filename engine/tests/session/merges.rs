//! Rows in order, merged from several lanes.

use std::time::Duration;

use crate::lab::Lab;

const LIMIT: Duration = Duration::from_secs(60);

/// A merge takes all rows of one lane before more than the first of the next: the lane that ended must say so while the other
/// waits for room.
#[tokio::test(flavor = "multi_thread")]
async fn lanes_whose_rows_follow_each_other() {
    let numbers = "select value as n, -value as m from generate_series(1, 400000)";
    for lab in Lab::both() {
        for order in ["n", "m desc", "-n desc"] {
            let places = format!("select n, row_number() over (order by {order}) as place from ({numbers})");
            let wrong = format!("select count(*) from ({places}) where n <> place");
            let found = tokio::time::timeout(LIMIT, async { lab.value(&wrong).await }).await;
            assert_eq!(found.unwrap_or_else(|_| panic!("order by {order} hangs")), "0");
        }
    }
}
