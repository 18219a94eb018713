//! Queries whose joins find no room in memory.

use crate::lab::Lab;

/// Two sides of 60,000 rows of about 100 bytes each, in no order that the planner knows.
const JOIN: &str = "select count(*), sum(a.n + b.n), max(concat(a.text, b.text)) from \
    (select 0 + value as n, repeat(cast(value as varchar), 15) as text from generate_series(1, 60000) \
        where value % 7 <> 7) a join \
    (select 90001 - value as n, repeat(cast(value as varchar), 15) as text from generate_series(1, 60000)) b \
    on a.n = b.n";

#[tokio::test(flavor = "multi_thread")]
async fn a_join_larger_than_memory_goes_on_in_files() {
    for (name, lab) in [
        ("local", Lab::local_with_memory(6 << 20)),
        ("cluster", Lab::cluster_with_memory(2, 1, 6 << 20)),
        ("cluster of two cores each", Lab::cluster_with_memory(2, 2, 6 << 20)),
    ] {
        lab.rows("set firesteel.broadcast_threshold = '0B'").await;
        let text = lab.rows(JOIN).await;
        assert!(text.contains("| 30000") && text.contains("| 2700030000 "), "{name}: {text}");
        let analyzed = lab.rows(&format!("explain analyze {JOIN}")).await;
        let join = analyzed.lines().find(|line| line.contains("HashJoinExec: mode=")).unwrap();
        assert!(!join.contains("spilled_bytes=0"), "{name}: {join}");
        assert!(join.contains("spilled_bytes="), "{name}: {join}");
    }
}
