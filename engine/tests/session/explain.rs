//! EXPLAIN shows the plans and the stages; EXPLAIN ANALYZE what was measured.

use crate::lab::Lab;

async fn lab_with_tables(lab: Lab) -> Lab {
    lab.write("t/a.csv", "k,v\n1,10\n2,20\n");
    lab.write("t/b.csv", "k,v\n1,30\n3,40\n");
    lab.rows("create external table t stored as csv location '$dir/t/'").await;
    lab
}

const QUERY: &str = "select k, sum(v) as v from t where v > 5 group by k order by k";

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_stages() {
    let local = lab_with_tables(Lab::local()).await;
    let cluster = lab_with_tables(Lab::cluster(2, 4)).await;
    for (name, lab) in [("local", local), ("cluster", cluster)] {
        let text = lab.rows(&format!("explain {QUERY}")).await;
        insta::assert_snapshot!(name, unframed(&lab.scrub(&text)));
    }
}

/// The text without the table's frame, whose width follows the folder's name.
fn unframed(table: &str) -> String {
    let lines = table.lines().filter(|line| line.starts_with('|'));
    let lines = lines.map(|line| line.trim_matches('|').trim_end().trim_start_matches(' '));
    let text: Vec<String> = lines.map(|line| line.replace(" | ", "\n").trim_end().to_owned()).collect();
    let text = text.join("\n");
    text.lines().map(|line| line.trim_start_matches("|").trim_end().to_owned() + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_forms() {
    for lab in [lab_with_tables(Lab::local()).await, lab_with_tables(Lab::cluster(2, 1)).await] {
        let verbose = lab.rows(&format!("explain verbose {QUERY}")).await;
        assert!(verbose.contains("initial_logical_plan") && verbose.contains("stage_graph"), "{verbose}");
        let tree = lab.rows(&format!("explain format tree {QUERY}")).await;
        assert!(tree.contains("physical_plan") && tree.contains("stage_graph"), "{tree}");
        let json = lab.rows(&format!("explain format pgjson {QUERY}")).await;
        assert!(json.contains("\"Node Type\"") && !json.contains("stage_graph"), "{json}");
        let dot = lab.rows(&format!("explain format graphviz {QUERY}")).await;
        assert!(dot.contains("digraph"), "{dot}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_in_the_driver_says_why() {
    let lab = Lab::cluster(2, 1);
    let recursive =
        "with recursive r (n) as (select 1 as n union all select n + 1 from r where n < 5) select n from r";
    let text = lab.rows(&format!("explain {recursive}")).await;
    let why = "runs as one task in the driver, because RecursiveQueryExec cannot travel to an executor ";
    assert!(text.contains(why), "{text}");
    assert_eq!(lab.value(&format!("select sum(n) from ({recursive})")).await, "15");
}

#[tokio::test(flavor = "multi_thread")]
async fn explaining_a_write_writes_nothing() {
    for lab in Lab::both() {
        let text = lab.rows("explain copy (select 1 as n) to '$dir/out.parquet'").await;
        assert!(text.contains("StagedWriteExec"), "{text}");
        assert!(lab.files("").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn measures_of_every_stage() {
    for (lab, stages) in
        [(lab_with_tables(Lab::local()).await, 1), (lab_with_tables(Lab::cluster(2, 1)).await, 3)]
    {
        let text = lab.rows(&format!("explain analyze {QUERY}")).await;
        for stage in 0..stages {
            assert!(text.contains(&format!("stage s{stage}")), "{text}");
        }
        assert!(text.contains("3 rows in"), "{text}");
        assert!(text.contains("DataSourceExec") && text.contains("output_rows=4"), "{text}");
        let verbose = lab.rows(&format!("explain analyze verbose {QUERY}")).await;
        assert!(verbose.contains("stage s0 task 0"), "{verbose}");
    }
}
