//! A query on a cluster without executors says what it waits for, and runs when there is one.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use firesteel_testing::cluster::ClusterOptions;

use crate::engines::cluster;

#[test]
fn a_query_waits_for_the_first_executor_and_says_so() {
    let mut cluster = cluster(ClusterOptions { workers: 0, ..ClusterOptions::default() });
    let mut command = cluster.client(&["sql", "-c", "select 6 * 7 as answer", "--format", "csv"]);
    let client = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn().unwrap();
    // It ends by itself when no executor comes: this does not wait forever.
    let mut said = BufReader::new(client.stderr.take().unwrap()).lines();
    let waits = said.find_map(|line| line.ok().filter(|line| line.contains("waiting for")));
    assert!(
        waits.as_ref().is_some_and(|line| line.ends_with("waiting for an executor: none is up")),
        "{waits:?}"
    );
    cluster.add_worker("late").unwrap();
    assert!(said.all(|line| !line.unwrap().starts_with("error:")));
    assert!(client.wait().unwrap().success());
    let mut answer = String::new();
    client.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer\n42\n");
}
