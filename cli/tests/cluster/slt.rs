//! The sqllogictest files pass in local mode and on clusters: what a query answers does not depend on where it runs.

use firesteel_base::UserError;
use firesteel_testing::cluster::ClusterOptions;
use firesteel_testing::slt::{files, run_file};

use crate::engines::{Engine, cluster, runtime};

/// Runs every file and tells all that fail.
fn run_all<F: Future<Output = Result<Engine, UserError>>>(engine: impl Fn() -> F) {
    let files = files();
    assert!(files.len() >= 15, "only {} files were found", files.len());
    let mut wrong = Vec::new();
    runtime().block_on(async {
        for file in &files {
            if let Err(error) = run_file(file, &engine).await {
                wrong.push(format!("{}\n{error}", file.display()));
            }
        }
    });
    assert!(wrong.is_empty(), "{} of {} files fail:\n\n{}", wrong.len(), files.len(), wrong.join("\n"));
}

#[test]
fn local_1_core() {
    run_all(|| Engine::local(1));
}

#[test]
fn local_2_cores() {
    run_all(|| Engine::local(2));
}

#[test]
fn local_8_cores() {
    run_all(|| Engine::local(8));
}

fn on_cluster(options: ClusterOptions) {
    let mut cluster = cluster(options);
    run_all(|| Engine::connect(cluster.address()));
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

#[test]
fn cluster_of_two_one_core_executors() {
    on_cluster(ClusterOptions::default());
}

#[test]
fn cluster_of_two_two_core_executors() {
    on_cluster(ClusterOptions { cores_per_executor: 2, ..ClusterOptions::default() });
}
